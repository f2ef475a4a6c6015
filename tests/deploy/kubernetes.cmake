# deploy/kubernetes and deploy/systemd, without a cluster and without systemd running.  Exit status 77: skipped, says why.
#   golang-go, sprig, sigs-yaml   what helm renders with: Debian has no helm (90 MB of packages, 20 s;
#                                 a renderer of our own would say what we think that helm does)
#   python3-kubernetes            Kubernetes' types, generated from its API's description
#   python3-jsonschema            values.schema.json, as helm holds values against it
#   python3-yaml                  manifests as data
#   strace                        what the coordinator asks of the kernel, against the unit's filter
if(Python3_FOUND)
  function(kubernetes_test name)
    add_test(NAME deploy.${name}
      COMMAND Python3::Interpreter "${CMAKE_CURRENT_SOURCE_DIR}/${name}_test.py" ${ARGN})
    set_tests_properties(deploy.${name} PROPERTIES
      LABELS deploy TIMEOUT 120 SKIP_RETURN_CODE 77
      ENVIRONMENT "PYTHONDONTWRITEBYTECODE=1;SYNCNORM_CHART_RENDERER=${CMAKE_CURRENT_BINARY_DIR}/chart/render")
  endfunction()
  set(coordinator $<TARGET_FILE:syncnorm-coordinator>)
  kubernetes_test(kubernetes_types)
  kubernetes_test(cluster)
  kubernetes_test(chart)
  kubernetes_test(manifests)
  kubernetes_test(helm)
  kubernetes_test(releases)
  kubernetes_test(coordinator ${coordinator})
  # A sanitizer asks the kernel for things of its own, and does not bear strace.
  if(NOT SYNCNORM_SANITIZE)
    kubernetes_test(systemd ${coordinator} $<TARGET_FILE:syncnormctl>)
  endif()
  if(TARGET syncnorm-train-fashion-mnist)
    kubernetes_test(pod ${coordinator} $<TARGET_FILE:syncnormctl> $<TARGET_FILE:syncnorm-train-fashion-mnist>)
    # Five processes that load LibTorch, on a machine that may have two cores.
    set_tests_properties(deploy.pod PROPERTIES TIMEOUT 300)
  endif()
endif()

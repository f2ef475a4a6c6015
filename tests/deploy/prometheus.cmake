# deploy/prometheus and deploy/grafana.  Exit status 77: skipped, says why.
#   prometheus     promtool, which checks rules and runs their unit tests, and the server itself
#   python3-yaml   rules as data
if(Python3_FOUND)
  function(prometheus_test name)
    add_test(NAME deploy.${name}
      COMMAND Python3::Interpreter "${CMAKE_CURRENT_SOURCE_DIR}/${name}_test.py" ${ARGN})
    set_tests_properties(deploy.${name} PROPERTIES
      LABELS deploy TIMEOUT 180 SKIP_RETURN_CODE 77 ENVIRONMENT "PYTHONDONTWRITEBYTECODE=1")
  endfunction()
  prometheus_test(alerts)
  prometheus_test(dashboard)
  # Starts coordinators, workers and a Prometheus, on loopback.
  prometheus_test(prometheus "${PROJECT_BINARY_DIR}")
endif()

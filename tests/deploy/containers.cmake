# Containers, for real, where the script that SYNCNORM_CONTAINERS names is there (it is sourced, makes
# an engine work, and needs root; a file that is empty does where Docker or podman works already).
#
# The images first: in the time of no other test, because their first build compiles everything.
# Images have no sanitizers in them, so one build tree's tests are enough.
if(Python3_FOUND AND NOT SYNCNORM_SANITIZE)
  foreach(test images compose)
    add_test(NAME deploy.${test}
      COMMAND Python3::Interpreter "${CMAKE_CURRENT_SOURCE_DIR}/${test}_test.py")
    set_tests_properties(deploy.${test} PROPERTIES
      LABELS "deploy;slow" SKIP_RETURN_CODE 77 RESOURCE_LOCK containers
      ENVIRONMENT "PYTHONDONTWRITEBYTECODE=1")
  endforeach()
  set_tests_properties(deploy.images PROPERTIES TIMEOUT 3600 FIXTURES_SETUP images)
  set_tests_properties(deploy.compose PROPERTIES TIMEOUT 900 FIXTURES_REQUIRED images)
endif()

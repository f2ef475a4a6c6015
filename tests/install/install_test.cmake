# cmake -D BUILD=.. -D CONSUMER=.. -D WORK=.. -D COMPILER=.. -D GENERATOR=.. -D BUILD_TYPE=..
#       [-D SANITIZE=..] -P install_test.cmake
cmake_minimum_required(VERSION 3.25)

function(run)
  execute_process(COMMAND ${ARGN} COMMAND_ERROR_IS_FATAL ANY COMMAND_ECHO STDOUT)
endfunction()

file(REMOVE_RECURSE "${WORK}")
run("${CMAKE_COMMAND}" --install "${BUILD}" --prefix "${WORK}/prefix")

file(GLOB_RECURSE leaked RELATIVE "${WORK}/prefix" "${WORK}/prefix/include/*")
foreach(header ${leaked})
  if(NOT header MATCHES "^include/syncnorm/[a-z_]+\\.h$")
    message(FATAL_ERROR "installed outside of include/syncnorm: ${header}")
  endif()
endforeach()

set(flags "")
if(SANITIZE)
  set(flags "-fsanitize=${SANITIZE}")
endif()
run("${CMAKE_COMMAND}" -S "${CONSUMER}" -B "${WORK}/build" -G "${GENERATOR}"
    "-DCMAKE_PREFIX_PATH=${WORK}/prefix" "-DCMAKE_CXX_COMPILER=${COMPILER}"
    "-DCMAKE_BUILD_TYPE=${BUILD_TYPE}" "-DCMAKE_CXX_FLAGS=${flags}")
run("${CMAKE_COMMAND}" --build "${WORK}/build")
run("${WORK}/build/consumer")
run("${WORK}/build/worker")
if(EXISTS "${WORK}/build/gpu")
  run("${WORK}/build/gpu")
endif()
run("${WORK}/prefix/bin/syncnorm-coordinator" --version)

# Third parties, all from Debian's packages; one line says why each was chosen.

find_package(Threads REQUIRED)
# Abseil: status, time, strings, containers and flags with one vocabulary; gRPC brings it anyway.
find_package(absl REQUIRED)
# Protobuf and gRPC: the wire (Debian ships no CMake config for protobuf, so the module comes first).
find_package(Protobuf REQUIRED)
find_package(gRPC CONFIG REQUIRED)
# OpenSSL: reading and checking certificates, digests of tokens; gRPC's TLS is made of it anyway.
find_package(OpenSSL REQUIRED)
# Highway: one SIMD source for every instruction set, chosen at run time.
find_package(hwy CONFIG REQUIRED)
# spdlog: asynchronous, rate-limitable logging in the coordinator.
find_package(spdlog CONFIG REQUIRED)
# prometheus-cpp: the types and the text of metrics, by those who define them.
find_package(prometheus-cpp CONFIG REQUIRED)
# cpp-httplib: a small HTTP server for the admin port; Debian's gRPC has none, prometheus-cpp's
# serves metrics only.
find_package(PkgConfig REQUIRED)
pkg_check_modules(cpp-httplib REQUIRED IMPORTED_TARGET cpp-httplib)
# nlohmann-json: JSON lines of the log, with control characters and invalid UTF-8 made harmless.
find_package(nlohmann_json REQUIRED)
# yaml-cpp: the coordinator's configuration file, with the line of each key for its errors.
find_package(yaml-cpp CONFIG REQUIRED)

if(SYNCNORM_WITH_TORCH)
  # LibTorch: the adapter and the example trainer; nothing else needs it.
  find_package(Torch QUIET)
endif()
if(SYNCNORM_BUILD_TESTS)
  # GoogleTest: the tests.
  find_package(GTest CONFIG REQUIRED)
  # Debian's Python, which sees Debian's modules (grpcio, numpy), before any other on the PATH.
  if(NOT Python3_EXECUTABLE AND EXISTS /usr/bin/python3)
    set(Python3_EXECUTABLE /usr/bin/python3)
  endif()
  find_package(Python3 COMPONENTS Interpreter QUIET)
endif()

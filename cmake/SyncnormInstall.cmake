# The installed CMake package:
#
#   find_package(syncnorm [COMPONENTS embedded torch cuda])
#
#   syncnorm::client     what a worker needs: groups and norms; always there
#   syncnorm::embedded   a coordinator inside a worker's process
#   syncnorm::torch      the LibTorch adapter, where it was built
#   syncnorm::device     the norms on CUDA streams, where they were built
#
# and the binaries syncnorm-coordinator and syncnormctl.
#
# All libraries are static; the ones that these are made of are exported too,
# but only as their parts.

include(CMakePackageConfigHelpers)
set(syncnorm_package_dir "${CMAKE_INSTALL_LIBDIR}/cmake/syncnorm")

# Part of the package under the name without its prefix.
function(syncnorm_install set)
  foreach(target ${ARGN})
    string(REGEX REPLACE "^syncnorm_" "" name "${target}")
    set_target_properties(${target} PROPERTIES EXPORT_NAME "${name}")
    install(TARGETS ${target} EXPORT ${set}
            ARCHIVE DESTINATION "${CMAKE_INSTALL_LIBDIR}"
            RUNTIME DESTINATION "${CMAKE_INSTALL_BINDIR}")
  endforeach()
  install(EXPORT ${set} NAMESPACE syncnorm:: DESTINATION "${syncnorm_package_dir}")
endfunction()

syncnorm_install(syncnorm-client-targets
  syncnorm_kernels syncnorm_proto syncnorm_grpc syncnorm_tls syncnorm_norms syncnorm_session
  syncnorm_fork_guard syncnorm_client)
syncnorm_install(syncnorm-embedded-targets
  syncnorm_admin syncnorm_coordination syncnorm_server syncnorm_embedded)
set(SYNCNORM_HAS_TORCH OFF)
if(TARGET syncnorm_torch)
  set(SYNCNORM_HAS_TORCH ON)
  syncnorm_install(syncnorm-torch-targets syncnorm_torch)
endif()
if(SYNCNORM_HAS_CUDA)
  syncnorm_install(syncnorm-cuda-targets syncnorm_kernels_cuda syncnorm_device)
endif()
install(TARGETS syncnorm-coordinator syncnormctl RUNTIME DESTINATION "${CMAKE_INSTALL_BINDIR}")

foreach(room kernels proto client)
  install(DIRECTORY "${PROJECT_SOURCE_DIR}/${room}/include/" TYPE INCLUDE
          FILES_MATCHING PATTERN "*.h" PATTERN "torch.h" EXCLUDE PATTERN "device*.h" EXCLUDE)
endforeach()
if(SYNCNORM_HAS_CUDA)
  install(DIRECTORY "${PROJECT_SOURCE_DIR}/client/include/" TYPE INCLUDE
          FILES_MATCHING PATTERN "device*.h")
endif()
if(SYNCNORM_HAS_TORCH)
  install(FILES "${PROJECT_SOURCE_DIR}/client/include/syncnorm/torch.h"
          DESTINATION "${CMAKE_INSTALL_INCLUDEDIR}/syncnorm")
endif()

configure_package_config_file(
  "${PROJECT_SOURCE_DIR}/cmake/syncnorm-config.cmake.in"
  "${PROJECT_BINARY_DIR}/syncnorm-config.cmake"
  INSTALL_DESTINATION "${syncnorm_package_dir}")
# Before 1.0 any minor version may change the interface.
write_basic_package_version_file("${PROJECT_BINARY_DIR}/syncnorm-config-version.cmake"
                                 COMPATIBILITY SameMinorVersion)
install(FILES "${PROJECT_BINARY_DIR}/syncnorm-config.cmake"
              "${PROJECT_BINARY_DIR}/syncnorm-config-version.cmake"
        DESTINATION "${syncnorm_package_dir}")

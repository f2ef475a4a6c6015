# CUDA, where it is at hand: SYNCNORM_HAS_CUDA says so to the rest of the build.
#
#   SYNCNORM_WITH_CUDA            AUTO  where nvcc 12 or later is found; ON: an error without; OFF
#   SYNCNORM_CUDA_ARCHITECTURES   what device code is made for.  By default machine code of each
#                                 generation from Turing to Blackwell that this nvcc knows, and PTX of the
#                                 last for what comes after.
#
# nvcc is looked for in CUDACXX, on the PATH and in /usr/local/cuda/bin.  Builds with sanitizers go
# without: AUTO is OFF there.

set(SYNCNORM_WITH_CUDA AUTO CACHE STRING "Build the CUDA kernels: AUTO, ON or OFF")
set_property(CACHE SYNCNORM_WITH_CUDA PROPERTY STRINGS AUTO ON OFF)
if(NOT SYNCNORM_WITH_CUDA MATCHES "^(AUTO|ON|OFF)$")
  message(FATAL_ERROR "SYNCNORM_WITH_CUDA is ${SYNCNORM_WITH_CUDA}; it must be AUTO, ON or OFF")
endif()
set(SYNCNORM_CUDA_ARCHITECTURES "" CACHE STRING "As CMAKE_CUDA_ARCHITECTURES; empty: all that are supported")
set(SYNCNORM_HAS_CUDA OFF)

# The generations that differ in machine code; 7.5 (T4) is the oldest that nvcc 13 knows.
set(syncnorm_cuda_generations 75 80 86 89 90 100 120)

if(SYNCNORM_WITH_CUDA STREQUAL "ON" OR (SYNCNORM_WITH_CUDA STREQUAL "AUTO" AND NOT SYNCNORM_SANITIZE))
  include(CheckLanguage)
  if(NOT CMAKE_CUDA_COMPILER AND NOT DEFINED ENV{CUDACXX})
    find_program(SYNCNORM_NVCC nvcc HINTS /usr/local/cuda/bin)
    mark_as_advanced(SYNCNORM_NVCC)
    if(SYNCNORM_NVCC)
      set(ENV{CUDACXX} "${SYNCNORM_NVCC}")
    endif()
  endif()
  set(CMAKE_CUDA_ARCHITECTURES 75-virtual)  # for the compiler's own checks
  check_language(CUDA)
  if(CMAKE_CUDA_COMPILER)
    enable_language(CUDA)
    if(CMAKE_CUDA_COMPILER_VERSION VERSION_GREATER_EQUAL 12)
      set(SYNCNORM_HAS_CUDA ON)
    endif()
  endif()
  if(SYNCNORM_WITH_CUDA STREQUAL "ON" AND NOT SYNCNORM_HAS_CUDA)
    message(FATAL_ERROR "SYNCNORM_WITH_CUDA is ON, but there is no nvcc of CUDA 12 or later "
                        "(found: ${CMAKE_CUDA_COMPILER} ${CMAKE_CUDA_COMPILER_VERSION})")
  endif()
endif()

if(SYNCNORM_HAS_CUDA)
  find_package(CUDAToolkit REQUIRED)
  if(SYNCNORM_CCACHE AND NOT CMAKE_CUDA_COMPILER_LAUNCHER)
    set(CMAKE_CUDA_COMPILER_LAUNCHER "${SYNCNORM_CCACHE}")
  endif()
  # The shared runtime: one in a process, whoever else (LibTorch) uses CUDA there.
  set(CMAKE_CUDA_RUNTIME_LIBRARY Shared)
  set(CMAKE_CUDA_ARCHITECTURES "${SYNCNORM_CUDA_ARCHITECTURES}")
  if(NOT CMAKE_CUDA_ARCHITECTURES)
    execute_process(COMMAND "${CMAKE_CUDA_COMPILER}" --list-gpu-code
                    OUTPUT_VARIABLE known COMMAND_ERROR_IS_FATAL ANY)
    foreach(generation ${syncnorm_cuda_generations})
      if(known MATCHES "sm_${generation}\n")
        list(APPEND CMAKE_CUDA_ARCHITECTURES ${generation}-real)
        set(last ${generation})
      endif()
    endforeach()
    list(APPEND CMAKE_CUDA_ARCHITECTURES ${last}-virtual)
  endif()
endif()
message(STATUS "CUDA kernels: ${SYNCNORM_HAS_CUDA} ${CMAKE_CUDA_ARCHITECTURES}")

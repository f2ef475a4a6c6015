# One place for what every target of the project shares: the language level,
# the warnings, the include root, hidden symbols, ccache and the sanitizers.

set(CMAKE_EXPORT_COMPILE_COMMANDS ON)
set(CMAKE_POSITION_INDEPENDENT_CODE ON)
if(NOT CMAKE_BUILD_TYPE AND NOT CMAKE_CONFIGURATION_TYPES)
  set(CMAKE_BUILD_TYPE Release CACHE STRING "Build type" FORCE)
endif()
find_program(SYNCNORM_CCACHE ccache)
if(SYNCNORM_CCACHE AND NOT CMAKE_CXX_COMPILER_LAUNCHER)
  set(CMAKE_CXX_COMPILER_LAUNCHER "${SYNCNORM_CCACHE}")
endif()

# Settings of one target.  Quoted includes start at the repository's root
# ("server/rounds.h"); angle brackets are the installed headers
# (<syncnorm/group.h>) and third parties.
function(syncnorm_target name)
  target_compile_features(${name} PUBLIC cxx_std_20)
  target_include_directories(${name} PRIVATE "${PROJECT_SOURCE_DIR}")
  set(warnings -Wall -Wextra -Wno-missing-field-initializers)
  if(SYNCNORM_WERROR)
    list(APPEND warnings -Werror)
  endif()
  list(JOIN warnings "," for_nvcc)
  target_compile_options(${name} PRIVATE
    "$<$<COMPILE_LANGUAGE:CXX>:${warnings}>"
    # C++20 by hand: CMake 3.25 does not know nvcc 13's flags.
    # -lineinfo costs nothing at run time and gives profilers and checkers the source lines.
    "$<$<COMPILE_LANGUAGE:CUDA>:-std=c++20;-lineinfo;-Xcompiler=${for_nvcc}>")
  if(SYNCNORM_SANITIZE)
    target_compile_options(${name} PRIVATE "-fsanitize=${SYNCNORM_SANITIZE}" -fno-omit-frame-pointer
                           -fno-sanitize-recover=undefined)
    target_link_options(${name} PUBLIC "-fsanitize=${SYNCNORM_SANITIZE}")
  endif()
endfunction()

# syncnorm_library(name SOURCES... LINK PUBLIC|PRIVATE libs...)
function(syncnorm_library name)
  cmake_parse_arguments(A "" "" "SOURCES;LINK" ${ARGN})
  add_library(${name} STATIC ${A_SOURCES})
  syncnorm_target(${name})
  if(A_LINK)
    target_link_libraries(${name} ${A_LINK})
  endif()
endfunction()

# syncnorm_binary(name SOURCES... LINK libs...): an executable.
function(syncnorm_binary name)
  cmake_parse_arguments(A "" "" "SOURCES;LINK" ${ARGN})
  add_executable(${name} ${A_SOURCES})
  syncnorm_target(${name})
  if(A_LINK)
    target_link_libraries(${name} PRIVATE ${A_LINK})
  endif()
endfunction()

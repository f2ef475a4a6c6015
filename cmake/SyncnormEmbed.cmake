# Puts files into a program: a source with their bytes, made at build time by CMake itself.
#
#   syncnorm_embed_assets(OUT file.cc ROOT folder FILES names...)
#
# OUT defines StatuszAssets() (server/statusz_assets.h).  ROOT/NAME is served as /NAME, and an .html
# without its ending.  The file that stands here is also the script that writes OUT.

# Script mode: OUT, ROOT and FILES (separated by commas) are given.
if(CMAKE_SCRIPT_MODE_FILE)
  set(types_html "text/html; charset=utf-8")
  set(types_css "text/css; charset=utf-8")
  set(types_js "text/javascript; charset=utf-8")
  string(REPLACE "," ";" files "${FILES}")
  set(arrays "")
  set(rows "")
  set(n 0)
  foreach(file IN LISTS files)
    cmake_path(GET file EXTENSION LAST_ONLY ending)
    string(SUBSTRING "${ending}" 1 -1 ending)
    if(NOT DEFINED types_${ending})
      message(FATAL_ERROR "${file}: what is the content type of .${ending}? Known: html, css, js")
    endif()
    string(REGEX REPLACE "\\.html$" "" path "/${file}")
    file(READ "${ROOT}/${file}" hex HEX)
    # 8 bytes a line; each as a character, since a char may be signed.
    string(REGEX REPLACE "([0-9a-f][0-9a-f])" "'\\\\x\\1'," bytes "${hex}")
    string(REGEX REPLACE "(('[^']*',)('[^']*',)('[^']*',)('[^']*',)('[^']*',)('[^']*',)('[^']*',)('[^']*',))"
           "\\1\n" bytes "${bytes}")
    string(APPEND arrays "// ${file}\nconstexpr char kBytes${n}[] = {\n${bytes}};\n")
    string(APPEND rows "    {\"${path}\", \"${types_${ending}}\", {kBytes${n}, sizeof(kBytes${n})}},\n")
    math(EXPR n "${n} + 1")
  endforeach()
  file(WRITE "${OUT}" "// Made by cmake/SyncnormEmbed.cmake.
#include \"server/statusz_assets.h\"

namespace syncnorm::server {
namespace {

${arrays}
constexpr StatuszAsset kAssets[] = {
${rows}};

}  // namespace

absl::Span<const StatuszAsset> StatuszAssets() { return kAssets; }

}  // namespace syncnorm::server
")
  return()
endif()

set(SYNCNORM_EMBED_SCRIPT "${CMAKE_CURRENT_LIST_FILE}")
function(syncnorm_embed_assets)
  cmake_parse_arguments(A "" "OUT;ROOT" "FILES" ${ARGN})
  list(TRANSFORM A_FILES PREPEND "${A_ROOT}/" OUTPUT_VARIABLE sources)
  list(JOIN A_FILES "," files)
  add_custom_command(OUTPUT "${A_OUT}"
    COMMAND ${CMAKE_COMMAND} "-DOUT=${A_OUT}" "-DROOT=${A_ROOT}" "-DFILES=${files}" -P "${SYNCNORM_EMBED_SCRIPT}"
    DEPENDS ${sources} "${SYNCNORM_EMBED_SCRIPT}"
    COMMENT "Embedding ${A_ROOT}" VERBATIM)
endfunction()

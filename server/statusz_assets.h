// StatuszAssets: the files of the status page, server/statusz/, which the build puts into the
// program (cmake/SyncnormEmbed.cmake): nothing is read from a disk, nothing fetched from elsewhere.
//
//   path             content_type               of
//   /statusz         text/html; charset=utf-8   statusz.html
//   /statusz.css     text/css; charset=utf-8
//   /statusz.js      text/javascript; ...       a module, which imports
//   /statusz/*.js    text/javascript; ...
//
// Callers may rely on:
//   * To serve the page is to serve each path's bytes, and /statusz.json (VitalsReply in protobuf's
//     JSON).  Paths are relative to one another: the page works below a prefix too.
//   * It needs no more than the policy kStatuszPolicy: no script or style stands in the HTML.
//   * A page that is loaded again is the program's own: serve it with Cache-Control: no-cache.
//
// Thread-safety: constants.
#pragma once

#include "absl/strings/string_view.h"
#include "absl/types/span.h"

namespace syncnorm::server {

struct StatuszAsset {
  absl::string_view path;
  absl::string_view content_type;
  absl::string_view bytes;
};

// Content-Security-Policy.  data: is the icon.
constexpr absl::string_view kStatuszPolicy =
    "default-src 'none'; script-src 'self'; style-src 'self'; connect-src 'self'; img-src 'self' "
    "data:; "
    "base-uri 'none'; form-action 'none'; frame-ancestors 'none'";

// In no order.
absl::Span<const StatuszAsset> StatuszAssets();

}  // namespace syncnorm::server

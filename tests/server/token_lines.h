// Lines of a file of tokens (server/tokens.h), made from the tokens themselves.
#pragma once

#include <string>

#include "absl/strings/escaping.h"
#include "absl/strings/str_cat.h"
#include "server/token_digest.h"

namespace syncnorm::server {

inline std::string TokenLine(const std::string& token, const std::string& role,
                             const std::string& groups, const std::string& end = "") {
  const TokenDigest digest = DigestOf(token);
  return absl::StrCat("sha256:",
                      absl::BytesToHexString(absl::string_view(
                          reinterpret_cast<const char*>(digest.bytes.data()), digest.bytes.size())),
                      " ", role, " ", groups, " ", end);
}

}  // namespace syncnorm::server

// TokenDigest: the SHA-256 of a token, which is all that is kept of one.  Two
// are compared by SameDigest only, which takes the same time wherever they
// differ; there is no operator to do it otherwise.
//
// Thread-safety: plain values.
#pragma once

#include <array>
#include <cstdint>

#include "absl/strings/string_view.h"

namespace syncnorm::server {

struct TokenDigest {
  std::array<uint8_t, 32> bytes = {};

  bool operator==(const TokenDigest&) const = delete;
};

TokenDigest DigestOf(absl::string_view token);
bool SameDigest(const TokenDigest& a, const TokenDigest& b);

}  // namespace syncnorm::server

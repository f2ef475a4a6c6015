// Error texts of the norms: every one begins with the layer's name.
//
// Thread-safety: pure functions.
#pragma once

#include <string>

#include "absl/status/status.h"
#include "absl/strings/str_cat.h"

namespace syncnorm::norms {

// kInvalidArgument "layer conv1.bn: <parts>".
template <typename... Parts>
absl::Status Invalid(const std::string& layer, const Parts&... parts) {
  return absl::InvalidArgumentError(absl::StrCat("layer ", layer, ": ", parts...));
}

// `status`, with the layer's name in front of its text.
inline absl::Status At(const std::string& layer, const absl::Status& status) {
  return absl::Status(status.code(), absl::StrCat("layer ", layer, ": ", status.message()));
}

// Whether the context of a Forward is one of `layer`'s; `owner` is its Context::layer.
inline absl::Status CheckOwner(const std::string& layer, const std::string& owner) {
  if (owner == layer) return absl::OkStatus();
  if (owner.empty()) return Invalid(layer, "the context is not that of a Forward");
  return Invalid(layer, "the context is that of layer ", owner);
}

}  // namespace syncnorm::norms

#include "server/fingerprint.h"

#include <vector>

#include "absl/strings/str_cat.h"
#include "absl/strings/str_join.h"

namespace syncnorm::server {
namespace {

// This Abseil's string_view is not the standard one, so that a name is copied into a text.
template <typename T>
std::string NameOf(T value) {
  return std::string(Name(value));
}
std::string NameOf(const std::optional<DType>& dtype) {
  return dtype.has_value() ? NameOf(*dtype) : "none";
}

}  // namespace

Fingerprint::Fingerprint(const wire::Contribution& contribution)
    : layer(contribution.key.layer),
      direction(contribution.key.direction),
      step(contribution.key.step),
      kind(contribution.moments.kind),
      precision(contribution.moments.precision),
      dtype(contribution.dtype),
      rows(contribution.moments.rows),
      channels(contribution.moments.channels),
      boundary(contribution.boundary) {}

bool Fingerprint::Matches(const wire::Contribution& contribution) const {
  const Moments& moments = contribution.moments;
  return step == contribution.key.step && direction == contribution.key.direction &&
         channels == moments.channels && rows == moments.rows && kind == moments.kind &&
         precision == moments.precision && dtype == contribution.dtype &&
         boundary == contribution.boundary && layer == contribution.key.layer;
}

bool Fingerprint::SamePlace(const Fingerprint& other) const {
  return layer == other.layer && direction == other.direction && step == other.step;
}

std::string Place(const std::string& layer, Direction direction, uint64_t step) {
  return absl::StrCat(layer, " (", NameOf(direction), ", step ", step, ")");
}

std::string Shape(const Fingerprint& one, const Fingerprint& other) {
  std::vector<std::string> fields;
  if (one.kind != other.kind) fields.push_back(absl::StrCat("kind=", NameOf(one.kind)));
  if (one.rows != other.rows) fields.push_back(absl::StrCat("rows=", one.rows));
  if (one.channels != other.channels) fields.push_back(absl::StrCat("channels=", one.channels));
  if (one.precision != other.precision) {
    fields.push_back(absl::StrCat("precision=", NameOf(one.precision)));
  }
  if (one.dtype != other.dtype) fields.push_back(absl::StrCat("dtype=", NameOf(one.dtype)));
  if (one.boundary != other.boundary) {
    fields.push_back(one.boundary ? "a boundary" : "no boundary");
  }
  return absl::StrJoin(fields, " ");
}

}  // namespace syncnorm::server

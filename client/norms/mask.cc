#include "client/norms/mask.h"

#include <algorithm>
#include <string>

#include "absl/strings/str_cat.h"
#include "absl/strings/str_join.h"

namespace syncnorm::norms {
namespace {

std::string Shape(absl::Span<const int64_t> shape) {
  return absl::StrCat("(", absl::StrJoin(shape, ", "), ")");
}

// No mask at all is the faster path of every kernel.
std::vector<uint8_t> EmptyIfNothingIsMasked(std::vector<uint8_t> valid) {
  if (std::count(valid.begin(), valid.end(), 1) == static_cast<ptrdiff_t>(valid.size())) {
    valid.clear();
  }
  return valid;
}

template <typename T>
absl::StatusOr<std::vector<uint8_t>> ZerosAndOnes(const T* values, int64_t positions) {
  std::vector<uint8_t> valid(static_cast<size_t>(positions));
  for (int64_t p = 0; p < positions; ++p) {
    if (values[p] != T{0} && values[p] != T{1}) {
      return absl::InvalidArgumentError(absl::StrCat("the mask has ", values[p], " at position ", p,
                                                     " of ", positions,
                                                     ": only 0 and 1 are "
                                                     "allowed"));
    }
    valid[p] = values[p] == T{1};
  }
  return EmptyIfNothingIsMasked(std::move(valid));
}

}  // namespace

absl::Status CheckMask(const PositionMask& mask, absl::Span<const int64_t> shape,
                       int64_t positions) {
  std::vector<int64_t> one_channel(shape.begin(), shape.end());
  one_channel[1] = 1;
  std::vector<int64_t> no_channel = one_channel;
  no_channel.erase(no_channel.begin() + 1);
  if (mask.shape != one_channel && mask.shape != no_channel) {
    return absl::InvalidArgumentError(
        absl::StrCat("the mask's shape is ", Shape(mask.shape), "; for x of shape ", Shape(shape),
                     " it must be ", Shape(no_channel), " or ", Shape(one_channel)));
  }
  if (mask.type != PositionMask::Type::kByte && mask.type != PositionMask::Type::kF32) {
    return absl::InvalidArgumentError(absl::StrCat(
        "the mask's type is ", static_cast<int>(mask.type), "; it must be kByte (0) or kF32 (1)"));
  }
  if (positions > 0 && mask.data == nullptr) {
    return absl::InvalidArgumentError(
        absl::StrCat("the mask's data is null; its shape is ", Shape(mask.shape)));
  }
  return absl::OkStatus();
}

absl::StatusOr<std::vector<uint8_t>> ValidPositions(const PositionMask* mask,
                                                    absl::Span<const int64_t> shape,
                                                    int64_t positions) {
  if (mask == nullptr) return std::vector<uint8_t>();
  if (absl::Status sound = CheckMask(*mask, shape, positions); !sound.ok()) return sound;
  if (positions == 0) return std::vector<uint8_t>();
  return mask->type == PositionMask::Type::kByte
             ? ZerosAndOnes(static_cast<const uint8_t*>(mask->data), positions)
             : ZerosAndOnes(static_cast<const float*>(mask->data), positions);
}

absl::StatusOr<std::vector<uint8_t>> ValidTokens(const uint8_t* pad_mask, int64_t times,
                                                 int64_t samples) {
  if (pad_mask == nullptr || times == 0 || samples == 0) return std::vector<uint8_t>();
  std::vector<uint8_t> valid(static_cast<size_t>(times * samples));
  for (int64_t b = 0; b < samples; ++b) {
    for (int64_t t = 0; t < times; ++t) {
      const uint8_t padding = pad_mask[b * times + t];
      if (padding > 1) {
        return absl::InvalidArgumentError(absl::StrCat("the padding mask has ", padding,
                                                       " at sample ", b, ", time ", t,
                                                       ": only 0 and 1 (padding) are allowed"));
      }
      valid[t * samples + b] = padding == 0;
    }
  }
  return EmptyIfNothingIsMasked(std::move(valid));
}

}  // namespace syncnorm::norms

#include "client/finish_exchange.h"

#include <algorithm>
#include <vector>

#include "absl/strings/str_cat.h"

namespace syncnorm {
namespace {

// Bytes in a value: as many as a double holds as a whole number.
constexpr size_t kBytesInValue = 6;
// Values of a message, at most: 48 KiB of state, well below what a coordinator takes.
constexpr uint64_t kMostValues = 8192;

Moments Zeros(int64_t values) { return Moments::Sums(1, values, Precision::kF64); }

double Pack(std::string_view bytes) {
  double value = 0;
  for (const char byte : bytes) value = value * 256 + static_cast<unsigned char>(byte);
  return value;
}

void Unpack(double value, size_t size, std::string* to) {
  std::string bytes(size, '\0');
  auto number = static_cast<uint64_t>(value);
  for (size_t i = size; i-- > 0; number >>= 8) bytes[i] = static_cast<char>(number & 255);
  to->append(bytes);
}

}  // namespace

absl::Status Exchange(const FinishExchange& exchange) {
  uint64_t step = 0;
  Moments ends = Zeros(exchange.world_size);
  ends.values[exchange.rank] = static_cast<double>(exchange.last_round);
  const absl::StatusOr<Moments> all = exchange.reduce(++step, ends);
  if (!all.ok()) return all.status();
  const auto last = std::max_element(all->values.begin(), all->values.end());
  const int source = static_cast<int>(last - all->values.begin());
  // Ranks that are no members any more told nothing, and count as those that ended first.
  if (std::all_of(all->values.begin(), all->values.end(),
                  [last](double end) { return end == *last; })) {
    return absl::OkStatus();
  }

  const bool mine = source == exchange.rank;
  const absl::StatusOr<std::string> saved = exchange.save();
  Moments size = Zeros(1);
  if (mine) size.values[0] = saved.ok() ? static_cast<double>(saved->size()) : -1;
  const absl::StatusOr<Moments> told = exchange.reduce(++step, size);
  if (!told.ok()) return told.status();
  if (told->values[0] < 0) {
    if (mine) return saved.status();
    return absl::AbortedError(absl::StrCat(
        "rank ", source, ", which went on longest, cannot give the states of its layers"));
  }

  const auto bytes = static_cast<size_t>(told->values[0]);
  const size_t in_message = kBytesInValue * std::min(exchange.max_values, kMostValues);
  std::string state;
  for (size_t from = 0; from < bytes; from += in_message) {
    const size_t piece = std::min(in_message, bytes - from);
    const size_t values = (piece + kBytesInValue - 1) / kBytesInValue;
    Moments moments = Zeros(static_cast<int64_t>(values));
    for (size_t v = 0; mine && v < values; ++v) {
      const size_t at = v * kBytesInValue;
      moments.values[v] =
          Pack(std::string_view(*saved).substr(from + at, std::min(kBytesInValue, piece - at)));
    }
    const absl::StatusOr<Moments> sum = exchange.reduce(++step, moments);
    if (!sum.ok()) return sum.status();
    for (size_t v = 0; v < values; ++v) {
      Unpack(sum->values[v], std::min(kBytesInValue, piece - v * kBytesInValue), &state);
    }
  }
  if (mine) return absl::OkStatus();
  return saved.ok() ? exchange.load(state)
                    : saved.status();  // not before: the others count on this one
}

}  // namespace syncnorm

#include "server/flight_recorder.h"

#include <algorithm>

namespace syncnorm::server {
namespace {

// The text's first bytes, not ending within a character of several.
absl::string_view Cut(absl::string_view text, size_t bytes) {
  if (text.size() <= bytes) return text;
  const auto continues = [&](size_t at) { return (text[at] & 0xC0) == 0x80; };
  while (bytes > 0 && continues(bytes)) --bytes;
  return text.substr(0, bytes);
}

}  // namespace

void FlightRecorder::Ended(const RoundKey& key, absl::Time opened, absl::Time ended,
                           absl::Span<const Arrival> arrivals, absl::Span<const uint32_t> missing,
                           const Outcome& outcome) {
  // While it grows, next_ stays 0, the place of the oldest.
  if (entries_.size() < max_) {
    entries_.emplace_back();
  } else {
    next_ = (next_ + 1) % entries_.size();
  }
  Entry& entry = entries_[(next_ + entries_.size() - 1) % entries_.size()];
  entry.key = key;
  entry.opened = opened;
  entry.ended = ended;
  entry.arrivals = static_cast<uint32_t>(arrivals.size());
  entry.first_rank = arrivals.empty() ? 0 : arrivals.front().rank;
  entry.last_rank = arrivals.empty() ? 0 : arrivals.back().rank;
  entry.wait = arrivals.empty() ? absl::ZeroDuration() : arrivals.back().at - arrivals.front().at;
  entry.code = outcome.code;
  const absl::string_view text = Cut(outcome.text, kTextBytes);
  entry.text.assign(text.data(), text.size());
  const absl::Span<const uint32_t> listed = missing.subspan(0, kListedRanks);
  entry.missing.assign(listed.begin(), listed.end());
  entry.missing_count = static_cast<uint32_t>(missing.size());
  entry.bytes = outcome.bytes;
}

}  // namespace syncnorm::server

#include "server/log_line.h"

#include <algorithm>
#include <cstddef>
#include <nlohmann/json.hpp>
#include <vector>

#include "absl/strings/ascii.h"

namespace syncnorm::server {
namespace {

using Json = nlohmann::ordered_json;

// Our sentences are shorter; what is longer came from elsewhere.
constexpr size_t kMaxBytes = 4096;
constexpr size_t kMaxRanks = 16;

std::string Cut(const std::string& text) {
  return text.size() <= kMaxBytes ? text : text.substr(0, kMaxBytes) + "...";
}

void AddRanks(const std::vector<uint32_t>& ranks, Json* line) {
  if (ranks.empty()) return;
  const size_t listed = std::min(ranks.size(), kMaxRanks);
  (*line)["ranks"] = std::vector<uint32_t>(ranks.begin(), ranks.begin() + listed);
  if (listed < ranks.size()) (*line)["ranks_count"] = ranks.size();
}

}  // namespace

std::string TextLine(const std::string& text) {
  // Peers choose the names in a text: they must not start a line of their own.
  std::string line = Cut(text);
  std::replace_if(line.begin(), line.end(), absl::ascii_iscntrl, '?');
  return line;
}

std::string JsonFields(const std::string& text, const Subject& subject) {
  const RoundKey& key = subject.key;
  Json line;
  line["msg"] = Cut(text);
  if (!subject.group.empty()) line["group"] = Cut(subject.group);
  if (key.epoch != 0) line["epoch"] = key.epoch;
  if (key.round != 0) {
    line["round"] = key.round;
    line["layer"] = Cut(key.layer);
    line["direction"] = Name(key.direction);
    line["step"] = key.step;
  }
  AddRanks(subject.ranks, &line);
  if (!subject.peer.empty()) line["peer"] = Cut(subject.peer);
  const std::string object =
      line.dump(/*indent=*/-1, ' ', /*ensure_ascii=*/true, Json::error_handler_t::replace);
  return object.substr(1, object.size() - 2);
}

}  // namespace syncnorm::server

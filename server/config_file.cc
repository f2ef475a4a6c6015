#include "server/config_file.h"

#include <yaml-cpp/yaml.h>

#include <cstddef>
#include <set>
#include <utility>

#include "absl/strings/str_cat.h"
#include "server/read_file.h"

namespace syncnorm::server {
namespace {

// All options with long paths are some 10 KB.
constexpr size_t kMaxFileBytes = 1 << 20;

const char* What(const YAML::Node& node) {
  if (node.IsSequence()) return "a list";
  if (node.IsMap()) return "a map";
  return "nothing";
}

}  // namespace

absl::StatusOr<std::vector<ConfigEntry>> ReadConfig(const std::string& path) {
  const absl::StatusOr<std::string> text = ReadFile(path, kMaxFileBytes);
  if (!text.ok()) return text.status();
  const auto bad = [&path](const YAML::Mark& mark, absl::string_view why) {
    return absl::InvalidArgumentError(absl::StrCat(path, ":", mark.line + 1, ": ", why));
  };
  std::vector<ConfigEntry> entries;
  try {
    const std::vector<YAML::Node> documents = YAML::LoadAll(*text);
    if (documents.empty() || (documents.size() == 1 && documents[0].IsNull())) return entries;
    if (documents.size() > 1) return bad(documents[1].Mark(), "a second document begins");
    const YAML::Node& root = documents[0];
    if (!root.IsMap()) return bad(root.Mark(), "expected a map from names to values");
    std::set<std::string> names;
    for (const auto& item : root) {
      const YAML::Node& name = item.first;
      const YAML::Node& value = item.second;
      if (!name.IsScalar()) return bad(name.Mark(), "expected a name");
      if (!names.insert(name.Scalar()).second) {
        return bad(name.Mark(), absl::StrCat(name.Scalar(), ": is there a second time"));
      }
      if (!value.IsScalar()) {
        return bad(name.Mark(), absl::StrCat(name.Scalar(), ": is ", What(value),
                                             ", expected a single value (\"\" for an empty one)"));
      }
      entries.push_back({name.Scalar(), value.Scalar(), "", name.Mark().line + 1});
    }
  } catch (const YAML::Exception& error) {
    return bad(error.mark, error.msg);
  }
  return entries;
}

std::string ConfigText(const std::vector<ConfigEntry>& entries) {
  YAML::Emitter text;
  text << YAML::BeginMap;
  for (const ConfigEntry& entry : entries) {
    text << YAML::Key << entry.name << YAML::Value << entry.value;
    if (!entry.remark.empty()) text << YAML::Comment(entry.remark);
  }
  text << YAML::EndMap;
  return absl::StrCat(text.c_str(), "\n");
}

}  // namespace syncnorm::server

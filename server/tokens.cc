#include "server/tokens.h"

#include <algorithm>
#include <utility>

#include "absl/strings/ascii.h"
#include "absl/strings/escaping.h"
#include "absl/strings/str_cat.h"
#include "absl/strings/str_split.h"
#include "absl/strings/strip.h"
#include "proto/wire.h"
#include "server/read_file.h"

namespace syncnorm::server {
namespace {

constexpr std::pair<const char*, Role> kRoles[] = {
    {"worker", Role::kWorker}, {"reader", Role::kReader}, {"admin", Role::kAdmin}};
// kMaxEntries lines with a digest, a group name of full length and a date: 250 bytes each.
constexpr size_t kMaxFileBytes = Tokens::kMaxEntries * 250;

bool IsGlobByte(char c) {
  return absl::ascii_isalnum(static_cast<unsigned char>(c)) || c == '.' || c == '_' || c == '/' ||
         c == ':' || c == '-' || c == '*';
}

bool IsHex(absl::string_view text) {
  return std::all_of(text.begin(), text.end(),
                     [](char c) { return absl::ascii_isxdigit(static_cast<unsigned char>(c)); });
}

// '*' stands for any characters, none included.
bool Matches(absl::string_view glob, absl::string_view name) {
  size_t g = 0;
  size_t n = 0;
  size_t star = absl::string_view::npos;  // the last one seen
  size_t taken = 0;                       // where what it stands for began
  while (n < name.size()) {
    if (g < glob.size() && glob[g] == '*') {
      star = g++;
      taken = n;
    } else if (g < glob.size() && glob[g] == name[n]) {
      ++g;
      ++n;
    } else if (star != absl::string_view::npos) {
      g = star + 1;
      n = ++taken;
    } else {
      return false;
    }
  }
  while (g < glob.size() && glob[g] == '*') ++g;
  return g == glob.size();
}

absl::Status ParseDigest(absl::string_view field, TokenDigest* digest) {
  // Not quoted: it may be a token, by mistake.
  if (!absl::ConsumePrefix(&field, "sha256:") || field.size() != 2 * digest->bytes.size() ||
      !IsHex(field)) {
    return absl::InvalidArgumentError(
        "the first field is not \"sha256:\" and 64 hexadecimal digits (digests only, never a "
        "token)");
  }
  const std::string bytes = absl::HexStringToBytes(field);
  std::copy(bytes.begin(), bytes.end(), digest->bytes.begin());
  return absl::OkStatus();
}

absl::Status ParseRole(absl::string_view field, Role* role) {
  for (const auto& [name, value] : kRoles) {
    if (field == name) {
      *role = value;
      return absl::OkStatus();
    }
  }
  return absl::InvalidArgumentError("the second field, the role, is none of worker, reader, admin");
}

absl::Status ParseGlobs(absl::string_view field, std::vector<std::string>* globs) {
  *globs = absl::StrSplit(field, ',');
  for (const std::string& glob : *globs) {
    if (glob.empty() || glob.size() > wire::kMaxGroupNameBytes ||
        !std::all_of(glob.begin(), glob.end(), IsGlobByte)) {
      return absl::InvalidArgumentError(
          absl::StrCat("the third field, the groups: each has 1 to ", wire::kMaxGroupNameBytes,
                       " bytes of [A-Za-z0-9._/:-] and *, with commas between and no spaces"));
    }
  }
  return absl::OkStatus();
}

absl::Status ParseEnd(absl::string_view field, absl::Time* not_after) {
  // Longer than a date is a word that absl takes for "never".
  if (field.size() >= 20 && absl::ParseTime(absl::RFC3339_full, field, not_after, nullptr) &&
      *not_after != absl::InfiniteFuture() && *not_after != absl::InfinitePast()) {
    return absl::OkStatus();
  }
  return absl::InvalidArgumentError(
      "the fourth field, the end, is not of the form 2027-01-31T00:00:00Z");
}

absl::Status ParseLine(const std::vector<absl::string_view>& fields, TokenEntry* entry) {
  if (absl::Status status = ParseDigest(fields[0], &entry->digest); !status.ok()) return status;
  if (fields.size() < 3 || fields.size() > 4) {
    return absl::InvalidArgumentError(
        absl::StrCat(fields.size(), " fields, expected digest, role, groups and, if any, the end"));
  }
  if (absl::Status status = ParseRole(fields[1], &entry->role); !status.ok()) return status;
  if (absl::Status status = ParseGlobs(fields[2], &entry->globs); !status.ok()) return status;
  return fields.size() == 3 ? absl::OkStatus() : ParseEnd(fields[3], &entry->not_after);
}

}  // namespace

const char* Name(Role role) {
  for (const auto& [name, value] : kRoles) {
    if (role == value) return name;
  }
  return "?";
}

bool TokenEntry::HoldsFor(absl::string_view group) const {
  return std::any_of(globs.begin(), globs.end(),
                     [group](const std::string& glob) { return Matches(glob, group); });
}

absl::StatusOr<Tokens> Tokens::Parse(absl::string_view text) {
  Tokens tokens;
  size_t number = 0;
  for (absl::string_view line : absl::StrSplit(text, '\n')) {
    ++number;
    const auto bad = [number](absl::string_view why) {
      return absl::InvalidArgumentError(absl::StrCat("line ", number, ": ", why));
    };
    line = absl::StripAsciiWhitespace(line);
    if (line.empty() || line[0] == '#') continue;
    const std::vector<absl::string_view> fields =
        absl::StrSplit(line, absl::ByAnyChar(" \t"), absl::SkipEmpty());
    TokenEntry entry;
    if (absl::Status status = ParseLine(fields, &entry); !status.ok()) return bad(status.message());
    if (tokens.Find(entry.digest) != nullptr) return bad("this digest stands in an earlier line");
    if (tokens.entries_.size() == kMaxEntries) {
      return bad(absl::StrCat("more than ", kMaxEntries, " tokens"));
    }
    tokens.entries_.push_back(std::move(entry));
  }
  if (tokens.entries_.empty()) return absl::InvalidArgumentError("there is no token in it");
  return tokens;
}

absl::StatusOr<Tokens> Tokens::Read(const std::string& path) {
  const absl::StatusOr<std::string> text = ReadFile(path, kMaxFileBytes);
  if (!text.ok()) return text.status();
  absl::StatusOr<Tokens> tokens = Parse(*text);
  if (tokens.ok()) return tokens;
  return absl::InvalidArgumentError(absl::StrCat(path, ": ", tokens.status().message()));
}

const TokenEntry* Tokens::Find(const TokenDigest& digest) const {
  const TokenEntry* found = nullptr;
  // To the end, also once it is found.
  for (const TokenEntry& entry : entries_) {
    if (SameDigest(entry.digest, digest)) found = &entry;
  }
  return found;
}

}  // namespace syncnorm::server

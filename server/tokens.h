// Tokens: who may do what: a table of the digests of tokens, each with a role,
// the groups it holds for and, where it ends by itself, the time.  Read from
// text, one token a line:
//
//   # digest of the token      role    groups, * = any characters  [end, RFC 3339]
//   sha256:9f86d081...0f00a08  worker  team-a/*,world              2027-01-31T00:00:00Z
//   sha256:60303ae2...63a3752  admin   *
//
// Roles: a worker joins groups; a reader sees what an admin service tells; an
// admin does everything there.  The tokens themselves are in no file of the
// coordinator, and errors never quote what stands where a digest should.
//
// Thread-safety: immutable once parsed.
#pragma once

#include <cstddef>
#include <cstdint>
#include <string>
#include <vector>

#include "absl/status/statusor.h"
#include "absl/strings/string_view.h"
#include "absl/time/time.h"
#include "server/token_digest.h"

namespace syncnorm::server {

enum class Role : uint8_t { kWorker, kReader, kAdmin };

// "worker", "reader", "admin".
const char* Name(Role role);

struct TokenEntry {
  TokenDigest digest;
  Role role = Role::kWorker;
  std::vector<std::string> globs;
  absl::Time not_after = absl::InfiniteFuture();

  bool HoldsFor(absl::string_view group) const;
};

class Tokens {
 public:
  // Every look-up goes through all of them: 10,000 take about 0.1 ms.
  static constexpr size_t kMaxEntries = 10'000;

  // kInvalidArgument: "line 3: ..."; also a text without any token: a file that was cut off.
  static absl::StatusOr<Tokens> Parse(absl::string_view text);
  // Parses a file.  Errors name it; kNotFound says why it cannot be read.
  static absl::StatusOr<Tokens> Read(const std::string& path);

  // Compares with every entry, in a time that does not depend on which one it is.  Null: none.
  const TokenEntry* Find(const TokenDigest& digest) const;

  size_t size() const { return entries_.size(); }

 private:
  std::vector<TokenEntry> entries_;
};

}  // namespace syncnorm::server

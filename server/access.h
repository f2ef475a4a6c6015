// Access: decides who may open a stream, join a group and ask an admin service,
// from the tokens that are in force.  It knows no gRPC and no clock: callers
// hand it the metadata and the time of day.
//
//   a stream:  Open ----> Join ----> Recheck, again and again
//
// Callers may rely on:
//   * Without tokens everything is allowed.
//   * A refusal's text tells its receiver nothing about groups: it is the same
//     whether a group exists or not.  It never contains a token.
//   * What was presented at Open is bound to the stream by its Pass; nothing
//     that comes later changes who it is.
//   * A token that is taken out of the table, or ends, ends what it opened, at the next Recheck.
//
// Thread-safety: thread-safe; a Pass is used by one thread at a time.
#pragma once

#include <array>
#include <cstdint>
#include <memory>
#include <optional>
#include <string>
#include <utility>
#include <vector>

#include "absl/base/thread_annotations.h"
#include "absl/status/status.h"
#include "absl/strings/string_view.h"
#include "absl/synchronization/mutex.h"
#include "absl/time/time.h"
#include "server/tokens.h"

namespace syncnorm::server {

// Who a stream is.  Made by Access::Open, kept with the stream.
struct Pass {
  bool open = false;
  std::optional<TokenDigest> digest;  // none: no tokens were asked for when it opened
  std::string group;                  // once joined
  // As of the last look at the table.
  uint64_t generation = 0;
  absl::Time not_after = absl::InfiniteFuture();
};

class Access {
 public:
  // How often each was the reason of a refusal.
  struct Refusals {
    uint64_t no_token = 0;
    uint64_t malformed = 0;  // not "Bearer" and one token
    uint64_t unknown = 0;
    uint64_t expired = 0;
    uint64_t revoked = 0;  // was in the table when the stream opened
    uint64_t role = 0;     // not a worker's, or not enough for the admin service
    uint64_t group = 0;    // holds for other groups

    uint64_t total() const {
      return no_token + malformed + unknown + expired + revoked + role + group;
    }
    // By the names above.
    std::array<std::pair<const char*, uint64_t>, 7> ByReason() const {
      return {{{"no_token", no_token},
               {"malformed", malformed},
               {"unknown", unknown},
               {"expired", expired},
               {"revoked", revoked},
               {"role", role},
               {"group", group}}};
    }
  };

  // Null: everything is allowed.
  explicit Access(std::shared_ptr<const Tokens> tokens = nullptr);
  Access(const Access&) = delete;
  Access& operator=(const Access&) = delete;

  // From now on these hold.
  void Replace(std::shared_ptr<const Tokens> tokens);

  // `authorization`: all values of the call's metadata of that name.
  // kUnauthenticated: there is no token that is in force, and why.
  absl::Status Open(absl::Time now, const std::vector<std::string>& authorization, Pass* pass);
  // kPermissionDenied: the token is not a worker's, or not for this group; kUnauthenticated as
  // Recheck.
  absl::Status Join(absl::Time now, absl::string_view group, Pass* pass);
  // kUnauthenticated: the token has ended, or was taken back; kPermissionDenied: its role or its
  // groups were changed, to the stream's loss.  Cheap while the table stays the same.
  absl::Status Recheck(absl::Time now, Pass* pass);

  // For a call of an admin service that needs this role: kReader, which an admin has too, or
  // kAdmin.  `group`: that the call asks about; empty: none in particular, so that the token must
  // hold for every group.
  absl::Status Allow(absl::Time now, const std::vector<std::string>& authorization, Role role,
                     absl::string_view group);

  Refusals refusals() const;

 private:
  // The entry of this digest, if it is in force.
  absl::Status Look(absl::Time now, const TokenDigest& digest, uint64_t Refusals::*unknown,
                    const TokenEntry** entry) ABSL_EXCLUSIVE_LOCKS_REQUIRED(mutex_);
  absl::Status Authenticate(absl::Time now, const std::vector<std::string>& authorization,
                            TokenDigest* digest, const TokenEntry** entry)
      ABSL_EXCLUSIVE_LOCKS_REQUIRED(mutex_);
  absl::Status MayWork(const TokenEntry& entry, absl::string_view group)
      ABSL_EXCLUSIVE_LOCKS_REQUIRED(mutex_);
  absl::Status Refuse(uint64_t Refusals::*reason, absl::StatusCode code, absl::string_view text)
      ABSL_EXCLUSIVE_LOCKS_REQUIRED(mutex_);

  mutable absl::Mutex mutex_;
  std::shared_ptr<const Tokens> tokens_ ABSL_GUARDED_BY(mutex_);
  uint64_t generation_ ABSL_GUARDED_BY(mutex_) = 1;
  Refusals refusals_ ABSL_GUARDED_BY(mutex_);
};

}  // namespace syncnorm::server

#include "server/access.h"

#include <utility>

#include "absl/strings/ascii.h"
#include "absl/strings/match.h"
#include "absl/strings/str_cat.h"

namespace syncnorm::server {
namespace {

// RFC 6750; the scheme is written in any case.
constexpr char kScheme[] = "bearer ";

// An admin sees what a reader sees.
bool Includes(Role has, Role needed) {
  return has == needed || (has == Role::kAdmin && needed == Role::kReader);
}

}  // namespace

Access::Access(std::shared_ptr<const Tokens> tokens) : tokens_(std::move(tokens)) {}

void Access::Replace(std::shared_ptr<const Tokens> tokens) {
  const absl::MutexLock lock(&mutex_);
  tokens_ = std::move(tokens);
  ++generation_;
}

absl::Status Access::Refuse(uint64_t Refusals::*reason, absl::StatusCode code,
                            absl::string_view text) {
  ++(refusals_.*reason);
  return absl::Status(code, text);
}

absl::Status Access::Look(absl::Time now, const TokenDigest& digest, uint64_t Refusals::*unknown,
                          const TokenEntry** entry) {
  *entry = tokens_->Find(digest);
  if (*entry == nullptr) {
    return Refuse(
        unknown, absl::StatusCode::kUnauthenticated,
        unknown == &Refusals::revoked ? "the token was taken back" : "the token is not known here");
  }
  if (now <= (*entry)->not_after) return absl::OkStatus();
  return Refuse(
      &Refusals::expired, absl::StatusCode::kUnauthenticated,
      absl::StrCat("the token expired: not_after ",
                   absl::FormatTime(absl::RFC3339_sec, (*entry)->not_after, absl::UTCTimeZone()),
                   ", the coordinator's time ",
                   absl::FormatTime(absl::RFC3339_sec, now, absl::UTCTimeZone())));
}

absl::Status Access::Authenticate(absl::Time now, const std::vector<std::string>& authorization,
                                  TokenDigest* digest, const TokenEntry** entry) {
  if (authorization.empty()) {
    return Refuse(&Refusals::no_token, absl::StatusCode::kUnauthenticated,
                  "the coordinator asks for a token, and none was sent");
  }
  absl::string_view token = authorization.front();
  const bool bearer = absl::StartsWithIgnoreCase(token, kScheme);
  if (bearer) token = absl::StripAsciiWhitespace(token.substr(sizeof(kScheme) - 1));
  if (authorization.size() != 1 || !bearer || token.empty()) {
    return Refuse(&Refusals::malformed, absl::StatusCode::kUnauthenticated,
                  "the metadata \"authorization\" is not \"Bearer\" and one token");
  }
  *digest = DigestOf(token);
  return Look(now, *digest, &Refusals::unknown, entry);
}

absl::Status Access::MayWork(const TokenEntry& entry, absl::string_view group) {
  const auto text = absl::StrCat("the token does not allow to join group ", group);
  if (entry.role != Role::kWorker) {
    return Refuse(&Refusals::role, absl::StatusCode::kPermissionDenied, text);
  }
  if (!entry.HoldsFor(group)) {
    return Refuse(&Refusals::group, absl::StatusCode::kPermissionDenied, text);
  }
  return absl::OkStatus();
}

absl::Status Access::Open(absl::Time now, const std::vector<std::string>& authorization,
                          Pass* pass) {
  const absl::MutexLock lock(&mutex_);
  pass->open = true;
  if (tokens_ == nullptr) return absl::OkStatus();
  TokenDigest digest;
  const TokenEntry* entry = nullptr;
  if (absl::Status status = Authenticate(now, authorization, &digest, &entry); !status.ok()) {
    pass->open = false;
    return status;
  }
  pass->digest = digest;
  pass->generation = generation_;
  pass->not_after = entry->not_after;
  return absl::OkStatus();
}

absl::Status Access::Join(absl::Time now, absl::string_view group, Pass* pass) {
  const absl::MutexLock lock(&mutex_);
  if (!pass->digest) return absl::OkStatus();
  const TokenEntry* entry = nullptr;
  if (absl::Status status = Look(now, *pass->digest, &Refusals::revoked, &entry); !status.ok()) {
    return status;
  }
  if (absl::Status status = MayWork(*entry, group); !status.ok()) return status;
  pass->group = std::string(group);
  return absl::OkStatus();
}

absl::Status Access::Recheck(absl::Time now, Pass* pass) {
  const absl::MutexLock lock(&mutex_);
  if (!pass->digest || (pass->generation == generation_ && now <= pass->not_after)) {
    return absl::OkStatus();
  }
  const TokenEntry* entry = nullptr;
  if (absl::Status status = Look(now, *pass->digest, &Refusals::revoked, &entry); !status.ok()) {
    return status;
  }
  pass->generation = generation_;
  pass->not_after = entry->not_after;
  return pass->group.empty() ? absl::OkStatus() : MayWork(*entry, pass->group);
}

absl::Status Access::Allow(absl::Time now, const std::vector<std::string>& authorization, Role role,
                           absl::string_view group) {
  const absl::MutexLock lock(&mutex_);
  if (tokens_ == nullptr) return absl::OkStatus();
  TokenDigest digest;
  const TokenEntry* entry = nullptr;
  if (absl::Status status = Authenticate(now, authorization, &digest, &entry); !status.ok()) {
    return status;
  }
  if (!Includes(entry->role, role)) {
    return Refuse(&Refusals::role, absl::StatusCode::kPermissionDenied,
                  absl::StrCat("the token has not the role ", Name(role)));
  }
  // No group's name is a *, so that only a glob of stars matches it.
  if (!entry->HoldsFor(group.empty() ? "*" : group)) {
    return Refuse(&Refusals::group, absl::StatusCode::kPermissionDenied,
                  group.empty() ? std::string("the token does not hold for all groups")
                                : absl::StrCat("the token does not hold for group ", group));
  }
  return absl::OkStatus();
}

Access::Refusals Access::refusals() const {
  const absl::MutexLock lock(&mutex_);
  return refusals_;
}

}  // namespace syncnorm::server

// syncnormctl certs: what a coordinator and its workers need for TLS and tokens, in one folder.

#include <sys/stat.h>

#include <algorithm>
#include <string>
#include <vector>

#include "absl/strings/escaping.h"
#include "absl/strings/str_cat.h"
#include "absl/strings/str_format.h"
#include "absl/strings/str_join.h"
#include "absl/strings/str_split.h"
#include "absl/strings/strip.h"
#include "proto/clock.h"
#include "server/ctl_certificates.h"
#include "server/ctl_command.h"
#include "server/ctl_files.h"
#include "server/ctl_text.h"
#include "server/token_digest.h"
#include "server/tokens.h"

namespace syncnorm::server {
namespace {

constexpr int kMaxDays = 3650;
constexpr absl::Duration kDay = absl::Hours(24);
constexpr size_t kTokenBytes = 32;
// Of the authority's key, whatever --mode says: nobody but who signs needs it.
constexpr mode_t kAuthorityKeyMode = 0600;

// Who gets a folder with a certificate.
constexpr const char* kEnds[] = {"coordinator", "worker", "admin"};
constexpr const char* kAll[] = {"ca.crt",
                                "ca.key",
                                "coordinator/tls.crt",
                                "coordinator/tls.key",
                                "coordinator/ca.crt",
                                "coordinator/tokens",
                                "worker/tls.crt",
                                "worker/tls.key",
                                "worker/ca.crt",
                                "worker/token",
                                "admin/tls.crt",
                                "admin/tls.key",
                                "admin/ca.crt",
                                "admin/token"};

absl::Status Bad(absl::string_view flag, absl::string_view why) {
  return absl::InvalidArgumentError(absl::StrCat("--", flag, ": ", why));
}

absl::StatusOr<mode_t> ReadMode(const std::string& text) {
  const bool octal =
      !text.empty() && text.size() <= 4 && text.find_first_not_of("01234567") == std::string::npos;
  const mode_t mode = octal ? static_cast<mode_t>(std::stoul(text, nullptr, 8)) : 0;
  if ((mode & 0400) != 0 && (mode & ~0660U) == 0) return mode;
  return Bad("mode", absl::StrCat("\"", absl::CEscape(text),
                                  "\" is not one of 0600, 0640, 0660, 0400, 0440: the owner "
                                  "reads, and nobody outside the group"));
}

// With those by which a coordinator is reached on its own machine.
absl::StatusOr<CertificateNames> ReadNames(const std::string& list) {
  CertificateNames names;
  for (const absl::string_view name : absl::StrSplit(list, ',')) {
    if (absl::Status added = AddName(std::string(name), &names); !added.ok()) {
      return Bad("coordinator", added.message());
    }
  }
  for (const char* const local : {"localhost", "127.0.0.1", "::1"}) {
    if (absl::Status added = AddName(local, &names); !added.ok()) return added;
  }
  return names;
}

std::string TokenLine(const std::string& token, Role role, const std::string& groups) {
  const TokenDigest digest = DigestOf(token);
  const absl::string_view bytes(reinterpret_cast<const char*>(digest.bytes.data()),
                                digest.bytes.size());
  return absl::StrCat("sha256:", absl::BytesToHexString(bytes), " ", Name(role), " ", groups, "\n");
}

absl::Status CheckFlags(const CtlFlags& flags) {
  if (flags.out.empty()) return Bad("out", "is missing: the folder to make them in");
  if (flags.renew && flags.keep) return Bad("renew", "and --keep exclude each other");
  if (flags.renew && flags.Given("groups")) return Bad("groups", "--renew keeps the tokens");
  if (flags.coordinator.empty() && (!flags.renew || flags.Given("coordinator"))) {
    return Bad("coordinator",
               "is missing: the names and addresses under which workers reach the coordinator");
  }
  if (flags.days < 1 || flags.days > kMaxDays) {
    return Bad("days", absl::StrCat(flags.days, " is not within 1 to ", kMaxDays));
  }
  const bool good_groups = flags.groups.find_first_of(" \t\n\r#") == std::string::npos &&
                           Tokens::Parse(TokenLine("", Role::kWorker, flags.groups)).ok();
  if (!good_groups) {
    return Bad("groups",
               absl::StrCat("\"", absl::CEscape(flags.groups),
                            "\" are not names of [A-Za-z0-9._/:-] and *, with commas between"));
  }
  return ReadMode(flags.mode).status();
}

std::string Dated(absl::Time time) {
  return absl::FormatTime("%Y-%m-%d", time, absl::UTCTimeZone());
}

std::string Summary(const CtlFlags& flags, const char* what, const CertificateNames& names,
                    absl::Time now) {
  std::vector<std::string> all = names.dns;
  all.insert(all.end(), names.ips.begin(), names.ips.end());
  const std::string& out = flags.out;
  return absl::StrCat(what, ", valid until ", Dated(now + flags.days * kDay), "\n", "  ", out,
                      "/coordinator  for ", absl::StrJoin(all, ", "), "\n", "  ", out, "/worker\n",
                      "  ", out, "/admin\n", "  ", out,
                      "/ca.key signs whoever may connect: keep it where neither runs\n");
}

absl::StatusOr<int> MakeAll(const CtlFlags& flags, std::FILE* out) {
  const absl::Time now = WallClock().Now();
  const mode_t secret = *ReadMode(flags.mode);
  const absl::StatusOr<CertificateNames> names = ReadNames(flags.coordinator);
  if (!names.ok()) return names.status();
  const absl::StatusOr<CertificateAuthority> authority =
      CertificateAuthority::Make(now, kMaxDays * kDay);
  if (!authority.ok()) return authority.status();
  const absl::StatusOr<CertificateAndKey> own = authority->pem();
  if (!own.ok()) return own.status();

  std::vector<NewFile> files = {{"ca.crt", own->certificate},
                                {"ca.key", own->key, kAuthorityKeyMode}};
  std::string tokens = "# Digests of tokens: SHA-256, role, groups and, if it has one, the end.\n";
  for (const std::string end : kEnds) {
    const bool server = end == kEnds[0];
    const absl::StatusOr<CertificateAndKey> leaf =
        authority->Issue(end, server ? *names : CertificateNames(), now, flags.days * kDay);
    if (!leaf.ok()) return leaf.status();
    files.push_back({end + "/tls.key", leaf->key, secret});
    files.push_back({end + "/tls.crt", leaf->certificate});
    files.push_back({end + "/ca.crt", own->certificate});
    if (server) continue;
    const absl::StatusOr<std::string> token = RandomHex(kTokenBytes);
    if (!token.ok()) return token.status();
    files.push_back({end + "/token", *token + "\n", secret});
    tokens += end == "admin" ? TokenLine(*token, Role::kAdmin, "*")
                             : TokenLine(*token, Role::kWorker, flags.groups);
  }
  files.push_back({"coordinator/tokens", tokens, secret});
  if (absl::Status made = MakeFiles(flags.out, files); !made.ok()) return made;
  return Print(Summary(flags, "made an authority, certificates and tokens", *names, now), out);
}

absl::StatusOr<CertificateNames> NamesForRenewal(const CtlFlags& flags) {
  if (!flags.coordinator.empty()) return ReadNames(flags.coordinator);
  const std::string path = absl::StrCat(flags.out, "/coordinator/tls.crt");
  const absl::StatusOr<std::string> pem = ReadText(path);
  if (!pem.ok()) return pem.status();
  absl::StatusOr<CertificateNames> names = NamesIn(*pem);
  if (names.ok()) return names;
  return absl::InvalidArgumentError(
      absl::StrCat(path, ": ", names.status().message(), "; give --coordinator"));
}

absl::StatusOr<CertificateAuthority> LoadAuthority(const CtlFlags& flags, absl::Time now) {
  const std::string certificate_file = absl::StrCat(flags.out, "/ca.crt");
  const std::string key_file = absl::StrCat(flags.out, "/ca.key");
  const absl::StatusOr<std::string> certificate = ReadText(certificate_file);
  if (!certificate.ok()) return certificate.status();
  const absl::StatusOr<std::string> key = ReadText(key_file);
  if (!key.ok()) {
    return absl::NotFoundError(
        absl::StrCat(key.status().message(), "; the authority's key signs what --renew makes"));
  }
  absl::StatusOr<CertificateAuthority> authority =
      CertificateAuthority::Load({*certificate, *key}, certificate_file, key_file);
  if (!authority.ok()) return authority;
  const absl::Duration left = authority->not_after() - now;
  if (left < flags.days * kDay) {
    return Bad("days", absl::StrCat(flags.days, " is longer than the authority ", certificate_file,
                                    " is valid, until ", Dated(authority->not_after())));
  }
  return authority;
}

absl::StatusOr<int> RenewAll(const CtlFlags& flags, std::FILE* out) {
  const absl::Time now = WallClock().Now();
  const absl::StatusOr<CertificateAuthority> authority = LoadAuthority(flags, now);
  if (!authority.ok()) return authority.status();
  const absl::StatusOr<CertificateNames> names = NamesForRenewal(flags);
  if (!names.ok()) return names.status();
  std::vector<NewFile> files;
  for (const std::string end : kEnds) {
    const std::string folder = absl::StrCat(flags.out, "/", end);
    // Handed to where it is used, and gone from here.
    if (end != kEnds[0] && !Exists(folder)) continue;
    const absl::StatusOr<CertificateAndKey> leaf = authority->Issue(
        end, end == kEnds[0] ? *names : CertificateNames(), now, flags.days * kDay);
    if (!leaf.ok()) return leaf.status();
    mode_t secret = *ReadMode(flags.mode);
    struct stat old = {};
    if (!flags.Given("mode") && stat(absl::StrCat(folder, "/tls.key").c_str(), &old) == 0) {
      secret = old.st_mode & 0660;
    }
    files.push_back({end + "/tls.key", leaf->key, secret});
    files.push_back({end + "/tls.crt", leaf->certificate});
  }
  if (absl::Status replaced = ReplaceFiles(flags.out, files); !replaced.ok()) return replaced;
  return Print(Summary(flags, "renewed the certificates", *names, now), out);
}

// Nothing is to be done: all of it is there.
absl::StatusOr<int> Keep(const CtlFlags& flags, std::FILE* out) {
  for (const char* const path : kAll) {
    const std::string full = absl::StrCat(flags.out, "/", path);
    if (!Exists(full)) {
      return absl::FailedPreconditionError(
          absl::StrCat(full, " is missing, and others are there: remove them, or restore it"));
    }
  }
  return Print(absl::StrCat(flags.out, " has everything already, and is left as it is\n"), out);
}

}  // namespace

absl::StatusOr<int> CtlCerts(const CtlFlags& flags, std::FILE* out) {
  if (absl::Status good = CheckFlags(flags); !good.ok()) return good;
  if (flags.renew) return RenewAll(flags, out);
  for (const char* const file : kAll) {
    const std::string path = absl::StrCat(flags.out, "/", file);
    if (!Exists(path)) continue;
    if (flags.keep) return Keep(flags, out);
    return absl::AlreadyExistsError(
        absl::StrCat(path,
                     " is there already: --renew makes new certificates from the authority "
                     "that is there, --keep leaves everything as it is"));
  }
  return MakeAll(flags, out);
}

}  // namespace syncnorm::server

// Security: how a coordinator is protected: its certificates, its tokens, and
// whether it may listen in plaintext where other machines can reach it.  Looks
// at the files again from time to time.
//
//   Make ----> WarnIfExposed, StartReloading ----> ~Security
//
// Callers may rely on:
//   * What is wrong at the start is an error; what goes wrong later leaves the
//     old certificates and tokens in force, is counted and logged.
//   * Plaintext that other machines can reach is told in the log at each start, as a warning.
//
// Thread-safety: thread-safe, but Reload, which is for tests that do not StartReloading.
#pragma once

#include <cstdint>
#include <memory>
#include <string>
#include <thread>

#include "absl/base/thread_annotations.h"
#include "absl/status/statusor.h"
#include "absl/synchronization/mutex.h"
#include "absl/synchronization/notification.h"
#include "absl/time/time.h"
#include "proto/clock.h"
#include "proto/tls_files.h"
#include "server/access.h"
#include "server/certificates.h"
#include "server/file_watch.h"
#include "server/listen_address.h"

namespace syncnorm::server {

struct SecurityOptions {
  TlsFiles tls;           // all three, or none: plaintext
  std::string tokens;     // file of them (tokens.h); empty: nobody is asked for one
  bool insecure = false;  // plaintext is meant, also where other machines can reach it
  // Between looks at the files: new ones are in use well before those that a rotation replaces
  // end; three stats cost nothing.
  absl::Duration reload_interval = absl::Seconds(10);

  bool uses_tls() const { return !tls.certificate.empty(); }
};

// Whether other machines can reach the address in plaintext.
bool Exposed(const ListenAddress& listen, const SecurityOptions& options);

// As of now; for metrics.
struct SecurityState {
  bool insecure = false;  // other machines can reach it in plaintext
  bool tls = false;
  bool tokens = false;
  absl::Time certificate_not_after = absl::InfiniteFuture();
  uint64_t reloads = 0;          // of certificates and tokens, that brought something new
  uint64_t reload_failures = 0;  // tries that failed
  Access::Refusals refusals;
};

class Security {
 public:
  // kInvalidArgument: the address is Exposed, and `insecure` is not set; or a part of the
  // certificates is missing.  Otherwise the errors of Certificates::Load and Tokens::Read.
  static absl::StatusOr<std::unique_ptr<Security>> Make(const ListenAddress& listen,
                                                        const SecurityOptions& options,
                                                        Clock* wall_clock);
  ~Security();
  Security(const Security&) = delete;
  Security& operator=(const Security&) = delete;

  // Once it listens on `address`.
  void WarnIfExposed(const std::string& address) const;
  void StartReloading();
  // Looks at the files once.
  void Reload();

  Access* access() { return &access_; }
  // Null: plaintext.
  const Certificates* certificates() const { return certificates_.get(); }
  SecurityState state() const;

 private:
  Security(const SecurityOptions& options, bool exposed, Clock* wall_clock);

  absl::StatusOr<bool> ReloadTokens();
  void Count(const char* what, const absl::StatusOr<bool>& reloaded, bool* failing);

  const SecurityOptions options_;
  const bool exposed_;
  Clock* const wall_clock_;
  Access access_;
  std::unique_ptr<Certificates> certificates_;

  // Of the thread that reloads.
  FileWatch tokens_watch_;
  bool certificates_failing_ = false;  // at the last try
  bool tokens_failing_ = false;

  mutable absl::Mutex mutex_;
  uint64_t reloads_ ABSL_GUARDED_BY(mutex_) = 0;
  uint64_t reload_failures_ ABSL_GUARDED_BY(mutex_) = 0;
  absl::Notification stop_;
  std::thread thread_;
};

}  // namespace syncnorm::server

// Certificates: what the coordinator shows to workers and checks theirs with:
// its own certificate and key, and the authorities of the workers'.  Read at the
// start, and again when their files change.
//
// Callers may rely on:
//   * What is current was checked: it parses, the key is the certificate's, and both ends'
//     certificates are in force at the time of loading.
//   * A reload that fails changes nothing.  It is tried again at each Reload until it succeeds, so
//     that a certificate that is not valid yet is taken when it is.
//
// Thread-safety: current() may be called from any thread; Reload from one at a time.
#pragma once

#include <cstdint>
#include <memory>

#include "absl/base/thread_annotations.h"
#include "absl/status/statusor.h"
#include "absl/synchronization/mutex.h"
#include "absl/time/time.h"
#include "proto/tls_files.h"
#include "server/file_watch.h"

namespace syncnorm::server {

class Certificates {
 public:
  struct Current {
    TlsTexts texts;
    absl::Time not_after;     // of the coordinator's own
    uint64_t generation = 0;  // 1, 2, ...: another one for other texts
  };

  // All three files are needed.  Errors: those of ReadTls and CheckDates.
  static absl::StatusOr<std::unique_ptr<Certificates>> Load(const TlsFiles& files, absl::Time now);

  // Whether there are new ones.  Errors as Load.
  absl::StatusOr<bool> Reload(absl::Time now);

  std::shared_ptr<const Current> current() const;

 private:
  explicit Certificates(const TlsFiles& files);

  const TlsFiles files_;
  FileWatch watch_;
  bool failed_ = false;
  mutable absl::Mutex mutex_;
  std::shared_ptr<const Current> current_ ABSL_GUARDED_BY(mutex_);
};

}  // namespace syncnorm::server

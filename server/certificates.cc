#include "server/certificates.h"

#include <utility>

namespace syncnorm::server {
namespace {

absl::StatusOr<Certificates::Current> Read(const TlsFiles& files, absl::Time now) {
  absl::StatusOr<TlsTexts> texts = ReadTls(files);
  if (!texts.ok()) return texts.status();
  if (absl::Status status = CheckDates(files, *texts, now); !status.ok()) return status;
  const auto chain = Describe(files.certificate, texts->certificate);
  if (!chain.ok()) return chain.status();
  return Certificates::Current{*std::move(texts), chain->front().not_after};
}

}  // namespace

Certificates::Certificates(const TlsFiles& files)
    : files_(files), watch_({files.certificate, files.key, files.authorities}) {}

absl::StatusOr<std::unique_ptr<Certificates>> Certificates::Load(const TlsFiles& files,
                                                                 absl::Time now) {
  // Looks at the files before it reads them, so that no change in between is missed.
  auto certificates = std::unique_ptr<Certificates>(new Certificates(files));
  certificates->failed_ = true;
  if (absl::StatusOr<bool> loaded = certificates->Reload(now); !loaded.ok()) {
    return loaded.status();
  }
  return certificates;
}

absl::StatusOr<bool> Certificates::Reload(absl::Time now) {
  if (!watch_.Changed() && !failed_) return false;
  failed_ = true;
  absl::StatusOr<Current> read = Read(files_, now);
  if (!read.ok()) return read.status();
  failed_ = false;
  const absl::MutexLock lock(&mutex_);
  read->generation = current_ == nullptr ? 1 : current_->generation + 1;
  const bool same = current_ != nullptr && current_->texts == read->texts;
  if (!same) current_ = std::make_shared<const Current>(*std::move(read));
  return !same;
}

std::shared_ptr<const Certificates::Current> Certificates::current() const {
  const absl::MutexLock lock(&mutex_);
  return current_;
}

}  // namespace syncnorm::server

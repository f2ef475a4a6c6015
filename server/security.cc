#include "server/security.h"

#include <utility>

#include "absl/strings/str_cat.h"
#include "server/log.h"
#include "server/tokens.h"

namespace syncnorm::server {

bool Exposed(const ListenAddress& listen, const SecurityOptions& options) {
  return !listen.local() && !options.uses_tls();
}

Security::Security(const SecurityOptions& options, bool exposed, Clock* wall_clock)
    : options_(options),
      exposed_(exposed),
      wall_clock_(wall_clock),
      tokens_watch_({options.tokens}) {}

absl::StatusOr<std::unique_ptr<Security>> Security::Make(const ListenAddress& listen,
                                                         const SecurityOptions& options,
                                                         Clock* wall_clock) {
  const std::string address = listen.With(listen.port);
  const bool exposed = Exposed(listen, options);
  if (exposed && !options.insecure) {
    return absl::InvalidArgumentError(absl::StrCat(
        address, " can be reached by other machines: it needs TLS with client certificates"));
  }
  auto security = std::unique_ptr<Security>(new Security(options, exposed, wall_clock));
  const TlsFiles& tls = options.tls;
  if (!tls.certificate.empty() || !tls.key.empty() || !tls.authorities.empty()) {
    if (tls.certificate.empty() || tls.key.empty() || tls.authorities.empty()) {
      return absl::InvalidArgumentError(
          "TLS needs a certificate, its key, and the authorities of the clients' certificates");
    }
    auto certificates = Certificates::Load(tls, wall_clock->Now());
    if (!certificates.ok()) return certificates.status();
    security->certificates_ = *std::move(certificates);
  }
  if (!options.tokens.empty()) {
    absl::StatusOr<Tokens> tokens = Tokens::Read(options.tokens);
    if (!tokens.ok()) return tokens.status();
    security->access_.Replace(std::make_shared<const Tokens>(*std::move(tokens)));
  }
  return security;
}

void Security::WarnIfExposed(const std::string& address) const {
  if (!exposed_) return;
  Log(LogLevel::kWarning,
      absl::StrCat("insecure: the coordinator listens on ", address,
                   " in plaintext: who reaches it can read and change the statistics",
                   options_.tokens.empty() ? "" : ", and read the tokens"));
}

Security::~Security() {
  stop_.Notify();
  if (thread_.joinable()) thread_.join();
}

void Security::StartReloading() {
  if (certificates_ == nullptr && options_.tokens.empty()) return;
  thread_ = std::thread([this] {
    while (!stop_.WaitForNotificationWithTimeout(options_.reload_interval)) Reload();
  });
}

void Security::Reload() {
  if (certificates_ != nullptr) {
    Count("certificates", certificates_->Reload(wall_clock_->Now()), &certificates_failing_);
  }
  if (!options_.tokens.empty()) Count("tokens", ReloadTokens(), &tokens_failing_);
}

absl::StatusOr<bool> Security::ReloadTokens() {
  if (!tokens_watch_.Changed() && !tokens_failing_) return false;
  absl::StatusOr<Tokens> tokens = Tokens::Read(options_.tokens);
  if (!tokens.ok()) return tokens.status();
  access_.Replace(std::make_shared<const Tokens>(*std::move(tokens)));
  return true;
}

void Security::Count(const char* what, const absl::StatusOr<bool>& reloaded, bool* failing) {
  if (reloaded.ok() && !*reloaded) {
    *failing = false;
    return;
  }
  if (reloaded.ok()) {
    *failing = false;
    Log(LogLevel::kInfo, absl::StrCat("new ", what, " are in force"));
  } else if (!std::exchange(*failing, true)) {  // said once, not at each try
    Log(LogLevel::kWarning,
        absl::StrCat("the old ", what,
                     " stay in force, the new ones cannot be used: ", reloaded.status().message()));
  }
  const absl::MutexLock lock(&mutex_);
  ++(reloaded.ok() ? reloads_ : reload_failures_);
}

SecurityState Security::state() const {
  SecurityState state;
  state.insecure = exposed_;
  state.tls = certificates_ != nullptr;
  state.tokens = !options_.tokens.empty();
  if (certificates_ != nullptr) state.certificate_not_after = certificates_->current()->not_after;
  state.refusals = access_.refusals();
  const absl::MutexLock lock(&mutex_);
  state.reloads = reloads_;
  state.reload_failures = reload_failures_;
  return state;
}

}  // namespace syncnorm::server

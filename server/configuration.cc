#include "server/configuration.h"

#include <memory>
#include <utility>

#include "absl/strings/str_cat.h"
#include "proto/clock.h"
#include "server/config_file.h"
#include "server/dump_files.h"
#include "server/port_file.h"
#include "server/security.h"

namespace syncnorm::server {
namespace {

void CompleteTls(const std::string& folder, TlsFiles* tls) {
  if (folder.empty()) return;
  const auto complete = [&folder](std::string* path, const char* name) {
    if (path->empty()) *path = absl::StrCat(folder, "/", name);
  };
  complete(&tls->certificate, "tls.crt");
  complete(&tls->key, "tls.key");
  complete(&tls->authorities, "ca.crt");
}

}  // namespace

absl::StatusOr<Configuration> Configuration::Make(std::vector<std::string> arguments,
                                                  std::vector<std::string> variables) {
  const auto flags = FromCommandLine(arguments);
  if (!flags.ok()) return flags.status();
  const auto environment = FromEnvironment(variables);
  if (!environment.ok()) return environment.status();

  Configuration made;
  // Which file there is to read, first.
  for (const auto* settings : {&*environment, &*flags}) {
    if (absl::Status status = made.Apply(*settings); !status.ok()) return status;
  }
  if (const std::string path = made.given_.config; !path.empty()) {
    const auto file = FromFile(path);
    if (!file.ok()) return file.status();
    made = Configuration();
    for (const auto* settings : {&*file, &*environment, &*flags}) {
      if (absl::Status status = made.Apply(*settings); !status.ok()) return status;
    }
  }
  made.options_ = made.given_;
  CompleteTls(made.options_.tls_dir, &made.options_.server.security.tls);
  if (absl::Status status = made.CheckTogether(); !status.ok()) return status;
  made.arguments_ = std::move(arguments);
  made.variables_ = std::move(variables);
  return made;
}

absl::Status Configuration::Apply(const std::vector<Setting>& settings) {
  for (const Setting& setting : settings) {
    if (absl::Status status = setting.option->set(setting.value, &given_); !status.ok()) {
      return absl::InvalidArgumentError(absl::StrCat(setting.name, ": ", status.message()));
    }
    origins_[setting.option->name] = setting;
  }
  return absl::OkStatus();
}

absl::Status Configuration::Bad(const std::string& option, const std::string& why) const {
  const auto origin = origins_.find(option);
  return absl::InvalidArgumentError(
      absl::StrCat(origin == origins_.end() ? "--" + option : origin->second.name, ": ", why));
}

absl::Status Configuration::CheckTogether() const {
  if (absl::Status status = CheckSecurity(); !status.ok()) return status;
  return CheckAdmin();
}

absl::Status Configuration::CheckSecurity() const {
  const ListenAddress& listen = options_.server.listen;
  const SecurityOptions& security = options_.server.security;
  const TlsFiles& tls = security.tls;
  const int given = !tls.certificate.empty() + !tls.key.empty() + !tls.authorities.empty();
  if (given != 0 && given != 3) {
    return Bad(tls.certificate.empty() ? "tls_cert"
               : tls.key.empty()       ? "tls_key"
                                       : "tls_client_ca",
               "is missing; TLS needs a certificate, its key and the workers' authorities");
  }
  if (!Exposed(listen, security) || security.insecure) return absl::OkStatus();
  return Bad("listen",
             absl::StrCat(listen.With(listen.port),
                          " can be reached by other machines, which needs TLS (--tls_dir)"
                          "; it would be in plaintext: give --insecure if that is meant"));
}

absl::Status Configuration::CheckAdmin() const {
  const std::optional<ListenAddress>& admin = options_.server.admin;
  if (!admin.has_value()) return absl::OkStatus();
  const std::string address = admin->With(admin->port);
  const ListenAddress& listen = options_.server.listen;
  if (admin->port != 0 && address == listen.With(listen.port)) {
    return Bad("admin_listen",
               absl::StrCat(address, " is what --listen has; expected another port"));
  }
  if (admin->local() || options_.admin_insecure) return absl::OkStatus();
  return Bad("admin_listen",
             absl::StrCat(address,
                          " can be reached by other machines, and the admin port is plain HTTP"
                          ": give --admin_insecure if that is meant"));
}

absl::Status Configuration::CheckFiles() const {
  const ServerOptions& server = options_.server;
  if (!server.dump_dir.empty()) {
    if (absl::Status status = DumpFiles::Check(server.dump_dir); !status.ok()) return status;
  }
  if (!options_.port_file.empty()) {
    if (absl::Status status = CheckPortFile(options_.port_file); !status.ok()) return status;
  }
  return Security::Make(server.listen, server.security, &WallClock()).status();
}

std::string Configuration::ToYaml() const {
  std::vector<ConfigEntry> entries;
  for (const Option& option : OptionTable()) {
    if (option.given != Given::kAnywhere) continue;
    const auto origin = origins_.find(option.name);
    entries.push_back({option.name, option.get(given_),
                       origin == origins_.end() ? "default" : origin->second.from});
  }
  return ConfigText(entries);
}

std::vector<std::string> Configuration::Differences(const Configuration& other) const {
  std::vector<std::string> names;
  for (const Option& option : OptionTable()) {
    if (option.get(given_) != option.get(other.given_)) names.push_back(option.name);
  }
  return names;
}

}  // namespace syncnorm::server

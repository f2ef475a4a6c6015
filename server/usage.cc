#include "server/usage.h"

#include "absl/strings/str_cat.h"
#include "proto/wire.h"
#include "server/option_table.h"

namespace syncnorm::server {
namespace {

constexpr char kUsage[] =
    "Reduces the normalisation statistics of groups of workers.\n\n"
    "  syncnorm-coordinator                              on 127.0.0.1:7070\n"
    "  syncnorm-coordinator --listen=127.0.0.1:0 --port_file=/tmp/port\n"
    "  syncnorm-coordinator --listen=unix:/run/syncnorm.sock\n"
    "  syncnorm-coordinator --listen=0.0.0.0:7070 --tls_dir=/etc/syncnorm/tls "
    "--tokens=/etc/syncnorm/tokens\n"
    "  syncnorm-coordinator --config=/etc/syncnorm/coordinator.yaml\n\n"
    "A flag --some_name is also the variable SYNCNORM_COORDINATOR_SOME_NAME, and the key "
    "some_name\n"
    "of the file --config; the flag comes before the variable, and the variable before the "
    "file.\n\n"
    "SIGTERM and SIGINT drain: rounds in flight finish, workers are told, exit status 0; a second\n"
    "signal ends it at once.  SIGUSR1 reports who waited for whom.  SIGHUP reads the file again, "
    "for\n"
    "log_level.  Limits answer with RESOURCE_EXHAUSTED and never stop the process.\n\n"
    "Flags:\n";

}  // namespace

std::string HelpText() {
  std::string text = kUsage;
  const Options defaults;
  for (const Option& option : OptionTable()) {
    absl::StrAppend(&text, "  --", option.name, "  (", option.get(defaults), ")\n      ",
                    option.help, "\n");
  }
  return text;
}

std::string VersionText() {
  return absl::StrCat("syncnorm-coordinator ", SYNCNORM_VERSION, ", protocol ",
                      wire::kProtocolMajor, ".", wire::kProtocolMinor, "\n");
}

}  // namespace syncnorm::server

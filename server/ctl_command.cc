#include "server/ctl_command.h"

#include <algorithm>
#include <utility>

#include "absl/strings/str_cat.h"
#include "absl/strings/str_format.h"
#include "absl/strings/str_join.h"
#include "server/ctl_text.h"

namespace syncnorm::server {
namespace {

const CtlCommand* Find(const std::string& name) {
  for (const CtlCommand& command : CtlCommands()) {
    if (name == command.name) return &command;
  }
  return nullptr;
}

std::string NoCommand(const std::string& name) {
  std::vector<std::string> names;
  for (const CtlCommand& command : CtlCommands()) names.emplace_back(command.name);
  return absl::StrCat(name.empty() ? "no command" : absl::StrCat("no command \"", name, "\""),
                      "; expected ", absl::StrJoin(names, ", "), " or help");
}

std::string Help() {
  std::string text = "syncnormctl COMMAND [FLAGS]\n\n";
  for (const CtlCommand& command : CtlCommands()) {
    absl::StrAppend(&text, "  ", Left(command.name, 8), command.summary, "\n");
  }
  absl::StrAppend(&text,
                  "  help    of a command: its flags\n\n"
                  "How a coordinator is reached, for all that ask one (default; the variable that "
                  "counts where the flag is not given):\n",
                  CtlFlagsHelp({CtlConnectionFlags().begin(), CtlConnectionFlags().end()}));
  return text;
}

std::string HelpOf(const CtlCommand& command) {
  std::string text = absl::StrCat("syncnormctl ", command.name, ": ", command.summary, "\n");
  if (*command.more != '\0') absl::StrAppend(&text, "\n", command.more, "\n");
  absl::StrAppend(&text, "\nFlags:\n", CtlFlagsHelp(command.flags));
  if (command.asks) text += "and those by which a coordinator is reached: syncnormctl help\n";
  return text;
}

bool IsHelp(const std::string& argument) {
  return argument == "help" || argument == "--help" || argument == "-help" || argument == "-h";
}

absl::StatusOr<int> RunCommand(const CtlCommand& command, const std::vector<std::string>& rest,
                               const CtlEnvironment& environment, std::FILE* out) {
  if (std::any_of(rest.begin(), rest.end(), IsHelp)) return Print(HelpOf(command), out);
  CtlFlags flags;
  std::vector<std::string> words;
  if (absl::Status status = ParseCtlFlags(rest, command.all_flags(), &flags, &words);
      !status.ok()) {
    return absl::Status(status.code(), absl::StrCat(command.name, ": ", status.message()));
  }
  if (!words.empty()) {
    return absl::InvalidArgumentError(
        absl::StrCat(command.name, ": unexpected argument \"", words[0], "\""));
  }
  if (command.asks) ReadCtlEnvironment(environment, &flags);
  return command.run(flags, out);
}

// Flags may stand before the command.
absl::StatusOr<int> Run(std::vector<std::string> arguments, const CtlEnvironment& environment,
                        std::FILE* out) {
  if (!arguments.empty() && arguments[0] == "--version") {
    return Print(absl::StrCat("syncnormctl ", SYNCNORM_VERSION, "\n"), out);
  }
  const auto word = std::find_if(arguments.begin(), arguments.end(), [](const std::string& one) {
    return IsHelp(one) || Find(one) != nullptr;
  });
  if (word == arguments.end()) {
    const auto other = std::find_if(arguments.begin(), arguments.end(),
                                    [](const std::string& one) { return one[0] != '-'; });
    return absl::InvalidArgumentError(NoCommand(other == arguments.end() ? "" : *other));
  }
  const std::string name = *word;
  arguments.erase(word);
  if (!IsHelp(name)) return RunCommand(*Find(name), arguments, environment, out);
  if (arguments.empty()) return Print(Help(), out);
  const CtlCommand* const command = Find(arguments[0]);
  if (command == nullptr) return absl::InvalidArgumentError(NoCommand(arguments[0]));
  return Print(HelpOf(*command), out);
}

}  // namespace

std::vector<std::string> CtlCommand::all_flags() const {
  std::vector<std::string> all = flags;
  if (asks) all.insert(all.end(), CtlConnectionFlags().begin(), CtlConnectionFlags().end());
  return all;
}

absl::Span<const CtlCommand> CtlCommands() {
  static const auto* const commands = new std::vector<CtlCommand>{
      {"status",
       "what there is, counters since the start, and how it is protected",
       "",
       true,
       {"json"},
       &CtlStatus},
      {"groups",
       "one line per group: members, rounds per second, latency, who is last",
       "",
       true,
       {"group", "json"},
       &CtlGroups},
      {"top",
       "the same live, with who is late, open rounds and the last failures",
       "On a terminal until Ctrl-C or q; elsewhere one plain frame after another.  A coordinator "
       "that cannot\nbe reached is said so, and asked again.",
       true,
       {"group", "interval", "count", "json"},
       &CtlTop},
      {"report",
       "who waited for whom, by rank and by layer",
       "",
       true,
       {"group", "rounds", "json"},
       &CtlReport},
      {"ring",
       "the rounds that ended last, the latest first",
       "",
       true,
       {"group", "rounds", "json"},
       &CtlRing},
      {"health",
       "asks gRPC's health service; exit status 0 only if SERVING",
       "Needs no token.  In a container: syncnormctl health --timeout=2s",
       true,
       {"service", "json"},
       &CtlHealth},
      {"drain",
       "ends the coordinator as SIGTERM does: rounds in flight finish first",
       "Where tokens are used it needs one of role admin.",
       true,
       {"wait"},
       &CtlDrain},
      {"certs",
       "makes an authority, certificates and tokens",
       "  syncnormctl certs --out=certs --coordinator=db.example,10.0.0.7\n\n"
       "  certs/ca.crt ca.key                               the authority; its key signs whoever "
       "may connect\n"
       "  certs/coordinator/tls.crt tls.key ca.crt tokens   syncnorm-coordinator "
       "--tls_dir=certs/coordinator\n"
       "                                                    --tokens=certs/coordinator/tokens\n"
       "  certs/worker/tls.crt tls.key ca.crt token         SYNCNORM_TLS_CA, ..., "
       "SYNCNORM_TOKEN_FILE\n"
       "  certs/admin/tls.crt tls.key ca.crt token          syncnormctl top "
       "--tls_dir=certs/admin\n\n"
       "Either all of it is made or nothing.  A coordinator that runs takes renewed files by "
       "itself.",
       false,
       {"out", "coordinator", "days", "groups", "mode", "renew", "keep"},
       &CtlCerts},
  };
  return *commands;
}

int RunCtl(const std::vector<std::string>& arguments, const CtlEnvironment& environment,
           std::FILE* out, std::FILE* err) {
  const absl::StatusOr<int> status = Run(arguments, environment, out);
  if (status.ok()) return *status;
  std::fprintf(err, "syncnormctl: %s\n", std::string(status.status().message()).c_str());
  return 1;
}

}  // namespace syncnorm::server

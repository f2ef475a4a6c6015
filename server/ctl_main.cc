// syncnormctl: asks a coordinator who waited for whom, and how it is.

#include <grpcpp/grpcpp.h>

#include <cstdint>
#include <cstdio>
#include <memory>
#include <string>
#include <vector>

#include "absl/flags/flag.h"
#include "absl/flags/parse.h"
#include "absl/flags/usage.h"
#include "absl/flags/usage_config.h"
#include "absl/strings/match.h"
#include "absl/strings/str_cat.h"
#include "absl/time/time.h"
#include "proto/admin_json.h"
#include "server/ctl_channel.h"
#include "server/ctl_table.h"
#include "syncnorm/v1/admin.grpc.pb.h"

ABSL_FLAG(std::string, address, "127.0.0.1:7070", "HOST:PORT or unix:PATH of the coordinator");
ABSL_FLAG(std::string, group, "", "report: only this group");
ABSL_FLAG(uint32_t, rounds, 0, "report: ended rounds of each group, the latest; 0: 256");
ABSL_FLAG(bool, json, false, "everything that was answered, as JSON");
ABSL_FLAG(
    std::string, tls_ca, "",
    "file of the authorities that the coordinator's certificate comes from; empty: plaintext");
ABSL_FLAG(std::string, tls_cert, "", "file of the certificate to present");
ABSL_FLAG(std::string, tls_key, "", "file of its key");
ABSL_FLAG(std::string, tls_server_name, "",
          "the name in the coordinator's certificate, if it is not the address's");
ABSL_FLAG(std::string, token_file, "", "file of the token to present, of role reader or admin");
ABSL_FLAG(bool, insecure, false, "let the token travel in plaintext to another machine");
ABSL_FLAG(absl::Duration, timeout, absl::Seconds(10), "for the answer");

namespace {

namespace v1 = syncnorm::v1;

constexpr char kUsage[] =
    "asks a coordinator.\n\n"
    "  syncnormctl report --address=HOST:PORT     who waited for whom, and the last rounds\n"
    "  syncnormctl status --address=HOST:PORT     what there is, and counters since its start";

int Die(const std::string& why) {
  std::fprintf(stderr, "syncnormctl: %s\n", why.c_str());
  return 1;
}

template <typename Reply>
int Print(const grpc::Status& status, const Reply& reply) {
  if (!status.ok()) {
    return Die(absl::StrCat(absl::GetFlag(FLAGS_address), ": ", status.error_message()));
  }
  const std::string text =
      absl::GetFlag(FLAGS_json) ? syncnorm::AdminJson(reply) : syncnorm::server::Table(reply);
  const bool written =
      std::fwrite(text.data(), 1, text.size(), stdout) == text.size() && std::fflush(stdout) == 0;
  return written ? 0 : Die("cannot write the answer to standard output");
}

int Ask(const std::string& what) {
  syncnorm::server::CtlOptions options;
  options.address = absl::GetFlag(FLAGS_address);
  options.tls = {absl::GetFlag(FLAGS_tls_cert), absl::GetFlag(FLAGS_tls_key),
                 absl::GetFlag(FLAGS_tls_ca)};
  options.server_name = absl::GetFlag(FLAGS_tls_server_name);
  options.token_file = absl::GetFlag(FLAGS_token_file);
  options.insecure = absl::GetFlag(FLAGS_insecure);
  const auto channel = syncnorm::server::MakeCtlChannel(options);
  if (!channel.ok()) return Die(std::string(channel.status().message()));
  const std::unique_ptr<v1::Admin::Stub> stub = v1::Admin::NewStub(*channel);
  grpc::ClientContext context;
  if (const absl::Status presented = syncnorm::server::Present(options, &context);
      !presented.ok()) {
    return Die(std::string(presented.message()));
  }
  const int64_t timeout_us = absl::ToInt64Microseconds(absl::GetFlag(FLAGS_timeout));
  context.set_deadline(
      gpr_time_add(gpr_now(GPR_CLOCK_MONOTONIC), gpr_time_from_micros(timeout_us, GPR_TIMESPAN)));
  if (what == "report") {
    v1::ReportRequest request;
    request.set_group(absl::GetFlag(FLAGS_group));
    request.set_rounds(absl::GetFlag(FLAGS_rounds));
    v1::ReportReply reply;
    const grpc::Status status = stub->Report(&context, request, &reply);
    return Print(status, reply);
  }
  v1::StatusReply reply;
  const grpc::Status status = stub->Status(&context, {}, &reply);
  return Print(status, reply);
}

std::string Version() { return absl::StrCat("syncnormctl ", SYNCNORM_VERSION, "\n"); }

bool Ours(absl::string_view file) { return absl::EndsWith(file, "server/ctl_main.cc"); }

}  // namespace

int main(int argc, char** argv) {
  absl::SetProgramUsageMessage(kUsage);
  absl::FlagsUsageConfig config;
  config.version_string = &Version;
  config.contains_help_flags = &Ours;
  absl::SetFlagsUsageConfig(config);
  const std::vector<char*> rest = absl::ParseCommandLine(argc, argv);
  const std::string what = rest.size() == 2 ? rest[1] : "";
  if (what != "report" && what != "status") {
    return Die("say report or status; see --help");
  }
  return Ask(what);
}

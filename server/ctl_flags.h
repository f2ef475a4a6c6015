// The flags of syncnormctl: of all commands in one struct, each command taking
// those that it names.
//
// A flag that is not given comes from the workers' environment where that has a variable for it:
// SYNCNORM_ADDR, SYNCNORM_TLS_CA, SYNCNORM_TLS_CERT, SYNCNORM_TLS_KEY, SYNCNORM_TLS_SERVER_NAME,
// SYNCNORM_TOKEN_FILE.  --tls_dir stands for the three files and the token in it.
//
// Thread-safety: functions of their arguments.
#pragma once

#include <cstdint>
#include <functional>
#include <set>
#include <string>
#include <vector>

#include "absl/status/status.h"
#include "absl/strings/string_view.h"
#include "absl/time/time.h"
#include "absl/types/span.h"
#include "server/ctl_channel.h"

namespace syncnorm::server {

struct CtlFlags {
  // Of the connection.
  std::string address = "127.0.0.1:7070";
  std::string tls_dir;
  std::string tls_ca;
  std::string tls_cert;
  std::string tls_key;
  std::string tls_server_name;
  std::string token_file;
  bool insecure = false;
  absl::Duration timeout = absl::Seconds(10);

  bool json = false;
  std::string group;
  uint32_t rounds = 0;
  absl::Duration interval = absl::Seconds(2);
  uint32_t count = 0;
  std::string service;
  bool wait = false;

  // Of certs.
  std::string out;
  std::string coordinator;
  uint32_t days = 90;
  std::string groups = "*";
  std::string mode = "0600";
  bool renew = false;
  bool keep = false;

  // The names of those that were on the command line.
  std::set<std::string> given;

  bool Given(const std::string& name) const { return given.count(name) > 0; }
  // What --tls_dir and the single files come to.
  CtlOptions connection() const;
};

// Those of every command that asks a coordinator.
absl::Span<const char* const> CtlConnectionFlags();

// The value of an environment variable; "" if there is none.
using CtlEnvironment = std::function<std::string(const char* name)>;

// Reads "--name=value", "--name value", "--name" and "--noname"; what is no flag goes to `words`.
// `taken` are the names that are known here.  kInvalidArgument, in one line: a flag that is not
// among them, a value that is missing or not of its type.
absl::Status ParseCtlFlags(const std::vector<std::string>& arguments,
                           const std::vector<std::string>& taken, CtlFlags* flags,
                           std::vector<std::string>* words);

// Fills in from the environment what was not given.
void ReadCtlEnvironment(const CtlEnvironment& environment, CtlFlags* flags);

// Of these flags a line or two each: name, default, variable, meaning.
std::string CtlFlagsHelp(const std::vector<std::string>& names);

}  // namespace syncnorm::server

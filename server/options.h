// Options of the coordinator's program: plain values, with their defaults.
// option_table.h has what each is called, and what it may be.
//
// Thread-safety: plain values.
#pragma once

#include <string>

#include "absl/time/time.h"
#include "server/log.h"
#include "server/server.h"

namespace syncnorm::server {

struct Options {
  ServerOptions server = {.listen = {.host = "127.0.0.1", .port = 7070}};
  std::string tls_dir;  // where the files of server.security.tls are that have no path of their own
  bool admin_insecure = false;
  std::string port_file;  // empty: none
  absl::Duration drain_grace = absl::Seconds(10);
  LogLevel log_level = LogLevel::kInfo;
  LogFormat log_format = LogFormat::kText;

  // About the options themselves.
  std::string config;  // file of options; empty: none
  bool print_config = false;
  bool check_config = false;
};

}  // namespace syncnorm::server

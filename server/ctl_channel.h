// The channel of syncnormctl to a coordinator, and what its calls present.
#pragma once

#include <grpcpp/grpcpp.h>

#include <memory>
#include <string>

#include "absl/status/status.h"
#include "absl/status/statusor.h"
#include "proto/tls_files.h"

namespace syncnorm::server {

struct CtlOptions {
  std::string address;      // HOST:PORT or unix:PATH
  TlsFiles tls;             // without authorities: plaintext
  std::string server_name;  // that the coordinator's certificate has, if not the address's
  std::string token_file;   // empty: none is presented
  bool insecure = false;    // a token may travel in plaintext to another machine
};

// kInvalidArgument, kNotFound: which file cannot be used, and why.
absl::StatusOr<std::shared_ptr<grpc::Channel>> MakeCtlChannel(const CtlOptions& options);

// Adds the token, if there is one.  kInvalidArgument: it would travel in plaintext;  kNotFound: its
// file cannot be read.
absl::Status Present(const CtlOptions& options, grpc::ClientContext* context);

}  // namespace syncnorm::server

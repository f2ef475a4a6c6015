// Credentials: what gRPC listens with: plaintext, or TLS of at least 1.2 with
// client certificates, from the Certificates that are current when a
// connection is made.  Connections that exist are not touched by new ones.
//
// gRPC asks for the current ones at each handshake (the certificate config
// fetcher of its core), and goes on with those it has when it cannot use the new
// ones.  Its FileWatcherCertificateProvider does not: key and certificate that do not match, as in
// the middle of a rotation, leave it with none (seen in 1.51), and it reports no failure.
//
// Thread-safety: used before the server is built.
#pragma once

#include <grpcpp/security/server_credentials.h>

#include <memory>

#include "server/certificates.h"

namespace syncnorm::server {

// Null: plaintext.  Both `certificates` and what is returned outlive the gRPC server.
std::shared_ptr<grpc::ServerCredentials> MakeCredentials(const Certificates* certificates);

}  // namespace syncnorm::server

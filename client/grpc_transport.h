// The Transport over gRPC: one bidirectional stream on a connection of its own,
// with a completion queue of its own that the thread in Next polls.  So a waiting
// thread reads its answer from the socket itself; no other thread is woken.
//
// The channel's settings, with what each is for, stand in grpc_transport.cc.
// They were chosen by system calls and instructions a round
// (docs/performance.md).
//
// Certificates and the token are read at each Open; when the certificates have
// changed, the stream is opened on a new connection.  What is wrong with the files ends the stream
// at once, with a status that says so.  When a connection does not come about and TLS is the
// reason, the status is kUnauthenticated and says which (tls_diagnosis.h); finding that out takes
// at most a second, and not longer than the deadline of Next.
//
// Creating one makes two settings of the whole process, once, of which the first
// does something only before the process uses gRPC for the first time:
//   * GRPC_EXPERIMENTS=-tcp_read_chunks, unless the variable is set already;
//   * Abseil's mutex deadlock detection is switched off (Debian's build runs it:
//     15 % of the client's instructions).
#pragma once

#include <memory>
#include <string>

#include "client/security.h"
#include "client/transport.h"

namespace syncnorm {

// `address`: "host:port" or any gRPC target.
std::unique_ptr<Transport> NewGrpcTransport(const std::string& address,
                                            const ChannelSecurity& security = {});

}  // namespace syncnorm

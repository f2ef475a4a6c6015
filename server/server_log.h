// Brings gRPC's own log into ours.  For the program; an embedded coordinator leaves the log of its
// host as it is.
#pragma once

namespace syncnorm::server {

// gRPC's errors are shown at level debug: what matters of them is said by the server itself, in one
// line, and peers can cause any number of them.  Before gRPC is used.
void TakeGrpcLog();

}  // namespace syncnorm::server

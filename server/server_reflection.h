// gRPC's reflection service: the protocol, told to tools such as grpcurl.  For
// the program: an embedded coordinator does not link it.
#pragma once

namespace syncnorm::server {

// The servers that this process starts from now on may answer it: ServerOptions::reflection.
void OfferReflection();

}  // namespace syncnorm::server

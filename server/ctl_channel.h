// The channel of syncnormctl to a coordinator.
#pragma once

#include <grpcpp/grpcpp.h>

#include <memory>
#include <string>

namespace syncnorm::server {

// To HOST:PORT or unix:PATH, in plaintext.
std::shared_ptr<grpc::Channel> MakeCtlChannel(const std::string& address);

}  // namespace syncnorm::server

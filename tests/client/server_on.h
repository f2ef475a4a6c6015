// A coordinator of this process that can be ended without a word, as by kill -9, and started again
// at the same address.
#pragma once

#include <gtest/gtest.h>

#include <memory>
#include <string>

#include "absl/status/statusor.h"
#include "server/listen_address.h"
#include "server/server.h"

namespace syncnorm {

inline std::unique_ptr<server::Server> StartServer(const std::string& address,
                                                   server::Settings settings = {}) {
  server::ServerOptions options;
  options.listen = *server::ListenAddress::Parse(address);
  options.settings = settings;
  absl::StatusOr<std::unique_ptr<server::Server>> server =
      server::Server::Start(std::move(options));
  EXPECT_TRUE(server.ok()) << server.status();
  return server.ok() ? *std::move(server) : nullptr;
}

}  // namespace syncnorm

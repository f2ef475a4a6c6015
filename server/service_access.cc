#include "server/service_access.h"

#include "proto/clock.h"

namespace syncnorm::server {

std::vector<std::string> Authorization(const grpc::ServerContextBase& context) {
  std::vector<std::string> values;
  const auto [begin, end] = context.client_metadata().equal_range("authorization");
  for (auto it = begin; it != end; ++it) {
    values.emplace_back(it->second.data(), it->second.size());
  }
  return values;
}

grpc::Status CheckRole(Access* access, const grpc::ServerContextBase& context, Role role,
                       absl::string_view group) {
  const absl::Status status = access->Allow(WallClock().Now(), Authorization(context), role, group);
  return grpc::Status(static_cast<grpc::StatusCode>(status.code()), std::string(status.message()));
}

}  // namespace syncnorm::server

// What a gRPC call presents, as Access takes it; and the check that an admin service makes.
//
//   if (grpc::Status s = CheckRole(access, *context, Role::kReader, request->group()); !s.ok())
//     return s;
//
// Thread-safety: functions of their arguments.
#pragma once

#include <grpcpp/server_context.h>

#include <string>
#include <vector>

#include "absl/strings/string_view.h"
#include "server/access.h"

namespace syncnorm::server {

// The values of the metadata "authorization".
std::vector<std::string> Authorization(const grpc::ServerContextBase& context);

// Access::Allow, for a call of an admin service.  OK where no tokens are asked for.
// UNAUTHENTICATED or PERMISSION_DENIED otherwise, with a text that is for the caller.
grpc::Status CheckRole(Access* access, const grpc::ServerContextBase& context, Role role,
                       absl::string_view group);

}  // namespace syncnorm::server

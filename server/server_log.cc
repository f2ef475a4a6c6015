#include "server/server_log.h"

#include <grpc/support/log.h>

#include "absl/strings/str_cat.h"
#include "server/log.h"

namespace syncnorm::server {

void TakeGrpcLog() {
  gpr_set_log_function([](gpr_log_func_args* line) {
    Log(LogLevel::kDebug,
        absl::StrCat("gRPC ", gpr_log_severity_string(line->severity), ": ", line->message));
  });
}

}  // namespace syncnorm::server

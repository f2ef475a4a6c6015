#include "proto/admin_json.h"

#include <google/protobuf/util/json_util.h>

#include "kernels/check.h"

namespace syncnorm {

std::string AdminJson(const google::protobuf::Message& message) {
  google::protobuf::util::JsonPrintOptions options;
  options.add_whitespace = true;
  options.always_print_primitive_fields = true;
  options.preserve_proto_field_names = true;
  std::string json;
  // Fails for messages of types that are not linked in: those of admin.proto hold none.
  SYNCNORM_CHECK(google::protobuf::util::MessageToJsonString(message, &json, options).ok());
  return json;
}

}  // namespace syncnorm

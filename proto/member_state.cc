#include "proto/member_state.h"

#include <google/protobuf/stubs/logging.h>

#include "absl/strings/str_cat.h"
#include "syncnorm/v1/state.pb.h"

namespace syncnorm::wire {

// Deterministic without asking protobuf for it: the message has no map field.
std::string EncodeMemberState(const MemberState& state) {
  v1::MemberState message;
  for (const auto& [name, bytes] : state.layers) {
    v1::MemberState::Layer* layer = message.add_layers();
    layer->set_name(name);
    layer->set_state(bytes);
  }
  message.set_trainer(state.trainer);
  message.set_boundaries(state.boundaries);
  return message.SerializeAsString();
}

absl::StatusOr<MemberState> DecodeMemberState(std::string_view bytes) {
  const google::protobuf::LogSilencer silencer;
  v1::MemberState message;
  if (!message.ParseFromArray(bytes.data(), static_cast<int>(bytes.size()))) {
    return absl::InvalidArgumentError(
        absl::StrCat("the ", bytes.size(), " bytes are not a MemberState of syncnorm.v1"));
  }
  MemberState state;
  for (const v1::MemberState::Layer& layer : message.layers()) {
    if (!state.layers.emplace(layer.name(), layer.state()).second) {
      return absl::InvalidArgumentError(
          absl::StrCat("the state has layer ", layer.name(), " twice"));
    }
  }
  state.trainer = message.trainer();
  state.boundaries = message.boundaries();
  return state;
}

}  // namespace syncnorm::wire

#include "proto/layer_state.h"

#include <google/protobuf/stubs/logging.h>

#include "absl/strings/str_cat.h"
#include "syncnorm/v1/state.pb.h"

namespace syncnorm::wire {

// Deterministic without asking protobuf for it: the message has no map field.
std::string EncodeLayerState(const LayerState& state) {
  v1::LayerState message;
  for (const auto& [name, values] : state) {
    v1::LayerState::Entry* entry = message.add_entries();
    entry->set_name(name);
    entry->mutable_values()->Add(values.begin(), values.end());
  }
  return message.SerializeAsString();
}

absl::StatusOr<LayerState> DecodeLayerState(std::string_view bytes) {
  const google::protobuf::LogSilencer silencer;
  v1::LayerState message;
  if (!message.ParseFromArray(bytes.data(), static_cast<int>(bytes.size()))) {
    return absl::InvalidArgumentError(
        absl::StrCat("the state's ", bytes.size(), " bytes are not a LayerState of syncnorm.v1"));
  }
  LayerState state;
  for (const v1::LayerState::Entry& entry : message.entries()) {
    const std::vector<double> values(entry.values().begin(), entry.values().end());
    if (!state.emplace(entry.name(), values).second) {
      return absl::InvalidArgumentError(absl::StrCat("the state has ", entry.name(), " twice"));
    }
  }
  return state;
}

}  // namespace syncnorm::wire

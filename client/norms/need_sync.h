// The decision of every norm, wherever its tensors are.
//
// Thread-safety: a pure function.
#pragma once

#include <syncnorm/reducer.h>

namespace syncnorm::norms {

// Only when training, connected, and the group has more than one worker; otherwise the local path.
inline bool NeedSync(bool training, const Reducer* group) {
  return training && group != nullptr && group->connected() && group->world_size() > 1;
}

}  // namespace syncnorm::norms

#include <syncnorm/policy.h>

namespace syncnorm {

std::string_view Name(OnLoss policy) {
  switch (policy) {
    case OnLoss::kFail:
      return "fail";
    case OnLoss::kShrink:
      return "shrink";
    case OnLoss::kFinish:
      return "finish";
  }
  return "unknown";
}

std::string_view Name(NonFinite policy) {
  switch (policy) {
    case NonFinite::kFail:
      return "fail";
    case NonFinite::kPropagate:
      return "propagate";
    case NonFinite::kDrop:
      return "drop";
  }
  return "unknown";
}

}  // namespace syncnorm

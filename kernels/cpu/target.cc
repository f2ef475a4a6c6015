// Which instruction set was chosen.
#include "kernels/cpu/ops.h"

#undef HWY_TARGET_INCLUDE
#define HWY_TARGET_INCLUDE "kernels/cpu/target.cc"
#include "hwy/foreach_target.h"
#include "hwy/highway.h"

HWY_BEFORE_NAMESPACE();
namespace syncnorm::kernels::HWY_NAMESPACE {

int64_t Target() { return HWY_TARGET; }

}  // namespace syncnorm::kernels::HWY_NAMESPACE
HWY_AFTER_NAMESPACE();

#if HWY_ONCE
#include <map>
#include <string>

#include "absl/strings/ascii.h"

namespace syncnorm::kernels::cpu {

HWY_EXPORT(Target);

std::string_view TargetName() {
  // Every target that was compiled, in lower case: the views stay valid.
  static const std::map<int64_t, std::string> names = [] {
    std::map<int64_t, std::string> all;
    for (int64_t rest = HWY_TARGETS; rest != 0; rest &= rest - 1) {
      const int64_t target = rest & ~(rest - 1);
      all[target] = absl::AsciiStrToLower(hwy::TargetName(target));
    }
    all[HWY_SCALAR] = "one_lane";  // Highway's "scalar"; here that is the definition
    return all;
  }();
  return names.at(HWY_DYNAMIC_DISPATCH(Target)());
}

}  // namespace syncnorm::kernels::cpu
#endif

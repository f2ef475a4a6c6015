// The backends of the CPU: the scalar definition, and the SIMD body once for each
// instruction set that this machine has; with one lane among them.  A test fails if
// another instruction set answers than was asked for.
#include "absl/strings/ascii.h"
#include "hwy/highway.h"
#include "tests/kernels/support.h"

namespace syncnorm::kernels {
namespace {

std::string NameOf(int64_t target) {
  return target == HWY_SCALAR ? "one_lane" : absl::AsciiStrToLower(hwy::TargetName(target));
}

Backend Simd(int64_t target) {
  return Backend(NameOf(target), [target](const Backend::Body& body) {
    hwy::SetSupportedTargetsForTest(target);
    hwy::GetChosenTarget().Update(hwy::SupportedTargets());
    EXPECT_EQ(Cpu().name(), NameOf(target)) << "the target was not reached";
    body(Cpu());
    hwy::SetSupportedTargetsForTest(0);
    hwy::GetChosenTarget().Update(hwy::SupportedTargets());
  });
}

}  // namespace

std::vector<Backend> Backends() {
  std::vector<Backend> all = {Backend("scalar", [](const Backend::Body& body) { body(Scalar()); })};
  for (int64_t target : hwy::SupportedAndGeneratedTargets()) all.push_back(Simd(target));
  return all;
}

}  // namespace syncnorm::kernels

// The tests of the kernels run on every instruction set that this machine has.
#include <string>
#include <vector>

#include "hwy/highway.h"
#include "kernels/kernels.h"
#include "tests/kernels/support.h"

namespace syncnorm::kernels {
namespace {

TEST(InstructionSetsTest, AllOfThisMachineAreReached) {
  std::vector<std::string> reached;
  for (const Backend& backend : Backends()) {
    backend.Run([&](const Kernels& kernels) { reached.emplace_back(kernels.name()); });
    std::printf("%s\n", backend.name().c_str());
  }
  EXPECT_EQ(reached.front(), "scalar");
  EXPECT_GE(reached.size(), 2u);
  EXPECT_EQ(reached.size(), hwy::SupportedAndGeneratedTargets().size() + 1);
}

}  // namespace
}  // namespace syncnorm::kernels

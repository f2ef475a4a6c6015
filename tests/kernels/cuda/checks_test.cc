// The simulator's checks find what they are for: otherwise the tests that run under them would say
// nothing.  A process each, for after a finding no kernel runs any more.
#include "tests/kernels/cuda/checks.h"

#include <cuda_runtime.h>

#include <cstdlib>

#include "gtest/gtest.h"
#include "tests/kernels/cuda/device.h"

namespace syncnorm::kernels::cuda {
namespace {

class ChecksTest : public testing::Test {
 protected:
  void SetUp() override {
    if (std::getenv("CUDASIM_RACECHECK") == nullptr) {
      GTEST_SKIP() << "without the simulator's checks (CUDASIM_RACECHECK, _INITCHECK) there is "
                      "nothing to find";
    }
    cudaDeviceProp device;
    Check(cudaGetDeviceProperties(&device, 0), "cudaGetDeviceProperties");
    if (std::string(device.name) != "cudasim") GTEST_SKIP() << "a real device: " << device.name;
  }

  DeviceArray in_{64 * sizeof(float), 0}, out_{64 * sizeof(float), 0};
  float* in() { return reinterpret_cast<float*>(in_.data()); }
  float* out() { return reinterpret_cast<float*>(out_.data()); }
};

TEST_F(ChecksTest, FindARaceInSharedMemory) { EXPECT_NE(RunRace(out()), cudaSuccess); }

TEST_F(ChecksTest, FindAReadOfWhatWasNeverWritten) {
  EXPECT_NE(RunReadUnwritten(in(), out()), cudaSuccess);
}

TEST_F(ChecksTest, FindAReadBehindAnAllocation) {
  const float zeros[64] = {};
  in_.Put(zeros);
  EXPECT_EQ(RunReadUnwritten(in(), out()), cudaSuccess);
  EXPECT_NE(RunReadOutside(in(), out()), cudaSuccess);
}

}  // namespace
}  // namespace syncnorm::kernels::cuda

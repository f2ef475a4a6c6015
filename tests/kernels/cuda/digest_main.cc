// Prints a digest of every operation's results, a line per case: for same_bits, which compares runs
// with each other.
#include <cuda_runtime.h>

#include <cstdint>
#include <cstdio>
#include <cstring>

#include "tests/kernels/cuda/every_operation.h"
#include "tests/kernels/cuda/host_kernels.h"

namespace syncnorm::kernels {
namespace {

// FNV-1a of the results' bytes.
uint64_t DigestOf(const Results& results) {
  uint64_t digest = 0xcbf29ce484222325;
  for (const auto& [name, values] : results) {
    for (double value : values) {
      uint8_t bytes[sizeof(value)];
      std::memcpy(bytes, &value, sizeof(value));
      for (uint8_t byte : bytes) digest = (digest ^ byte) * 0x100000001b3;
    }
  }
  return digest;
}

}  // namespace
}  // namespace syncnorm::kernels

int main() {
  using namespace syncnorm::kernels;  // NOLINT: a program of one page
  const auto kernels = cuda::OnHostMemory({132});
  for (const OperationCase& c : kEveryWay) {
    const uint64_t digest = DigestOf(RunEveryOperation(*kernels, c));
    std::printf("%016llx %s\n", static_cast<unsigned long long>(digest), Describe(c).c_str());
  }
  return 0;
}

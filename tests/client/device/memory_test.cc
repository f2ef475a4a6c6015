// What memory the layers hold: what docs/gpu.md says, and not a byte more after the first steps.
#include <gtest/gtest.h>

#include <algorithm>
#include <bit>
#include <memory>
#include <random>
#include <string>
#include <vector>

#include "kernels/cuda/cuda.h"
#include "tests/client/device/norm_on_device.h"
#include "tests/support/compare.h"
#include "tests/support/in_process_group.h"

namespace syncnorm::testing {
namespace {

// docs/gpu.md: 4 to 8 eighths of a power of two.
uint64_t Block(uint64_t bytes) {
  const uint64_t step = std::max<uint64_t>(std::bit_ceil(bytes) / 8, 64);
  return (bytes + step - 1) / step * step;
}
// Of a round that has this many rows of moments: out, in, and the flag's cache line.
uint64_t Slot(uint64_t rows, uint64_t channels) {
  const uint64_t moments = 32 + 8 * rows * channels;
  return 2 * ((moments + 63) / 64 * 64) + 64;
}
constexpr uint64_t kNotes = 16;  // pinned, of each layer

uint64_t ScratchOf(int64_t positions, int64_t channels, int64_t groups) {
  int multiprocessors = 0;
  SYNCNORM_EXPECT_CUDA(cudaDeviceGetAttribute(&multiprocessors, cudaDevAttrMultiProcessorCount, 0));
  const uint64_t bytes =
      kernels::cuda::ScratchBytes({positions, channels, 1}, groups, DType::kF32, multiprocessors);
  return bytes == 0 ? 0 : Block(bytes);
}

// What a layer of a kind holds for one step at a time of P positions, masked or not.
uint64_t DeviceBytesOf(BatchNormKind, uint64_t c, uint64_t p, uint64_t kept, bool masked) {
  const uint64_t forward = Block(96 + 48 * c), backward = Block(96 + 40 * c);
  return std::max<uint64_t>(kept, 1) * forward + backward + (masked ? Block(p) : 0) +
         ScratchOf(p, c, 1);
}
uint64_t DeviceBytesOf(PowerNormKind, uint64_t c, uint64_t p, uint64_t kept, bool masked) {
  const uint64_t forward = Block(96 + 40 * c), backward = Block(96 + 80 * c);
  return std::max<uint64_t>(kept, 1) * forward + backward + Block(4 * p) + (masked ? Block(p) : 0) +
         ScratchOf(p, c, 1);
}
uint64_t PinnedBytesOf(BatchNormKind, uint64_t c) { return 2 * Slot(2, c) + kNotes; }
uint64_t PinnedBytesOf(PowerNormKind, uint64_t c) { return Slot(1, c) + Slot(2, c) + kNotes; }

template <typename Kind>
class DeviceMemoryTest : public ::testing::Test {};
TYPED_TEST_SUITE(DeviceMemoryTest, BothKinds);

TYPED_TEST(DeviceMemoryTest, OneStepAtATimeHoldsWhatTheArithmeticSays) {
  std::mt19937_64 random(Seed(111));
  // Of these the blocks of a forward and of its backward have different sizes; where they have the
  // same, one serves for the other.
  for (const int64_t channels : {5, 64, 100}) {
    for (const int64_t kept : {0, 1, 3}) {
      for (const bool masked : {false, true}) {
        SCOPED_TRACE(::testing::Message() << channels << " channels, kept " << kept << masked);
        constexpr int64_t kPositions = 40;
        const NormData data(&random, kPositions, channels, masked);
        const DeviceMemory before = DeviceMemoryInUse();
        {
          InProcessGroup group(2);
          Meeting meeting(2);
          group.Run([&](int, Reducer* member) {
            const auto reducer = OnStreams(member);
            auto options = TypeParam::Of(channels);
            options.kept_forwards = kept;
            NormOnDevice<TypeParam> norm(options, reducer.get(), DType::kF32);
            const auto call = norm.Prepare(data);
            // A forward begins while the one before is still kept, and its context is the call's.
            for (int s = 0; s < 6; ++s) {
              call->context = {};
              ASSERT_TRUE(norm.Step(call.get()).ok());
              ASSERT_TRUE(norm.Drain().ok());
              norm.stream().Synchronize();
            }
            meeting.Wait();
            const DeviceMemory now = DeviceMemoryInUse();
            // Two members.  The forward that begins is one more than those that are kept.
            const uint64_t forwards = static_cast<uint64_t>(kept) + 1;
            EXPECT_EQ(now.device_bytes - before.device_bytes,
                      2 * DeviceBytesOf(TypeParam(), channels, kPositions, forwards, masked));
            EXPECT_EQ(now.pinned_bytes - before.pinned_bytes,
                      2 * PinnedBytesOf(TypeParam(), channels));
            meeting.Wait();
          });
        }
        EXPECT_EQ(DeviceMemoryInUse().device_bytes, before.device_bytes) << "all is given back";
        EXPECT_EQ(DeviceMemoryInUse().pinned_bytes, before.pinned_bytes);
      }
    }
  }
}

TYPED_TEST(DeviceMemoryTest, NothingIsAllocatedOnceTheShapesHaveBeenSeen) {
  std::mt19937_64 random(Seed(112));
  // Three layers, the middle one of another shape; masks in every other step.
  const NormData plain(&random, 24, 5), masked(&random, 24, 5, true), other(&random, 9, 7);
  for (const bool synchronised : {true, false}) {
    for (const DType dtype : {DType::kF32, DType::kF64}) {
      InProcessGroup group(synchronised ? 2 : 1);
      Meeting meeting(group.world_size());
      group.Run([&](int, Reducer* member) {
        const auto reducer = OnStreams(member);
        NormOnDevice<TypeParam> first(TypeParam::Of(5), reducer.get(), dtype, "first");
        NormOnDevice<TypeParam> second(TypeParam::Of(7), reducer.get(), dtype, "second");
        NormOnDevice<TypeParam> third(TypeParam::Of(5), reducer.get(), dtype, "third");
        NormOnDevice<TypeParam>* const layers[] = {&first, &second, &third};
        const std::unique_ptr<typename NormOnDevice<TypeParam>::Call> calls[2][3] = {
            {first.Prepare(plain), second.Prepare(other), third.Prepare(plain)},
            {first.Prepare(masked), second.Prepare(other), third.Prepare(masked)}};
        const auto step = [&](int s) {
          for (int l : {0, 1, 2}) ASSERT_TRUE(layers[l]->Forward(calls[s % 2][l].get()).ok());
          for (int l : {2, 1, 0}) ASSERT_TRUE(layers[l]->Backward(calls[s % 2][l].get()).ok());
          for (NormOnDevice<TypeParam>* layer : layers) layer->stream().Synchronize();
          for (NormOnDevice<TypeParam>* layer : layers) ASSERT_TRUE((*layer)->Check().ok());
        };
        for (int s = 0; s < 12; ++s) step(s);
        meeting.Wait();
        const DeviceMemory before = DeviceMemoryInUse();
        meeting.Wait();
        for (int s = 0; s < 20; ++s) step(s);
        meeting.Wait();
        EXPECT_EQ(DeviceMemoryInUse().allocations, before.allocations);
        EXPECT_EQ(DeviceMemoryInUse().device_bytes, before.device_bytes);
        EXPECT_EQ(DeviceMemoryInUse().pinned_bytes, before.pinned_bytes);
        meeting.Wait();
      });
    }
  }
}

}  // namespace
}  // namespace syncnorm::testing

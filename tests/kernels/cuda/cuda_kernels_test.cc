// What is peculiar to the CUDA kernels: alignment, the scratch, the number of multiprocessors,
// graphs and errors.  Run once more with the simulator's checks for races, barriers and reads of
// what was never written (CMakeLists.txt), which fail a launch and so the test.
#include <cuda_runtime.h>

#include <cstdint>
#include <vector>

#include "kernels/cuda/cuda.h"
#include "tests/kernels/cuda/device.h"
#include "tests/kernels/cuda/every_operation.h"
#include "tests/kernels/cuda/host_kernels.h"

namespace syncnorm::kernels::cuda {
namespace {

// The largest difference yet, relative to the largest number of its result, by dtype:
// docs/numerics.md quotes what is printed.  Results that are stored in 16 bits are left out.
class Worst {
 public:
  void Note(DType dtype, const std::string& name, double difference) {
    if (name == "power grad") return;  // what is left of larger terms
    const bool stored = name == "affine" || name == "grad" || name == "power apply";
    if (stored && SizeOf(dtype) == 2) return;
    Entry& entry = worst_[dtype];
    if (difference > entry.difference) entry = {difference, name};
  }
  void Print() const {
    for (const auto& [dtype, entry] : worst_) {
      std::printf("worst of %s: %.1e in %s\n", std::string(Name(dtype)).c_str(), entry.difference,
                  entry.name.c_str());
    }
  }

 private:
  struct Entry {
    double difference = 0;
    std::string name;
  };
  std::map<DType, Entry> worst_;
};

// Within the bounds of docs/numerics.md, relative to the largest of each result.
void ExpectNear(const Results& got, const Results& expected, DType dtype, Worst* worst = nullptr) {
  ASSERT_EQ(got.size(), expected.size());
  const Tolerance tolerance = ToleranceOf(dtype);
  for (const auto& [name, values] : expected) {
    const std::vector<double>& mine = got.at(name);
    ASSERT_EQ(mine.size(), values.size()) << name;
    // The gradient of a group of one channel is what two terms of about 1 leave.
    double largest = name == "power grad" ? 1 : 0;
    for (double value : values) largest = std::max(largest, std::fabs(value));
    Tolerance allowed = tolerance;
    allowed.store *= 2;  // both were rounded
    if (name == "m2") allowed.wide = tolerance.variance;
    for (size_t i = 0; i < values.size(); ++i) {
      ASSERT_TRUE(Near(mine[i], values[i], allowed, 2 * largest))
          << name << "[" << i << "] = " << mine[i] << ", expected " << values[i];
      if (worst != nullptr && largest > 0) {
        worst->Note(dtype, name, std::fabs(mine[i] - values[i]) / largest);
      }
    }
  }
}

TEST(CudaKernelsTest, AgreeWithTheDefinitionInEveryWayThroughThem) {
  const auto few = OnHostMemory({1}), many = OnHostMemory({132});
  Worst worst;
  for (const OperationCase& c : kEveryWay) {
    SCOPED_TRACE(Describe(c));
    const Results expected = RunEveryOperation(Scalar(), c);
    ASSERT_NO_FATAL_FAILURE(ExpectNear(RunEveryOperation(*few, c), expected, c.dtype, &worst));
    ASSERT_NO_FATAL_FAILURE(ExpectNear(RunEveryOperation(*many, c), expected, c.dtype, &worst));
  }
  worst.Print();
}

TEST(CudaKernelsTest, GiveTheSameBitsAgain) {
  const auto kernels = OnHostMemory({132});
  for (const OperationCase& c : kEveryWay) {
    EXPECT_EQ(RunEveryOperation(*kernels, c), RunEveryOperation(*kernels, c)) << Describe(c);
  }
}

// x, dy and the result lie the same number of elements behind 16 aligned bytes, or only one of them
// does.
TEST(CudaKernelsTest, TakeEveryMisalignment) {
  const auto kernels = OnHostMemory({1, 132});
  for (DType dtype : kDTypes) {
    const size_t lanes = 16 / SizeOf(dtype);
    for (const auto& [grid, groups] : std::vector<std::pair<Grid, int64_t>>{
             {{3, 5, 37}, 1}, {{2, 3, 64}, 1}, {{7, 24, 1}, 2}, {{7, 21, 1}, 3}}) {
      const OperationCase aligned{dtype, grid, Mask::kMost, groups};
      const Results expected = RunEveryOperation(Scalar(), aligned);
      for (size_t skew = 1; skew < lanes; ++skew) {
        for (int which = 0; which < 4; ++which) {
          OperationCase c = aligned;
          if (which == 0 || which == 3) c.x_skew = skew;
          if (which == 1 || which == 3) c.dy_skew = skew;
          if (which == 2 || which == 3) c.out_skew = skew;
          SCOPED_TRACE(Describe(c));
          ASSERT_NO_FATAL_FAILURE(ExpectNear(RunEveryOperation(*kernels, c), expected, dtype));
        }
      }
    }
  }
}

// Maps work on elements, and columns are merged row by row: alignment is nothing to them.
TEST(CudaKernelsTest, GiveTheSameBitsWhateverTheAlignmentWhereChannelsAreLast) {
  const auto kernels = OnHostMemory({132});
  for (DType dtype : kDTypes) {
    OperationCase c{dtype, {700, 24, 1}, Mask::kMost, 1};
    Results expected = RunEveryOperation(*kernels, c);
    c.x_skew = c.out_skew = 1;
    Results got = RunEveryOperation(*kernels, c);
    // Per token, the windows differ.
    for (const char* name :
         {"r", "power grad", "power apply", "power_x2", "power_grad_dy_xs", "power_grad_xs2"}) {
      got.erase(name);
      expected.erase(name);
    }
    EXPECT_EQ(got, expected) << Describe(c);
  }
}

TEST(CudaKernelsTest, LeaveTheScratchFitForAnyOtherGrid) {
  const auto shared = OnHostMemory({132});
  // The largest first: it is one scratch from then on.
  std::vector<OperationCase> cases = {{DType::kF64, {40000, 16, 1}},
                                      {DType::kF32, {1, 1, 30000}},
                                      {DType::kF16, {9001, 8, 1}, Mask::kMost},
                                      {DType::kF32, {2, 3, 20000}},
                                      {DType::kBF16, {20000, 3, 1}, Mask::kFew}};
  for (const OperationCase& c : cases) {
    ASSERT_GT(ScratchBytes(c.grid, c.groups, c.dtype, 132), 0u) << "not split: " << Describe(c);
    const auto fresh = OnHostMemory({132});
    EXPECT_EQ(RunEveryOperation(*shared, c), RunEveryOperation(*fresh, c)) << Describe(c);
  }
}

// A stream, tensors and parameters of a small batch norm.
class StreamTest : public testing::Test {
 protected:
  StreamTest() {
    Check(cudaStreamCreateWithFlags(&on_.stream, cudaStreamNonBlocking), "cudaStreamCreate");
    on_.multiprocessors = 132;
    scratch_.Put(std::vector<uint8_t>(scratch_.bytes()).data());
    on_.scratch = scratch_.data();
    std::vector<float> x(kElements);
    for (size_t i = 0; i < kElements; ++i) x[i] = static_cast<float>(i % 17);
    x_.Put(x.data());
    const std::vector<double> ones(kGrid.channels, 1.0);
    ones_.Put(ones.data());
  }
  ~StreamTest() override {
    // What still runs would write to arrays of the next test.
    Check(cudaStreamSynchronize(on_.stream), "run");
    cudaStreamDestroy(on_.stream);
  }

  cudaError_t Statistics() {
    return MeanM2({x_.data(), DType::kF32, kGrid}, nullptr,
                  reinterpret_cast<uint64_t*>(count_.data()), Doubles(mean_), Doubles(m2_), on_);
  }
  cudaError_t Normalise() {
    return Affine({x_.data(), DType::kF32, kGrid}, nullptr, Doubles(mean_), Doubles(ones_),
                  Doubles(m2_), {y_.data(), DType::kF32, kGrid}, on_);
  }
  static double* Doubles(const DeviceArray& array) {
    return reinterpret_cast<double*>(array.data());
  }
  std::vector<float> Y() {
    Check(cudaStreamSynchronize(on_.stream), "run");
    std::vector<float> y(kElements);
    y_.Get(y.data());
    return y;
  }

  static constexpr Grid kGrid{1, 2, 20000};
  static constexpr size_t kElements = 40000;
  Launch on_;
  DeviceArray scratch_{ScratchBytes(kGrid, 1, DType::kF32, 132), 0};
  DeviceArray x_{kElements * sizeof(float), 0}, y_{kElements * sizeof(float), 0};
  DeviceArray count_{8, 0}, mean_{16, 0}, m2_{16, 0}, ones_{16, 0};
};

TEST_F(StreamTest, OperationsCanBeCapturedIntoAGraphAndRunAgain) {
  Check(Statistics(), "MeanM2");
  Check(Normalise(), "Affine");
  const std::vector<float> expected = Y();
  cudaGraph_t graph;
  cudaGraphExec_t exec;
  Check(cudaStreamBeginCapture(on_.stream, cudaStreamCaptureModeThreadLocal), "capture");
  Check(Statistics(), "MeanM2");
  Check(Normalise(), "Affine");
  Check(cudaStreamEndCapture(on_.stream, &graph), "capture");
  Check(cudaGraphInstantiate(&exec, graph, 0), "cudaGraphInstantiate");
  for (int i = 0; i < 2; ++i) {
    Check(cudaMemset(y_.data(), 0, y_.bytes()), "cudaMemset");
    Check(cudaStreamSynchronize(nullptr), "cudaMemset");
    Check(cudaGraphLaunch(exec, on_.stream), "cudaGraphLaunch");
    EXPECT_EQ(Y(), expected);
  }
  Check(cudaGraphExecDestroy(exec), "cudaGraphExecDestroy");
  Check(cudaGraphDestroy(graph), "cudaGraphDestroy");
}

TEST_F(StreamTest, AnErrorOfBeforeIsNeitherReturnedNorCleared) {
  void* memory = nullptr;
  ASSERT_EQ(cudaMalloc(&memory, SIZE_MAX / 2), cudaErrorMemoryAllocation);
  EXPECT_EQ(Statistics(), cudaSuccess);
  EXPECT_EQ(cudaGetLastError(), cudaErrorMemoryAllocation);
}

TEST_F(StreamTest, ReturnsWhatLaunchingFailsWith) {
  on_.multiprocessors = 132;
  // A capture that something forbidden has spoiled takes no launches.
  cudaGraph_t graph = nullptr;
  Check(cudaStreamBeginCapture(on_.stream, cudaStreamCaptureModeThreadLocal), "capture");
  EXPECT_NE(cudaStreamSynchronize(on_.stream), cudaSuccess);
  EXPECT_EQ(Statistics(), cudaErrorStreamCaptureInvalidated);
  EXPECT_NE(cudaStreamEndCapture(on_.stream, &graph), cudaSuccess);
  (void)cudaGetLastError();
  EXPECT_EQ(Statistics(), cudaSuccess);
}

// ---- Masks --------------------------------------------------------------------

class MasksTest : public testing::Test {
 protected:
  MasksTest() { on_.multiprocessors = 4; }

  // What `run` makes of a mask, and of a `bad` that holds `before`.
  template <class T, class Run>
  void Make(const std::vector<T>& mask, uint64_t before, const Run& run) {
    DeviceArray in(mask.size() * sizeof(T), 0), valid(mask.size(), 1), bad(sizeof(uint64_t), 0);
    in.Put(mask.data());
    bad.Put(&before);
    Check(run(reinterpret_cast<const T*>(in.data()), valid.data(),
              reinterpret_cast<uint64_t*>(bad.data())),
          "launch");
    Check(cudaDeviceSynchronize(), "run");
    valid_.assign(mask.size(), 77);
    valid.Get(valid_.data());
    bad.Get(&bad_);
    EXPECT_TRUE(valid.PoisonIsIntact());
  }
  void MakeBytes(const std::vector<uint8_t>& mask, uint64_t before = 0) {
    Make(mask, before, [&](const uint8_t* in, uint8_t* valid, uint64_t* bad) {
      return ValidFromBytes(in, static_cast<int64_t>(mask.size()), valid, bad, on_);
    });
  }
  void MakeFloats(const std::vector<float>& mask) {
    Make(mask, 0, [&](const float* in, uint8_t* valid, uint64_t* bad) {
      return ValidFromFloats(in, static_cast<int64_t>(mask.size()), valid, bad, on_);
    });
  }
  void MakeTokens(const std::vector<uint8_t>& mask, int64_t times, int64_t samples) {
    Make(mask, 0, [&](const uint8_t* in, uint8_t* valid, uint64_t* bad) {
      return ValidTokens(in, times, samples, valid, bad, on_);
    });
  }

  Launch on_;
  std::vector<uint8_t> valid_;
  uint64_t bad_ = 99;
};

TEST_F(MasksTest, TakesOnesAndZeros) {
  MakeBytes({1, 0, 1, 1, 0});
  EXPECT_EQ(valid_, (std::vector<uint8_t>{1, 0, 1, 1, 0}));
  EXPECT_EQ(bad_, 0u);
  MakeFloats({1, 0, -0.0f, 1});
  EXPECT_EQ(valid_, (std::vector<uint8_t>{1, 0, 0, 1}));
  EXPECT_EQ(bad_, 0u);
}

TEST_F(MasksTest, TakesNoPositions) {
  MakeBytes({});
  EXPECT_EQ(bad_, 0u);
  MakeTokens({}, 0, 3);
  EXPECT_EQ(bad_, 0u);
}

TEST_F(MasksTest, NamesTheFirstBadPosition) {
  std::vector<uint8_t> bytes(3000, 1);
  for (size_t p : {700, 2999, 701, 1500}) bytes[p] = 2;
  MakeBytes(bytes);
  EXPECT_EQ(bad_, 701u);
  EXPECT_EQ(valid_[699], 1);
  EXPECT_EQ(valid_[700], 0);
  std::vector<float> floats(3000, 1);
  floats[2000] = 0.5f;
  floats[1999] = std::nanf("");
  MakeFloats(floats);
  EXPECT_EQ(bad_, 2000u);
  EXPECT_EQ(valid_[1999], 0);
}

TEST_F(MasksTest, KeepsASmallerBadPositionOfBefore) {
  MakeBytes({1, 1, 1, 9}, 2);
  EXPECT_EQ(bad_, 2u);
  MakeBytes({1, 1, 1, 9}, 7);
  EXPECT_EQ(bad_, 4u);
  MakeBytes({1, 1, 1, 1}, 7);
  EXPECT_EQ(bad_, 7u);
}

TEST_F(MasksTest, TurnsPadMasksIntoTokens) {
  // 2 samples of 3 times; the second one has two of padding.
  MakeTokens({0, 0, 0, 0, 1, 1}, 3, 2);
  EXPECT_EQ(valid_, (std::vector<uint8_t>{1, 1, 1, 0, 1, 0}));
  EXPECT_EQ(bad_, 0u);
  // Bad ones are named as they lie in the pad mask: the first is not the first token.
  MakeTokens({0, 0, 7, 5, 1, 1}, 3, 2);
  EXPECT_EQ(valid_, (std::vector<uint8_t>{1, 0, 1, 0, 0, 0}));
  EXPECT_EQ(bad_, 3u);
}

}  // namespace
}  // namespace syncnorm::kernels::cuda

// Two members of one process train both norms for a few steps, while calls of CUDA's API may fail:
// the simulator lets them (CUDASIM_FAIL).  Whatever fails, a member's step passes with the right
// numbers, or ends in a status; injection.py runs this under every failure and holds the time.
//
// usage: injection memory|host     how streams wait
//
// Prints a line for each member: how many steps passed, and what ended it.  Exit status 1: a wrong
// number passed as right, or a status does not say what happened.
//
// What the program itself needs of CUDA it gets by calls that the library does not make, and before
// the members start.
#include <cuda_runtime_api.h>
#include <syncnorm/device_batch_norm.h>
#include <syncnorm/device_power_norm.h>

#include <algorithm>
#include <chrono>
#include <cmath>
#include <cstdio>
#include <cstdlib>
#include <memory>
#include <random>
#include <string>
#include <vector>

#include "absl/strings/str_cat.h"
#include "tests/support/compare.h"
#include "tests/support/host_tensor.h"
#include "tests/support/in_process_group.h"

namespace syncnorm::testing {
namespace {

constexpr int kWorld = 2, kSteps = 4;
constexpr int64_t kChannels = 3, kPositions = 6;
constexpr size_t kElements = kPositions * kChannels;

void Must(cudaError_t error, const char* what) {
  if (error == cudaSuccess) return;
  std::printf("the program itself: %s: %s\n", what, cudaGetErrorString(error));
  std::exit(1);
}

// Doubles on the device.
class OnDevice {
 public:
  explicit OnDevice(const Numbers& numbers) : size_(numbers.size() * sizeof(double)) {
    Must(cudaMallocAsync(&data_, size_, nullptr), "cudaMallocAsync");
    Must(cudaMemcpy(data_, numbers.data(), size_, cudaMemcpyHostToDevice), "cudaMemcpy");
  }
  double* data() const { return static_cast<double*>(data_); }
  DeviceValues values() const { return {data_, DType::kF64}; }
  Tensor tensor() const { return Contiguous(data_, DType::kF64, {kPositions, kChannels}); }
  Numbers Load() const {
    Numbers numbers(size_ / sizeof(double));
    Must(cudaMemcpy(numbers.data(), data_, size_, cudaMemcpyDeviceToHost), "cudaMemcpy");
    return numbers;
  }

 private:
  const size_t size_;
  void* data_ = nullptr;
};

struct Data {
  Numbers x, dy;
};

// A member's tensors of one norm: results a step, and what the layer has.
struct Tensors {
  explicit Tensors(const std::vector<Data>& data, double first, double second)
      : weight(Numbers(kChannels, 1.5)),
        bias(Numbers(kChannels, -0.5)),
        first(Numbers(kChannels, first)),
        second(Numbers(kChannels, second)),
        counter({0}) {
    for (const Data& step : data) {
      x.emplace_back(step.x);
      dy.emplace_back(step.dy);
      y.emplace_back(Numbers(kElements, std::nan("")));
      dx.emplace_back(Numbers(kElements, std::nan("")));
    }
  }
  std::vector<OnDevice> x, dy, y, dx;
  OnDevice weight, bias, first, second, counter;
};

struct Expected {
  std::vector<Numbers> y, dx;
};

struct Member {
  explicit Member(const std::vector<Data>& data) : batch(data, 0, 1), power(data, 1, 0) {
    Must(cudaStreamCreateWithFlags(&stream, cudaStreamNonBlocking), "cudaStreamCreateWithFlags");
  }
  Tensors batch, power;
  cudaStream_t stream = nullptr;
  int passed = 0;
  absl::Status ended;
};

BatchNormOptions BatchOptions() { return {.channels = kChannels}; }
// Half in the warm-up.
PowerNormOptions PowerOptions() { return {.channels = kChannels, .warmup_iters = kSteps / 2}; }

int64_t* CounterOf(const Tensors& tensors) {
  return reinterpret_cast<int64_t*>(tensors.counter.data());
}

absl::Status Train(Reducer* group, StreamWaiting waiting, Member* member) {
  auto reducer = DeviceReducer::Create(group, {.waiting = waiting});
  if (!reducer.ok()) return reducer.status();
  const Tensors &b = member->batch, &p = member->power;
  auto batch = DeviceBatchNorm::Create(
      "batch", BatchOptions(), 0,
      {b.weight.values(), b.bias.values(), b.first.values(), b.second.values(), CounterOf(b)},
      reducer->get());
  if (!batch.ok()) return batch.status();
  auto power = DevicePowerNorm::Create(
      "power", PowerOptions(), 0,
      {p.weight.values(), p.bias.values(), p.first.values(), p.second.values(), CounterOf(p)},
      reducer->get());
  if (!power.ok()) return power.status();
  for (int s = 0; s < kSteps; ++s) {
    DeviceBatchNorm::Context batch_context;
    DevicePowerNorm::Context power_context;
    const Tensor batch_dx = b.dx[s].tensor(), power_dx = p.dx[s].tensor();
    absl::Status status = (*batch)->Forward(b.x[s].tensor(), nullptr, b.y[s].tensor(),
                                            &batch_context, member->stream);
    if (!status.ok()) return status;
    status = (*power)->Forward(p.x[s].tensor(), nullptr, p.y[s].tensor(), &power_context,
                               member->stream);
    if (!status.ok()) return status;
    status =
        (*power)->Backward(power_context, p.dy[s].tensor(), &power_dx, nullptr, member->stream);
    if (!status.ok()) return status;
    status =
        (*batch)->Backward(batch_context, b.dy[s].tensor(), &batch_dx, nullptr, member->stream);
    if (!status.ok()) return status;
    if (cudaError_t error = cudaStreamSynchronize(member->stream); error != cudaSuccess) {
      return absl::InternalError(absl::StrCat("CUDA says: ", cudaGetErrorString(error)));
    }
    if (status = (*reducer)->Check(); !status.ok()) return status;
    ++member->passed;
  }
  return (*power)->Drain(member->stream);
}

// What members on the CPU give.
template <typename Norm, typename Options>
std::vector<Expected> OnTheHost(const Options& options,
                                const std::vector<std::vector<Data>>& data) {
  std::vector<Expected> expected(kWorld);
  InProcessGroup group(kWorld);
  group.Run([&](int rank, Reducer* reducer) {
    auto norm = *Norm::Create("norm", options, reducer);
    norm->weight() = Numbers(kChannels, 1.5);
    norm->bias() = Numbers(kChannels, -0.5);
    for (const Data& step : data[rank]) {
      Numbers x = step.x, dy = step.dy, y(kElements), dx(kElements);
      const auto tensor = [](Numbers* of) {
        return Contiguous(static_cast<void*>(of->data()), DType::kF64, {kPositions, kChannels});
      };
      typename Norm::Context context;
      const Tensor dx_tensor = tensor(&dx);
      if (!norm->Forward(tensor(&x), nullptr, tensor(&y), &context).ok() ||
          !norm->Backward(context, tensor(&dy), &dx_tensor, nullptr).ok()) {
        std::exit(1);
      }
      expected[rank].y.push_back(y);
      expected[rank].dx.push_back(dx);
    }
  });
  return expected;
}

// CUDA's failure by its name, or the group's of a member that is gone.
bool Says(const absl::Status& status) {
  const std::string text(status.message());
  for (const char* word : {"CUDA says: ", "the driver says ", "lacks ranks ", " is at "}) {
    if (text.find(word) != std::string::npos) return status.code() != absl::StatusCode::kUnknown;
  }
  return false;
}

// The largest error of a number that looks like one.  NaN passes for nothing; it comes where the
// other member, which knew of its failure, had already sent what followed from it.
double ErrorOfNumbers(const Numbers& got, const Numbers& want) {
  Numbers numbers, wanted;
  for (size_t i = 0; i < got.size(); ++i) {
    if (std::isnan(got[i])) continue;
    numbers.push_back(got[i]);
    wanted.push_back(want[i]);
  }
  return ErrorOf(numbers, wanted);
}

int Run(StreamWaiting waiting) {
  std::mt19937_64 random(191);
  std::vector<std::vector<Data>> data(kWorld);
  for (auto& steps : data) {
    for (int s = 0; s < kSteps; ++s) {
      steps.push_back({Normal(&random, kElements, 0.5, 2), Normal(&random, kElements)});
    }
  }
  const auto batch = OnTheHost<SyncBatchNorm>(BatchOptions(), data);
  const auto power = OnTheHost<SyncPowerNorm>(PowerOptions(), data);
  std::vector<std::unique_ptr<Member>> members;
  for (const auto& steps : data) members.push_back(std::make_unique<Member>(steps));
  InProcessGroup group(kWorld, std::chrono::milliseconds(400));
  group.Run([&](int rank, Reducer* reducer) {
    members[rank]->ended = Train(reducer, waiting, members[rank].get());
  });
  bool right = true;
  for (int rank = 0; rank < kWorld; ++rank) {
    const Member& member = *members[rank];
    std::printf("rank %d: %d steps, %s\n", rank, member.passed, member.ended.ToString().c_str());
    if (!member.ended.ok() && !Says(member.ended)) {
      std::printf("rank %d: the status does not say what happened\n", rank);
      right = false;
    }
    if (member.ended.ok() && member.passed < kSteps) right = false;
    for (int s = 0; s < member.passed; ++s) {
      const auto error_of = members[1 - rank]->ended.ok() ? ErrorOf : ErrorOfNumbers;
      const double worst = std::max({error_of(member.batch.y[s].Load(), batch[rank].y[s]),
                                     error_of(member.batch.dx[s].Load(), batch[rank].dx[s]),
                                     error_of(member.power.y[s].Load(), power[rank].y[s]),
                                     error_of(member.power.dx[s].Load(), power[rank].dx[s])});
      if (worst <= 1e-9) continue;
      std::printf("rank %d: step %d passed with an error of %g\n", rank, s, worst);
      right = false;
    }
  }
  return right ? 0 : 1;
}

}  // namespace
}  // namespace syncnorm::testing

int main(int argc, char** argv) {
  const std::string waiting = argc == 2 ? argv[1] : "";
  if (waiting != "memory" && waiting != "host") {
    std::fprintf(stderr, "usage: %s memory|host\n", argv[0]);
    return 2;
  }
  return syncnorm::testing::Run(waiting == "host" ? syncnorm::StreamWaiting::kHostFunction
                                                  : syncnorm::StreamWaiting::kBest);
}

// Gloo's all-reduce over TCP, as a user of it would synchronise batch norm: one
// float32 vector of count, sums and sums of squares, added.  No coordinator.
// Two lanes: its default algorithm, a ring of 2(W-1) hops, which is what
// torch.distributed runs; and bcube, of 2 log2(W) hops, which suits vectors this
// short better and has to be asked for.  Filling the vector is not timed.

#include <gloo/allreduce.h>
#include <gloo/math.h>
#include <gloo/rendezvous/context.h>
#include <gloo/rendezvous/file_store.h>
#include <gloo/transport/tcp/device.h>

#include <algorithm>
#include <array>
#include <exception>
#include <filesystem>
#include <memory>
#include <string>
#include <utility>
#include <vector>

#include "absl/strings/str_cat.h"
#include "bench/latency/lane.h"
#include "bench/latency/workload.h"

namespace syncnorm::bench {
namespace {

class GlooWorker : public WorkerEnd {
 public:
  GlooWorker(gloo::AllreduceOptions::Algorithm algorithm, const RoleOptions& options)
      : algorithm_(algorithm),
        workers_(options.cell.workers),
        result_(2 * options.cell.channels + 1) {
    for (int phase = 0; phase < kPhases; ++phase) {
      inputs_[phase] = MakeSums(options.cell.channels, options.rank, phase);
    }
    gloo::transport::tcp::attr attr;
    attr.hostname = options.own_address;
    auto device = gloo::transport::tcp::CreateDevice(attr);
    const std::string store_dir = absl::StrCat(options.dir, "/gloo");
    std::filesystem::create_directories(store_dir);
    gloo::rendezvous::FileStore store(store_dir);
    auto context = std::make_shared<gloo::rendezvous::Context>(options.rank, workers_);
    context->connectFullMesh(store, device);
    context_ = std::move(context);
  }

  void Prepare(int phase) override {
    std::copy(inputs_[phase].begin(), inputs_[phase].end(), result_.begin());
  }

  absl::Status Exchange() override {
    try {
      gloo::AllreduceOptions options(context_);
      options.setAlgorithm(algorithm_);
      options.setOutput(result_.data(), result_.size());
      options.setReduceFunction(
          static_cast<void (*)(void*, const void*, const void*, size_t)>(&gloo::sum<float>));
      gloo::allreduce(options);
    } catch (const std::exception& error) {
      return absl::InternalError(absl::StrCat("gloo: ", error.what()));
    }
    return absl::OkStatus();
  }

  absl::Status Check(int phase) override {
    return result_check_.Check(phase, BytesOf(absl::MakeConstSpan(result_)),
                               [&] { return CheckSums(workers_, phase, result_); });
  }

 private:
  const gloo::AllreduceOptions::Algorithm algorithm_;
  const int workers_;
  std::array<std::vector<float>, kPhases> inputs_;
  std::vector<float> result_;
  std::shared_ptr<gloo::Context> context_;
  ResultCheck result_check_;
};

class GlooLane : public Lane {
 public:
  GlooLane(std::string name, gloo::AllreduceOptions::Algorithm algorithm)
      : name_(std::move(name)), algorithm_(algorithm) {}

  std::string name() const override { return name_; }
  int64_t PayloadBytes(int64_t channels) const override { return SumPayloadBytes(channels); }
  absl::Status Available(const Place&) const override { return absl::OkStatus(); }
  std::vector<std::string> CoordinatorCommand(const Cell&, const std::string&,
                                              const std::string&) const override {
    return {};
  }

  absl::StatusOr<std::unique_ptr<WorkerEnd>> Connect(const RoleOptions& options) const override {
    try {
      return std::make_unique<GlooWorker>(algorithm_, options);
    } catch (const std::exception& error) {
      return absl::UnavailableError(absl::StrCat("gloo: ", error.what()));
    }
  }

 private:
  const std::string name_;
  const gloo::AllreduceOptions::Algorithm algorithm_;
};

}  // namespace

std::unique_ptr<Lane> MakeGlooLane() {
  return std::make_unique<GlooLane>("gloo", gloo::detail::AllreduceOptionsImpl::UNSPECIFIED);
}

std::unique_ptr<Lane> MakeGlooBcubeLane() {
  return std::make_unique<GlooLane>("gloo_bcube", gloo::detail::AllreduceOptionsImpl::BCUBE);
}

}  // namespace syncnorm::bench

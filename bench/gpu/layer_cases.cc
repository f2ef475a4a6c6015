#include "bench/gpu/layer_cases.h"

#include <syncnorm/embedded.h>
#include <syncnorm/group.h>

#include <barrier>
#include <exception>
#include <functional>
#include <memory>
#include <string>
#include <thread>
#include <utility>
#include <vector>

#include "bench/gpu/expected_layer.h"
#include "bench/gpu/layer.h"

namespace syncnorm::bench::gpu {
namespace {

class Stream {
 public:
  Stream() {
    Check(cudaStreamCreateWithFlags(&stream_, cudaStreamNonBlocking), "cudaStreamCreate");
  }
  ~Stream() { cudaStreamDestroy(stream_); }
  Stream(const Stream&) = delete;
  Stream& operator=(const Stream&) = delete;
  cudaStream_t get() const { return stream_; }
  void Synchronize() const { Check(cudaStreamSynchronize(stream_), "cudaStreamSynchronize"); }

 private:
  cudaStream_t stream_ = nullptr;
};

// What one worker brought home.
struct Found {
  Outputs outputs;
  std::vector<double> forward_us, backward_us;  // of one layer, a repetition each
  uint64_t rounds = 0, stream_waits = 0;
  std::exception_ptr failure;
};

// A step of all layers, as Time's variants.
std::vector<Variant> StepOf(const std::vector<std::unique_ptr<Layer>>& layers) {
  return {{"forward", 0,
           [&layers](cudaStream_t stream) {
             for (const auto& layer : layers) layer->Forward(stream);
           }},
          {"backward", 0, [&layers](cudaStream_t stream) {
             for (auto layer = layers.rbegin(); layer != layers.rend(); ++layer) {
               (*layer)->Backward(stream);
             }
           }}};
}

// `together` returns when all workers that have not failed have called it.
void Work(const Case& c, const Device& device, int rank, DeviceReducer* reducer,
          const std::function<void()>& together, Found* found) {
  const Stream stream;
  const WorkerTensors tensors(c, rank);
  std::vector<std::unique_ptr<Layer>> layers;
  for (int l = 0; l < kLayers; ++l) {
    layers.push_back(MakeLayer(c, "bench." + std::to_string(l), tensors, reducer));
  }
  // Whoever is first waits on the device for a round of the others: they have what they need by
  // then.
  together();
  Layer* const first = layers.front().get();
  first->Forward(stream.get());
  stream.Synchronize();
  if (!c.power_norm) found->outputs.y = tensors.ReadOut();
  first->Backward(stream.get());
  stream.Synchronize();
  found->outputs.dx = tensors.ReadOut();
  if (c.power_norm) {
    first->Forward(stream.get());
    stream.Synchronize();
    found->outputs.y = tensors.ReadOut();
    first->Backward(stream.get());
  }
  stream.Synchronize();

  together();
  const DeviceCounters before = reducer == nullptr ? DeviceCounters{} : reducer->counters();
  const auto times = Time(StepOf(layers), c.repetitions, device, stream.get());
  for (double us : times[0]) found->forward_us.push_back(us / kLayers);
  for (double us : times[1]) found->backward_us.push_back(us / kLayers);
  if (reducer != nullptr) {
    found->rounds = reducer->counters().rounds - before.rounds;
    found->stream_waits = reducer->counters().stream_waits - before.stream_waits;
  }
  for (const auto& layer : layers) layer->Drain(stream.get());
  stream.Synchronize();
  if (reducer != nullptr) Check(reducer->Check(), "a round");
}

// A member of the group at `address`.
void WorkAsMember(const Case& c, const Device& device, int rank, int workers,
                  const std::string& address, const std::function<void()>& together, Found* found) {
  GroupOptions options;
  options.address = address;
  options.rank = rank;
  options.world_size = workers;
  auto group = Group::Connect(options);
  Check(group.status(), "Group::Connect");
  auto reducer = DeviceReducer::Create(group->get());
  Check(reducer.status(), "DeviceReducer::Create");
  Work(c, device, rank, reducer->get(), together, found);
}

std::vector<Found> RunWorkers(const Case& c, const Device& device, int workers, bool synchronised) {
  std::unique_ptr<CoordinatorHandle> coordinator;
  if (synchronised) {
    auto started = StartEmbeddedCoordinator("127.0.0.1:0");
    Check(started.status(), "StartEmbeddedCoordinator");
    coordinator = *std::move(started);
  }
  std::vector<Found> found(static_cast<size_t>(workers));
  std::barrier<> barrier(workers);
  std::vector<std::thread> threads;
  for (int rank = 0; rank < workers; ++rank) {
    threads.emplace_back([&, rank] {
      Found* const mine = &found[static_cast<size_t>(rank)];
      const auto together = [&] { barrier.arrive_and_wait(); };
      try {
        if (synchronised) {
          WorkAsMember(c, device, rank, workers, coordinator->address(), together, mine);
        } else {
          Work(c, device, rank, nullptr, together, mine);
        }
      } catch (const std::exception&) {
        mine->failure = std::current_exception();
        barrier.arrive_and_drop();  // the others do not wait for it
      }
    });
  }
  for (std::thread& thread : threads) thread.join();
  for (const Found& one : found) {
    if (one.failure) std::rethrow_exception(one.failure);
  }
  return found;
}

nlohmann::json Line(const std::string& variant, double passes, const std::vector<double>& times) {
  return {{"variant", variant}, {"passes", passes}, {"times_us", times}};
}

}  // namespace

nlohmann::json MeasureLayers(const Case& c, const Device& device) {
  // Two workers with three tensors each, and what is small.
  const size_t needed = static_cast<size_t>(c.elements()) * SizeOf(c.dtype) * 6 +
                        4 * device.cache_bytes + (size_t{256} << 20);
  size_t free = 0, total = 0;
  Check(cudaMemGetInfo(&free, &total), "cudaMemGetInfo");
  if (needed > free) {
    return {{"skipped", "layers need " + std::to_string(needed >> 20) + " MiB, and " +
                            std::to_string(free >> 20) + " are free on the device"}};
  }
  struct Lane {
    const char* name;
    int workers;
    bool synchronised;
  };
  nlohmann::json results = nlohmann::json::array();
  for (const Lane& lane : {Lane{"local", 1, false}, Lane{"two workers, local", 2, false},
                           Lane{"two workers, synchronised", 2, true}}) {
    const std::vector<Found> found = RunWorkers(c, device, lane.workers, lane.synchronised);
    // Ranks of a group share their statistics; others are batches of their own, of which rank 0's
    // is held against the scalar backend.
    std::vector<Outputs> outputs;
    for (const Found& one : found) {
      if (lane.synchronised || outputs.empty()) outputs.push_back(one.outputs);
    }
    if (const std::string wrong = CheckOutputs(c, outputs); !wrong.empty()) {
      return {{"wrong", std::string(lane.name) + ", " + wrong}};
    }
    // Passes of one worker: the other's share the device's bandwidth.
    const bool alone = lane.workers == 1;
    const std::string name = lane.name;
    results.push_back(
        Line(name + "/forward", alone ? c.power_norm ? 4 : 3 : 0, found[0].forward_us));
    results.push_back(Line(name + "/backward", alone ? 5 : 0, found[0].backward_us));
    if (lane.synchronised) {
      results.back()["rounds"] = found[0].rounds;
      results.back()["stream_waits"] = found[0].stream_waits;
    }
  }
  return {{"results", results}};
}

}  // namespace syncnorm::bench::gpu

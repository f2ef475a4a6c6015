#include "tests/support/in_process_group.h"

#include <chrono>
#include <condition_variable>
#include <map>
#include <mutex>
#include <optional>
#include <thread>
#include <utility>

#include "absl/strings/str_cat.h"
#include "absl/strings/str_join.h"

namespace syncnorm::testing {
namespace {

// Of those who meet.
constexpr std::chrono::seconds kPatience{20};

std::string Describe(const ReduceKey& key) {
  return absl::StrCat(std::string(Name(key.direction)), " ", key.layer, " step ", key.step);
}

std::string Describe(const ReduceKey& key, const Moments& moments) {
  return absl::StrCat(
      Describe(key), ", ", std::string(Name(moments.kind)), " ", moments.rows, " x ",
      moments.channels, " ", std::string(Name(moments.precision)),
      key.dtype.has_value() ? absl::StrCat(" of ", std::string(Name(*key.dtype))) : std::string());
}

}  // namespace

// All state, shared with futures that may outlive the group.
struct InProcessGroup::Core {
  struct Round {
    std::vector<std::optional<std::pair<ReduceKey, Moments>>> slots;
    size_t arrived = 0;
    std::optional<absl::StatusOr<Moments>> result;
  };

  Core(int world, std::chrono::milliseconds waits)
      : world_size(world), patience(waits), submitted(world) {}

  void Complete(uint64_t number, Round* round) {
    if (const auto failure = failures.find(number); failure != failures.end()) {
      round->result = failure->second;
      return;
    }
    const std::string first = Describe(round->slots[0]->first, round->slots[0]->second);
    Moments total = round->slots[0]->second;
    total.count = 0;
    total.values.assign(total.values.size(), 0.0);
    for (int rank = 0; rank < world_size; ++rank) {
      auto& [key, moments] = *round->slots[rank];
      if (const std::string mine = Describe(key, moments); mine != first) {
        round->result = absl::AbortedError(absl::StrCat("round ", number, ": rank 0 is at ", first,
                                                        "; rank ", rank, " at ", mine));
        return;
      }
      RoundToWire(&moments);
      if (absl::Status folded = Fold(moments, &total); !folded.ok()) {
        round->result = folded;
        return;
      }
    }
    RoundToWire(&total);
    round->result = std::move(total);
  }

  const int world_size;
  const std::chrono::milliseconds patience;
  mutable std::mutex mutex;
  std::condition_variable changed;
  bool connected = true;
  bool held = false;
  std::vector<int> arrival_order;
  std::map<uint64_t, absl::Status> failures;
  std::map<uint64_t, Round> rounds;
  uint64_t completed = 0;
  int waiting = 0;
  std::vector<std::vector<std::string>> submitted;
  std::map<std::pair<int, std::string>, LayerState*> layers;
  std::map<std::string, std::string> handed_over;
};

class InProcessGroup::Result final : public MomentsFuture::State {
 public:
  Result(std::shared_ptr<Core> core, uint64_t number) : core_(std::move(core)), number_(number) {}

  bool Ready() override {
    const std::lock_guard lock(core_->mutex);
    return HaveLocked();
  }

  absl::StatusOr<Moments> Take() override {
    std::unique_lock lock(core_->mutex);
    ++core_->waiting;
    const bool have =
        core_->changed.wait_for(lock, core_->patience, [this] { return HaveLocked(); });
    --core_->waiting;
    if (have) {
      return *core_->rounds[number_].result;
    }
    std::vector<int> missing;
    const Core::Round& round = core_->rounds[number_];
    for (int rank = 0; rank < core_->world_size; ++rank) {
      if (!round.slots[rank].has_value()) missing.push_back(rank);
    }
    return absl::DeadlineExceededError(
        absl::StrCat("round ", number_, " lacks ranks ", absl::StrJoin(missing, ", ")));
  }

 private:
  bool HaveLocked() { return !core_->held && core_->rounds[number_].result.has_value(); }

  const std::shared_ptr<Core> core_;
  const uint64_t number_;
};

class InProcessGroup::Member final : public Reducer {
 public:
  Member(std::shared_ptr<Core> core, int rank) : core_(std::move(core)), rank_(rank) {}

  int world_size() const override { return core_->world_size; }

  bool connected() const override {
    const std::lock_guard lock(core_->mutex);
    return core_->connected;
  }

  MomentsFuture Reduce(const ReduceKey& key, const Moments& moments) override {
    std::unique_lock lock(core_->mutex);
    core_->submitted[rank_].push_back(Describe(key));
    const uint64_t number = core_->submitted[rank_].size();
    Core::Round& round = core_->rounds[number];
    round.slots.resize(core_->world_size);
    if (!core_->arrival_order.empty()) {
      core_->changed.wait_for(lock, core_->patience,
                              [&] { return core_->arrival_order[round.arrived] == rank_; });
    }
    round.slots[rank_] = {key, moments};
    if (++round.arrived == static_cast<size_t>(core_->world_size)) {
      core_->Complete(number, &round);
      ++core_->completed;
    }
    core_->changed.notify_all();
    return MomentsFuture(std::make_shared<Result>(core_, number));
  }

  absl::StatusOr<Moments> ReduceNow(const ReduceKey& key, const Moments& moments) override {
    return Reduce(key, moments).Wait();
  }

  absl::Status AddLayer(const std::string& name, LayerState* state) override {
    const std::lock_guard lock(core_->mutex);
    if (core_->layers.contains({rank_, name})) {
      return absl::AlreadyExistsError(absl::StrCat("a layer ", name, " exists"));
    }
    const auto handed = core_->handed_over.find(name);
    if (handed != core_->handed_over.end() && state != nullptr) {
      if (absl::Status loaded = state->Load(handed->second); !loaded.ok()) return loaded;
    }
    core_->layers[{rank_, name}] = state;
    return absl::OkStatus();
  }

  void RemoveLayer(const std::string& name) override {
    const std::lock_guard lock(core_->mutex);
    core_->layers.erase({rank_, name});
  }

 private:
  const std::shared_ptr<Core> core_;
  const int rank_;
};

InProcessGroup::InProcessGroup(int world_size, std::chrono::milliseconds patience)
    : world_size_(world_size), core_(std::make_shared<Core>(world_size, patience)) {
  for (int rank = 0; rank < world_size; ++rank) {
    members_.push_back(std::make_unique<Member>(core_, rank));
  }
}

InProcessGroup::~InProcessGroup() = default;

Reducer* InProcessGroup::member(int rank) { return members_[rank].get(); }

void InProcessGroup::SetArrivalOrder(std::vector<int> ranks) {
  const std::lock_guard lock(core_->mutex);
  core_->arrival_order = std::move(ranks);
}

void InProcessGroup::FailRound(uint64_t round, absl::Status status) {
  const std::lock_guard lock(core_->mutex);
  core_->failures[round] = std::move(status);
}

void InProcessGroup::Hold() {
  const std::lock_guard lock(core_->mutex);
  core_->held = true;
}

void InProcessGroup::Release() {
  const std::lock_guard lock(core_->mutex);
  core_->held = false;
  core_->changed.notify_all();
}

void InProcessGroup::Disconnect() {
  const std::lock_guard lock(core_->mutex);
  core_->connected = false;
}

void InProcessGroup::HandOver(const std::string& layer, std::string state) {
  const std::lock_guard lock(core_->mutex);
  core_->handed_over[layer] = std::move(state);
}

LayerState* InProcessGroup::state(int rank, const std::string& layer) const {
  const std::lock_guard lock(core_->mutex);
  return core_->layers.at({rank, layer});
}

int InProcessGroup::waiting() const {
  const std::lock_guard lock(core_->mutex);
  return core_->waiting;
}

uint64_t InProcessGroup::completed() const {
  const std::lock_guard lock(core_->mutex);
  return core_->completed;
}

std::vector<std::string> InProcessGroup::submitted(int rank) const {
  const std::lock_guard lock(core_->mutex);
  return core_->submitted[rank];
}

void InProcessGroup::Run(const std::function<void(int rank, Reducer* reducer)>& body) {
  std::vector<std::thread> threads;
  for (int rank = 0; rank < world_size_; ++rank) {
    threads.emplace_back([this, &body, rank] { body(rank, member(rank)); });
  }
  for (std::thread& thread : threads) thread.join();
}

struct Meeting::Core {
  std::mutex mutex;
  std::condition_variable changed;
  const int count;
  int waiting = 0;
  uint64_t round = 0;
};

Meeting::Meeting(int count) : core_(new Core{.count = count}) {}
Meeting::~Meeting() = default;

void Meeting::Wait() {
  std::unique_lock lock(core_->mutex);
  const uint64_t round = core_->round;
  if (++core_->waiting == core_->count) {
    core_->waiting = 0;
    ++core_->round;
    core_->changed.notify_all();
    return;
  }
  core_->changed.wait_for(lock, kPatience, [&] { return core_->round != round; });
}

}  // namespace syncnorm::testing

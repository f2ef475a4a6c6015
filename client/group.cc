#include <syncnorm/group.h>
#include <unistd.h>

#include <atomic>
#include <map>
#include <optional>
#include <utility>

#include "absl/base/thread_annotations.h"
#include "absl/container/flat_hash_map.h"
#include "absl/strings/str_cat.h"
#include "absl/synchronization/mutex.h"
#include "client/connection.h"
#include "client/finish_exchange.h"
#include "client/grpc_transport.h"
#include "client/incarnation.h"
#include "client/join.h"
#include "client/options.h"
#include "client/security.h"
#include "proto/clock.h"
#include "proto/member_state.h"

namespace syncnorm {
namespace {

// The layer that boundary rounds are of: no layer of a trainer is called so by accident.
constexpr char kBoundaryLayer[] = "syncnorm.boundary";

// And those by which layers agree after a Finish.
constexpr char kFinishLayer[] = "syncnorm.finish";

// In the order in which it is built; destroyed in the reverse.
struct Membership {
  // Serves the others, so it goes last.
  std::unique_ptr<CoordinatorHandle> coordinator;
  std::optional<Incarnation> incarnation;
  std::shared_ptr<Connection> connection;
};

class RemoteGroup final : public Group {
 public:
  // `given`: what this worker was handed.
  RemoteGroup(std::unique_ptr<Membership> membership, wire::MemberState given)
      : membership_(std::move(membership)),
        connection_(membership_->connection.get()),
        boundaries_(given.boundaries),
        handed_over_(std::move(given.trainer)),
        given_(std::move(given.layers)) {}

  ~RemoteGroup() override {
    if (connection_->fork_guard().Forked()) {
      // The threads and the gRPC under it exist in the parent only: leak.
      static_cast<void>(membership_.release());
      return;
    }
    connection_->Shutdown();
  }

  const std::string& name() const override { return session().join().group; }
  int rank() const override { return static_cast<int>(session().join().rank); }
  int world_size() const override { return static_cast<int>(session().join().world_size); }
  uint64_t epoch() const override { return View().epoch; }
  std::vector<int> members() const override { return Ranks(View().members); }
  std::vector<std::string> hosts() const override { return View().hosts; }
  const std::string& handed_over() const override { return handed_over_; }

  bool connected() const override { return !left_.load(std::memory_order_relaxed); }

  MomentsFuture Reduce(const ReduceKey& key, const Moments& moments) override {
    if (absl::Status s = Usable(); !s.ok()) return Failed(std::move(s));
    return connection_->Reduce(key, moments);
  }

  absl::StatusOr<Moments> ReduceNow(const ReduceKey& key, const Moments& moments) override {
    if (absl::Status s = Usable(); !s.ok()) return s;
    return connection_->ReduceNow(key, moments);
  }

  absl::Status AddLayer(const std::string& name, LayerState* state) override {
    if (absl::Status s = Usable(); !s.ok()) return s;
    const uint32_t most = connection_->joined_at_first().limits.max_layer_name_bytes;
    if (name.empty() || name.size() > most) {
      return absl::InvalidArgumentError(absl::StrCat("layer name \"", name, "\" has ", name.size(),
                                                     " bytes, expected 1 to ", most));
    }
    absl::MutexLock lock(&mutex_);
    if (layers_.contains(name)) {
      return absl::AlreadyExistsError(
          absl::StrCat("layer ", name, " exists already in group ", this->name()));
    }
    const auto given = given_.find(name);
    if (given != given_.end() && state != nullptr) {
      if (absl::Status loaded = state->Load(given->second); !loaded.ok()) return loaded;
      given_.erase(given);
    }
    layers_.emplace(name, state);
    return absl::OkStatus();
  }

  void RemoveLayer(const std::string& name) override {
    if (connection_->fork_guard().Forked()) return;
    absl::MutexLock lock(&mutex_);
    layers_.erase(name);
  }

  absl::StatusOr<Boundary> AtBoundary(
      const std::function<absl::StatusOr<std::string>()>& state) override {
    if (absl::Status s = Usable(); !s.ok()) return s;
    if (session().join().on_loss != OnLoss::kShrink) {
      return absl::FailedPreconditionError(
          absl::StrCat("group ", name(), ": AtBoundary needs the policy on_loss shrink"));
    }
    Moments one = Moments::Sums(1, 1, Precision::kF64);
    one.values = {1};
    const ReduceKey key{kBoundaryLayer, Direction::kNone, ++boundaries_, std::nullopt};
    const absl::StatusOr<Moments> met = connection_->ReduceNow(key, one, /*boundary=*/true);
    if (!met.ok()) return met.status();
    const std::optional<Session::Admission> admission = connection_->TakeAdmission();
    const Connection::View view = View();
    Boundary boundary{view.epoch, Ranks(view.members), {}};
    if (!admission.has_value()) return boundary;
    boundary.admitted = Ranks(admission->admitted);
    if (admission->provide) {
      const absl::StatusOr<std::string> handed = Save(state);
      connection_->HandOver(handed);
      if (!handed.ok()) return handed.status();
    }
    return boundary;
  }

  absl::Status Finish(absl::Duration timeout) override {
    if (absl::Status s = Usable(); !s.ok()) return s;
    if (!all_finished_.exchange(false)) {
      if (absl::Status finished = connection_->Finish(timeout); !finished.ok()) return finished;
    }
    if (timeout <= absl::ZeroDuration()) {
      all_finished_ = true;  // what is left waits for the others, which may wait for this one
      return absl::DeadlineExceededError(
          absl::StrCat(session().Where(), " has finished, as all have; call Finish again"));
    }
    return Exchange({.rank = rank(),
                     .world_size = world_size(),
                     .last_round = connection_->last_before_finish(),
                     .max_values = connection_->joined_at_first().limits.max_values,
                     .reduce =
                         [this](uint64_t step, const Moments& moments) {
                           return connection_->ReduceNow(
                               {kFinishLayer, Direction::kNone, step, std::nullopt}, moments);
                         },
                     .save = [this] { return Save(nullptr); },
                     .load = [this](std::string_view state) { return LoadLayers(state); }});
  }

  absl::Status Leave() override {
    if (absl::Status s = Usable(); !s.ok()) return s;
    left_.store(true, std::memory_order_relaxed);
    return connection_->Leave();
  }

 private:
  class FailedState final : public MomentsFuture::State {
   public:
    explicit FailedState(absl::Status why) : why_(std::move(why)) {}
    bool Ready() override { return true; }
    absl::StatusOr<Moments> Take() override { return why_; }

   private:
    const absl::Status why_;
  };

  static MomentsFuture Failed(absl::Status why) {
    return MomentsFuture(std::make_shared<FailedState>(std::move(why)));
  }

  static std::vector<int> Ranks(const std::vector<uint32_t>& ranks) {
    return {ranks.begin(), ranks.end()};
  }

  // All that a late member needs.
  absl::StatusOr<std::string> Save(const std::function<absl::StatusOr<std::string>()>& state) {
    wire::MemberState whole;
    if (state) {
      absl::StatusOr<std::string> trainer = state();
      if (!trainer.ok()) return trainer.status();
      whole.trainer = *std::move(trainer);
    }
    std::vector<std::pair<std::string, LayerState*>> layers;
    {
      absl::MutexLock lock(&mutex_);
      layers.assign(layers_.begin(), layers_.end());
    }
    // Without the lock: a layer may wait for its results.
    for (const auto& [name, layer] : layers) {
      if (layer == nullptr) continue;
      absl::StatusOr<std::string> saved = layer->Save();
      if (!saved.ok()) return saved.status();
      whole.layers.emplace(name, *std::move(saved));
    }
    whole.boundaries = boundaries_;
    std::string encoded = wire::EncodeMemberState(whole);
    if (encoded.size() > Session::kMaxState) {
      return absl::ResourceExhaustedError(absl::StrCat(
          "the state that rank ", rank(), " of group ", name(), " is to hand over has ",
          encoded.size(), " bytes, at most ", Session::kMaxState, " are taken"));
    }
    return encoded;
  }

  // Of layers that are not made yet the states wait for AddLayer.
  absl::Status LoadLayers(std::string_view state) {
    absl::StatusOr<wire::MemberState> whole = wire::DecodeMemberState(state);
    if (!whole.ok()) {
      return absl::InternalError(
          absl::StrCat("the states that ", session().Where(),
                       " got after Finish cannot be read: ", whole.status().message()));
    }
    std::vector<std::pair<LayerState*, std::string>> loads;
    {
      absl::MutexLock lock(&mutex_);
      for (auto& [name, bytes] : whole->layers) {
        const auto layer = layers_.find(name);
        if (layer == layers_.end()) {
          given_[name] = std::move(bytes);
        } else if (layer->second != nullptr) {
          loads.emplace_back(layer->second, std::move(bytes));
        }
      }
    }
    for (const auto& [layer, bytes] : loads) {
      if (absl::Status loaded = layer->Load(bytes); !loaded.ok()) return loaded;
    }
    return absl::OkStatus();
  }

  Connection::View View() const {
    // In a child of a fork the lock may be held for ever; what the join said is still right.
    if (connection_->fork_guard().Forked()) {
      const wire::Joined& joined = connection_->joined_at_first();
      return {joined.epoch, joined.members, joined.hosts};
    }
    return connection_->view();
  }

  absl::Status Usable() const { return connection_->fork_guard().Check(); }
  const Session& session() const { return connection_->session(); }

  std::unique_ptr<Membership> membership_;
  Connection* const connection_;
  std::atomic<bool> left_{false};
  std::atomic<bool> all_finished_{false};  // and this member has not exchanged states yet
  std::atomic<uint64_t> boundaries_;       // of all members, since the group began
  const std::string handed_over_;

  absl::Mutex mutex_;
  absl::flat_hash_map<std::string, LayerState*> layers_ ABSL_GUARDED_BY(mutex_);
  // States that this worker was handed, of layers that are not made yet.
  std::map<std::string, std::string> given_ ABSL_GUARDED_BY(mutex_);
};

wire::Join MakeJoin(const GroupOptions& options, const std::string& incarnation) {
  wire::Join join;
  join.group = options.group;
  join.rank = static_cast<uint32_t>(options.rank);
  join.world_size = static_cast<uint32_t>(options.world_size);
  join.host = options.host.empty() ? HostName() : options.host;
  join.pid = static_cast<uint32_t>(getpid());
  join.incarnation = incarnation;
  join.ticket = NewTicket();
  join.job = options.job;
  join.round_timeout = options.round_timeout;
  join.join_timeout = options.connect_timeout;
  join.on_loss = options.on_loss;
  join.non_finite = options.non_finite;
  return join;
}

}  // namespace

absl::StatusOr<std::unique_ptr<Group>> Group::Connect(GroupOptions options) {
  if (absl::Status s = CheckOptions(options); !s.ok()) return s;
  auto membership = std::make_unique<Membership>();
  std::string address = options.address;
  if (options.coordinator_factory && options.rank == 0) {
    absl::StatusOr<std::unique_ptr<CoordinatorHandle>> coordinator =
        options.coordinator_factory(address);
    if (!coordinator.ok()) return coordinator.status();
    membership->coordinator = *std::move(coordinator);
    address = membership->coordinator->address();
  }
  membership->incarnation.emplace(absl::StrCat(address, " ", options.group, " ", options.rank));
  std::unique_ptr<Transport> transport = NewGrpcTransport(address, SecurityOf(options));
  Clock& clock = MonotonicClock();
  absl::StatusOr<std::unique_ptr<Session>> session = JoinGroup(
      address, MakeJoin(options, membership->incarnation->bytes()), &clock, transport.get());
  if (!session.ok()) return session.status();
  absl::StatusOr<wire::MemberState> given = wire::DecodeMemberState((*session)->handed_over());
  if (!given.ok()) {
    return absl::InternalError(absl::StrCat("what was handed over to ", (*session)->Where(),
                                            " cannot be read: ", given.status().message()));
  }
  membership->connection =
      std::make_shared<Connection>(*std::move(session), std::move(transport), &clock);
  membership->connection->Start();
  return std::make_unique<RemoteGroup>(std::move(membership), *std::move(given));
}

}  // namespace syncnorm

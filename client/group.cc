#include <syncnorm/group.h>
#include <unistd.h>

#include <atomic>
#include <optional>
#include <utility>

#include "absl/base/thread_annotations.h"
#include "absl/container/flat_hash_set.h"
#include "absl/strings/str_cat.h"
#include "absl/synchronization/mutex.h"
#include "client/connection.h"
#include "client/grpc_transport.h"
#include "client/incarnation.h"
#include "client/join.h"
#include "client/options.h"
#include "client/security.h"
#include "proto/clock.h"

namespace syncnorm {
namespace {

// In the order in which it is built; destroyed in the reverse.
struct Membership {
  // Serves the others, so it goes last.
  std::unique_ptr<CoordinatorHandle> coordinator;
  std::optional<Incarnation> incarnation;
  std::shared_ptr<Connection> connection;
};

class RemoteGroup final : public Group {
 public:
  explicit RemoteGroup(std::unique_ptr<Membership> membership)
      : membership_(std::move(membership)), connection_(membership_->connection.get()) {}

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
  uint64_t epoch() const override { return session().epoch(); }
  const std::vector<std::string>& hosts() const override { return session().joined().hosts; }

  bool connected() const override { return !left_.load(std::memory_order_relaxed); }

  MomentsFuture Reduce(const ReduceKey& key, const Moments& moments) override {
    if (absl::Status s = Usable(); !s.ok()) return Failed(std::move(s));
    return connection_->Reduce(key, moments);
  }

  absl::StatusOr<Moments> ReduceNow(const ReduceKey& key, const Moments& moments) override {
    if (absl::Status s = Usable(); !s.ok()) return s;
    return connection_->ReduceNow(key, moments);
  }

  absl::Status AddLayer(const std::string& name) override {
    if (absl::Status s = Usable(); !s.ok()) return s;
    const uint32_t most = session().joined().limits.max_layer_name_bytes;
    if (name.empty() || name.size() > most) {
      return absl::InvalidArgumentError(absl::StrCat("layer name \"", name, "\" has ", name.size(),
                                                     " bytes, expected 1 to ", most));
    }
    absl::MutexLock lock(&mutex_);
    if (layers_.insert(name).second) return absl::OkStatus();
    return absl::AlreadyExistsError(
        absl::StrCat("layer ", name, " exists already in group ", this->name()));
  }

  void RemoveLayer(const std::string& name) override {
    if (connection_->fork_guard().Forked()) return;
    absl::MutexLock lock(&mutex_);
    layers_.erase(name);
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

  absl::Status Usable() const { return connection_->fork_guard().Check(); }
  const Session& session() const { return connection_->session(); }

  std::unique_ptr<Membership> membership_;
  Connection* const connection_;
  std::atomic<bool> left_{false};

  absl::Mutex mutex_;
  absl::flat_hash_set<std::string> layers_ ABSL_GUARDED_BY(mutex_);
};

wire::Join MakeJoin(const GroupOptions& options, const std::string& incarnation) {
  wire::Join join;
  join.group = options.group;
  join.rank = static_cast<uint32_t>(options.rank);
  join.world_size = static_cast<uint32_t>(options.world_size);
  join.host = options.host.empty() ? HostName() : options.host;
  join.pid = static_cast<uint32_t>(getpid());
  join.incarnation = incarnation;
  join.job = options.job;
  join.round_timeout = options.round_timeout;
  join.join_timeout = options.connect_timeout;
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
  membership->connection =
      std::make_shared<Connection>(*std::move(session), std::move(transport), &clock);
  membership->connection->Start();
  return std::make_unique<RemoteGroup>(std::move(membership));
}

}  // namespace syncnorm

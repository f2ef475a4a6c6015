#include "python/src/group.h"

#include <utility>

#include "absl/strings/str_cat.h"

namespace syncnorm::python {
namespace {

// A future's state keeps its connection alive by itself; this one fails.
class FailedState final : public MomentsFuture::State {
 public:
  explicit FailedState(absl::Status status) : status_(std::move(status)) {}
  bool Ready() override { return true; }
  absl::StatusOr<Moments> Take() override { return status_; }

 private:
  const absl::Status status_;
};

}  // namespace

// A layer's state, which remembers that it was loaded.
class GroupHolder::Layer final : public LayerState {
 public:
  explicit Layer(LayerState* state) : state_(state) {}
  absl::StatusOr<std::string> Save() override { return state_->Save(); }
  absl::Status Load(std::string_view bytes) override {
    absl::Status status = state_->Load(bytes);
    loaded_ = status.ok();
    return status;
  }
  bool loaded() const { return loaded_; }

 private:
  LayerState* const state_;
  bool loaded_ = false;
};

GroupHolder::~GroupHolder() = default;

GroupHolder::GroupHolder(std::unique_ptr<Group> group)
    : name_(group->name()),
      rank_(group->rank()),
      world_size_(group->world_size()),
      group_(std::move(group)) {}

absl::Status GroupHolder::Close() {
  std::shared_ptr<Group> group;
  {
    absl::MutexLock lock(&mutex_);
    group = std::exchange(group_, nullptr);
  }
  return group == nullptr ? absl::OkStatus() : group->Leave();
}

std::shared_ptr<Group> GroupHolder::group() const {
  absl::MutexLock lock(&mutex_);
  return group_;
}

absl::StatusOr<std::shared_ptr<Group>> GroupHolder::Open() const {
  std::shared_ptr<Group> group = this->group();
  if (group == nullptr) return Closed();
  return group;
}

absl::Status GroupHolder::Closed() const {
  return absl::FailedPreconditionError(
      absl::StrCat("rank ", rank_, " of group ", name_, " has left: shutdown() was called"));
}

bool GroupHolder::connected() const {
  const std::shared_ptr<Group> group = this->group();
  return group != nullptr && group->connected();
}

MomentsFuture GroupHolder::Reduce(const ReduceKey& key, const Moments& moments) {
  const std::shared_ptr<Group> group = this->group();
  if (group == nullptr) return MomentsFuture(std::make_shared<FailedState>(Closed()));
  return group->Reduce(key, moments);
}

absl::StatusOr<Moments> GroupHolder::ReduceNow(const ReduceKey& key, const Moments& moments) {
  const std::shared_ptr<Group> group = this->group();
  if (group == nullptr) return Closed();
  return group->ReduceNow(key, moments);
}

absl::Status GroupHolder::AddLayer(const std::string& name, LayerState* state) {
  const std::shared_ptr<Group> group = this->group();
  if (group == nullptr) return Closed();
  auto layer = std::make_unique<Layer>(state);
  if (absl::Status added = group->AddLayer(name, layer.get()); !added.ok()) return added;
  absl::MutexLock lock(&mutex_);
  layers_[name] = std::move(layer);
  return absl::OkStatus();
}

void GroupHolder::RemoveLayer(const std::string& name) {
  if (const std::shared_ptr<Group> group = this->group()) group->RemoveLayer(name);
  absl::MutexLock lock(&mutex_);
  layers_.erase(name);
}

bool GroupHolder::Loaded(const std::string& name) const {
  absl::MutexLock lock(&mutex_);
  const auto layer = layers_.find(name);
  return layer != layers_.end() && layer->second->loaded();
}

}  // namespace syncnorm::python

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
  absl::StatusOr<std::string> Save() override {
    if (before_) before_();
    return state_->Save();
  }
  absl::Status Load(std::string_view bytes) override {
    if (before_) before_();
    absl::Status status = state_->Load(bytes);
    loaded_ = status.ok();
    return status;
  }
  bool loaded() const { return loaded_; }
  void set_hook(std::function<void()> before) { before_ = std::move(before); }

 private:
  LayerState* const state_;
  std::function<void()> before_;
  bool loaded_ = false;
};

// What a group is without its front.
class GroupHolder::DirectReducer final : public Reducer {
 public:
  explicit DirectReducer(std::shared_ptr<GroupHolder> holder) : holder_(std::move(holder)) {}
  int world_size() const override { return holder_->world_size(); }
  bool connected() const override { return holder_->connected(); }
  MomentsFuture Reduce(const ReduceKey& key, const Moments& moments) override {
    const std::shared_ptr<Group> group = holder_->group();
    if (group == nullptr) return MomentsFuture(std::make_shared<FailedState>(holder_->Closed()));
    return group->Reduce(key, moments);
  }
  absl::StatusOr<Moments> ReduceNow(const ReduceKey& key, const Moments& moments) override {
    const std::shared_ptr<Group> group = holder_->group();
    if (group == nullptr) return holder_->Closed();
    return group->ReduceNow(key, moments);
  }
  absl::Status AddLayer(const std::string& name, LayerState* state) override {
    return holder_->AddLayer(name, state);
  }
  void RemoveLayer(const std::string& name) override { holder_->RemoveLayer(name); }

 private:
  const std::shared_ptr<GroupHolder> holder_;
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
  if (const std::shared_ptr<Reducer> front = this->front()) return front->Reduce(key, moments);
  const std::shared_ptr<Group> group = this->group();
  if (group == nullptr) return MomentsFuture(std::make_shared<FailedState>(Closed()));
  return group->Reduce(key, moments);
}

absl::StatusOr<Moments> GroupHolder::ReduceNow(const ReduceKey& key, const Moments& moments) {
  if (const std::shared_ptr<Reducer> front = this->front()) return front->ReduceNow(key, moments);
  const std::shared_ptr<Group> group = this->group();
  if (group == nullptr) return Closed();
  return group->ReduceNow(key, moments);
}

std::shared_ptr<Reducer> GroupHolder::Direct(std::shared_ptr<GroupHolder> holder) {
  return std::make_shared<DirectReducer>(std::move(holder));
}

void GroupHolder::SetFront(std::weak_ptr<Reducer> front) {
  absl::MutexLock lock(&mutex_);
  front_ = std::move(front);
}

std::shared_ptr<Reducer> GroupHolder::front() const {
  absl::MutexLock lock(&mutex_);
  return front_.lock();
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
  std::unique_ptr<Layer> removed;  // destroyed without the lock: a hook of Python's takes the GIL
  absl::MutexLock lock(&mutex_);
  const auto layer = layers_.find(name);
  if (layer == layers_.end()) return;
  removed = std::move(layer->second);
  layers_.erase(layer);
}

void GroupHolder::SetStateHook(const std::string& name, std::function<void()> before) {
  absl::MutexLock lock(&mutex_);
  const auto layer = layers_.find(name);
  if (layer != layers_.end()) layer->second->set_hook(std::move(before));
}

bool GroupHolder::Loaded(const std::string& name) const {
  absl::MutexLock lock(&mutex_);
  const auto layer = layers_.find(name);
  return layer != layers_.end() && layer->second->loaded();
}

}  // namespace syncnorm::python

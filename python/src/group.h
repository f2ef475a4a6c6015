// GroupHolder: a Group as Python holds it.  Python's objects live as long as somebody refers to
// them, so a group is ended by Close, whoever still has it: norms then find that they are no longer
// connected, and their calls of it fail.
//
// Thread-safety: thread-safe.  Close may wait for calls that are under way in other threads.
#pragma once

#include <pybind11/pybind11.h>
#include <syncnorm/group.h>

#include <functional>
#include <map>
#include <memory>
#include <string>

#include "absl/base/thread_annotations.h"
#include "absl/synchronization/mutex.h"

namespace syncnorm::python {

class GroupHolder final : public Reducer {
 public:
  explicit GroupHolder(std::unique_ptr<Group> group);
  ~GroupHolder() override;

  // Leaves, and destroys the group: a coordinator in it serves the others until they have left.
  // Group::Leave's status.  Safe to call twice.
  absl::Status Close();
  // Null once closed.
  std::shared_ptr<Group> group() const;
  // kFailedPrecondition once closed.
  absl::StatusOr<std::shared_ptr<Group>> Open() const;
  const std::string& name() const { return name_; }
  int rank() const { return rank_; }

  int world_size() const override { return world_size_; }
  bool connected() const override;
  MomentsFuture Reduce(const ReduceKey& key, const Moments& moments) override;
  absl::StatusOr<Moments> ReduceNow(const ReduceKey& key, const Moments& moments) override;
  absl::Status AddLayer(const std::string& name, LayerState* state) override;
  void RemoveLayer(const std::string& name) override;
  // Whether this worker was handed the layer's state, at AddLayer.
  bool Loaded(const std::string& name) const;
  // For layers that have no hooks of their own: `before` is called before the layer's state is
  // saved or loaded.
  void SetStateHook(const std::string& name, std::function<void()> before);

  // The same group for the reducer of a device's layers, `front`, which keeps the order of calls:
  // while it lives, Reduce and ReduceNow of this go through it, and it goes through Direct.
  static std::shared_ptr<Reducer> Direct(std::shared_ptr<GroupHolder> holder);
  void SetFront(std::weak_ptr<Reducer> front);

 private:
  class Layer;
  class DirectReducer;
  absl::Status Closed() const;
  std::shared_ptr<Reducer> front() const;

  const std::string name_;
  const int rank_;
  const int world_size_;
  mutable absl::Mutex mutex_;
  std::shared_ptr<Group> group_ ABSL_GUARDED_BY(mutex_);
  std::weak_ptr<Reducer> front_ ABSL_GUARDED_BY(mutex_);
  std::map<std::string, std::unique_ptr<Layer>> layers_ ABSL_GUARDED_BY(mutex_);
};

void BindGroup(pybind11::module_* module);

}  // namespace syncnorm::python

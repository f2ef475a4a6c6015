// Reducer: what the norms need of a group.  Group is the one over the network;
// tests bring one that lives in a process.  Anything that can be expressed as
// named moments can be built on it, as the norms here are.
//
// Order.  Every member submits the same layers in the same order.  A member
// that does not is told so, as are all others, with both names.
//
// Thread-safety: all methods may be called concurrently; the order of
// submission is then the callers' to keep.
#pragma once

#include <syncnorm/moments.h>
#include <syncnorm/round_key.h>
#include <syncnorm/tensor.h>

#include <cstdint>
#include <memory>
#include <optional>
#include <string>
#include <string_view>

#include "absl/status/status.h"
#include "absl/status/statusor.h"

namespace syncnorm {

// What a caller says of a round; epoch and round number are the group's.
struct ReduceKey {
  std::string layer;
  Direction direction = Direction::kNone;
  uint64_t step = 0;
  std::optional<DType> dtype;  // of the tensor, so that members that differ are told
};

// The result of a Reduce, once.  Movable; dropping it abandons the result, not
// the contribution.
class MomentsFuture {
 public:
  class State {
   public:
    virtual ~State() = default;
    virtual bool Ready() = 0;
    virtual absl::StatusOr<Moments> Take() = 0;  // blocks; called once
  };

  MomentsFuture() = default;  // invalid
  explicit MomentsFuture(std::shared_ptr<State> state) : state_(std::move(state)) {}

  bool valid() const { return state_ != nullptr; }
  // Whether Wait would return at once.
  bool ready() const { return state_ != nullptr && state_->Ready(); }
  // Blocks until the result, the failure or the deadline, and makes this invalid.
  // kDeadlineExceeded names the ranks that were missing; FailureOf (failure.h)
  // gives the names of every failure.  kFailedPrecondition if not valid.
  absl::StatusOr<Moments> Wait();

 private:
  std::shared_ptr<State> state_;
};

// What a layer needs to go on as on the other members: a member that joins a running
// group is handed another one's.
//
// A Reducer calls it only inside calls that the trainer makes of it, in the thread of that call,
// and between steps: never from a thread of its own, nor inside Reduce, ReduceNow or a future's
// Wait, where a layer may be half way through a step.
class LayerState {
 public:
  virtual ~LayerState() = default;

  // All of it.  Equal states give equal bytes.  Asks nothing of other members, but may wait for
  // the results of rounds that this one has contributed to.
  virtual absl::StatusOr<std::string> Save() = 0;
  // Continues from what Save gave on another member, bit for bit.  kInvalidArgument names the
  // layer and the entry that is unknown, missing or misshapen; kFailedPrecondition: rounds
  // of the layer are under way.  Nothing is changed then.
  virtual absl::Status Load(std::string_view bytes) = 0;
};

class Reducer {
 public:
  virtual ~Reducer() = default;

  virtual int world_size() const = 0;
  // Whether this still is a member, or was one until its membership failed: then reductions fail
  // with the reason, and nothing silently goes local.  False once it has left.
  virtual bool connected() const = 0;

  // Submits this member's moments and returns at once.  Errors, bad arguments
  // included, come out of the future.
  virtual MomentsFuture Reduce(const ReduceKey& key, const Moments& moments) = 0;
  // The same, and waits: the fastest path for a caller that can do nothing else.
  virtual absl::StatusOr<Moments> ReduceNow(const ReduceKey& key, const Moments& moments) = 0;

  // Reserves a layer's name.  `state` (null: none) must live until RemoveLayer.  If this member
  // was handed a state for the layer, it is loaded before AddLayer returns.
  //   kAlreadyExists     a living layer has the name;
  //   kInvalidArgument   it is empty or too long, or what Load refused.  It is not reserved then.
  virtual absl::Status AddLayer(const std::string& name, LayerState* state) = 0;
  virtual void RemoveLayer(const std::string& name) = 0;
};

// The arithmetic of a group of one: rounds `moments` as the wire would, folds
// them into nothing, rounds the result.  The local path of every norm.
absl::StatusOr<Moments> ReduceAlone(const Moments& moments);

}  // namespace syncnorm

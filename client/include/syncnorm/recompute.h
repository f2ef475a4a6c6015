// RecomputeScope: says that the forwards of this thread repeat earlier ones, as
// activation checkpointing does.
//
//   {
//     const syncnorm::RecomputeScope scope;
//     norm->Forward(x, mask, y, &context);  // of an x that a Forward saw before
//   }
//
// A training Forward of a norm inside a scope is a recomputation: it takes the
// group's moments of the forward that it repeats, so that y is the same, bit for bit;
// its context's Backward goes under that forward's step.  It causes no round and moves
// no state.  The norm finds the forward among its last `kept_forwards` by what this
// worker saw of its input; if there is none, kFailedPrecondition says so and nothing
// is sent.  In eval, and with kept_forwards of 0, a scope changes nothing.
//
// The LibTorch modules do this by themselves inside a backward pass (torch.h).
//
// Scopes may be nested; each is destroyed in the thread that made it.
//
// Thread-safety: a scope is its thread's; others do not see it.
#pragma once

namespace syncnorm {

class RecomputeScope {
 public:
  RecomputeScope();
  ~RecomputeScope();
  RecomputeScope(const RecomputeScope&) = delete;
  RecomputeScope& operator=(const RecomputeScope&) = delete;

  // Whether this thread is inside one.
  static bool active();
};

}  // namespace syncnorm

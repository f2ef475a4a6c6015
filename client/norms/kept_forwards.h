// What a layer keeps of its last training forwards, so that a recomputation
// (syncnorm/recompute.h) finds the one that it repeats.
//
// A forward is known by this worker's local moments of it, all bits of them and of
// the count, and not by a digest: they are there anyway and are moved in, not
// copied; a comparison ends at the first difference; and nothing has to be said about
// collisions.  It costs 16 bytes a channel and forward, as much again as what is kept
// of the group's.  All 26,560 channels of a ResNet-50's batch norms, 8 forwards each:
// 26,560 x 8 x (16 + 16) B = 6.8 MB.
//
// Several that are equal (above all those of empty slices): the newest whose backward has
// not come, or the newest.  So forwards that never get a backward do no harm, and a stack of
// them is unwound from its end.  Where that is not the order of the program, members with
// other data pick another one, and the round of the backward, whose step
// differs then, fails with both named.
//
// Thread-safety: thread-compatible, as their layer.
#pragma once

#include <syncnorm/moments.h>
#include <syncnorm/recompute.h>

#include <cstdint>
#include <cstring>
#include <deque>
#include <string>
#include <utility>

#include "absl/status/status.h"
#include "absl/strings/str_cat.h"

namespace syncnorm::norms {

template <typename Forward>
class KeptForwards {
 public:
  struct Kept {
    uint64_t number;  // 1, 2, ...: of a forward of this layer
    bool backward_came;
    Moments local;
    Forward forward;
  };

  explicit KeptForwards(int64_t capacity) : capacity_(static_cast<size_t>(capacity)) {}

  // Whether a training forward now is a recomputation.
  bool Recomputing() const { return capacity_ > 0 && RecomputeScope::active(); }

  // Keeps a forward, in the place of the oldest.  Returns its number; 0: nothing is ever kept.
  uint64_t Keep(Moments local, Forward forward) {
    if (capacity_ == 0) return 0;
    if (kept_.size() == capacity_) kept_.pop_front();
    kept_.push_back({++last_number_, false, std::move(local), std::move(forward)});
    return last_number_;
  }

  // The forward that one with these local moments repeats; null: none.
  const Kept* Find(const Moments& local) const {
    const Kept* newest = nullptr;
    for (auto kept = kept_.rbegin(); kept != kept_.rend(); ++kept) {
      if (!SameBits(kept->local, local)) continue;
      if (!kept->backward_came) return &*kept;
      if (newest == nullptr) newest = &*kept;
    }
    return newest;
  }

  // The forward `number`, if it still is kept, had its backward.
  void BackwardCame(uint64_t number) {
    for (Kept& kept : kept_) kept.backward_came |= kept.number == number;
  }

  // Why Find found nothing.
  absl::Status NotFound(const std::string& layer) const {
    if (kept_.empty()) {
      return absl::FailedPreconditionError(absl::StrCat(
          "layer ", layer, ": a recomputation, but no training forward came before it"));
    }
    return absl::FailedPreconditionError(absl::StrCat(
        "layer ", layer, ": a recomputed forward had other inputs than the last ", kept_.size(),
        " training forwards: its inputs were not computed alike (dropout without its saved random "
        "state?), or it repeats one of more than kept_forwards = ",
        capacity_, " forwards ago; nothing was sent"));
  }

 private:
  // Bits, so that a NaN equals itself.
  static bool SameBits(const Moments& a, const Moments& b) {
    return a.count == b.count && a.kind == b.kind && a.precision == b.precision &&
           a.values.size() == b.values.size() &&
           std::memcmp(a.values.data(), b.values.data(), a.values.size() * sizeof(double)) == 0;
  }

  const size_t capacity_;
  uint64_t last_number_ = 0;
  std::deque<Kept> kept_;
};

}  // namespace syncnorm::norms

#include "tests/sim/timeline.h"

#include <algorithm>
#include <utility>

namespace syncnorm::sim {

void Timeline::At(absl::Time when, std::function<void()> what) {
  heap_.push_back({std::max(when, now_), ++planned_, std::move(what)});
  std::push_heap(heap_.begin(), heap_.end(), Later);
}

bool Timeline::Step() {
  if (heap_.empty()) return false;
  std::pop_heap(heap_.begin(), heap_.end(), Later);
  const Event event = std::move(heap_.back());
  heap_.pop_back();
  now_ = event.when;
  ++steps_;
  event.what();
  return true;
}

}  // namespace syncnorm::sim

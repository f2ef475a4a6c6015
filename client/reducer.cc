#include <syncnorm/reducer.h>

#include <utility>

namespace syncnorm {

absl::StatusOr<Moments> MomentsFuture::Wait() {
  if (!valid()) {
    return absl::FailedPreconditionError(
        "this future holds no result: it was never given one, or Wait was called before");
  }
  const std::shared_ptr<State> state = std::move(state_);
  return state->Take();
}

}  // namespace syncnorm

// The local path: what a coordinator would make of a group of one.
#include <syncnorm/reducer.h>

namespace syncnorm {

absl::StatusOr<Moments> ReduceAlone(const Moments& moments) {
  Moments sent = moments;
  RoundToWire(&sent);
  Moments total = sent;
  total.count = 0;
  total.values.assign(sent.values.size(), 0.0);
  if (absl::Status folded = Fold(sent, &total); !folded.ok()) return folded;
  RoundToWire(&total);
  return total;
}

}  // namespace syncnorm

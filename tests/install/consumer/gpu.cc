// A worker on a GPU: links what it needs, and is told clearly where there is none.
#include <syncnorm/device_batch_norm.h>
#include <syncnorm/device_power_norm.h>

#include <iostream>

namespace {

// A group of one.
class Alone final : public syncnorm::Reducer {
 public:
  int world_size() const override { return 1; }
  bool connected() const override { return false; }
  syncnorm::MomentsFuture Reduce(const syncnorm::ReduceKey&, const syncnorm::Moments&) override {
    return {};
  }
  absl::StatusOr<syncnorm::Moments> ReduceNow(const syncnorm::ReduceKey&,
                                              const syncnorm::Moments& moments) override {
    return syncnorm::ReduceAlone(moments);
  }
  absl::Status AddLayer(const std::string&, syncnorm::LayerState*) override {
    return absl::OkStatus();
  }
  void RemoveLayer(const std::string&) override {}
};

}  // namespace

int main() {
  Alone alone;
  const auto reducer = syncnorm::DeviceReducer::Create(&alone);
  const auto norm = syncnorm::DeviceBatchNorm::Create(
      "bn", {.channels = 1, .affine = false, .track_running_stats = false}, 0, {}, nullptr);
  std::cout << "reducer: " << reducer.status() << "\nlayer: " << norm.status() << "\n";
  const bool here = reducer.ok() && norm.ok();
  const bool none = absl::IsUnavailable(reducer.status()) && absl::IsUnavailable(norm.status());
  return here || none ? 0 : 1;
}

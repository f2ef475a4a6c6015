// A worker's Reducer whose group forms anew: what is submitted goes to the member that it was
// last moved to.  Layers stay with the first one.
//
// Thread-safety: thread-compatible.
#pragma once

#include <syncnorm/reducer.h>

#include <string>

namespace syncnorm::testing {

class MovingMember final : public Reducer {
 public:
  explicit MovingMember(Reducer* member) : first_(member), now_(member) {}

  void MoveTo(Reducer* member) { now_ = member; }

  int world_size() const override { return now_->world_size(); }
  bool connected() const override { return now_->connected(); }
  MomentsFuture Reduce(const ReduceKey& key, const Moments& moments) override {
    return now_->Reduce(key, moments);
  }
  absl::StatusOr<Moments> ReduceNow(const ReduceKey& key, const Moments& moments) override {
    return now_->ReduceNow(key, moments);
  }
  absl::Status AddLayer(const std::string& name, LayerState* state) override {
    return first_->AddLayer(name, state);
  }
  void RemoveLayer(const std::string& name) override { first_->RemoveLayer(name); }

 private:
  Reducer* const first_;
  Reducer* now_;
};

}  // namespace syncnorm::testing

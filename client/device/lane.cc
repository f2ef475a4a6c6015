#include "client/device/lane.h"

#include <algorithm>
#include <cstring>
#include <utility>

#include "absl/strings/str_cat.h"
#include "absl/time/time.h"
#include "client/device/cuda_status.h"
#include "proto/clock.h"

namespace syncnorm {
namespace {

using device::CudaStatus;
using device::RoundSlot;

// One a layer of a large model, several times.
constexpr size_t kMostFailures = 4096;

// How long the sender asks again and again whether moments have left the device before it sleeps
// until the device interrupts it.  Statistics of a large layer take 100 us; being woken costs 10
// to 50.
constexpr absl::Duration kSpin = absl::Microseconds(50);

std::string Where(const ReduceKey& key) {
  return absl::StrCat("layer ", key.layer, ", ", std::string(Name(key.direction)), ", step ",
                      key.step);
}

absl::Status AwaitEvent(cudaEvent_t event) {
  const absl::Time end = MonotonicClock().Now() + kSpin;
  do {
    const cudaError_t now = cudaEventQuery(event);
    if (now == cudaSuccess) return absl::OkStatus();
    if (now != cudaErrorNotReady) return CudaStatus(now, "waiting for the moments");
  } while (MonotonicClock().Now() < end);
  return CudaStatus(cudaEventSynchronize(event), "waiting for the moments");
}

}  // namespace

// A round of the host's: its future is there once the sender has come to it.
class Lane::HostRound final : public MomentsFuture::State {
 public:
  explicit HostRound(Moments moments) : moments_(std::move(moments)) {}

  const Moments& moments() const { return moments_; }
  void Sent(MomentsFuture future) {
    absl::MutexLock lock(&mutex_);
    future_ = std::move(future);
    sent_ = true;
  }
  bool Ready() override {
    absl::MutexLock lock(&mutex_);
    return sent_ && future_.ready();
  }
  absl::StatusOr<Moments> Take() override {
    MomentsFuture future;
    {
      absl::MutexLock lock(&mutex_);
      mutex_.Await(absl::Condition(&sent_));
      future = std::move(future_);
    }
    return future.Wait();
  }

 private:
  const Moments moments_;
  absl::Mutex mutex_;
  bool sent_ ABSL_GUARDED_BY(mutex_) = false;
  MomentsFuture future_ ABSL_GUARDED_BY(mutex_);
};

Lane::Lane(Reducer* group, device::StreamWait wait)
    : group_(group), wait_(wait), sender_([this] { Send(); }), receiver_([this] { Receive(); }) {}

Lane::~Lane() {
  {
    absl::MutexLock lock(&mutex_);
    stopping_ = true;
  }
  sender_.join();
  receiver_.join();
}

std::shared_ptr<device::BlockPool> Lane::pool(int device, Purpose purpose) {
  absl::MutexLock lock(&mutex_);
  std::shared_ptr<device::BlockPool>& pool = pools_[{device, purpose}];
  if (pool == nullptr) pool = std::make_shared<device::BlockPool>(device);
  return pool;
}

absl::Status Lane::Submit(const std::shared_ptr<RoundSlot>& slot, ReduceKey key,
                          kernels::cuda::MomentsView moments, cudaStream_t stream,
                          StepNumbering numbering) {
  const size_t bytes = kernels::cuda::MomentsView::Bytes(slot->rows, slot->channels);
  absl::MutexLock order(&order_mutex_);
  if (cudaError_t error =
          cudaMemcpyAsync(slot->sent.header, moments.header, bytes, cudaMemcpyDeviceToHost, stream);
      error != cudaSuccess) {
    return CudaStatus(error, absl::StrCat(Where(key), ": copying the moments out"));
  }
  if (cudaError_t error = cudaEventRecord(slot->out.get(), stream); error != cudaSuccess) {
    slot->Abandon();
    return CudaStatus(error, absl::StrCat(Where(key), ": recording an event"));
  }
  ++slot->sequence;
  ++rounds_;
  absl::MutexLock lock(&mutex_);
  to_send_.push_back(
      {std::move(key), slot, nullptr, stream, std::move(numbering), MomentsFuture()});
  return absl::OkStatus();
}

absl::Status Lane::Await(const std::shared_ptr<RoundSlot>& slot, cudaStream_t stream) {
  if (slot->published()) return absl::OkStatus();
  absl::MutexLock order(&order_mutex_);  // no slot is used again meanwhile
  std::vector<std::shared_ptr<RoundSlot>> before;
  {
    absl::MutexLock lock(&mutex_);
    for (const Entry& entry : to_send_) {
      if (entry.slot == slot) break;  // later ones do not matter to it
      if (entry.slot != nullptr && entry.stream != stream) before.push_back(entry.slot);
    }
  }
  for (const auto& earlier : before) {
    if (cudaError_t error = cudaStreamWaitEvent(stream, earlier->out.get(), 0);
        error != cudaSuccess) {
      return CudaStatus(error, "waiting for another stream's moments");
    }
  }
  ++stream_waits_;
  return wait_.Enqueue(&slot->flag, slot->sequence, stream);
}

MomentsFuture Lane::Reduce(const ReduceKey& key, const Moments& moments) {
  auto host = std::make_shared<HostRound>(moments);
  absl::MutexLock order(&order_mutex_);
  absl::MutexLock lock(&mutex_);
  to_send_.push_back({key, nullptr, host, nullptr, {}, MomentsFuture()});
  return MomentsFuture(std::move(host));
}

void Lane::Send() {
  for (;;) {
    Entry* entry = nullptr;
    {
      absl::MutexLock lock(&mutex_);
      const auto due = [this]() ABSL_EXCLUSIVE_LOCKS_REQUIRED(mutex_) {
        return stopping_ || !to_send_.empty();
      };
      mutex_.Await(absl::Condition(&due));
      if (to_send_.empty()) {
        sender_done_ = true;
        return;
      }
      entry = &to_send_.front();  // a deque's elements stay where they are
    }
    if (entry->slot == nullptr) {
      entry->host->Sent(group_->Reduce(entry->key, entry->host->moments()));
      absl::MutexLock lock(&mutex_);
      to_send_.pop_front();
      continue;
    }
    const absl::StatusOr<Moments> moments = Collect(entry);
    if (moments.ok()) entry->future = group_->Reduce(entry->key, *moments);
    Entry sent;
    {
      absl::MutexLock lock(&mutex_);
      sent = std::move(to_send_.front());
      to_send_.pop_front();
      if (moments.ok()) to_receive_.push_back(std::move(sent));
    }
    if (!moments.ok()) Publish(sent, moments.status());
  }
}

absl::StatusOr<Moments> Lane::Collect(Entry* entry) const {
  if (absl::Status out = AwaitEvent(entry->slot->out.get()); !out.ok()) {
    return absl::Status(out.code(), absl::StrCat(Where(entry->key), ": ", out.message()));
  }
  const RoundSlot& slot = *entry->slot;
  const kernels::cuda::MomentsHeader& header = *slot.sent.header;
  const StepNumbering& numbering = entry->numbering;
  if (numbering.count != nullptr) {
    entry->key.step = numbering.count->load() + 1;
  } else {
    entry->key.step = numbering.step != nullptr ? numbering.step->load() : header.step;
  }
  if (header.bad != 0) {
    return absl::InvalidArgumentError(
        absl::StrCat(Where(entry->key), ": the mask has another value than 0 and 1 at position ",
                     header.bad - 1, "; nothing was sent"));
  }
  if (entry->key.step == 0 && numbering.step != nullptr) {
    return absl::FailedPreconditionError(
        absl::StrCat("layer ", entry->key.layer,
                     ": the backward of a forward whose round was not sent; nor is this one"));
  }
  if (entry->key.step == 0) {
    return absl::FailedPreconditionError(absl::StrCat(
        "layer ", entry->key.layer,
        ": a recomputed forward had other inputs than the training forwards that are kept: they "
        "were not computed alike (dropout without its saved random state?), or it repeats one "
        "that is longer ago than kept_forwards; nothing was sent"));
  }
  if (numbering.count != nullptr) {
    numbering.count->store(entry->key.step);
    numbering.step->store(entry->key.step);
  }
  const Precision precision = entry->key.dtype == DType::kF64 ? Precision::kF64 : Precision::kF32;
  Moments moments;
  moments.kind = slot.kind;
  moments.precision = precision;
  moments.channels = slot.channels;
  moments.rows = slot.rows;
  moments.count = header.count;
  const double* values = slot.sent.values();
  moments.values.assign(values, values + slot.rows * slot.channels);
  return moments;
}

void Lane::Receive() {
  for (;;) {
    Entry entry;
    {
      absl::MutexLock lock(&mutex_);
      const auto due = [this]() ABSL_EXCLUSIVE_LOCKS_REQUIRED(mutex_) {
        return sender_done_ || !to_receive_.empty();
      };
      mutex_.Await(absl::Condition(&due));
      if (to_receive_.empty()) return;
      entry = std::move(to_receive_.front());
      to_receive_.pop_front();
    }
    Publish(entry, entry.future.Wait());
  }
}

void Lane::Publish(const Entry& entry, const absl::StatusOr<Moments>& result) {
  RoundSlot& slot = *entry.slot;
  kernels::cuda::MomentsHeader& header = *slot.result.header;
  header = {};
  header.step = entry.key.step;
  if (result.ok()) {
    header.count = result->count;
    std::memcpy(slot.result.values(), result->values.data(),
                result->values.size() * sizeof(double));
  } else {
    header.failed = 1;
    absl::MutexLock lock(&mutex_);
    if (failures_.size() < kMostFailures) failures_.push_back({entry.key.layer, result.status()});
  }
  if (slot.observe) slot.observe(result);
  slot.flag.Publish(slot.sequence);
  absl::MutexLock lock(&mutex_);
  ++results_;
}

bool Lane::AwaitResults(absl::Duration timeout) const {
  absl::MutexLock lock(&mutex_);
  const auto ended = [this]() ABSL_SHARED_LOCKS_REQUIRED(mutex_) {
    return to_send_.empty() && results_ == rounds_;
  };
  return mutex_.AwaitWithTimeout(absl::Condition(&ended), timeout);
}

absl::Status Lane::TakeFailure(const std::string* layer) {
  absl::MutexLock lock(&mutex_);
  const auto failure = std::find_if(
      failures_.begin(), failures_.end(),
      [layer](const Failure& failure) { return layer == nullptr || failure.layer == *layer; });
  if (failure == failures_.end()) return absl::OkStatus();
  absl::Status status = std::move(failure->status);
  failures_.erase(failure);
  return status;
}

DeviceCounters Lane::counters() const { return {rounds_, results_, stream_waits_}; }

}  // namespace syncnorm

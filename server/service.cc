#include "server/service.h"

#include <grpc/support/time.h>
#include <grpcpp/alarm.h>
#include <grpcpp/support/proto_buffer_reader.h>

#include <algorithm>
#include <string>
#include <string_view>
#include <utility>

#include "absl/strings/str_cat.h"
#include "proto/failpoint.h"

namespace syncnorm::server {
namespace {

// Between looks at what has no event of its own: streams that do not end.
constexpr absl::Duration kTick = absl::Seconds(1);
// From a stream's closing to its cancellation, when the worker does not take the last messages:
// a few retransmissions.
constexpr absl::Duration kCloseTimeout = absl::Seconds(5);

// A slice that shares the bytes.
grpc::Slice Share(const Bytes& bytes) {
  return grpc::Slice(
      const_cast<char*>(bytes->data()), bytes->size(),
      [](void* held) { delete static_cast<Bytes*>(held); }, new Bytes(bytes));
}

}  // namespace

// Work from another thread, which an alarm that is due at once brings through the queue.
struct Service::Task : ServiceStream::Tag {
  explicit Task(std::function<void()> work)
      : ServiceStream::Tag{nullptr, Operation::kRequest}, run(std::move(work)) {}

  grpc::Alarm alarm;
  std::function<void()> run;
};

Service::Service(const Settings& settings, Clock* clock)
    : limits_(settings.limits), clock_(clock), coordinator_(settings), wake_at_() {}

Service::~Service() = default;

void Service::AddTo(grpc::ServerBuilder* builder) {
  builder->RegisterService(&grpc_);
  queue_ = builder->AddCompletionQueue();
}

void Service::Run() {
  next_tick_ = clock_->Now() + kTick;
  Request();
  while (true) {
    void* tag = nullptr;
    bool ok = false;
    switch (queue_->AsyncNext(&tag, &ok, WakeAt())) {
      case grpc::CompletionQueue::SHUTDOWN:
        streams_.clear();
        return;
      case grpc::CompletionQueue::TIMEOUT:
        Tick(clock_->Now());
        break;
      case grpc::CompletionQueue::GOT_EVENT:
        Dispatch(static_cast<ServiceStream::Tag*>(tag), ok);
        break;
    }
    // The one stream that is left waits for a call that will not come.
    if (coordinator_.drained() && streams_.size() <= 1 && !drained_.HasBeenNotified()) {
      drained_.Notify();
    }
  }
}

void Service::Dispatch(ServiceStream::Tag* tag, bool ok) {
  if (tag->stream == nullptr) {
    const std::unique_ptr<Task> task(static_cast<Task*>(tag));
    task->run();
  } else if (running_) {
    Handle(tag->stream, tag->operation, ok);
  }
}

gpr_timespec Service::WakeAt() {
  const absl::Time at = std::min(next_tick_, coordinator_.NextDeadline());
  if (at != wake_time_) {
    wake_time_ = at;
    const absl::Duration wait = std::max(at - clock_->Now(), absl::ZeroDuration());
    // Up to the next millisecond, which is what the poller counts in.
    wake_at_ =
        gpr_time_add(gpr_now(GPR_CLOCK_MONOTONIC),
                     gpr_time_from_millis(absl::ToInt64Milliseconds(wait) + 1, GPR_TIMESPAN));
  }
  return wake_at_;
}

void Service::Tick(absl::Time now) {
  wake_time_ = absl::InfinitePast();
  coordinator_.OnTick(now, &output_);
  Send(now);
  if (now < next_tick_) return;
  next_tick_ = now + kTick;
  for (const auto& [id, stream] : streams_) {
    if (stream->closing() && now - stream->closed() > kCloseTimeout) stream->Cancel();
  }
}

void Service::Request() {
  auto stream = std::make_unique<ServiceStream>(++last_id_);
  stream->context()->AsyncNotifyWhenDone(stream->tag(Operation::kDone));
  grpc_.RequestSynchronize(stream->context(), stream->rpc(), queue_.get(), queue_.get(),
                           stream->tag(Operation::kRequest));
  streams_.emplace(stream->id(), std::move(stream));
}

void Service::Handle(ServiceStream* stream, Operation operation, bool ok) {
  const absl::Time now = clock_->Now();
  switch (operation) {
    case Operation::kRequest:
      if (!ok) {  // the server shuts down; such a call never says that it is done
        streams_.erase(stream->id());
        return;
      }
      Request();
      coordinator_.OnOpen(now, stream->id(), &output_);
      stream->Read();
      break;
    case Operation::kRead:
      if (grpc::ByteBuffer bytes = stream->ReadDone(); ok) {
        HandleMessage(now, stream, &bytes);
      } else {
        coordinator_.OnDisconnect(now, stream->id(), &output_);
        stream->Close(now);
      }
      break;
    case Operation::kWrite:
      stream->WriteDone(ok);
      break;
    case Operation::kFinish:
      stream->FinishDone();
      break;
    case Operation::kDone:
      stream->Done();
      coordinator_.OnDisconnect(now, stream->id(), &output_);
      break;
  }
  Send(now);
  if (stream->Over()) streams_.erase(stream->id());
  // A queue that is never empty never times out.
  if (now >= wake_time_) Tick(now);
}

void Service::HandleMessage(absl::Time now, ServiceStream* stream, grpc::ByteBuffer* bytes) {
  if (stream->closing()) return;
  const absl::Status status = Decode(bytes);
  if (!status.ok()) {
    coordinator_.OnMalformed(now, stream->id(),
                             absl::string_view(status.message().data(), status.message().size()),
                             &output_);
    return;
  }
  switch (message_.kind) {
    case wire::WorkerMessage::Kind::kJoin:
      stream->unanswered = true;
      coordinator_.OnJoin(now, stream->id(), message_.join, &output_);
      break;
    case wire::WorkerMessage::Kind::kContribution:
      stream->unanswered = true;
      coordinator_.OnContribution(now, stream->id(), &message_.contribution, &output_);
      break;
    case wire::WorkerMessage::Kind::kRestored:
      stream->unanswered = true;
      coordinator_.OnRestored(now, stream->id(), message_.restored, &output_);
      break;
    case wire::WorkerMessage::Kind::kFinish:
      coordinator_.OnFinish(now, stream->id(), &output_);
      stream->Read();  // this is answered when all have finished
      break;
    case wire::WorkerMessage::Kind::kHandover:
      coordinator_.OnHandover(now, stream->id(), message_.handover, &output_);
      stream->Read();  // this has no answer
      break;
    case wire::WorkerMessage::Kind::kLeave:
      coordinator_.OnLeave(now, stream->id(), message_.leave, &output_);
      break;
  }
}

absl::Status Service::Decode(grpc::ByteBuffer* bytes) {
  grpc::Slice slice;
  if (bytes->TrySingleSlice(&slice).ok()) {
    const std::string_view view(reinterpret_cast<const char*>(slice.begin()), slice.size());
    return codec_.Decode(view, &message_);
  }
  grpc::ProtoBufferReader reader(bytes);
  return codec_.Decode(&reader, &message_);
}

void Service::Send(absl::Time now) {
  if (output_.replies.empty() && output_.notes.empty()) return;
  WriteReplies(now);
  // After all writes: see the header.
  for (const Reply& reply : output_.replies) {
    if (!reply.answer) continue;
    ServiceStream* stream = Find(reply.stream);
    if (stream != nullptr && !stream->unanswered) stream->Read();
  }
  LogNotes(now);
  output_.Clear();
}

void Service::WriteReplies(absl::Time now) {
  Bytes shared;
  grpc::Slice slice;
  // By index: cutting off a slow worker makes further replies.
  for (size_t i = 0; i < output_.replies.size(); ++i) {
    const Reply reply = output_.replies[i];
    ServiceStream* stream = Find(reply.stream);
    if (stream == nullptr) continue;
    if (reply.bytes != nullptr) {
      if (reply.bytes != shared) {
        shared = reply.bytes;
        slice = Share(shared);
      }
      stream->Write(slice);
      if (reply.answer) SYNCNORM_FAILPOINT("server.after_k_results");
    }
    if (reply.answer) stream->unanswered = false;
    if (reply.close) stream->Close(now);
    if (stream->queued() > limits_.queued_messages ||
        stream->queued_bytes() > limits_.queued_bytes + limits_.handover_bytes) {
      coordinator_.OnCutOff(
          now, stream->id(),
          absl::StrCat("was cut off, as it does not read: ", stream->queued(), " messages of ",
                       stream->queued_bytes(), " bytes wait for it"),
          &output_);
      stream->Cancel();
    }
  }
}

void Service::LogNotes(absl::Time now) {
  for (const Note& note : output_.notes) {
    RateLimit& limit = note.source == Note::Source::kGroup ? group_log_limit_ : stranger_log_limit_;
    uint64_t dropped = 0;
    if (!limit.Allow(now, &dropped)) continue;
    if (dropped > 0) Log(LogLevel::kWarning, absl::StrCat("dropped lines: ", dropped));
    Log(note.severity == Note::Severity::kInfo ? LogLevel::kInfo : LogLevel::kWarning, note.text);
  }
}

ServiceStream* Service::Find(StreamId id) {
  const auto it = streams_.find(id);
  return it == streams_.end() ? nullptr : it->second.get();
}

void Service::Post(std::function<void()> run) {
  auto* task = new Task(std::move(run));  // Dispatch deletes it
  task->alarm.Set(queue_.get(), gpr_now(GPR_CLOCK_MONOTONIC),
                  static_cast<ServiceStream::Tag*>(task));
}

void Service::Drain(absl::Duration grace) {
  Post([this, grace] {
    const absl::Time now = clock_->Now();
    coordinator_.Drain(now, grace, &output_);
    Send(now);
  });
}

Snapshot Service::snapshot() {
  Snapshot snapshot;
  absl::Notification taken;
  Post([&] {
    snapshot = coordinator_.snapshot();
    taken.Notify();
  });
  taken.WaitForNotification();
  return snapshot;
}

void Service::Stop() {
  Post([this] {
    running_ = false;  // nothing may be started on the queue from here on
    queue_->Shutdown();
  });
}

}  // namespace syncnorm::server

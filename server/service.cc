#include "server/service.h"

#include <grpc/support/time.h>
#include <grpcpp/support/proto_buffer_reader.h>

#include <algorithm>
#include <string>
#include <string_view>
#include <utility>

#include "absl/strings/str_cat.h"
#include "proto/failpoint.h"
#include "server/service_access.h"
#include "server/service_task.h"

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

ServiceAdmin::Options WithId(ServiceAdmin::Options options, uint64_t coordinator_id) {
  options.coordinator_id = coordinator_id;
  return options;
}

}  // namespace

Service::Service(const Settings& settings, ServiceAdmin::Options admin, Clock* clock,
                 Security* security, Clock* wall_clock)
    : limits_(settings.limits),
      clock_(clock),
      access_(security->access()),
      wall_clock_(wall_clock),
      coordinator_(settings),
      wake_at_(),
      ticked_ns_(absl::ToUnixNanos(clock->Now())),
      health_(clock),
      admin_(
          &coordinator_, clock, wall_clock, security,
          [this](std::function<void()> run) { Post(std::move(run)); },
          WithId(std::move(admin), settings.coordinator_id)) {}

Service::~Service() = default;

void Service::AddTo(grpc::ServerBuilder* builder) {
  builder->RegisterService(&grpc_);
  admin_.AddTo(builder);
  health_.AddTo(builder);
  queue_ = builder->AddCompletionQueue();
}

void Service::Run() {
  next_tick_ = clock_->Now() + kTick;
  Request();
  admin_.Start(queue_.get());
  health_.Start(queue_.get());
  while (true) {
    void* tag = nullptr;
    bool ok = false;
    switch (queue_->AsyncNext(&tag, &ok, WakeAt())) {
      case grpc::CompletionQueue::SHUTDOWN:
        streams_.clear();
        admin_.Clear();
        health_.Clear();
        return;
      case grpc::CompletionQueue::TIMEOUT:
        Tick(clock_->Now());
        break;
      case grpc::CompletionQueue::GOT_EVENT:
        Dispatch(static_cast<ServiceStream::Tag*>(tag), ok);
        break;
    }
    // The one stream that is left waits for a call that will not come.
    if (coordinator_.drained() && streams_.size() <= 1 && !drained_.HasBeenNotified() &&
        health_.Close()) {
      drained_.Notify();
    }
  }
}

void Service::Dispatch(ServiceStream::Tag* tag, bool ok) {
  if (tag->stream == nullptr) {
    const std::unique_ptr<ServiceTask> task(static_cast<ServiceTask*>(tag));
    task->run(ok);
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
  ticked_ns_.store(absl::ToUnixNanos(now));
  for (const auto& [id, stream] : streams_) {
    if (stream->closing() && now - stream->closed() > kCloseTimeout) stream->Cancel();
    if (stream->closing() || !stream->pass.open) continue;
    Admit(now, stream.get(), access_->Recheck(wall_clock_->Now(), &stream->pass));
  }
  Send(now);
  admin_.Tick(now);
  health_.Tick(now);
}

bool Service::Admit(absl::Time now, ServiceStream* stream, const absl::Status& decision) {
  if (decision.ok()) return true;
  Failure failure;
  failure.code = decision.code();
  failure.group = stream->pass.group;
  failure.text = absl::StrCat(failure.group.empty() ? "" : "group ", failure.group,
                              failure.group.empty() ? "" : ": ", decision.message());
  stream->Write(grpc::Slice(codec_.Encode(failure)));
  stream->Close(now);
  const std::string peer = stream->context()->peer();
  output_.notes.push_back({Note::Severity::kWarning,
                           Note::Source::kStranger,
                           absl::StrCat("refused ", peer, ": ", decision.message()),
                           {stream->pass.group, RoundKey(), {}, peer}});
  // The core may not have heard of it.
  coordinator_.OnCutOff(now, stream->id(), absl::StrCat("was cut off: ", decision.message()),
                        &output_);
  return false;
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
      if (Admit(now, stream,
                access_->Open(wall_clock_->Now(), Authorization(*stream->context()),
                              &stream->pass))) {
        coordinator_.OnOpen(now, stream->id(), &output_);
        stream->Read();
      }
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
      if (!Admit(now, stream,
                 access_->Join(wall_clock_->Now(), message_.join.group, &stream->pass))) {
        break;
      }
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
  if (output_.replies.empty() && output_.notes.empty() && output_.incidents.empty()) return;
  WriteReplies(now);
  // After all writes: see the header.
  for (const Reply& reply : output_.replies) {
    if (!reply.answer) continue;
    ServiceStream* stream = Find(reply.stream);
    if (stream != nullptr && !stream->unanswered) stream->Read();
  }
  LogNotes(now);
  for (Report& incident : output_.incidents) admin_.Write(std::move(incident));
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
    uint64_t dropped = 0;
    if (!LogLimit(note.source)->Allow(now, &dropped)) continue;
    if (dropped > 0) Log(LogLevel::kWarning, absl::StrCat("dropped lines: ", dropped));
    Log(note.severity == Note::Severity::kInfo ? LogLevel::kInfo : LogLevel::kWarning, note.text,
        note.subject);
  }
}

RateLimit* Service::LogLimit(Note::Source source) {
  switch (source) {
    case Note::Source::kGroup:
      return &group_log_limit_;
    case Note::Source::kStranger:
      return &stranger_log_limit_;
    case Note::Source::kWait:
      break;
  }
  return &wait_log_limit_;
}

ServiceStream* Service::Find(StreamId id) {
  const auto it = streams_.find(id);
  return it == streams_.end() ? nullptr : it->second.get();
}

void Service::Post(std::function<void()> run) {
  auto* task = new ServiceTask([run = std::move(run)](bool) { run(); });  // Dispatch deletes it
  task->alarm.Set(queue_.get(), gpr_now(GPR_CLOCK_MONOTONIC), task->tag());
}

void Service::Drain(absl::Duration grace) {
  Post([this, grace] {
    const absl::Time now = clock_->Now();
    health_.Drain();
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

void Service::CollectVitals(const std::string& group, bool timeline,
                            ServiceAdmin::VitalsDone done) {
  Post([this, group, timeline, done = std::move(done)] {
    admin_.CollectVitals(group, timeline, done);
  });
}

void Service::Dump(const std::string& why) {
  Post([this, why] { admin_.Dump(why); });
}

void Service::Stop() {
  admin_.Stop();
  Post([this] {
    running_ = false;  // nothing may be started on the queue from here on
    admin_.Shut();
    health_.Shut();
    queue_->Shutdown();
  });
}

}  // namespace syncnorm::server

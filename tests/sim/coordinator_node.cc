#include "tests/sim/coordinator_node.h"

#include <algorithm>
#include <functional>
#include <utility>

#include "kernels/check.h"
#include "tests/sim/oracle.h"

namespace syncnorm::sim {

CoordinatorNode::CoordinatorNode(Timeline* timeline, Network* network,
                                 const server::Settings& settings, Judge* judge, Log* log,
                                 Mutation mutation, uint64_t seed)
    : timeline_(timeline),
      network_(network),
      settings_(settings),
      judge_(judge),
      log_(log),
      mutation_(mutation),
      random_(seed) {}

void CoordinatorNode::Start() {
  SYNCNORM_CHECK(core_ == nullptr);
  ++life_;
  settings_.coordinator_id = random_.Next() | 1;
  core_ = std::make_unique<server::Coordinator>(settings_);
  tick_at_ = absl::InfiniteFuture();
  network_->Listen(this);
  log_->Add("coordinator: up");
}

void CoordinatorNode::Kill(absl::Duration notice) {
  log_->Add("coordinator: killed");
  // Whoever waited for the drain's end starts it again, and nobody else.
  const std::function<void()> drained = std::exchange(drained_, nullptr);
  Die(notice);
  if (drained != nullptr) drained();
}

void CoordinatorNode::Die(absl::Duration notice) {
  network_->AcceptorDies(absl::ZeroDuration(), notice);
  core_.reset();
  paused_ = false;
  waiting_.clear();
  streams_.clear();
  ids_.clear();
  ready_.clear();
  output_.Clear();
}

void CoordinatorNode::Pause() {
  if (core_ == nullptr || paused_) return;
  log_->Add("coordinator: paused");
  paused_ = true;
}

void CoordinatorNode::Resume() {
  if (!paused_) return;
  log_->Add("coordinator: goes on");
  paused_ = false;
  for (const auto& event : std::exchange(waiting_, {})) Run(event);
  Tick();
}

void CoordinatorNode::Drain(absl::Duration grace, std::function<void()> down) {
  SYNCNORM_CHECK(core_ != nullptr && drained_ == nullptr);
  log_->Add("coordinator: drains");
  drained_ = std::move(down);
  const uint64_t life = life_;
  // As server/server.cc: a second beyond the grace for the last messages.
  timeline_->After(grace + absl::Seconds(1), [this, life] {
    if (life == life_ && core_ != nullptr) Kill(absl::ZeroDuration());
  });
  Run([this, grace] { core_->Drain(timeline_->now(), grace, &output_); });
}

void CoordinatorNode::Run(std::function<void()> event) {
  if (core_ == nullptr) return;
  if (paused_) {
    waiting_.push_back(std::move(event));
    return;
  }
  event();
  Send();
  Read();
  PlanTick();
  if (drained_ != nullptr && core_->drained()) {
    // Once the last messages are out.
    const uint64_t life = life_;
    timeline_->After(absl::Milliseconds(100), [this, life] {
      if (life == life_ && core_ != nullptr) Kill(absl::ZeroDuration());
    });
  }
}

void CoordinatorNode::OnOpen(Line* line) {
  Run([this, line] {
    const server::StreamId id = ++last_id_;
    streams_[id].line = line;
    ids_[line] = id;
    core_->OnOpen(timeline_->now(), id, &output_);
  });
}

void CoordinatorNode::OnMessage(Line* line, const Bytes& bytes) {
  Run([this, line, bytes] {
    const auto id = ids_.find(line);
    if (id == ids_.end()) return;
    Stream& stream = streams_.at(id->second);
    stream.inbox.push_back(bytes);
    Ready(id->second, &stream);
  });
}

void CoordinatorNode::OnEnd(Line* line) {
  Run([this, line] {
    const auto id = ids_.find(line);
    if (id == ids_.end()) return;
    const server::StreamId stream = id->second;
    streams_.erase(stream);
    ids_.erase(id);
    core_->OnDisconnect(timeline_->now(), stream, &output_);
    network_->EndDown(line);
  });
}

void CoordinatorNode::Ready(server::StreamId id, Stream* stream) {
  if (stream->ready || stream->unanswered || stream->inbox.empty()) return;
  stream->ready = true;
  ready_.push_back(id);
}

void CoordinatorNode::Read() {
  while (!ready_.empty()) {
    const size_t at = random_.Below(static_cast<uint32_t>(ready_.size()));
    const server::StreamId id = ready_[at];
    ready_[at] = ready_.back();
    ready_.pop_back();
    const auto it = streams_.find(id);
    if (it == streams_.end()) continue;
    Stream& stream = it->second;
    stream.ready = false;
    const Bytes bytes = std::move(stream.inbox.front());
    stream.inbox.pop_front();
    Handle(id, &stream, bytes);
    Send();
    // Whatever has no answer leaves the stream readable.
    const auto again = streams_.find(id);
    if (again != streams_.end()) Ready(id, &again->second);
  }
}

void CoordinatorNode::Handle(server::StreamId id, Stream* stream, const Bytes& bytes) {
  const absl::Time now = timeline_->now();
  if (const absl::Status decoded = codec_.Decode(*bytes, &message_); !decoded.ok()) {
    core_->OnMalformed(now, id, decoded.message(), &output_);
    return;
  }
  if (mutation_ != Mutation::kNone) Corrupt(id, &message_);
  if (log_->on()) LogMessage(id);
  switch (message_.kind) {
    case wire::WorkerMessage::Kind::kJoin:
      stream->unanswered = true;
      core_->OnJoin(now, id, message_.join, &output_);
      break;
    case wire::WorkerMessage::Kind::kContribution:
      stream->unanswered = true;
      core_->OnContribution(now, id, &message_.contribution, &output_);
      break;
    case wire::WorkerMessage::Kind::kRestored:
      stream->unanswered = true;
      core_->OnRestored(now, id, message_.restored, &output_);
      break;
    case wire::WorkerMessage::Kind::kFinish:
      core_->OnFinish(now, id, &output_);
      break;
    case wire::WorkerMessage::Kind::kHandover:
      core_->OnHandover(now, id, message_.handover, &output_);
      break;
    case wire::WorkerMessage::Kind::kLeave:
      core_->OnLeave(now, id, message_.leave, &output_);
      break;
  }
}

void CoordinatorNode::LogMessage(server::StreamId id) {
  std::string what;
  switch (message_.kind) {
    case wire::WorkerMessage::Kind::kJoin: {
      const wire::Join& join = message_.join;
      what = absl::StrCat("Join of ", join.group, "/", join.rank, ", pid ", join.pid);
      if (join.resume.has_value()) {
        absl::StrAppend(&what, ", resumes epoch ", join.resume->epoch, ", answered ",
                        join.resume->answered, ", kept ", join.resume->kept,
                        join.resume->finished ? ", finished" : "");
      }
      break;
    }
    case wire::WorkerMessage::Kind::kContribution:
      what = absl::StrCat("Contribution to ", Describe(message_.contribution.key), " of epoch ",
                          message_.contribution.key.epoch, ", answered ",
                          message_.contribution.answered);
      break;
    case wire::WorkerMessage::Kind::kRestored:
      what = "Restored";
      break;
    case wire::WorkerMessage::Kind::kFinish:
      what = "Finish";
      break;
    case wire::WorkerMessage::Kind::kHandover:
      what = "Handover";
      break;
    case wire::WorkerMessage::Kind::kLeave:
      what = "Leave";
      break;
  }
  log_->Add("coordinator reads from stream ", id, " of machine ", streams_.at(id).line->machine(),
            ": ", what);
}

void CoordinatorNode::Send() {
  // By index: cutting off a slow worker makes further replies.
  for (size_t i = 0; i < output_.replies.size(); ++i) {
    const server::Reply reply = output_.replies[i];
    const auto it = streams_.find(reply.stream);
    if (it == streams_.end()) continue;
    Stream& stream = it->second;
    Line* const line = stream.line;
    if (reply.bytes != nullptr) {
      const Bytes bytes = mutation_ == Mutation::kNone ? reply.bytes : Corrupt(reply);
      if (bytes != nullptr) network_->SendDown(line, bytes);
    }
    if (reply.answer) {
      stream.unanswered = false;
      Ready(reply.stream, &stream);
    }
    if (reply.close) {
      network_->EndDown(line);
      ids_.erase(line);
      streams_.erase(it);
      continue;
    }
    if (line->under_way(Way::kDown) > settings_.limits.queued_messages) {
      core_->OnCutOff(timeline_->now(), reply.stream, "was cut off, as it does not read", &output_);
      network_->Break(line, absl::ZeroDuration(), absl::ZeroDuration());
      ids_.erase(line);
      streams_.erase(reply.stream);
    }
  }
  for (const server::Note& note : output_.notes) log_->Add("coordinator: ", note.text);
  output_.Clear();
}

void CoordinatorNode::PlanTick() {
  const absl::Time next = core_ == nullptr ? absl::InfiniteFuture() : core_->NextDeadline();
  if (next >= tick_at_ || mutation_ == Mutation::kNoTicks) return;
  tick_at_ = next;
  // The service sleeps up to the next millisecond.
  const uint64_t life = life_;
  timeline_->At(next + absl::Milliseconds(1), [this, life, next] {
    if (life == life_ && tick_at_ == next) Tick();
  });
}

void CoordinatorNode::Tick() {
  tick_at_ = absl::InfiniteFuture();
  if (core_ == nullptr || paused_) return;
  Run([this] { core_->OnTick(timeline_->now(), &output_); });
}

void CoordinatorNode::Corrupt(server::StreamId id, wire::WorkerMessage* message) {
  if (message->kind == wire::WorkerMessage::Kind::kJoin) {
    wire::Join& join = message->join;
    group_of_[id] = join.group;
    std::string& holder = holders_[{join.group, join.rank}];
    if (mutation_ == Mutation::kIgnoreFencing && join.resume.has_value() && !holder.empty()) {
      join.incarnation = holder;
    } else {
      holder = join.incarnation;
    }
    return;
  }
  if (message->kind != wire::WorkerMessage::Kind::kContribution) return;
  wire::Contribution& contribution = message->contribution;
  Gathered& gathered = gathered_[{group_of_[id], contribution.key.round}];
  gathered.by_arrival.push_back(contribution);
  if (gathered_.size() > 64) gathered_.erase(gathered_.begin());
}

Bytes CoordinatorNode::Corrupt(const server::Reply& reply) {
  wire::CoordinatorMessage message;
  SYNCNORM_CHECK(codec_.Decode(*reply.bytes, &message).ok());
  if (message.kind == wire::CoordinatorMessage::Kind::kFailure) {
    if (mutation_ != Mutation::kUnnamedFailure) return reply.bytes;
    message.failure.text = "failed";
    return std::make_shared<const std::string>(codec_.Encode(message.failure));
  }
  if (message.kind != wire::CoordinatorMessage::Kind::kResult) return reply.bytes;
  wire::Result& result = message.result;
  switch (mutation_) {
    case Mutation::kFoldByArrival:
    case Mutation::kCountTwice: {
      const Gathered& gathered = gathered_[{group_of_[reply.stream], result.key.round}];
      const bool twice = mutation_ == Mutation::kCountTwice;
      std::vector<std::string> hosts;
      for (size_t i = 0; i < gathered.by_arrival.size(); ++i) hosts.push_back(std::to_string(i));
      std::vector<Part> parts;
      for (size_t i = 0; i < gathered.by_arrival.size(); ++i) {
        const Moments& moments = gathered.by_arrival[i].moments;
        const auto same = [&](const Part& part) { return SameBits(*part.moments, moments); };
        if (!twice && std::any_of(parts.begin(), parts.end(), same)) continue;
        parts.push_back({&hosts[i], &moments, nullptr});
      }
      const bool repeats = std::any_of(parts.begin(), parts.end(), [&](const Part& a) {
        return std::any_of(parts.begin(), parts.end(), [&](const Part& b) {
          return &a != &b && a.moments->count > 0 && SameBits(*a.moments, *b.moments);
        });
      });
      if (parts.empty() || (twice && !repeats)) return reply.bytes;
      result.moments = FoldAgain(result.moments, parts);
      break;
    }
    case Mutation::kBitFlip:
      if (!random_.Chance(0.001)) return reply.bytes;
      ++result.moments.count;
      break;
    case Mutation::kLostAnswer:
      return random_.Chance(0.001) ? nullptr : reply.bytes;
    case Mutation::kNeverSettled:
      result.settled = 0;
      break;
    default:
      return reply.bytes;
  }
  return std::make_shared<const std::string>(codec_.Encode(result));
}

}  // namespace syncnorm::sim

#include "tests/server/core_world.h"

#include <gtest/gtest.h>

#include <utility>

#include "absl/strings/str_cat.h"

namespace syncnorm::server {

wire::Contribution Make(const Sent& sent, uint64_t epoch) {
  wire::Contribution contribution;
  contribution.key = {sent.epoch != 0 ? sent.epoch : epoch, sent.round, sent.layer, sent.direction,
                      sent.step};
  contribution.dtype = sent.dtype;
  contribution.answered = sent.round - 1;  // as of a worker that waits for each answer
  contribution.boundary = sent.boundary;
  Moments& moments = contribution.moments;
  moments = Moments::Sums(sent.rows, sent.channels, sent.precision);
  moments.kind = sent.kind;
  moments.count = sent.count;
  moments.values.assign(moments.values.size(), sent.value);
  return contribution;
}

wire::Join MakeJoin(uint32_t rank, uint32_t world_size, const std::string& group) {
  wire::Join join;
  join.group = group;
  join.rank = rank;
  join.world_size = world_size;
  join.host = absl::StrCat("h", rank);
  join.pid = 100 + rank;
  join.incarnation = absl::StrCat("incarnation---", 10 + rank);
  join.ticket = 1 + rank;
  return join;
}

Settings WithoutGrace() {
  Settings settings;
  settings.timeouts.reconnect = absl::ZeroDuration();
  return settings;
}

Settings WithGrace(uint64_t coordinator_id) {
  Settings settings;
  settings.coordinator_id = coordinator_id;
  return settings;
}

CoreWorld::CoreWorld(Settings settings) : core_(std::move(settings)) {}

StreamId CoreWorld::Open() {
  core_.OnOpen(now_, ++last_stream_, &output_);
  Deliver();
  return last_stream_;
}

StreamId CoreWorld::Join(const wire::Join& join) {
  const StreamId stream = Open();
  JoinOn(stream, join);
  return stream;
}

void CoreWorld::JoinOn(StreamId stream, const wire::Join& join) {
  core_.OnJoin(now_, stream, join, &output_);
  Deliver();
}

std::vector<StreamId> CoreWorld::Form(uint32_t world_size, const std::string& group) {
  std::vector<StreamId> streams;
  for (uint32_t rank = 0; rank < world_size; ++rank) {
    streams.push_back(Join(MakeJoin(rank, world_size, group)));
  }
  for (const StreamId stream : streams) TakeJoined(stream);
  return streams;
}

void CoreWorld::Contribute(StreamId stream, const Sent& sent) {
  ContributeAs(stream, Make(sent, epochs_[stream]));
}

void CoreWorld::ContributeAs(StreamId stream, wire::Contribution contribution) {
  core_.OnContribution(now_, stream, &contribution, &output_);
  Deliver();
}

void CoreWorld::Restore(StreamId stream, const std::string& answer) {
  core_.OnRestored(now_, stream, wire::Restored{answer}, &output_);
  Deliver();
}

void CoreWorld::Finish(StreamId stream) {
  core_.OnFinish(now_, stream, &output_);
  Deliver();
}

void CoreWorld::HandOver(StreamId stream, const wire::Handover& piece) {
  core_.OnHandover(now_, stream, piece, &output_);
  Deliver();
}

void CoreWorld::Leave(StreamId stream, const std::string& reason) {
  core_.OnLeave(now_, stream, wire::Leave{reason}, &output_);
  Deliver();
}

void CoreWorld::Disconnect(StreamId stream) {
  core_.OnDisconnect(now_, stream, &output_);
  closed_[stream] = true;
  Deliver();
}

void CoreWorld::Malformed(StreamId stream, const std::string& what) {
  core_.OnMalformed(now_, stream, what, &output_);
  Deliver();
}

void CoreWorld::Pass(absl::Duration time) {
  now_ += time;
  core_.OnTick(now_, &output_);
  Deliver();
}

void CoreWorld::Drain(absl::Duration grace) {
  core_.Drain(now_, grace, &output_);
  Deliver();
}

void CoreWorld::Deliver() {
  for (const Reply& reply : output_.replies) {
    EXPECT_FALSE(closed(reply.stream)) << "a reply to stream " << reply.stream << " after its end";
    if (reply.bytes != nullptr) {
      Got got;
      got.bytes = *reply.bytes;
      const absl::Status decoded = codec_.Decode(got.bytes, &got.message);
      EXPECT_TRUE(decoded.ok()) << decoded;
      if (got.message.kind == wire::CoordinatorMessage::Kind::kJoined) {
        epochs_[reply.stream] = got.message.joined.epoch;
      }
      inbox_[reply.stream].push_back(std::move(got));
    }
    if (reply.answer) ++answers_[reply.stream];
    if (reply.close) closed_[reply.stream] = true;
  }
  for (Note& note : output_.notes) notes_.push_back(std::move(note));
  for (Report& incident : output_.incidents) incidents_.push_back(std::move(incident));
  output_.Clear();
}

std::vector<CoreWorld::Got> CoreWorld::Take(StreamId stream) {
  return std::exchange(inbox_[stream], {});
}

std::optional<CoreWorld::Got> CoreWorld::TakeOne(StreamId stream) {
  std::vector<Got> got = Take(stream);
  EXPECT_EQ(got.size(), 1u) << "messages to stream " << stream;
  if (got.size() != 1) return std::nullopt;
  return std::move(got[0]);
}

wire::Joined CoreWorld::TakeJoined(StreamId stream) {
  const std::optional<Got> got = TakeOne(stream);
  if (!got.has_value()) return {};
  EXPECT_EQ(got->message.kind, wire::CoordinatorMessage::Kind::kJoined);
  return got->message.joined;
}

wire::Result CoreWorld::TakeResult(StreamId stream) {
  const std::optional<Got> got = TakeOne(stream);
  if (!got.has_value()) return {};
  EXPECT_EQ(got->message.kind, wire::CoordinatorMessage::Kind::kResult)
      << got->message.failure.text;
  return got->message.result;
}

Failure CoreWorld::TakeFailure(StreamId stream) {
  const std::optional<Got> got = TakeOne(stream);
  if (!got.has_value()) return {};
  EXPECT_EQ(got->message.kind, wire::CoordinatorMessage::Kind::kFailure);
  return got->message.failure;
}

std::vector<std::string> CoreWorld::TakeNotes() {
  std::vector<std::string> texts;
  for (const Note& note : TakeWholeNotes()) texts.push_back(note.text);
  return texts;
}

std::string CoreWorld::TakeBytes(StreamId stream) {
  const std::optional<Got> got = TakeOne(stream);
  return got.has_value() ? got->bytes : std::string();
}

}  // namespace syncnorm::server

#include "tests/server/test_worker.h"

#include <gtest/gtest.h>
#include <unistd.h>

#include <thread>

#include "absl/strings/str_cat.h"

namespace syncnorm::server {

TestWorker::TestWorker(const std::string& address, const std::string& token) {
  grpc::ChannelArguments arguments;
  arguments.SetInt(GRPC_ARG_USE_LOCAL_SUBCHANNEL_POOL, 1);
  arguments.SetInt(GRPC_ARG_ENABLE_HTTP_PROXY, 0);
  arguments.SetMaxReceiveMessageSize(-1);
  stub_ = v1::Coordinator::NewStub(
      grpc::CreateCustomChannel(address, grpc::InsecureChannelCredentials(), arguments));
  context_.set_deadline(
      gpr_time_add(gpr_now(GPR_CLOCK_REALTIME), gpr_time_from_seconds(20, GPR_TIMESPAN)));
  context_.set_wait_for_ready(true);
  if (!token.empty()) context_.AddMetadata("authorization", absl::StrCat("Bearer ", token));
  stream_ = stub_->Synchronize(&context_);
}

wire::Join TestWorker::MakeJoin(uint32_t rank, uint32_t world_size) const {
  wire::Join join;
  join.group = "world";
  join.rank = rank;
  join.world_size = world_size;
  join.host = absl::StrCat("h", rank);
  join.pid = static_cast<uint32_t>(getpid());
  join.incarnation = absl::StrCat("incarnation---", 10 + rank);
  return join;
}

bool TestWorker::SendBytes(const std::string& bytes) {
  v1::WorkerMessage message;
  EXPECT_TRUE(message.ParseFromString(bytes));
  return stream_->Write(message);
}

bool TestWorker::Contribute(uint64_t round, double value, int64_t channels) {
  wire::Contribution contribution;
  contribution.key = {epoch_, round, "bn", Direction::kForward, round};
  contribution.moments = Moments::Sums(1, channels, Precision::kF64);
  contribution.moments.values.assign(channels, value);
  contribution.moments.count = 1;
  return Send(contribution);
}

std::optional<wire::CoordinatorMessage> TestWorker::Read() {
  v1::CoordinatorMessage message;
  if (!stream_->Read(&message)) return std::nullopt;
  last_bytes_ = message.SerializeAsString();
  wire::CoordinatorMessage decoded;
  const absl::Status status = codec_.Decode(last_bytes_, &decoded);
  EXPECT_TRUE(status.ok()) << status;
  return decoded;
}

wire::Joined TestWorker::ReadJoined() {
  const std::optional<wire::CoordinatorMessage> message = Read();
  EXPECT_TRUE(message.has_value());
  if (!message.has_value()) return {};
  EXPECT_EQ(message->kind, wire::CoordinatorMessage::Kind::kJoined) << message->failure.text;
  epoch_ = message->joined.epoch;
  return message->joined;
}

wire::Result TestWorker::ReadResult() {
  const std::optional<wire::CoordinatorMessage> message = Read();
  EXPECT_TRUE(message.has_value());
  if (!message.has_value()) return {};
  EXPECT_EQ(message->kind, wire::CoordinatorMessage::Kind::kResult) << message->failure.text;
  return message->result;
}

Failure TestWorker::ReadFailure() {
  const std::optional<wire::CoordinatorMessage> message = Read();
  EXPECT_TRUE(message.has_value());
  if (!message.has_value()) return {};
  EXPECT_EQ(message->kind, wire::CoordinatorMessage::Kind::kFailure);
  return message->failure;
}

std::string TestWorker::ReadToEnd() {
  std::string text;
  while (const std::optional<wire::CoordinatorMessage> message = Read()) {
    if (message->kind == wire::CoordinatorMessage::Kind::kFailure) text = message->failure.text;
  }
  return text;
}

TestPair::TestPair(const std::string& address) : a(address), b(address) {
  a.Join(0, 2);
  b.Join(1, 2);
  a.ReadJoined();
  b.ReadJoined();
}

void TestPair::Reduce(uint64_t round, const std::function<bool()>& waits) {
  a.Contribute(round);
  while (!waits()) std::this_thread::yield();
  b.Contribute(round);
  a.ReadResult();
  b.ReadResult();
}

}  // namespace syncnorm::server

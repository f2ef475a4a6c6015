// The codec: what goes in comes out, bad input is refused with what was wrong
// and what was expected, and the bytes of released messages stay as they are.
#include "proto/codec.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <cmath>
#include <limits>
#include <random>

#include "syncnorm/v1/syncnorm.pb.h"
#include "tests/proto/samples.h"

namespace syncnorm::wire {
namespace {

using ::testing::AllOf;
using ::testing::HasSubstr;

// Decodes a protobuf message that a test has tampered with.
absl::Status DecodeWorker(const v1::WorkerMessage& message) {
  Codec codec;
  WorkerMessage decoded;
  return codec.Decode(message.SerializeAsString(), &decoded);
}

v1::WorkerMessage SampleMessage() {
  Codec codec;
  v1::WorkerMessage message;
  EXPECT_TRUE(message.ParseFromString(codec.Encode(SampleContribution())));
  return message;
}

void ExpectRefused(const v1::WorkerMessage& message,
                   const ::testing::Matcher<const std::string&>& text) {
  const absl::Status status = DecodeWorker(message);
  EXPECT_EQ(status.code(), absl::StatusCode::kInvalidArgument);
  EXPECT_THAT(std::string(status.message()), text);
}

TEST(CodecTest, GivesBackAJoin) {
  Codec codec;
  WorkerMessage decoded;
  ASSERT_TRUE(codec.Decode(codec.Encode(SampleJoin()), &decoded).ok());
  ASSERT_EQ(decoded.kind, WorkerMessage::Kind::kJoin);
  const Join want = SampleJoin();
  EXPECT_EQ(decoded.join.group, want.group);
  EXPECT_EQ(decoded.join.rank, want.rank);
  EXPECT_EQ(decoded.join.world_size, want.world_size);
  EXPECT_EQ(decoded.join.host, want.host);
  EXPECT_EQ(decoded.join.pid, want.pid);
  EXPECT_EQ(decoded.join.incarnation, want.incarnation);
  EXPECT_EQ(decoded.join.job, want.job);
  EXPECT_EQ(decoded.join.round_timeout, want.round_timeout);
  EXPECT_EQ(decoded.join.join_timeout, want.join_timeout);
}

TEST(CodecTest, GivesBackAJoinedAFailureADrainingAndALeave) {
  Codec codec;
  CoordinatorMessage decoded;
  ASSERT_TRUE(codec.Decode(codec.Encode(SampleJoined()), &decoded).ok());
  ASSERT_EQ(decoded.kind, CoordinatorMessage::Kind::kJoined);
  EXPECT_EQ(decoded.joined.epoch, SampleJoined().epoch);
  EXPECT_EQ(decoded.joined.hosts, SampleJoined().hosts);
  EXPECT_EQ(decoded.joined.limits.max_values, SampleJoined().limits.max_values);
  EXPECT_EQ(decoded.joined.round_timeout, SampleJoined().round_timeout);
  EXPECT_EQ(decoded.joined.coordinator_id, SampleJoined().coordinator_id);

  ASSERT_TRUE(codec.Decode(codec.Encode(SampleFailure()), &decoded).ok());
  ASSERT_EQ(decoded.kind, CoordinatorMessage::Kind::kFailure);
  EXPECT_EQ(decoded.failure, SampleFailure());

  ASSERT_TRUE(codec.Decode(codec.Encode(Draining{"restart"}), &decoded).ok());
  ASSERT_EQ(decoded.kind, CoordinatorMessage::Kind::kDraining);
  EXPECT_EQ(decoded.draining.text, "restart");

  WorkerMessage worker;
  ASSERT_TRUE(codec.Decode(codec.Encode(Leave{"done"}), &worker).ok());
  ASSERT_EQ(worker.kind, WorkerMessage::Kind::kLeave);
  EXPECT_EQ(worker.leave.reason, "done");
}

TEST(CodecTest, GivesBackMomentsOfEveryKindAndPrecisionBitForBit) {
  const unsigned seed = 20261123;
  SCOPED_TRACE(testing::Message() << "seed " << seed);
  std::mt19937_64 random(seed);
  std::normal_distribution<double> normal;
  Codec codec;
  for (const MomentKind kind : {MomentKind::kMeanM2, MomentKind::kSums}) {
    for (const Precision precision : {Precision::kF32, Precision::kF64}) {
      for (const int64_t channels : {1, 3, 64, 2048}) {
        Contribution sent = SampleContribution();
        sent.moments = kind == MomentKind::kMeanM2 ? Moments::MeanM2(channels, precision)
                                                   : Moments::Sums(3, channels, precision);
        sent.moments.count = (uint64_t{1} << 53) + 1;  // not a double
        for (double& v : sent.moments.values) v = std::abs(normal(random));
        RoundToWire(&sent.moments);
        WorkerMessage got;
        ASSERT_TRUE(codec.Decode(codec.Encode(sent), &got).ok());
        EXPECT_EQ(got.contribution.key, sent.key);
        EXPECT_EQ(got.contribution.dtype, sent.dtype);
        EXPECT_EQ(got.contribution.moments, sent.moments);

        CoordinatorMessage answer;
        ASSERT_TRUE(codec.Decode(codec.Encode(Result{sent.key, sent.moments}), &answer).ok());
        EXPECT_EQ(answer.result.key, sent.key);
        EXPECT_EQ(answer.result.moments, sent.moments);
      }
    }
  }
}

TEST(CodecTest, CarriesNaNAndInfinity) {
  Codec codec;
  Contribution sent = SampleContribution();
  sent.moments.values[0] = std::numeric_limits<double>::quiet_NaN();
  sent.moments.values[1] = -std::numeric_limits<double>::infinity();
  WorkerMessage got;
  ASSERT_TRUE(codec.Decode(codec.Encode(sent), &got).ok());
  EXPECT_TRUE(std::isnan(got.contribution.moments.values[0]));
  EXPECT_EQ(got.contribution.moments.values[1], -std::numeric_limits<double>::infinity());
}

TEST(CodecTest, ForgetsThePreviousMessageWhenItsMemoryIsReused) {
  Codec codec;
  WorkerMessage decoded;
  ASSERT_TRUE(codec.Decode(codec.Encode(SampleContribution()), &decoded).ok());
  Contribution smaller = SampleContribution();
  smaller.dtype.reset();
  smaller.key.layer = "b";
  smaller.moments = Moments::Sums(1, 1, Precision::kF64);
  ASSERT_TRUE(codec.Decode(codec.Encode(smaller), &decoded).ok());
  EXPECT_EQ(decoded.contribution.key.layer, "b");
  EXPECT_EQ(decoded.contribution.dtype, std::nullopt);
  EXPECT_EQ(decoded.contribution.moments, smaller.moments);
}

TEST(CodecTest, RefusesNoFieldAndTwoFields) {
  ExpectRefused(v1::WorkerMessage(), HasSubstr("no known field set"));
  v1::WorkerMessage two = SampleMessage();
  two.mutable_leave();
  ExpectRefused(two, HasSubstr("several fields set"));
}

TEST(CodecTest, RefusesBytesThatAreNoMessage) {
  Codec codec;
  WorkerMessage decoded;
  const absl::Status status = codec.Decode(std::string_view("\x0a\xff\xff\xff", 4), &decoded);
  EXPECT_EQ(status.code(), absl::StatusCode::kInvalidArgument);
}

TEST(CodecTest, WritesNothingToStderrForAPeersBadText) {
  Codec codec;
  std::string bytes = codec.Encode(SampleContribution());
  bytes[bytes.find("conv1.bn")] = '\xff';  // no UTF-8, which protobuf asks of a string
  WorkerMessage decoded;
  testing::internal::CaptureStderr();
  EXPECT_EQ(codec.Decode(bytes, &decoded).code(), absl::StatusCode::kInvalidArgument);
  EXPECT_EQ(testing::internal::GetCapturedStderr(), "");
}

TEST(CodecTest, RefusesAChannelCountThatTheValuesDoNotBear) {
  v1::WorkerMessage message = SampleMessage();
  message.mutable_contribution()->set_channels(2147483648u);
  ExpectRefused(message, AllOf(HasSubstr("channels=2147483648"), HasSubstr("got 3 and 3")));
}

TEST(CodecTest, RefusesUnknownEnumValuesByFieldAndValue) {
  v1::WorkerMessage message = SampleMessage();
  message.mutable_contribution()->set_kind(static_cast<v1::MomentKind>(9));
  ExpectRefused(message, HasSubstr("kind is 9"));
  message = SampleMessage();
  message.mutable_contribution()->set_precision(static_cast<v1::Precision>(0));
  ExpectRefused(message, HasSubstr("precision is 0"));
  message = SampleMessage();
  message.mutable_contribution()->set_dtype(static_cast<v1::DType>(77));
  ExpectRefused(message, HasSubstr("dtype is 77"));
  message = SampleMessage();
  message.mutable_contribution()->mutable_key()->set_direction(static_cast<v1::Direction>(-1));
  ExpectRefused(message, HasSubstr("key.direction is -1"));
}

TEST(CodecTest, RefusesAKeyWithoutRoundOrLayer) {
  v1::WorkerMessage message = SampleMessage();
  message.mutable_contribution()->mutable_key()->set_round(0);
  ExpectRefused(message, HasSubstr("key.round is 0"));
  message = SampleMessage();
  message.mutable_contribution()->mutable_key()->clear_layer();
  ExpectRefused(message, HasSubstr("key.layer is empty"));
}

TEST(CodecTest, RefusesAMeanM2OfOtherThanTwoRows) {
  v1::WorkerMessage message = SampleMessage();
  message.mutable_contribution()->set_rows(3);
  ExpectRefused(message, HasSubstr("mean_m2 with rows=3"));
}

TEST(CodecTest, RefusesANegativeM2ByChannel) {
  v1::WorkerMessage message = SampleMessage();
  message.mutable_contribution()->set_f32(1, -0.5f);
  ExpectRefused(message, HasSubstr("M2 is -0.5 at channel 1"));
}

TEST(CodecTest, RefusesValuesUnderACountOfZero) {
  v1::WorkerMessage message = SampleMessage();
  message.mutable_contribution()->set_count(0);
  ExpectRefused(message, AllOf(HasSubstr("count 0"), HasSubstr("row 0 channel 0")));
}

TEST(CodecTest, RefusesAJoinWithBadNamesOrRanks) {
  Codec codec;
  WorkerMessage decoded;
  const auto refused = [&](auto change, absl::string_view text) {
    Join join = SampleJoin();
    change(join);
    const absl::Status status = codec.Decode(codec.Encode(join), &decoded);
    EXPECT_EQ(status.code(), absl::StatusCode::kInvalidArgument);
    EXPECT_THAT(std::string(status.message()), HasSubstr(std::string(text)));
  };
  refused([](Join& j) { j.group = ""; }, "group is empty");
  refused([](Join& j) { j.group = std::string(129, 'g'); }, "group has 129 bytes, at most 128");
  refused([](Join& j) { j.group = "a b"; }, "outside [A-Za-z0-9._/:-]");
  refused([](Join& j) { j.host = std::string(256, 'h'); }, "host has 256 bytes");
  refused([](Join& j) { j.job = std::string(256, 'j'); }, "job has 256 bytes");
  refused([](Join& j) { j.incarnation = "short"; }, "incarnation has 5 bytes, expected 16");
  refused([](Join& j) { j.rank = 4; }, "rank 4 is not below world_size 4");
  refused([](Join& j) { j.world_size = 0; }, "world_size 0");
  refused([](Join& j) { j.world_size = 5000; }, "world_size 5000, expected 1 to 4096");
}

TEST(CodecTest, RefusesTicketsThatAreNotOneARank) {
  Codec codec;
  Join join = SampleJoinWithTicket();
  join.resume->tickets.pop_back();
  WorkerMessage decoded;
  EXPECT_THAT(std::string(codec.Decode(codec.Encode(join), &decoded).message()),
              HasSubstr("join: resume: tickets: 3 for a world size of 4"));
  Joined joined = SampleJoinedWithTickets();
  joined.tickets.push_back(1);
  CoordinatorMessage answer;
  EXPECT_THAT(std::string(codec.Decode(codec.Encode(joined), &answer).message()),
              HasSubstr("joined: tickets: 3 for a world size of 2"));
}

TEST(CodecTest, EveryPrefixAndEveryFlippedByteIsDecodedOrRefusedNeverWorse) {
  Codec codec;
  const std::string bytes = codec.Encode(SampleContribution());
  WorkerMessage decoded;
  int refused = 0;
  for (size_t n = 0; n < bytes.size(); ++n) {
    refused += !codec.Decode(std::string_view(bytes).substr(0, n), &decoded).ok();
    for (int bit = 0; bit < 8; ++bit) {
      std::string flipped = bytes;
      flipped[n] = static_cast<char>(flipped[n] ^ (1 << bit));
      refused += !codec.Decode(flipped, &decoded).ok();
    }
  }
  EXPECT_GT(refused, 0);
  ASSERT_TRUE(codec.Decode(bytes, &decoded).ok());
  EXPECT_EQ(decoded.contribution.moments, SampleContribution().moments);
}

TEST(FailureTest, TravelsInAStatusAndComesBack) {
  const absl::Status status = ToStatus(SampleFailure());
  EXPECT_EQ(status.code(), SampleFailure().code);
  EXPECT_EQ(status.message(), SampleFailure().text);
  EXPECT_EQ(FailureOf(status), SampleFailure());
  EXPECT_EQ(FailureOf(absl::AbortedError("other")), std::nullopt);
}

}  // namespace
}  // namespace syncnorm::wire

// The bytes of every message, as versions 1.0, 1.1 and 1.2 of the protocol wrote them.  A
// failure here means that a peer of an earlier build would read something
// else: add a field, or raise protocol_major; do not rewrite the file.
//
// SYNCNORM_WRITE_GOLDEN=1 writes the files that are missing, for new messages.
#include <gtest/gtest.h>

#include <cstdlib>
#include <fstream>
#include <sstream>
#include <string>

#include "absl/strings/escaping.h"
#include "proto/codec.h"
#include "proto/layer_state.h"
#include "proto/member_state.h"
#include "tests/proto/samples.h"

namespace syncnorm::wire {
namespace {

std::string Path(const std::string& name) {
  return std::string(SYNCNORM_GOLDEN_DIR) + "/" + name + ".hex";
}

// The file's bytes; empty when there is none.
std::string Read(const std::string& name) {
  std::ifstream file(Path(name));
  std::string hex, all;
  while (file >> hex) all += hex;
  return absl::HexStringToBytes(all);
}

void WriteIfMissing(const std::string& name, const std::string& bytes) {
  if (std::getenv("SYNCNORM_WRITE_GOLDEN") == nullptr || std::ifstream(Path(name)).good()) return;
  const std::string hex = absl::BytesToHexString(bytes);
  std::ofstream file(Path(name));
  for (size_t at = 0; at < hex.size(); at += 64) file << hex.substr(at, 64) << "\n";
}

void ExpectGoldenBytes(const std::string& name, const std::string& bytes) {
  WriteIfMissing(name, bytes);
  const std::string golden = Read(name);
  ASSERT_FALSE(golden.empty()) << "no golden bytes at " << Path(name);
  EXPECT_EQ(absl::BytesToHexString(bytes), absl::BytesToHexString(golden));
}

template <typename Message>
void ExpectGolden(const std::string& name, const Message& sample) {
  Codec codec;
  ExpectGoldenBytes(name, codec.Encode(sample));
}

TEST(GoldenTest, MessagesAreWrittenAsVersionOneWroteThem) {
  ExpectGolden("join", SampleJoin());
  ExpectGolden("joined", SampleJoined());
  ExpectGolden("contribution_mean_m2_f32", SampleContribution());
  ExpectGolden("contribution_sums_f64", SampleSums());
  ExpectGolden("result_mean_m2_f32", SampleResult());
  ExpectGolden("failure", SampleFailure());
  ExpectGolden("draining", Draining{"restart"});
  ExpectGolden("leave", Leave{"done"});
  ExpectGoldenBytes("layer_state", EncodeLayerState(SampleLayerState()));
}

TEST(GoldenTest, MessagesThatOneDotOneAddedAreWrittenAsItWroteThem) {
  Codec codec;
  ExpectGolden("join_resume", SampleResumingJoin());
  ExpectGolden("joined_resumed", SampleResumedJoined());
  ExpectGolden("contribution_boundary", SampleBoundary());
  ExpectGolden("result_settled", SampleSettledResult());
  ExpectGolden("restored", Restored{codec.Encode(SampleResult())});
  ExpectGolden("finish", Finish{});
  ExpectGolden("epoch_changed", SampleEpochChanged());
  ExpectGoldenBytes("member_state", EncodeMemberState(SampleMemberState()));
  ExpectGoldenBytes("handover_from_worker", codec.EncodeFromWorker(Handover{"state", true}));
  ExpectGoldenBytes("handover_to_worker", codec.EncodeToWorker(Handover{"state", true}));
}

TEST(GoldenTest, MessagesThatOneDotTwoAddedToAreWrittenAsItWroteThem) {
  ExpectGolden("join_ticket", SampleJoinWithTicket());
  ExpectGolden("joined_tickets", SampleJoinedWithTickets());
  Codec codec;
  ExpectGoldenBytes("handover_failure",
                    codec.EncodeFromWorker(Handover{"", false, "INTERNAL: disk full"}));
}

TEST(GoldenTest, BytesOfOneDotTwoAreReadAsTheyWereMeant) {
  Codec codec;
  WorkerMessage worker;
  ASSERT_TRUE(codec.Decode(Read("join_ticket"), &worker).ok());
  EXPECT_EQ(worker.join.ticket, SampleJoinWithTicket().ticket);
  ASSERT_TRUE(worker.join.resume.has_value());
  EXPECT_EQ(worker.join.resume->tickets, SampleJoinWithTicket().resume->tickets);
  ASSERT_TRUE(codec.Decode(Read("join"), &worker).ok());
  EXPECT_EQ(worker.join.ticket, 0u) << "left over from the message before";
  ASSERT_TRUE(codec.Decode(Read("handover_failure"), &worker).ok());
  EXPECT_EQ(worker.handover.failure, "INTERNAL: disk full");
  ASSERT_TRUE(codec.Decode(Read("handover_from_worker"), &worker).ok());
  EXPECT_TRUE(worker.handover.failure.empty()) << "left over from the message before";
  CoordinatorMessage answer;
  ASSERT_TRUE(codec.Decode(Read("joined_tickets"), &answer).ok());
  EXPECT_EQ(answer.joined.tickets, SampleJoinedWithTickets().tickets);
  ASSERT_TRUE(codec.Decode(Read("joined_resumed"), &answer).ok());
  EXPECT_TRUE(answer.joined.tickets.empty());
}

TEST(GoldenTest, BytesOfOneDotOneAreReadAsTheyWereMeant) {
  Codec codec;
  WorkerMessage worker;
  ASSERT_TRUE(codec.Decode(Read("join_resume"), &worker).ok());
  const Join join = SampleResumingJoin();
  EXPECT_EQ(worker.join.on_loss, join.on_loss);
  EXPECT_EQ(worker.join.non_finite, join.non_finite);
  ASSERT_TRUE(worker.join.resume.has_value());
  EXPECT_EQ(worker.join.resume->run_id, join.resume->run_id);
  EXPECT_EQ(worker.join.resume->coordinator_id, join.resume->coordinator_id);
  EXPECT_EQ(worker.join.resume->epoch, join.resume->epoch);
  EXPECT_EQ(worker.join.resume->answered, join.resume->answered);
  EXPECT_EQ(worker.join.resume->kept, join.resume->kept);
  EXPECT_EQ(worker.join.resume->members, join.resume->members);
  EXPECT_TRUE(worker.join.resume->finished);
  EXPECT_EQ(worker.join.resume->first_round, join.resume->first_round);
  ASSERT_TRUE(codec.Decode(Read("join"), &worker).ok());
  EXPECT_FALSE(worker.join.resume.has_value()) << "left over from the message before";
  ASSERT_TRUE(codec.Decode(Read("contribution_boundary"), &worker).ok());
  EXPECT_EQ(worker.contribution.answered, 41u);
  EXPECT_TRUE(worker.contribution.boundary);
  ASSERT_TRUE(codec.Decode(Read("restored"), &worker).ok());
  EXPECT_EQ(worker.restored.answer, codec.Encode(SampleResult()));
  ASSERT_TRUE(codec.Decode(Read("finish"), &worker).ok());
  EXPECT_EQ(worker.kind, WorkerMessage::Kind::kFinish);
  ASSERT_TRUE(codec.Decode(Read("handover_from_worker"), &worker).ok());
  EXPECT_EQ(worker.handover.chunk, "state");
  EXPECT_TRUE(worker.handover.last);
  CoordinatorMessage answer;
  ASSERT_TRUE(codec.Decode(Read("joined_resumed"), &answer).ok());
  EXPECT_EQ(answer.joined.run_id, SampleResumedJoined().run_id);
  EXPECT_EQ(answer.joined.first_round, 42u);
  EXPECT_EQ(answer.joined.members, (std::vector<uint32_t>{0, 1}));
  EXPECT_EQ(answer.joined.epoch_first_round, 30u);
  ASSERT_TRUE(codec.Decode(Read("result_settled"), &answer).ok());
  EXPECT_EQ(answer.result.settled, 40u);
  ASSERT_TRUE(codec.Decode(Read("epoch_changed"), &answer).ok());
  const EpochChanged changed = SampleEpochChanged();
  EXPECT_EQ(answer.epoch_changed.epoch, changed.epoch);
  EXPECT_EQ(answer.epoch_changed.first_round, changed.first_round);
  EXPECT_EQ(answer.epoch_changed.members, changed.members);
  EXPECT_EQ(answer.epoch_changed.hosts, changed.hosts);
  EXPECT_EQ(answer.epoch_changed.text, changed.text);
  EXPECT_EQ(answer.epoch_changed.admitted, changed.admitted);
  ASSERT_TRUE(codec.Decode(Read("handover_to_worker"), &answer).ok());
  EXPECT_EQ(answer.handover.chunk, "state");
  const auto member = DecodeMemberState(Read("member_state"));
  ASSERT_TRUE(member.ok()) << member.status();
  EXPECT_EQ(member->layers, SampleMemberState().layers);
  EXPECT_EQ(member->trainer, SampleMemberState().trainer);
  EXPECT_EQ(member->boundaries, SampleMemberState().boundaries);
}

TEST(GoldenTest, BytesOfVersionOneAreReadAsTheyWereMeant) {
  Codec codec;
  WorkerMessage worker;
  ASSERT_TRUE(codec.Decode(Read("contribution_mean_m2_f32"), &worker).ok());
  EXPECT_EQ(worker.contribution.key, SampleContribution().key);
  EXPECT_EQ(worker.contribution.dtype, SampleContribution().dtype);
  EXPECT_EQ(worker.contribution.moments, SampleContribution().moments);
  ASSERT_TRUE(codec.Decode(Read("contribution_sums_f64"), &worker).ok());
  EXPECT_EQ(worker.contribution.moments, SampleSums().moments);
  ASSERT_TRUE(codec.Decode(Read("join"), &worker).ok());
  EXPECT_EQ(worker.join.incarnation, SampleJoin().incarnation);
  CoordinatorMessage answer;
  ASSERT_TRUE(codec.Decode(Read("result_mean_m2_f32"), &answer).ok());
  EXPECT_EQ(answer.result.moments, SampleResult().moments);
  ASSERT_TRUE(codec.Decode(Read("failure"), &answer).ok());
  EXPECT_EQ(answer.failure, SampleFailure());
  ASSERT_TRUE(codec.Decode(Read("joined"), &answer).ok());
  EXPECT_EQ(answer.joined.hosts, SampleJoined().hosts);
  EXPECT_EQ(*DecodeLayerState(Read("layer_state")), SampleLayerState());
}

// What a later minor version adds must not disturb this one.
TEST(GoldenTest, FieldsOfALaterVersionAreIgnored) {
  Codec codec;
  // Field 100 of WorkerMessage, length-delimited: tag (100 << 3 | 2) = 802 = a2 06.
  const std::string later = Read("contribution_sums_f64") + std::string("\xa2\x06\x02hi", 5);
  WorkerMessage worker;
  ASSERT_TRUE(codec.Decode(later, &worker).ok());
  EXPECT_EQ(worker.contribution.moments, SampleSums().moments);
}

}  // namespace
}  // namespace syncnorm::wire

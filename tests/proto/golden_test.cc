// The bytes of every message, as version 1.0 of the protocol wrote them.  A
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

template <typename Message>
void ExpectGolden(const std::string& name, const Message& sample) {
  Codec codec;
  const std::string bytes = codec.Encode(sample);
  WriteIfMissing(name, bytes);
  const std::string golden = Read(name);
  ASSERT_FALSE(golden.empty()) << "no golden bytes at " << Path(name);
  EXPECT_EQ(absl::BytesToHexString(bytes), absl::BytesToHexString(golden));
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

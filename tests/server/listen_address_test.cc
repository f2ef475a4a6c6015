#include "server/listen_address.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <string>

namespace syncnorm::server {
namespace {

using testing::HasSubstr;

TEST(ListenAddressTest, ReadsHostAndPort) {
  const absl::StatusOr<ListenAddress> address = ListenAddress::Parse("127.0.0.1:7070");
  ASSERT_TRUE(address.ok());
  EXPECT_EQ(address->host, "127.0.0.1");
  EXPECT_EQ(address->port, 7070);
  EXPECT_EQ(address->With(99), "127.0.0.1:99");
}

TEST(ListenAddressTest, ReadsIPv6AndUnixSockets) {
  EXPECT_EQ(ListenAddress::Parse("[::1]:0")->With(5), "[::1]:5");
  const absl::StatusOr<ListenAddress> socket = ListenAddress::Parse("unix:/run/s.sock");
  ASSERT_TRUE(socket.ok());
  EXPECT_TRUE(socket->is_unix());
  EXPECT_EQ(socket->With(0), "unix:/run/s.sock");
}

TEST(ListenAddressTest, KnowsWhatOnlyThisMachineCanReach) {
  for (const char* text : {"127.0.0.1:1", "127.1.2.3:1", "localhost:1", "[::1]:1", "unix:/a"}) {
    EXPECT_TRUE(ListenAddress::Parse(text)->local()) << text;
  }
  for (const char* text : {"0.0.0.0:1", "[::]:1", "10.0.0.1:1", "node7:1", "128.0.0.1:1",
                           "127.evil.example:1", "127.0.0.1.evil:1", "[::2]:1"}) {
    EXPECT_FALSE(ListenAddress::Parse(text)->local()) << text;
  }
}

TEST(ListenAddressTest, SaysWhatIsWrong) {
  const std::pair<const char*, const char*> cases[] = {
      {"", "expected HOST:PORT"},       {"host", "expected HOST:PORT"},
      {":7070", "the host is missing"}, {"host:x", "the port is not a number"},
      {"host:", "the port is not"},     {"host:65536", "from 0 to 65535"},
      {"::1:7070", "[::1]:PORT"},       {"[::1:7070", "a ] is missing"},
      {"unix:", "a path is missing"},
  };
  for (const auto& [text, why] : cases) {
    const absl::StatusOr<ListenAddress> address = ListenAddress::Parse(text);
    ASSERT_FALSE(address.ok()) << text;
    EXPECT_EQ(address.status().code(), absl::StatusCode::kInvalidArgument);
    EXPECT_THAT(std::string(address.status().message()), HasSubstr(why)) << text;
  }
  EXPECT_FALSE(ListenAddress::Parse("unix:" + std::string(200, 'x')).ok());
}

TEST(ListenAddressTest, AFreePortCanBeBound) {
  EXPECT_TRUE(TryToBind(*ListenAddress::Parse("127.0.0.1:0")).ok());
}

TEST(ListenAddressTest, AnAddressOfAnotherMachineCannot) {
  const absl::Status status = TryToBind(*ListenAddress::Parse("192.0.2.1:1"));
  EXPECT_EQ(status.code(), absl::StatusCode::kUnavailable);
  EXPECT_THAT(std::string(status.message()), HasSubstr("cannot listen on 192.0.2.1:1: "));
}

}  // namespace
}  // namespace syncnorm::server

#include "client/security.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <string>

#include "client/options.h"
#include "tests/support/certificates.h"

namespace syncnorm {
namespace {

using ::syncnorm::testing::TestFolder;
using ::testing::AllOf;
using ::testing::HasSubstr;
using ::testing::Not;

std::string Message(const absl::Status& status) { return std::string(status.message()); }

TEST(TargetTest, KnowsWhatCannotLeaveThisMachine) {
  for (const char* address :
       {"127.0.0.1:1", "127.9.9.9:1", "localhost:1", "[::1]:1", "unix:/run/s", "unix:///run/s",
        "dns:localhost:1", "dns:///localhost:1", "dns://8.8.8.8/localhost:1", "ipv4:127.0.0.1:1",
        "ipv6:[::1]:1", "localhost"}) {
    EXPECT_TRUE(ParseTarget(address).local()) << address;
  }
  for (const char* address :
       {"10.0.0.1:1", "node:1", "127.evil.example:1", "localhost.evil.example:1", "[fd00::1]:1",
        "ipv4:127.0.0.1:1,10.0.0.1:1", "dns:///node:1", "xds:///localhost:1", "0.0.0.0:1", "",
        "dns://localhost:1", "[::1:1", "::1:7070"}) {
    EXPECT_FALSE(ParseTarget(address).local()) << address;
  }
}

TEST(TargetTest, FindsHostAndPort) {
  EXPECT_EQ(ParseTarget("node7:7070").host, "node7");
  EXPECT_EQ(ParseTarget("node7:7070").port, "7070");
  EXPECT_EQ(ParseTarget("dns:///node7:7070").host, "node7");
  EXPECT_EQ(ParseTarget("ipv6:[fd00::1]:9").host, "fd00::1");
  EXPECT_EQ(ParseTarget("[fd00::1]:9").port, "9");
  EXPECT_EQ(ParseTarget("unix:/run/s").path, "/run/s");
  EXPECT_EQ(ParseTarget("unix:/run/s").host, "localhost");
}

class SecurityOptionsTest : public ::testing::Test {
 protected:
  std::string WhyNot(const std::string& address = "node:1") const {
    GroupOptions options = options_;
    options.address = address;
    options.rank = 0;
    options.world_size = 1;
    const absl::Status status = CheckOptions(options);
    EXPECT_TRUE(status.ok() || absl::IsInvalidArgument(status)) << status;
    return Message(status);
  }

  GroupOptions options_;
};

TEST_F(SecurityOptionsTest, PartsOfTlsBelongTogether) {
  EXPECT_EQ(WhyNot(), "");
  options_.tls.cert_file = "c";
  EXPECT_THAT(WhyNot(), HasSubstr("tls.key_file is empty, but tls.cert_file is set"));
  options_.tls.key_file = "k";
  EXPECT_THAT(WhyNot(), HasSubstr("tls.ca_file is empty, but other parts"));
  options_.tls.ca_file = "ca";
  EXPECT_EQ(WhyNot(), "");
  options_.tls.cert_file.clear();
  EXPECT_THAT(WhyNot(), HasSubstr("tls.cert_file is empty, but tls.key_file is set"));
  options_.tls = {.server_name = "n"};
  EXPECT_THAT(WhyNot(), HasSubstr("tls.ca_file is empty"));
}

TEST_F(SecurityOptionsTest, ATokenDoesNotGoToAnotherMachineInPlaintext) {
  options_.token = "hunter2";
  EXPECT_EQ(WhyNot("127.0.0.1:1"), "");
  EXPECT_EQ(WhyNot("unix:/run/s"), "");
  EXPECT_THAT(WhyNot("node:1"),
              AllOf(HasSubstr("token is set and the connection to node:1 would be in plaintext"),
                    Not(HasSubstr("hunter2"))));
  options_.insecure = true;
  EXPECT_EQ(WhyNot("node:1"), "");
  options_.insecure = false;
  options_.tls.ca_file = "ca";
  EXPECT_EQ(WhyNot("node:1"), "");
  options_ = {};
  options_.token_file = "/some/file";
  EXPECT_THAT(WhyNot("node:1"), HasSubstr("token_file is set"));
}

TEST_F(SecurityOptionsTest, ATokenIsOneWord) {
  options_.token_file = "f";
  options_.token = "t";
  EXPECT_THAT(WhyNot("localhost:1"), HasSubstr("token and token_file are both set"));
  options_.token_file.clear();
  for (const std::string& token : {std::string("hunter2 x"), std::string("hunter2\n"),
                                   std::string("hunter2\0", 8), std::string(4097, 'x')}) {
    options_.token = token;
    EXPECT_THAT(WhyNot("localhost:1"),
                AllOf(HasSubstr("expected 1 to 4096 of [A-Za-z0-9"), Not(HasSubstr("hunter2"))));
  }
}

TEST(ReadTokenTest, AFileHoldsOneToken) {
  const TestFolder folder;
  ChannelSecurity security;
  EXPECT_EQ(*ReadToken(security), "");
  security.token_file = folder.Write("token", "  abc~1.2\n");
  EXPECT_EQ(*ReadToken(security), "abc~1.2");
  for (const std::string& text : {std::string(), std::string("\n"), std::string("hunter2 b"),
                                  std::string(5000, 'x'), std::string(100'000, 'x')}) {
    folder.Write("token", text);
    const absl::Status status = ReadToken(security).status();
    EXPECT_TRUE(absl::IsFailedPrecondition(status)) << status;
    EXPECT_THAT(Message(status), AllOf(HasSubstr(security.token_file + ": expected one token"),
                                       Not(HasSubstr("hunter2"))));
  }
  security.token_file = folder.path("none");
  EXPECT_THAT(Message(ReadToken(security).status()),
              HasSubstr("none: cannot be read: No such file or directory"));
}

}  // namespace
}  // namespace syncnorm

#include "server/security.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <filesystem>

#include "server/log.h"
#include "tests/server/token_lines.h"
#include "tests/support/certificates.h"

namespace syncnorm::server {
namespace {

using ::syncnorm::testing::Authority;
using ::syncnorm::testing::TestFolder;
using ::testing::AllOf;
using ::testing::HasSubstr;
using ::testing::internal::CaptureStderr;
using ::testing::internal::GetCapturedStderr;

class SecurityTest : public ::testing::Test {
 protected:
  absl::StatusOr<std::unique_ptr<Security>> Make(const std::string& listen) const {
    return Security::Make(*ListenAddress::Parse(listen), options_, &WallClock());
  }
  std::unique_ptr<Security> Made(const std::string& listen = "127.0.0.1:1") const {
    auto security = Make(listen);
    EXPECT_TRUE(security.ok()) << security.status();
    return *std::move(security);
  }
  void UseTls() {
    const std::string secret =
        folder_.WriteSecret("tls", authority_.Issue({}), authority_.certificate());
    options_.tls = {secret + "/tls.crt", secret + "/tls.key", secret + "/ca.crt"};
  }

  const Authority authority_{"authority"};
  const TestFolder folder_;
  SecurityOptions options_;
};

TEST_F(SecurityTest, PlaintextStaysOnThisMachineUnlessToldOtherwise) {
  for (const char* listen : {"127.0.0.1:1", "[::1]:1", "localhost:1", "unix:/tmp/s"}) {
    EXPECT_FALSE(Made(listen)->state().insecure) << listen;
  }
  for (const char* listen : {"0.0.0.0:1", "[::]:1", "10.0.0.1:1", "node:1", "127.evil.example:1"}) {
    const absl::Status status = Make(listen).status();
    EXPECT_EQ(status.code(), absl::StatusCode::kInvalidArgument) << listen;
    EXPECT_THAT(std::string(status.message()), HasSubstr("needs TLS with client certificates"));
  }
}

TEST_F(SecurityTest, InsecureIsToldInTheLogAtEachStartAndInTheState) {
  options_.insecure = true;
  for (int start = 0; start < 2; ++start) {
    CaptureStderr();
    const auto security = Made("0.0.0.0:1");
    security->WarnIfExposed("0.0.0.0:1");
    EXPECT_THAT(GetCapturedStderr(),
                AllOf(HasSubstr("warn"), HasSubstr("insecure"), HasSubstr("0.0.0.0:1")));
    EXPECT_TRUE(security->state().insecure);
  }
  CaptureStderr();
  const auto local = Made("127.0.0.1:1");
  local->WarnIfExposed("127.0.0.1:1");
  EXPECT_FALSE(local->state().insecure) << "nobody else can reach it";
  UseTls();
  const auto with_tls = Made("0.0.0.0:1");
  with_tls->WarnIfExposed("0.0.0.0:1");
  EXPECT_FALSE(with_tls->state().insecure) << "it is not in plaintext";
  EXPECT_EQ(GetCapturedStderr(), "");
}

TEST_F(SecurityTest, TlsNeedsAllThreeFiles) {
  UseTls();
  EXPECT_TRUE(Made("0.0.0.0:1")->state().tls);
  options_.tls.authorities.clear();
  EXPECT_THAT(std::string(Make("0.0.0.0:1").status().message()), HasSubstr("authorities"));
}

TEST_F(SecurityTest, BadTokensAreFatalAtTheStartAndKeptOutLater) {
  options_.tokens = folder_.Write("tokens", "nonsense");
  EXPECT_THAT(std::string(Make("127.0.0.1:1").status().message()), HasSubstr("tokens: line 1"));

  folder_.Write("tokens", TokenLine("one", "worker", "*"));
  const auto security = Made();
  Pass pass;
  EXPECT_TRUE(security->access()->Open(absl::UnixEpoch(), {"Bearer one"}, &pass).ok());
  security->Reload();
  EXPECT_EQ(security->state().reloads, 0U);

  folder_.Write("tokens", "nonsense");
  CaptureStderr();
  security->Reload();
  security->Reload();
  const std::string log = GetCapturedStderr();
  EXPECT_THAT(log, HasSubstr("the old tokens stay in force, the new ones cannot be used: "));
  EXPECT_EQ(log.find("stay in force"), log.rfind("stay in force")) << "said once: " << log;
  EXPECT_EQ(security->state().reload_failures, 2U);
  EXPECT_TRUE(security->access()->Recheck(absl::UnixEpoch(), &pass).ok());

  folder_.Write("tokens", TokenLine("two", "worker", "*"));
  security->Reload();
  EXPECT_EQ(security->state().reloads, 1U);
  EXPECT_FALSE(security->access()->Recheck(absl::UnixEpoch(), &pass).ok());
  EXPECT_EQ(security->state().refusals.revoked, 1U);
}

TEST_F(SecurityTest, CertificatesThatCannotBeUsedAreCountedAndToldAndKeptOut) {
  UseTls();
  const auto security = Made();
  const auto before = security->certificates()->current();
  folder_.Write("tls/tls.key", "nonsense");
  CaptureStderr();
  security->Reload();
  EXPECT_THAT(GetCapturedStderr(),
              AllOf(HasSubstr("the old certificates stay in force"), HasSubstr("tls.key")));
  EXPECT_EQ(security->state().reload_failures, 1U);
  EXPECT_EQ(security->certificates()->current(), before);
  folder_.WriteSecret("tls", authority_.Issue({}), authority_.certificate());
  security->Reload();
  EXPECT_EQ(security->state().reloads, 1U);
  EXPECT_NE(security->certificates()->current(), before);
}

TEST_F(SecurityTest, ReloadsByItself) {
  options_.tokens = folder_.Write("tokens", TokenLine("one", "worker", "*"));
  options_.reload_interval = absl::Milliseconds(1);
  const auto security = Made();
  security->StartReloading();
  folder_.Write("tokens", TokenLine("two", "worker", "*"));
  while (security->state().reloads == 0) std::this_thread::yield();
  Pass pass;
  EXPECT_TRUE(security->access()->Open(absl::UnixEpoch(), {"Bearer two"}, &pass).ok());
}

}  // namespace
}  // namespace syncnorm::server

#include "server/access.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <memory>
#include <string>

#include "tests/server/token_lines.h"

namespace syncnorm::server {
namespace {

using testing::HasSubstr;
using testing::Not;

const absl::Time kNow = absl::FromUnixSeconds(1'800'000'000);  // 2027-01-15T08:00:00Z

std::shared_ptr<const Tokens> Table(const std::string& text) {
  absl::StatusOr<Tokens> tokens = Tokens::Parse(text);
  EXPECT_TRUE(tokens.ok()) << tokens.status();
  return std::make_shared<const Tokens>(*std::move(tokens));
}

class AccessTest : public testing::Test {
 protected:
  void ExpectRefused(const absl::Status& status, absl::StatusCode code, const std::string& text) {
    EXPECT_EQ(status.code(), code) << status;
    EXPECT_THAT(std::string(status.message()), HasSubstr(text));
    EXPECT_THAT(std::string(status.message()), Not(HasSubstr("secret"))) << "a token is quoted";
  }

  Access access_{Table(TokenLine("a-secret", "worker", "team-a/*,world") + "\n" +
                       TokenLine("b-secret", "worker", "team-b/*") + "\n" +
                       TokenLine("admin-secret", "admin", "*") + "\n" +
                       TokenLine("reader-secret", "reader", "team-a/*") + "\n" +
                       TokenLine("old-secret", "worker", "*", "2027-01-15T08:00:00Z"))};
  Pass pass_;
};

TEST(AccessWithoutTokensTest, AllowsEverything) {
  Access access;
  Pass pass;
  EXPECT_TRUE(access.Open(kNow, {}, &pass).ok());
  EXPECT_TRUE(pass.open);
  EXPECT_TRUE(access.Join(kNow, "any", &pass).ok());
  EXPECT_TRUE(access.Recheck(kNow + absl::Hours(99999), &pass).ok());
  EXPECT_TRUE(access.Allow(kNow, {}, Role::kAdmin, "").ok());
  EXPECT_EQ(access.refusals().total(), 0U);
}

TEST_F(AccessTest, ATokenOpensAStreamAndItsGroups) {
  EXPECT_TRUE(access_.Open(kNow, {"Bearer a-secret"}, &pass_).ok());
  EXPECT_TRUE(access_.Join(kNow, "world", &pass_).ok());
  EXPECT_TRUE(access_.Join(kNow, "team-a/eval", &pass_).ok());
  EXPECT_TRUE(access_.Recheck(kNow, &pass_).ok());
  EXPECT_EQ(access_.refusals().total(), 0U);
}

TEST_F(AccessTest, TheSchemeIsWrittenInAnyCase) {
  EXPECT_TRUE(access_.Open(kNow, {"bearer a-secret"}, &pass_).ok());
  EXPECT_TRUE(access_.Open(kNow, {"BEARER  a-secret "}, &pass_).ok());
}

TEST_F(AccessTest, NoTokenIsRefused) {
  ExpectRefused(access_.Open(kNow, {}, &pass_), absl::StatusCode::kUnauthenticated,
                "asks for a token, and none was sent");
  EXPECT_FALSE(pass_.open);
  EXPECT_EQ(access_.refusals().no_token, 1U);
}

TEST_F(AccessTest, WhatIsNotOneBearerTokenIsRefused) {
  for (const auto& values : {std::vector<std::string>{"a-secret"},
                             {"Basic a-secret"},
                             {"Bearer "},
                             {"Bearer"},
                             {""},
                             {"Bearer a-secret", "Bearer a-secret"}}) {
    ExpectRefused(access_.Open(kNow, values, &pass_), absl::StatusCode::kUnauthenticated,
                  "is not \"Bearer\" and one token");
  }
  EXPECT_EQ(access_.refusals().malformed, 6U);
}

TEST_F(AccessTest, AWrongTokenIsRefused) {
  for (const char* value : {"Bearer x-secret", "Bearer a-secret2", "Bearer a-secre"}) {
    ExpectRefused(access_.Open(kNow, {value}, &pass_), absl::StatusCode::kUnauthenticated,
                  "the token is not known here");
  }
  EXPECT_EQ(access_.refusals().unknown, 3U);
}

TEST_F(AccessTest, AnExpiredTokenIsRefusedWithBothTimes) {
  EXPECT_TRUE(access_.Open(kNow, {"Bearer old-secret"}, &pass_).ok()) << "at its very end";
  const absl::Time late = kNow + absl::Seconds(1);
  ExpectRefused(access_.Open(late, {"Bearer old-secret"}, &pass_),
                absl::StatusCode::kUnauthenticated,
                "the token expired: not_after 2027-01-15T08:00:00+00:00, the coordinator's time "
                "2027-01-15T08:00:01+00:00");
  EXPECT_EQ(access_.refusals().expired, 1U);
}

TEST_F(AccessTest, AGroupOfOthersIsRefusedInTheSameWordsAsOneThatCannotBe) {
  EXPECT_TRUE(access_.Open(kNow, {"Bearer a-secret"}, &pass_).ok());
  ExpectRefused(access_.Join(kNow, "team-b/x", &pass_), absl::StatusCode::kPermissionDenied,
                "the token does not allow to join group team-b/x");
  EXPECT_EQ(access_.refusals().group, 1U);
  EXPECT_EQ(pass_.group, "");
}

TEST_F(AccessTest, OnlyAWorkersTokenJoins) {
  for (const char* value : {"Bearer admin-secret", "Bearer reader-secret"}) {
    EXPECT_TRUE(access_.Open(kNow, {value}, &pass_).ok());
    ExpectRefused(access_.Join(kNow, "team-a/x", &pass_), absl::StatusCode::kPermissionDenied,
                  "does not allow to join group team-a/x");
  }
  EXPECT_EQ(access_.refusals().role, 2U);
}

TEST_F(AccessTest, ATokenThatEndsEndsItsStream) {
  EXPECT_TRUE(access_.Open(kNow, {"Bearer old-secret"}, &pass_).ok());
  EXPECT_TRUE(access_.Join(kNow, "world", &pass_).ok());
  EXPECT_TRUE(access_.Recheck(kNow, &pass_).ok());
  ExpectRefused(access_.Recheck(kNow + absl::Seconds(1), &pass_),
                absl::StatusCode::kUnauthenticated, "the token expired");
  // Between Open and Join, too.
  ExpectRefused(access_.Join(kNow + absl::Seconds(1), "world", &pass_),
                absl::StatusCode::kUnauthenticated, "the token expired");
}

TEST_F(AccessTest, ATokenThatIsTakenBackEndsItsStream) {
  EXPECT_TRUE(access_.Open(kNow, {"Bearer a-secret"}, &pass_).ok());
  Pass joining = pass_;
  EXPECT_TRUE(access_.Join(kNow, "world", &pass_).ok());
  access_.Replace(Table(TokenLine("b-secret", "worker", "*")));
  ExpectRefused(access_.Recheck(kNow, &pass_), absl::StatusCode::kUnauthenticated,
                "the token was taken back");
  ExpectRefused(access_.Join(kNow, "world", &joining), absl::StatusCode::kUnauthenticated,
                "the token was taken back");
  EXPECT_EQ(access_.refusals().revoked, 2U);
}

TEST_F(AccessTest, AGroupThatIsTakenFromATokenEndsItsStream) {
  EXPECT_TRUE(access_.Open(kNow, {"Bearer a-secret"}, &pass_).ok());
  EXPECT_TRUE(access_.Join(kNow, "world", &pass_).ok());
  access_.Replace(Table(TokenLine("a-secret", "worker", "team-a/*")));
  ExpectRefused(access_.Recheck(kNow, &pass_), absl::StatusCode::kPermissionDenied,
                "does not allow to join group world");
}

TEST_F(AccessTest, AnEndThatIsMovedIsSeen) {
  EXPECT_TRUE(access_.Open(kNow, {"Bearer old-secret"}, &pass_).ok());
  access_.Replace(Table(TokenLine("old-secret", "worker", "*", "2028-01-01T00:00:00Z")));
  EXPECT_TRUE(access_.Recheck(kNow + absl::Hours(1), &pass_).ok());
  access_.Replace(Table(TokenLine("old-secret", "worker", "*", "2027-01-01T00:00:00Z")));
  EXPECT_FALSE(access_.Recheck(kNow, &pass_).ok());
}

TEST_F(AccessTest, AnAdminIsAReaderToo) {
  EXPECT_TRUE(access_.Allow(kNow, {"Bearer admin-secret"}, Role::kAdmin, "").ok());
  EXPECT_TRUE(access_.Allow(kNow, {"Bearer admin-secret"}, Role::kReader, "team-b/x").ok());
  EXPECT_TRUE(access_.Allow(kNow, {"Bearer reader-secret"}, Role::kReader, "team-a/x").ok());
  ExpectRefused(access_.Allow(kNow, {"Bearer reader-secret"}, Role::kAdmin, "team-a/x"),
                absl::StatusCode::kPermissionDenied, "has not the role admin");
  ExpectRefused(access_.Allow(kNow, {"Bearer a-secret"}, Role::kReader, "team-a/x"),
                absl::StatusCode::kPermissionDenied, "has not the role reader");
  ExpectRefused(access_.Allow(kNow, {}, Role::kReader, ""), absl::StatusCode::kUnauthenticated,
                "none was sent");
}

TEST_F(AccessTest, AReaderSeesItsGroupsOnly) {
  ExpectRefused(access_.Allow(kNow, {"Bearer reader-secret"}, Role::kReader, "team-b/x"),
                absl::StatusCode::kPermissionDenied, "does not hold for group team-b/x");
  ExpectRefused(access_.Allow(kNow, {"Bearer reader-secret"}, Role::kReader, ""),
                absl::StatusCode::kPermissionDenied, "does not hold for all groups");
}

}  // namespace
}  // namespace syncnorm::server

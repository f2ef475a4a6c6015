#include "server/tokens.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <string>
#include <type_traits>

#include "absl/strings/str_cat.h"
#include "tests/server/token_lines.h"
#include "tests/support/certificates.h"

// The build hands every call of it to the function below (--wrap): how digests are compared is
// seen.
extern "C" {
int __real_CRYPTO_memcmp(const void* a, const void* b, size_t size);
int calls_of_memcmp = 0;
int __wrap_CRYPTO_memcmp(const void* a, const void* b, size_t size) {
  ++calls_of_memcmp;
  EXPECT_EQ(size, 32U);
  return __real_CRYPTO_memcmp(a, b, size);
}
}

namespace syncnorm::server {
namespace {

using ::testing::AllOf;
using ::testing::HasSubstr;
using ::testing::Not;

Tokens Parsed(const std::string& text) {
  absl::StatusOr<Tokens> tokens = Tokens::Parse(text);
  EXPECT_TRUE(tokens.ok()) << tokens.status();
  return *std::move(tokens);
}

std::string WhyNot(const std::string& text) {
  const absl::Status status = Tokens::Parse(text).status();
  EXPECT_EQ(status.code(), absl::StatusCode::kInvalidArgument) << text;
  return std::string(status.message());
}

TEST(TokensTest, ReadsDigestRoleGroupsAndEnd) {
  const Tokens tokens = Parsed(absl::StrCat(
      "# the lab\n\n", TokenLine("w", "worker", "team-a/*,world", "2027-01-31T00:00:00Z"), "\n \t",
      TokenLine("a", "admin", "*"), "\r\n", TokenLine("r", "reader", "x")));
  EXPECT_EQ(tokens.size(), 3U);
  const TokenEntry* worker = tokens.Find(DigestOf("w"));
  ASSERT_NE(worker, nullptr);
  EXPECT_EQ(worker->role, Role::kWorker);
  EXPECT_EQ(worker->globs, (std::vector<std::string>{"team-a/*", "world"}));
  EXPECT_EQ(absl::FormatTime(absl::RFC3339_sec, worker->not_after, absl::UTCTimeZone()),
            "2027-01-31T00:00:00+00:00");
  EXPECT_EQ(tokens.Find(DigestOf("a"))->role, Role::kAdmin);
  EXPECT_EQ(tokens.Find(DigestOf("a"))->not_after, absl::InfiniteFuture());
  EXPECT_EQ(tokens.Find(DigestOf("r"))->role, Role::kReader);
  EXPECT_EQ(tokens.Find(DigestOf("W")), nullptr);
  EXPECT_EQ(tokens.Find(DigestOf("")), nullptr);
}

TEST(TokensTest, ADigestIsTheSha256OfTheToken) {
  // printf abc | sha256sum
  EXPECT_NE(Parsed("sha256:ba7816bf8f01cfea414140de5dae2223b00361a396177a9cb410ff61f20015ad "
                   "worker *")
                .Find(DigestOf("abc")),
            nullptr);
}

TEST(TokensTest, AStarStandsForAnyCharacters) {
  const std::tuple<const char*, const char*, bool> cases[] = {{"world", "world", true},
                                                              {"world", "world2", false},
                                                              {"world", "worl", false},
                                                              {"*", "a/b:c", true},
                                                              {"team-a/*", "team-a/x", true},
                                                              {"team-a/*", "team-a/", true},
                                                              {"team-a/*", "team-ab", false},
                                                              {"*-eval", "x-eval", true},
                                                              {"*-eval", "x-evals", false},
                                                              {"a*b*c", "aXbYc", true},
                                                              {"a*b*c", "abbbc", true},
                                                              {"a*b*c", "acb", false},
                                                              {"a**", "a", true},
                                                              {"*a", "ba", true},
                                                              {"*a", "ab", false},
                                                              {"a", "", false}};
  for (const auto& [glob, group, matches] : cases) {
    const Tokens tokens = Parsed(TokenLine("t", "worker", glob));
    EXPECT_EQ(tokens.Find(DigestOf("t"))->HoldsFor(group), matches) << glob << " " << group;
  }
}

TEST(TokensTest, SaysWhichLineIsWrongAndWhy) {
  const std::string good = TokenLine("g", "worker", "*");
  EXPECT_THAT(WhyNot(good + "\nworker *"), HasSubstr("line 2: the first field is not \"sha256:\""));
  EXPECT_THAT(WhyNot("sha256:abcd worker *"), HasSubstr("64 hexadecimal digits"));
  EXPECT_THAT(WhyNot(good + " 2027-01-31T00:00:00Z more"), HasSubstr("5 fields"));
  EXPECT_THAT(WhyNot(TokenLine("t", "", "")), HasSubstr("1 fields"));
  EXPECT_THAT(WhyNot(TokenLine("t", "root", "*")), HasSubstr("the role, is none of worker"));
  EXPECT_THAT(WhyNot(TokenLine("t", "worker", "a,,b")), HasSubstr("the third field, the groups"));
  EXPECT_THAT(WhyNot(TokenLine("t", "worker", "a?")), HasSubstr("the groups"));
  EXPECT_THAT(WhyNot(TokenLine("t", "worker", std::string(129, 'a'))), HasSubstr("the groups"));
  EXPECT_THAT(WhyNot(good + "\n\n" + good), HasSubstr("line 3: this digest stands in an earlier"));
  EXPECT_THAT(WhyNot(""), HasSubstr("there is no token in it"));
  EXPECT_THAT(WhyNot("# only words\n"), HasSubstr("there is no token in it"));
  for (const char* end : {"2027-01-31", "tomorrow", "infinite-future", "infinite-past-infinite",
                          "2027-13-31T00:00:00Z", "2027-01-31T00:00:00"}) {
    EXPECT_THAT(WhyNot(TokenLine("t", "worker", "*", end)), HasSubstr("the fourth field, the end"))
        << end;
  }
}

TEST(TokensTest, ATokenThatStandsThereByMistakeIsNotQuoted) {
  for (const char* line : {"hunter2secret worker *", "sha256:hunter2secret worker *",
                           "Bearer hunter2secret", "hunter2secret"}) {
    EXPECT_THAT(WhyNot(line), AllOf(HasSubstr("line 1"), Not(HasSubstr("hunter2"))));
  }
}

TEST(TokensTest, ALookUpComparesWithEveryEntryInConstantTime) {
  std::string text;
  for (int i = 0; i < 50; ++i)
    absl::StrAppend(&text, TokenLine(absl::StrCat(i), "worker", "*"), "\n");
  const Tokens tokens = Parsed(text);
  for (const char* token : {"0", "25", "49", "none"}) {
    calls_of_memcmp = 0;
    tokens.Find(DigestOf(token));
    EXPECT_EQ(calls_of_memcmp, 50) << token;
  }
  // There is no other way to compare.
  static_assert(!std::equality_comparable<TokenDigest>);
}

TEST(TokensTest, AFileIsNamedInItsErrors) {
  const syncnorm::testing::TestFolder folder;
  EXPECT_TRUE(Tokens::Read(folder.Write("tokens", TokenLine("t", "worker", "*"))).ok());
  absl::Status status = Tokens::Read(folder.Write("tokens", "x")).status();
  EXPECT_EQ(status.code(), absl::StatusCode::kInvalidArgument);
  EXPECT_THAT(std::string(status.message()), HasSubstr(folder.path("tokens") + ": line 1: "));
  status = Tokens::Read(folder.path("none")).status();
  EXPECT_EQ(status.code(), absl::StatusCode::kNotFound);
  EXPECT_THAT(std::string(status.message()), HasSubstr("none: cannot be read: No such file"));
  EXPECT_THAT(std::string(Tokens::Read("/dev/zero").status().message()),
              HasSubstr("has more than"));
}

}  // namespace
}  // namespace syncnorm::server

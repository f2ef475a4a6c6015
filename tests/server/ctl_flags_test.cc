// The command line and the environment of syncnormctl.

#include "server/ctl_flags.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <map>
#include <string>
#include <vector>

#include "tests/support/certificates.h"

namespace syncnorm::server {
namespace {

using ::testing::AllOf;
using ::testing::ElementsAre;
using ::testing::HasSubstr;
using ::testing::IsEmpty;

const std::vector<std::string> kTaken = {"address", "json",     "rounds",  "timeout",   "tls_dir",
                                         "tls_ca",  "tls_cert", "tls_key", "token_file"};

absl::Status Parse(const std::vector<std::string>& arguments, CtlFlags* flags,
                   std::vector<std::string>* words = nullptr) {
  std::vector<std::string> unused;
  return ParseCtlFlags(arguments, kTaken, flags, words == nullptr ? &unused : words);
}

std::string ErrorOf(const std::vector<std::string>& arguments) {
  CtlFlags flags;
  return std::string(Parse(arguments, &flags).message());
}

CtlEnvironment EnvironmentOf(const std::map<std::string, std::string>& variables) {
  return [variables](const char* name) {
    const auto found = variables.find(name);
    return found == variables.end() ? std::string() : found->second;
  };
}

TEST(CtlFlagsTest, ValuesStandBehindTheNameOrInTheNextArgument) {
  CtlFlags flags;
  std::vector<std::string> words;
  ASSERT_TRUE(Parse({"--address=a:1", "one", "--rounds", "7", "-json", "--timeout=1.5s", "two"},
                    &flags, &words)
                  .ok());
  EXPECT_EQ(flags.address, "a:1");
  EXPECT_EQ(flags.rounds, 7U);
  EXPECT_TRUE(flags.json);
  EXPECT_EQ(flags.timeout, absl::Milliseconds(1500));
  EXPECT_THAT(words, ElementsAre("one", "two"));
  EXPECT_TRUE(flags.Given("rounds"));
  EXPECT_FALSE(flags.Given("group"));
}

TEST(CtlFlagsTest, ABooleanMayBeTakenBack) {
  CtlFlags flags;
  ASSERT_TRUE(Parse({"--json", "--nojson"}, &flags).ok());
  EXPECT_FALSE(flags.json);
  ASSERT_TRUE(Parse({"--json=false"}, &flags).ok());
  EXPECT_FALSE(flags.json);
}

TEST(CtlFlagsTest, MistakesSayWhatIsExpected) {
  EXPECT_EQ(ErrorOf({"--bogus"}), "--bogus is not a flag; see syncnormctl help");
  EXPECT_EQ(ErrorOf({"--noaddress"}), "--noaddress is not a flag; see syncnormctl help");
  EXPECT_EQ(ErrorOf({"--out=x"}), "--out is not a flag of this command");
  EXPECT_EQ(ErrorOf({"--rounds"}), "--rounds has no value");
  EXPECT_EQ(ErrorOf({"--rounds=-1"}), "--rounds is \"-1\", expected a whole number of 0 or more");
  EXPECT_THAT(ErrorOf({"--timeout=5"}), HasSubstr("expected a duration of more than 0 with"));
  EXPECT_THAT(ErrorOf({"--timeout=0s"}), HasSubstr("expected a duration of more than 0 with"));
  EXPECT_EQ(ErrorOf({"--json=maybe"}), "--json is \"maybe\", expected true or false");
}

TEST(CtlFlagsTest, TheWorkersEnvironmentCountsWhereNothingIsGiven) {
  CtlFlags flags;
  ReadCtlEnvironment(EnvironmentOf({{"SYNCNORM_ADDR", "c:7070"},
                                    {"SYNCNORM_TLS_CA", "ca"},
                                    {"SYNCNORM_TLS_CERT", "cert"},
                                    {"SYNCNORM_TLS_KEY", "key"},
                                    {"SYNCNORM_TLS_SERVER_NAME", "name"},
                                    {"SYNCNORM_TOKEN_FILE", "token"}}),
                     &flags);
  const CtlOptions options = flags.connection();
  EXPECT_EQ(options.address, "c:7070");
  EXPECT_EQ(options.tls.authorities, "ca");
  EXPECT_EQ(options.tls.certificate, "cert");
  EXPECT_EQ(options.tls.key, "key");
  EXPECT_EQ(options.server_name, "name");
  EXPECT_EQ(options.token_file, "token");
}

TEST(CtlFlagsTest, FlagsWinAlsoWhenTheyAreEmpty) {
  CtlFlags flags;
  ASSERT_TRUE(
      Parse({"--address=b:2", "--token_file=", "--tls_cert=mine", "--tls_key=its"}, &flags).ok());
  ReadCtlEnvironment(EnvironmentOf({{"SYNCNORM_ADDR", "c:7070"},
                                    {"SYNCNORM_TLS_CA", "ca"},
                                    {"SYNCNORM_TLS_CERT", "cert"},
                                    {"SYNCNORM_TLS_KEY", "key"},
                                    {"SYNCNORM_TOKEN_FILE", "token"}}),
                     &flags);
  EXPECT_EQ(flags.address, "b:2");
  EXPECT_EQ(flags.token_file, "");
  EXPECT_EQ(flags.tls_cert, "mine");
  EXPECT_EQ(flags.tls_key, "its");
  EXPECT_EQ(flags.tls_ca, "ca");
}

TEST(CtlFlagsTest, ACertificateAndItsKeyComeFromOnePlace) {
  CtlFlags flags;
  ASSERT_TRUE(Parse({"--tls_cert=mine"}, &flags).ok());
  ReadCtlEnvironment(EnvironmentOf({{"SYNCNORM_TLS_KEY", "another's"}}), &flags);
  EXPECT_THAT(flags.tls_key, IsEmpty());
}

TEST(CtlFlagsTest, AFolderStandsForItsFilesAndForTheTokenThatIsInIt) {
  const syncnorm::testing::TestFolder folder;
  CtlFlags flags;
  ASSERT_TRUE(Parse({"--tls_dir=" + folder.path("."), "--tls_ca=other"}, &flags).ok());
  ReadCtlEnvironment(
      EnvironmentOf({{"SYNCNORM_TLS_CERT", "cert"}, {"SYNCNORM_TOKEN_FILE", "elsewhere"}}), &flags);
  EXPECT_EQ(flags.connection().tls.certificate, folder.path(".") + "/tls.crt");
  EXPECT_EQ(flags.connection().tls.key, folder.path(".") + "/tls.key");
  EXPECT_EQ(flags.connection().tls.authorities, "other");
  EXPECT_EQ(flags.connection().token_file, "") << "there is none";
  folder.Write("token", "t");
  EXPECT_EQ(flags.connection().token_file, folder.path(".") + "/token");
  ASSERT_TRUE(Parse({"--token_file=mine"}, &flags).ok());
  EXPECT_EQ(flags.connection().token_file, "mine");
}

TEST(CtlFlagsTest, HelpTellsDefaultsAndVariables) {
  EXPECT_THAT(CtlFlagsHelp({"address", "timeout", "json"}),
              AllOf(HasSubstr("--address  (127.0.0.1:7070; SYNCNORM_ADDR)"),
                    HasSubstr("--timeout  (10s)"), HasSubstr("--json  (false)")));
}

}  // namespace
}  // namespace syncnorm::server

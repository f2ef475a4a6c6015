#include "server/configuration.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include "absl/strings/str_cat.h"
#include "tests/support/certificates.h"

namespace syncnorm::server {
namespace {

using ::testing::ElementsAre;
using ::testing::HasSubstr;
using ::testing::IsEmpty;

class ConfigurationTest : public ::testing::Test {
 protected:
  // What a file, variables and flags make; "" for no file.
  absl::StatusOr<Configuration> Make(const std::string& file,
                                     const std::vector<std::string>& variables,
                                     std::vector<std::string> flags) const {
    if (!file.empty()) flags.push_back("--config=" + folder_.Write("c.yaml", file));
    std::vector<std::string> environment;
    for (const std::string& variable : variables) {
      environment.push_back("SYNCNORM_COORDINATOR_" + variable);
    }
    return Configuration::Make(flags, environment);
  }
  Configuration Made(const std::string& file, const std::vector<std::string>& variables,
                     const std::vector<std::string>& flags) const {
    auto made = Make(file, variables, flags);
    EXPECT_TRUE(made.ok()) << made.status();
    return *std::move(made);
  }
  std::string Error(const std::string& file, const std::vector<std::string>& variables,
                    const std::vector<std::string>& flags) const {
    return std::string(Make(file, variables, flags).status().message());
  }

  const syncnorm::testing::TestFolder folder_;
};

TEST_F(ConfigurationTest, FlagsComeBeforeTheEnvironmentBeforeTheFileBeforeTheDefaults) {
  const auto groups = [&](const std::string& file, const std::vector<std::string>& variables,
                          const std::vector<std::string>& flags) {
    return Made(file, variables, flags).options().server.settings.limits.groups;
  };
  const std::string file = "max_groups: 2\n";
  EXPECT_EQ(groups("", {}, {}), Limits().groups);
  EXPECT_EQ(groups(file, {}, {}), 2u);
  EXPECT_EQ(groups(file, {"MAX_GROUPS=3"}, {}), 3u);
  EXPECT_EQ(groups(file, {"MAX_GROUPS=3"}, {"--max_groups=4"}), 4u);
  EXPECT_EQ(groups(file, {"MAX_GROUPS=3"}, {"--max_groups=4", "--max_groups=5"}), 5u);
  EXPECT_EQ(groups(file, {}, {absl::StrCat("--max_groups=", Limits().groups)}), Limits().groups)
      << "a flag that says the default is a flag";
}

TEST_F(ConfigurationTest, TheEnvironmentNamesAFileUnlessAFlagDoes) {
  const std::string one = folder_.Write("one", "max_groups: 1\n");
  const std::string two = folder_.Write("two", "max_groups: 2\n");
  const auto groups = [&](const std::vector<std::string>& flags) {
    return Made("", {"CONFIG=" + one}, flags).options().server.settings.limits.groups;
  };
  EXPECT_EQ(groups({}), 1u);
  EXPECT_EQ(groups({"--config=" + two}), 2u);
  EXPECT_EQ(groups({"--config="}), Limits().groups);
}

TEST_F(ConfigurationTest, AValueThatAnotherStandsForIsLookedAtToo) {
  EXPECT_EQ(Error("max_groups: 0\n", {"MAX_GROUPS=3"}, {"--max_groups=4"}),
            folder_.path("c.yaml") + ":1: max_groups: 0 is not within 1 to 2147483647");
  EXPECT_EQ(Error("max_groups: 2\n", {"MAX_GROUPS=x"}, {"--max_groups=4"}),
            "SYNCNORM_COORDINATOR_MAX_GROUPS: \"x\" is not a whole number from 0 to 4294967295");
}

TEST_F(ConfigurationTest, ErrorsOfOptionsTogetherNameWhereTheValueStands) {
  EXPECT_THAT(Error("", {}, {"--listen=0.0.0.0:1"}),
              HasSubstr("--listen: 0.0.0.0:1 can be reached by other machines"));
  EXPECT_THAT(Error("", {"LISTEN=0.0.0.0:1"}, {}),
              HasSubstr("SYNCNORM_COORDINATOR_LISTEN: 0.0.0.0:1 can be"));
  EXPECT_THAT(Error("listen: 0.0.0.0:1\n", {}, {}),
              HasSubstr(folder_.path("c.yaml") + ":1: listen: 0.0.0.0:1 can be"));
  EXPECT_THAT(Error("tls_cert: x\n", {}, {}), HasSubstr("--tls_key: is missing"));
  EXPECT_THAT(Error("", {}, {"--admin_listen=0.0.0.0:1"}),
              HasSubstr("--admin_listen: 0.0.0.0:1 can be reached by other machines, and the admin "
                        "port is plain HTTP: give --admin_insecure if that is meant"));
  EXPECT_THAT(Error("", {}, {"--admin_listen=127.0.0.1:7070"}),
              HasSubstr("--admin_listen: 127.0.0.1:7070 is what --listen has"));
}

TEST_F(ConfigurationTest, TheAdminPortIsAnAddressOfItsOwn) {
  EXPECT_FALSE(Made("", {}, {}).options().server.admin.has_value());
  const Configuration made = Made("admin_listen: 0.0.0.0:9090\nadmin_insecure: true\n", {}, {});
  ASSERT_TRUE(made.options().server.admin.has_value());
  EXPECT_EQ(made.options().server.admin->port, 9090);
  EXPECT_TRUE(Make("", {}, {"--admin_listen=127.0.0.1:0", "--listen=127.0.0.1:0"}).ok());
}

TEST_F(ConfigurationTest, AFolderOfTlsGivesTheFilesThatHaveNoPath) {
  const TlsFiles tls = Made("tls_dir: /d\n", {"TLS_KEY=/k"}, {}).options().server.security.tls;
  EXPECT_EQ(tls.certificate, "/d/tls.crt");
  EXPECT_EQ(tls.key, "/k");
  EXPECT_EQ(tls.authorities, "/d/ca.crt");
}

TEST_F(ConfigurationTest, WhatIsPrintedIsAFileThatMakesTheSame) {
  const Configuration made =
      Made("round_timeout: 90s\ntls_dir: /d\n", {"TOKENS=/a b: #c", "LOG_FORMAT=json"},
           {"--listen=0.0.0.0:7", "--noreplace_duplicates"});
  const std::string yaml = made.ToYaml();
  EXPECT_THAT(yaml, HasSubstr(absl::StrCat("round_timeout: 1m30s  # file ", folder_.path("c.yaml"),
                                           ":1\n")));
  EXPECT_THAT(yaml, HasSubstr("tokens: \"/a b: #c\"  # environment\n"));
  EXPECT_THAT(yaml, HasSubstr("listen: 0.0.0.0:7  # flag\n"));
  EXPECT_THAT(yaml, HasSubstr("replace_duplicates: false  # flag\n"));
  EXPECT_THAT(yaml, HasSubstr("max_groups: 1024  # default\n"));
  EXPECT_THAT(yaml, ::testing::Not(HasSubstr("config")));

  const Configuration again = Made(yaml, {}, {});
  std::vector<std::string> others = again.Differences(made);
  std::erase(others, "config");
  EXPECT_THAT(others, IsEmpty());
}

TEST_F(ConfigurationTest, ReadAgainItTellsWhatHasChangedUnderneath) {
  const Configuration made = Made("log_level: warn\nmax_groups: 2\nround_timeout: 60s\n",
                                  {"MAX_LAYERS=7"}, {"--max_streams=9"});
  EXPECT_THAT(made.Again()->Differences(made), IsEmpty());
  // The same in other words, a default that is gone, and what the file does not decide.
  folder_.Write("c.yaml", "log_level: debug\nround_timeout: 1m\nmax_layers: 3\nmax_streams: 3\n");
  const auto again = made.Again();
  ASSERT_TRUE(again.ok()) << again.status();
  EXPECT_THAT(again->Differences(made), ElementsAre("log_level", "max_groups"));
  EXPECT_EQ(again->options().log_level, LogLevel::kDebug);
  folder_.Write("c.yaml", "log_level: debg\n");
  EXPECT_EQ(made.Again().status().code(), absl::StatusCode::kInvalidArgument);
}

TEST_F(ConfigurationTest, FilesAreCheckedWithoutListening) {
  EXPECT_TRUE(Made("", {}, {"--listen=127.0.0.1:1"}).CheckFiles().ok());
  const auto error = [&](const std::string& flag) {
    return std::string(Made("", {}, {flag}).CheckFiles().message());
  };
  EXPECT_THAT(error("--dump_dir=/nowhere"), HasSubstr("cannot write dumps to /nowhere"));
  EXPECT_THAT(error("--tokens=/nowhere"), HasSubstr("/nowhere: cannot be read"));
  EXPECT_THAT(error("--tls_dir=/nowhere"), HasSubstr("/nowhere/tls.crt: cannot be read"));
  EXPECT_THAT(error("--port_file=/nowhere/port"), HasSubstr("/nowhere"));
}

}  // namespace
}  // namespace syncnorm::server

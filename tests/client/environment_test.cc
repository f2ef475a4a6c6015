#include <gmock/gmock.h>
#include <gtest/gtest.h>
#include <syncnorm/group.h>

#include <cstdlib>
#include <map>
#include <string>

namespace syncnorm {
namespace {

using ::testing::AllOf;
using ::testing::HasSubstr;
using ::testing::Not;

class EnvironmentTest : public ::testing::Test {
 protected:
  EnvironmentTest() { Clear(); }
  ~EnvironmentTest() override { Clear(); }

  static void Clear() {
    for (const char* name : {"SYNCNORM_RANK",
                             "SYNCNORM_WORLD_SIZE",
                             "SYNCNORM_ADDR",
                             "SYNCNORM_PORT",
                             "SYNCNORM_JOB",
                             "SYNCNORM_GROUP",
                             "SYNCNORM_CONNECT_TIMEOUT",
                             "SYNCNORM_ROUND_TIMEOUT",
                             "SYNCNORM_ON_LOSS",
                             "SYNCNORM_NON_FINITE",
                             "RANK",
                             "WORLD_SIZE",
                             "MASTER_ADDR",
                             "MASTER_PORT",
                             "TORCHELASTIC_RUN_ID",
                             "OMPI_COMM_WORLD_RANK",
                             "OMPI_COMM_WORLD_SIZE",
                             "SLURM_PROCID",
                             "SLURM_NTASKS",
                             "SLURM_JOB_ID",
                             "SYNCNORM_TLS_CA",
                             "SYNCNORM_TLS_CERT",
                             "SYNCNORM_TLS_KEY",
                             "SYNCNORM_TLS_SERVER_NAME",
                             "SYNCNORM_TOKEN_FILE",
                             "SYNCNORM_TOKEN",
                             "SYNCNORM_INSECURE"}) {
      unsetenv(name);
    }
  }

  static absl::StatusOr<GroupOptions> From(const std::map<std::string, std::string>& variables) {
    Clear();
    for (const auto& [name, value] : variables) setenv(name.c_str(), value.c_str(), 1);
    return GroupOptions::FromEnvironment();
  }
  // A full environment with one variable changed.
  static absl::StatusOr<GroupOptions> With(const std::string& name, const std::string& value) {
    std::map<std::string, std::string> variables = {
        {"SYNCNORM_RANK", "1"}, {"SYNCNORM_WORLD_SIZE", "4"}, {"SYNCNORM_ADDR", "h:1"}};
    variables[name] = value;
    return From(variables);
  }
};

std::string Text(const absl::Status& status) {
  return std::string(status.message().data(), status.message().size());
}

TEST_F(EnvironmentTest, ReadsItsOwnVariables) {
  const auto options = From({{"SYNCNORM_RANK", "3"},
                             {"SYNCNORM_WORLD_SIZE", "4"},
                             {"SYNCNORM_ADDR", "coordinator:5000"},
                             {"SYNCNORM_JOB", "job-1"},
                             {"SYNCNORM_GROUP", "stage:2"},
                             {"SYNCNORM_CONNECT_TIMEOUT", "90s"},
                             {"SYNCNORM_ROUND_TIMEOUT", "1m30s"}});
  ASSERT_TRUE(options.ok()) << options.status();
  EXPECT_EQ(options->rank, 3);
  EXPECT_EQ(options->world_size, 4);
  EXPECT_EQ(options->address, "coordinator:5000");
  EXPECT_EQ(options->job, "job-1");
  EXPECT_EQ(options->group, "stage:2");
  EXPECT_EQ(options->connect_timeout, absl::Seconds(90));
  EXPECT_EQ(options->round_timeout, absl::Seconds(90));
}

TEST_F(EnvironmentTest, ReadsThePolicies) {
  EXPECT_EQ(With("SYNCNORM_GROUP", "g")->on_loss, OnLoss::kFail);
  EXPECT_EQ(With("SYNCNORM_GROUP", "g")->non_finite, NonFinite::kFail);
  EXPECT_EQ(With("SYNCNORM_ON_LOSS", "fail")->on_loss, OnLoss::kFail);
  EXPECT_EQ(With("SYNCNORM_ON_LOSS", "shrink")->on_loss, OnLoss::kShrink);
  EXPECT_EQ(With("SYNCNORM_ON_LOSS", "finish")->on_loss, OnLoss::kFinish);
  EXPECT_EQ(With("SYNCNORM_ON_LOSS", "")->on_loss, OnLoss::kFail);
  EXPECT_EQ(With("SYNCNORM_NON_FINITE", "fail")->non_finite, NonFinite::kFail);
  EXPECT_EQ(With("SYNCNORM_NON_FINITE", "propagate")->non_finite, NonFinite::kPropagate);
  EXPECT_EQ(With("SYNCNORM_NON_FINITE", "drop")->non_finite, NonFinite::kDrop);
}

TEST_F(EnvironmentTest, APolicyThatThereIsNotIsRefusedWithThoseThatThereAre) {
  for (const std::string value : {"Shrink", "ignore", "1", "shrink "}) {
    const absl::Status loss = With("SYNCNORM_ON_LOSS", value).status();
    EXPECT_TRUE(absl::IsInvalidArgument(loss)) << loss;
    EXPECT_THAT(Text(loss), AllOf(HasSubstr("SYNCNORM_ON_LOSS is \"" + value + "\""),
                                  HasSubstr("fail"), HasSubstr("shrink"), HasSubstr("finish")));
    const absl::Status finite = With("SYNCNORM_NON_FINITE", value).status();
    EXPECT_TRUE(absl::IsInvalidArgument(finite)) << finite;
    EXPECT_THAT(Text(finite), AllOf(HasSubstr("SYNCNORM_NON_FINITE is \"" + value + "\""),
                                    HasSubstr("fail"), HasSubstr("propagate"), HasSubstr("drop")));
  }
}

TEST_F(EnvironmentTest, ReadsTorchrunButNotItsPort) {
  const auto options = From({{"RANK", "1"},
                             {"WORLD_SIZE", "2"},
                             {"MASTER_ADDR", "node0"},
                             {"MASTER_PORT", "29500"},
                             {"SYNCNORM_PORT", "29600"},
                             {"TORCHELASTIC_RUN_ID", "run-7"}});
  ASSERT_TRUE(options.ok()) << options.status();
  EXPECT_EQ(options->rank, 1);
  EXPECT_EQ(options->world_size, 2);
  EXPECT_EQ(options->address, "node0:29600");
  EXPECT_EQ(options->job, "run-7");
  EXPECT_EQ(options->group, "world");
  EXPECT_EQ(options->round_timeout, absl::Seconds(60));
}

TEST_F(EnvironmentTest, ReadsOpenMpi) {
  const auto options = From(
      {{"OMPI_COMM_WORLD_RANK", "0"}, {"OMPI_COMM_WORLD_SIZE", "8"}, {"SYNCNORM_ADDR", "h:1"}});
  ASSERT_TRUE(options.ok()) << options.status();
  EXPECT_EQ(options->rank, 0);
  EXPECT_EQ(options->world_size, 8);
  EXPECT_EQ(options->job, "");
}

TEST_F(EnvironmentTest, ReadsSlurm) {
  const auto options = From({{"SLURM_PROCID", "5"},
                             {"SLURM_NTASKS", "6"},
                             {"SLURM_JOB_ID", "4711"},
                             {"SYNCNORM_ADDR", "h:1"}});
  ASSERT_TRUE(options.ok()) << options.status();
  EXPECT_EQ(options->rank, 5);
  EXPECT_EQ(options->world_size, 6);
  EXPECT_EQ(options->job, "4711");
}

TEST_F(EnvironmentTest, ReadsTheFilesOfTlsAndTheToken) {
  EXPECT_EQ(With("SYNCNORM_TLS_CA", "/a/ca.crt")->tls.ca_file, "/a/ca.crt");
  EXPECT_EQ(With("SYNCNORM_TLS_CERT", "/a/tls.crt")->tls.cert_file, "/a/tls.crt");
  EXPECT_EQ(With("SYNCNORM_TLS_KEY", "/a/tls.key")->tls.key_file, "/a/tls.key");
  EXPECT_EQ(With("SYNCNORM_TLS_SERVER_NAME", "coordinator")->tls.server_name, "coordinator");
  EXPECT_EQ(With("SYNCNORM_TOKEN_FILE", "/a/token")->token_file, "/a/token");
  EXPECT_EQ(With("SYNCNORM_TLS_CA", "")->tls.ca_file, "");
}

TEST_F(EnvironmentTest, ATokenItselfAndInsecureAreNotReadFromIt) {
  EXPECT_EQ(With("SYNCNORM_TOKEN", "secret")->token, "");
  EXPECT_FALSE(With("SYNCNORM_INSECURE", "1")->insecure);
}

TEST_F(EnvironmentTest, TheFirstSourceWins) {
  std::map<std::string, std::string> all = {
      {"SYNCNORM_RANK", "0"},       {"SYNCNORM_WORLD_SIZE", "10"}, {"RANK", "1"},
      {"WORLD_SIZE", "11"},         {"OMPI_COMM_WORLD_RANK", "2"}, {"OMPI_COMM_WORLD_SIZE", "12"},
      {"SLURM_PROCID", "3"},        {"SLURM_NTASKS", "13"},        {"SYNCNORM_ADDR", "h:1"},
      {"MASTER_ADDR", "other"},     {"SYNCNORM_PORT", "2"},        {"SYNCNORM_JOB", "a"},
      {"TORCHELASTIC_RUN_ID", "b"}, {"SLURM_JOB_ID", "c"}};
  EXPECT_EQ(From(all)->rank, 0);
  EXPECT_EQ(From(all)->world_size, 10);
  EXPECT_EQ(From(all)->address, "h:1");
  EXPECT_EQ(From(all)->job, "a");
  all.erase("SYNCNORM_RANK");
  EXPECT_EQ(From(all)->rank, 1) << "one variable of ours overrides one of a launcher's";
  EXPECT_EQ(From(all)->world_size, 10);
  all.erase("SYNCNORM_WORLD_SIZE");
  all.erase("SYNCNORM_ADDR");
  all.erase("SYNCNORM_JOB");
  EXPECT_EQ(From(all)->world_size, 11);
  EXPECT_EQ(From(all)->address, "other:2");
  EXPECT_EQ(From(all)->job, "b");
  all.erase("WORLD_SIZE");
  all.erase("TORCHELASTIC_RUN_ID");
  EXPECT_EQ(From(all)->rank, 2) << "RANK without WORLD_SIZE is not a launcher's";
  EXPECT_EQ(From(all)->world_size, 12);
  EXPECT_EQ(From(all)->job, "c");
  all.erase("OMPI_COMM_WORLD_RANK");
  EXPECT_EQ(From(all)->rank, 3);
  EXPECT_EQ(From(all)->world_size, 13);
}

TEST_F(EnvironmentTest, AnEmptyVariableIsAsGoodAsNone) {
  const auto options = From({{"SYNCNORM_RANK", ""},
                             {"RANK", "1"},
                             {"WORLD_SIZE", "2"},
                             {"SYNCNORM_ADDR", "h:1"},
                             {"SYNCNORM_GROUP", ""}});
  ASSERT_TRUE(options.ok()) << options.status();
  EXPECT_EQ(options->rank, 1);
  EXPECT_EQ(options->group, "world");
}

TEST_F(EnvironmentTest, AnAddressOfVersionSixGetsItsBrackets) {
  std::map<std::string, std::string> variables = {
      {"RANK", "1"}, {"WORLD_SIZE", "2"}, {"MASTER_ADDR", "fd00::1"}, {"SYNCNORM_PORT", "5000"}};
  EXPECT_EQ(From(variables)->address, "[fd00::1]:5000");
  variables["MASTER_ADDR"] = "[fd00::1]";
  EXPECT_EQ(From(variables)->address, "[fd00::1]:5000");
}

TEST_F(EnvironmentTest, NamesTheVariableAndTheValueThatCannotBeRead) {
  for (const auto& [name, value] :
       std::map<std::string, std::string>{{"SYNCNORM_RANK", "two"},
                                          {"SYNCNORM_WORLD_SIZE", "-4"},
                                          {"SYNCNORM_CONNECT_TIMEOUT", "30"},
                                          {"SYNCNORM_ROUND_TIMEOUT", "-1s"}}) {
    const absl::Status status = With(name, value).status();
    EXPECT_TRUE(absl::IsInvalidArgument(status)) << status;
    EXPECT_THAT(Text(status), HasSubstr(name + " is \"" + value + "\""));
  }
  EXPECT_THAT(Text(With("SYNCNORM_ROUND_TIMEOUT", "inf").status()), HasSubstr("\"inf\""));
  const absl::Status port =
      From({{"RANK", "0"}, {"WORLD_SIZE", "1"}, {"MASTER_ADDR", "h"}, {"SYNCNORM_PORT", "70000"}})
          .status();
  EXPECT_THAT(Text(port), HasSubstr("SYNCNORM_PORT is \"70000\", expected a port"));
  const absl::Status rank = From({{"RANK", "x"}, {"WORLD_SIZE", "1"}}).status();
  EXPECT_THAT(Text(rank), HasSubstr("RANK is \"x\""));
}

TEST_F(EnvironmentTest, SaysWhatNothingTold) {
  absl::Status status = From({}).status();
  EXPECT_TRUE(absl::IsNotFound(status)) << status;
  EXPECT_THAT(Text(status), AllOf(HasSubstr("the rank"), HasSubstr("the world size"),
                                  HasSubstr("the address"), HasSubstr("SYNCNORM_PORT")));
  status = From({{"RANK", "0"}, {"WORLD_SIZE", "2"}, {"MASTER_ADDR", "h"}}).status();
  EXPECT_TRUE(absl::IsNotFound(status)) << status;
  EXPECT_THAT(Text(status), AllOf(HasSubstr("the address"), Not(HasSubstr("the rank"))));
}

TEST_F(EnvironmentTest, ReadEnvironmentLeavesWhatNothingToldToTheCaller) {
  Clear();
  setenv("SYNCNORM_GROUP", "encoder", 1);
  absl::StatusOr<GroupOptions> options = GroupOptions::ReadEnvironment();
  ASSERT_TRUE(options.ok()) << options.status();
  EXPECT_EQ(options->group, "encoder");
  EXPECT_EQ(options->rank, -1);
  EXPECT_EQ(options->world_size, 0);
  EXPECT_EQ(options->address, "");
  setenv("SYNCNORM_RANK", "first", 1);
  EXPECT_TRUE(absl::IsInvalidArgument(GroupOptions::ReadEnvironment().status()));
}

}  // namespace
}  // namespace syncnorm

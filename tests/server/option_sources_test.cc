#include "server/option_sources.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include "absl/strings/str_cat.h"
#include "tests/support/certificates.h"

namespace syncnorm::server {
namespace {

using ::testing::ElementsAre;
using ::testing::IsEmpty;

// "name=value (origin)" of each, or the error.
std::vector<std::string> Texts(const absl::StatusOr<std::vector<Setting>>& settings) {
  if (!settings.ok()) return {std::string(settings.status().message())};
  std::vector<std::string> texts;
  for (const Setting& setting : *settings) {
    texts.push_back(absl::StrCat(setting.option->name, "=", setting.value, " (", setting.name, ", ",
                                 setting.from, ")"));
  }
  return texts;
}

TEST(CommandLineTest, TakesTheUsualFormsOfAFlag) {
  EXPECT_THAT(Texts(FromCommandLine({"--listen=a=b", "-tokens", "--x", "--insecure", "--noinsecure",
                                     "--insecure=0", "--tls_dir="})),
              ElementsAre("listen=a=b (--listen, flag)", "tokens=--x (--tokens, flag)",
                          "insecure=true (--insecure, flag)", "insecure=false (--noinsecure, flag)",
                          "insecure=0 (--insecure, flag)", "tls_dir= (--tls_dir, flag)"));
}

TEST(CommandLineTest, RefusesWhatIsNoFlagWithTheNearest) {
  const auto error = [](const std::string& argument) { return Texts(FromCommandLine({argument})); };
  EXPECT_THAT(error("--lisen=1"),
              ElementsAre("--lisen: is no flag; did you mean --listen?; see --help"));
  EXPECT_THAT(error("--something_else_altogether=1"),
              ElementsAre("--something_else_altogether: is no flag; see --help"));
  EXPECT_THAT(error("--nolisten"),
              ElementsAre("--nolisten: is no flag; did you mean --listen?; see --help"));
  EXPECT_THAT(error("--flagfile=/etc/passwd"),
              ElementsAre(::testing::StartsWith("--flagfile: is no flag")));
  EXPECT_THAT(error("--listen"), ElementsAre("--listen: its value is missing"));
  EXPECT_THAT(error("listen"), ElementsAre("unexpected argument \"listen\"; see --help"));
}

TEST(EnvironmentTest, TakesOnlyVariablesOfTheCoordinator) {
  EXPECT_THAT(
      Texts(FromEnvironment({"SYNCNORM_COORDINATOR_MAX_GROUPS=3", "PATH=/bin", "SYNCNORM_RANK=0",
                             "SYNCNORM_COORDINATOR=external",
                             "SYNCNORM_COORDINATOR_TOKENS=", "SYNCNORM_COORDINATOR_CONFIG=/f=g",
                             "SYNCNORM_COORDINATOR_MAX_GROUPS=4"})),
      ElementsAre("max_groups=3 (SYNCNORM_COORDINATOR_MAX_GROUPS, environment)",
                  "tokens= (SYNCNORM_COORDINATOR_TOKENS, environment)",
                  "config=/f=g (SYNCNORM_COORDINATOR_CONFIG, environment)"));
}

TEST(EnvironmentTest, RefusesVariablesOfNoFlagWithTheNearest) {
  const auto error = [](const std::string& variable) {
    return Texts(FromEnvironment({absl::StrCat("SYNCNORM_COORDINATOR_", variable)}));
  };
  EXPECT_THAT(error("MAX_GROUP=3"),
              ElementsAre("SYNCNORM_COORDINATOR_MAX_GROUP: is the variable of no flag; did you "
                          "mean SYNCNORM_COORDINATOR_MAX_GROUPS?; see --help"));
  EXPECT_THAT(error("max_groups=3"),
              ElementsAre("SYNCNORM_COORDINATOR_max_groups: is the variable of no flag; did you "
                          "mean SYNCNORM_COORDINATOR_MAX_GROUPS?; see --help"));
  EXPECT_THAT(
      error("PRINT_CONFIG=1"),
      ElementsAre("SYNCNORM_COORDINATOR_PRINT_CONFIG: is the variable of no flag; see --help"));
  EXPECT_THAT(error("SERVICE=1"), ElementsAre(::testing::HasSubstr("is the variable of no flag")));
  EXPECT_THAT(error("ADMIN_PORT=9090"),
              ElementsAre(::testing::HasSubstr("is the variable of no flag")));
  EXPECT_THAT(error("=1"), ElementsAre(::testing::HasSubstr("is the variable of no flag")));
}

// What a pod gets from Services "syncnorm-coordinator", with ports without and with a name, and
// "syncnorm-coordinator-metrics".
TEST(EnvironmentTest, IgnoresWhatKubernetesMakesOfAService) {
  std::vector<std::string> variables;
  for (const char* service : {"", "METRICS_"}) {
    for (const char* variable :
         {"SERVICE_HOST=10.3.0.11", "SERVICE_PORT=7070", "SERVICE_PORT_GRPC=7070",
          "PORT=tcp://10.3.0.11:7070", "PORT_7070_TCP=tcp://10.3.0.11:7070",
          "PORT_7070_TCP_PROTO=tcp", "PORT_7070_TCP_PORT=7070", "PORT_7070_TCP_ADDR=10.3.0.11"}) {
      variables.push_back(absl::StrCat("SYNCNORM_COORDINATOR_", service, variable));
    }
  }
  EXPECT_THAT(Texts(FromEnvironment(variables)), IsEmpty());
}

TEST(FileTest, NamesAreThoseOfFlags) {
  const syncnorm::testing::TestFolder folder;
  const std::string path = folder.path("c");
  const auto from = [&](const std::string& text) {
    return Texts(FromFile(folder.Write("c", text)));
  };
  EXPECT_THAT(
      from("\nmax_groups: 3\n"),
      ElementsAre(absl::StrCat("max_groups=3 (", path, ":2: max_groups, file ", path, ":2)")));
  EXPECT_THAT(
      from("max_group: 3\n"),
      ElementsAre(path + ":1: max_group: is no flag's name; did you mean max_groups?; see --help"));
  EXPECT_THAT(from("confi: x\n"), ElementsAre(path + ":1: confi: is no flag's name; see --help"));
  EXPECT_THAT(from("config: x\n"), ElementsAre(path + ":1: config: cannot be given in a file"));
  EXPECT_THAT(from("print_config: true\n"),
              ElementsAre(path + ":1: print_config: cannot be given in a file"));
}

}  // namespace
}  // namespace syncnorm::server

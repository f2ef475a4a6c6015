#include "server/config_file.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include "tests/support/certificates.h"

namespace syncnorm::server {
namespace {

using ::testing::ElementsAre;
using ::testing::FieldsAre;
using ::testing::HasSubstr;
using ::testing::IsEmpty;
using ::testing::StartsWith;

class ConfigFileTest : public ::testing::Test {
 protected:
  absl::StatusOr<std::vector<ConfigEntry>> Read(const std::string& text) const {
    return ReadConfig(folder_.Write("c.yaml", text));
  }

  const syncnorm::testing::TestFolder folder_;
};

TEST_F(ConfigFileTest, GivesNamesValuesAndLinesInTheirOrder) {
  const auto read = Read("# ours\nlisten: 0.0.0.0:7070\n\ntokens: \"\"  # none\nmax_groups: 3\n");
  ASSERT_TRUE(read.ok()) << read.status();
  EXPECT_THAT(
      *read, ElementsAre(FieldsAre("listen", "0.0.0.0:7070", "", 2), FieldsAre("tokens", "", "", 4),
                         FieldsAre("max_groups", "3", "", 5)));
}

TEST_F(ConfigFileTest, AFileWithoutAnythingIsGood) {
  for (const char* text : {"", "\n", "# nothing yet\n", "---\n", "{}"}) {
    const auto read = Read(text);
    ASSERT_TRUE(read.ok()) << read.status();
    EXPECT_THAT(*read, IsEmpty()) << text;
  }
}

TEST_F(ConfigFileTest, WhatIsNoFlatMapIsRefusedWithItsLine) {
  struct Case {
    const char* text;
    const char* error;
  };
  for (const Case& bad : std::vector<Case>{
           {"listen: a\nlisten: b\n", ":2: listen: is there a second time"},
           {"a: 1\ntokens:\n", ":2: tokens: is nothing, expected a single value"},
           {"tokens: ~\n", ":1: tokens: is nothing"},
           {"a: 1\n\nlisten: [a, b]\n", ":3: listen: is a list, expected a single value"},
           {"tls:\n  cert: a\n", ":1: tls: is a map, expected a single value"},
           {"- listen\n", ":1: expected a map from names to values"},
           {"listen\n", ":1: expected a map from names to values"},
           {"[a]: b\n", ":1: expected a name"},
           {"a: 1\n---\na: 2\n", ":3: a second document begins"},
           {"a: 1\nb: [\n", ":3: "},
           {"a: *nobody\n", ":1: "},
           {"a: 1\n\tb: 2\n", ":2: "},
       }) {
    const absl::Status status = Read(bad.text).status();
    EXPECT_EQ(status.code(), absl::StatusCode::kInvalidArgument) << bad.text;
    EXPECT_THAT(std::string(status.message()), StartsWith(folder_.path("c.yaml") + bad.error))
        << bad.text;
  }
}

TEST_F(ConfigFileTest, AFileThatCannotBeReadOrIsNoneIsNamed) {
  EXPECT_THAT(std::string(ReadConfig("/nowhere").status().message()),
              HasSubstr("/nowhere: cannot be read: No such file or directory"));
  EXPECT_THAT(std::string(ReadConfig(folder_.path("")).status().message()),
              HasSubstr("cannot be read: Is a directory"));
  EXPECT_THAT(std::string(Read(std::string((1 << 20) + 1, ' ')).status().message()),
              HasSubstr("has more than 1048576 bytes"));
}

TEST_F(ConfigFileTest, WhatIsWrittenIsRead) {
  const std::vector<ConfigEntry> entries = {
      {"empty", "", "default"},
      {"null", "~", "flag"},
      {"text", "a: b # c", "flag"},
      {"lines", "a\nb\x01\t", "file /a\nb:3"},
      {"yes", "true", ""},
      {"quoted", "'\"\\", "environment"},
      {"dashes", "- --- {} [] &a *b", ""},
      {"name", "\xc3\xa9", "x"},
  };
  const auto read = Read(ConfigText(entries));
  ASSERT_TRUE(read.ok()) << read.status() << ConfigText(entries);
  ASSERT_EQ(read->size(), entries.size());
  for (size_t i = 0; i < entries.size(); ++i) {
    EXPECT_EQ((*read)[i].name, entries[i].name);
    EXPECT_EQ((*read)[i].value, entries[i].value);
  }
  EXPECT_THAT(ConfigText({{"a", "1", "flag"}, {"b", "", "default"}}),
              "a: 1  # flag\nb: \"\"  # default\n");
}

}  // namespace
}  // namespace syncnorm::server

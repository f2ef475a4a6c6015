#include "server/port_file.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <filesystem>
#include <fstream>
#include <iterator>
#include <string>

namespace syncnorm::server {
namespace {

TEST(PortFileTest, HoldsThePortAndLeavesNothingElse) {
  const std::filesystem::path folder = std::filesystem::path(testing::TempDir()) / "port_file_test";
  std::filesystem::create_directories(folder);
  const std::string path = folder / "port";
  ASSERT_TRUE(WritePortFile(path, 1).ok());
  ASSERT_TRUE(WritePortFile(path, 4711).ok());
  std::ifstream file(path);
  EXPECT_EQ(std::string(std::istreambuf_iterator<char>(file), {}), "4711\n");
  EXPECT_EQ(std::distance(std::filesystem::directory_iterator(folder), {}), 1);
  std::filesystem::remove_all(folder);
}

TEST(PortFileTest, NamesTheFileThatCannotBeWritten) {
  const absl::Status status = WritePortFile("/nowhere/at/all/port", 1);
  EXPECT_EQ(status.code(), absl::StatusCode::kUnavailable);
  EXPECT_THAT(std::string(status.message()),
              testing::AllOf(testing::HasSubstr("/nowhere/at/all/port"),
                             testing::HasSubstr("No such file")));
}

}  // namespace
}  // namespace syncnorm::server

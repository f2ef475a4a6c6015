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
  EXPECT_TRUE(CheckPortFile(path).ok());
  EXPECT_TRUE(CheckPortFile("port").ok()) << "in the working directory";
  ASSERT_TRUE(WritePortFile(path, 1).ok());
  ASSERT_TRUE(WritePortFile(path, 4711).ok());
  std::ifstream file(path);
  EXPECT_EQ(std::string(std::istreambuf_iterator<char>(file), {}), "4711\n");
  EXPECT_EQ(std::distance(std::filesystem::directory_iterator(folder), {}), 1);
  std::filesystem::remove_all(folder);
}

TEST(PortFileTest, NamesTheFileThatCannotBeWritten) {
  const std::string path = "/nowhere/at/all/port";
  for (const absl::Status& status : {WritePortFile(path, 1), CheckPortFile(path)}) {
    EXPECT_EQ(status.code(), absl::StatusCode::kUnavailable);
    EXPECT_THAT(std::string(status.message()),
                testing::AllOf(testing::HasSubstr(path), testing::HasSubstr("No such file")));
  }
}

}  // namespace
}  // namespace syncnorm::server

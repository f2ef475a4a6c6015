// The files of --dump_dir, and disks that do not take them.

#include "server/dump_files.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>
#include <unistd.h>

#include <algorithm>
#include <filesystem>
#include <fstream>
#include <sstream>
#include <string>
#include <vector>

#include "absl/strings/str_cat.h"

namespace syncnorm::server {
namespace {

using testing::AllOf;
using testing::ElementsAre;
using testing::HasSubstr;
using testing::IsEmpty;

namespace fs = std::filesystem;

class DumpFilesTest : public testing::Test {
 protected:
  DumpFilesTest() {
    const testing::TestInfo* test = testing::UnitTest::GetInstance()->current_test_info();
    directory_ = fs::path(testing::TempDir()) / absl::StrCat("dumps-", test->name(), "-", getpid());
    fs::create_directory(directory_);
  }
  ~DumpFilesTest() override { fs::remove_all(directory_); }

  std::vector<std::string> Names() const {
    std::vector<std::string> names;
    for (const auto& entry : fs::directory_iterator(directory_)) {
      names.push_back(entry.path().filename().string());
    }
    std::sort(names.begin(), names.end());
    return names;
  }
  std::string Content(const std::string& name) const {
    std::ifstream file(directory_ / name);
    std::ostringstream text;
    text << file.rdbuf();
    return text.str();
  }

  fs::path directory_;
};

TEST_F(DumpFilesTest, NumbersItsFilesAndLeavesNothingBesideThem) {
  DumpFiles files(directory_.string());
  EXPECT_TRUE(files.on());
  EXPECT_TRUE(files.Write("a", "first").ok());
  EXPECT_TRUE(files.Write("b", "second").ok());
  EXPECT_THAT(Names(), ElementsAre("a-1.json", "b-2.json"));
  EXPECT_EQ(Content("a-1.json"), "first");
  EXPECT_EQ(Content("b-2.json"), "second");
  EXPECT_EQ(files.written(), 2u);
}

TEST_F(DumpFilesTest, NeverTakesThePlaceOfAFormerProcessFile) {
  std::ofstream(directory_ / "a-1.json") << "of a former process";
  DumpFiles files(directory_.string());
  EXPECT_TRUE(files.Write("a", "new").ok());
  EXPECT_EQ(Content("a-1.json"), "of a former process");
  EXPECT_EQ(Content("a-2.json"), "new");
}

TEST_F(DumpFilesTest, KeepsTheLatestOfItsOwn) {
  std::ofstream(directory_ / "other.json") << "not ours";
  DumpFiles files(directory_.string(), 2);
  for (int i = 0; i < 4; ++i) EXPECT_TRUE(files.Write("a", "x").ok());
  EXPECT_THAT(Names(), ElementsAre("a-3.json", "a-4.json", "other.json"));
}

TEST_F(DumpFilesTest, AGroupsNameBecomesAFileNameWithinTheDirectory) {
  EXPECT_EQ(DumpFiles::Name("world", 3), "syncnorm-world-3");
  EXPECT_EQ(DumpFiles::Name("team/a:b", 3), "syncnorm-team_a_b-3");
  EXPECT_EQ(DumpFiles::Name("../../etc/x", 0), "syncnorm-.._.._etc_x-0");
  DumpFiles files(directory_.string());
  EXPECT_TRUE(files.Write(DumpFiles::Name("../../x", 1), "x").ok());
  EXPECT_THAT(Names(), ElementsAre("syncnorm-.._.._x-1-1.json"));
}

TEST_F(DumpFilesTest, ADirectoryThatCannotBeRightIsToldWithTheReason) {
  EXPECT_TRUE(DumpFiles::Check(directory_.string()).ok());
  const std::string file = directory_ / "file", missing = directory_ / "missing";
  std::ofstream(file) << "no directory";
  EXPECT_EQ(DumpFiles::Check(file), absl::FailedPreconditionError(absl::StrCat(
                                        "cannot write dumps to ", file, ": Not a directory")));
  EXPECT_EQ(DumpFiles::Check(missing),
            absl::FailedPreconditionError(
                absl::StrCat("cannot write dumps to ", missing, ": No such file or directory")));
}

TEST_F(DumpFilesTest, ADirectoryThatMayNotBeWrittenToIsToldWithTheReason) {
  fs::permissions(directory_, static_cast<fs::perms>(0555));
  // Root may write everywhere; nobody may not.
  constexpr uid_t kNobody = 65534;
  const bool root = geteuid() == 0;
  ASSERT_TRUE(!root || seteuid(kNobody) == 0);
  const absl::Status status = DumpFiles::Check(directory_.string());
  ASSERT_TRUE(!root || seteuid(0) == 0);
  EXPECT_EQ(status, absl::FailedPreconditionError(absl::StrCat(
                        "cannot write dumps to ", directory_.string(), ": Permission denied")));
}

TEST_F(DumpFilesTest, ADirectoryThatIsGoneIsCountedAndWrittenToWhenItIsBack) {
  fs::remove(directory_);
  DumpFiles files(directory_.string());
  testing::internal::CaptureStderr();
  const absl::Status status = files.Write("a", "x");
  files.Write("a", "x").IgnoreError();
  const std::string log = testing::internal::GetCapturedStderr();
  EXPECT_EQ(status.code(), absl::StatusCode::kUnavailable);
  EXPECT_THAT(std::string(status.message()),
              AllOf(HasSubstr("a-1.json"), HasSubstr("No such file or directory")));
  EXPECT_EQ(files.failed(), 2u);
  EXPECT_EQ(std::count(log.begin(), log.end(), '\n'), 1) << log;
  fs::create_directory(directory_);
  EXPECT_TRUE(files.Write("a", "x").ok());
  EXPECT_EQ(files.written(), 1u);
}

// A device that takes no byte stands for a disk that is full.
TEST_F(DumpFilesTest, AFullDiskCostsTheFileAndLeavesNoPieceOfIt) {
  const std::string temporary = absl::StrCat("a-1.json.", getpid(), ".tmp");
  fs::create_symlink("/dev/full", directory_ / temporary);
  DumpFiles files(directory_.string());
  const absl::Status status = files.Write("a", "x");
  EXPECT_THAT(std::string(status.message()), HasSubstr("No space left on device"));
  EXPECT_THAT(Names(), IsEmpty());
  EXPECT_EQ(files.failed(), 1u);
}

}  // namespace
}  // namespace syncnorm::server

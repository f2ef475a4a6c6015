// All files or none, with their rights from the start.

#include "server/ctl_files.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>
#include <sys/stat.h>
#include <unistd.h>

#include <cerrno>
#include <cstdlib>
#include <filesystem>
#include <string>
#include <vector>

#include "tests/support/certificates.h"

namespace {

// Renames that succeed before one fails; below 0: none fails.
int renames_left = -1;

bool Fails() { return renames_left >= 0 && renames_left-- == 0; }

}  // namespace

// The linker's --wrap: what the code under test calls as rename and renameat2.
extern "C" {
int __real_rename(const char* from, const char* to);
int __wrap_rename(const char* from, const char* to) {
  if (!Fails()) return __real_rename(from, to);
  errno = EIO;
  return -1;
}
int __real_renameat2(int from_fd, const char* from, int to_fd, const char* to, unsigned flags);
int __wrap_renameat2(int from_fd, const char* from, int to_fd, const char* to, unsigned flags) {
  if (!Fails()) return __real_renameat2(from_fd, from, to_fd, to, flags);
  errno = EIO;
  return -1;
}
}

namespace syncnorm::server {
namespace {

using ::testing::HasSubstr;
using ::testing::IsEmpty;
using ::testing::UnorderedElementsAre;

namespace fs = std::filesystem;

mode_t ModeOf(const std::string& path) {
  struct stat found = {};
  EXPECT_EQ(stat(path.c_str(), &found), 0) << path;
  return found.st_mode & 07777;
}

std::vector<std::string> In(const std::string& folder) {
  std::vector<std::string> names;
  for (const auto& entry : fs::recursive_directory_iterator(folder)) {
    if (!entry.is_directory()) names.push_back(fs::relative(entry.path(), folder).string());
  }
  return names;
}

class CtlFilesTest : public ::testing::Test {
 protected:
  ~CtlFilesTest() override { umask(before_); }

  const mode_t before_ = umask(022);
  const syncnorm::testing::TestFolder folder_;
  const std::string out_ = folder_.path("out");
  const std::vector<NewFile> files_ = {
      {"a", "text a", 0644}, {"b/c", "text c", 0600}, {"b/d", "", 0640}};
};

TEST_F(CtlFilesTest, MakesAllWithTheirRightsWhateverTheUmask) {
  for (const mode_t mask : {000, 077}) {
    umask(mask);
    fs::remove_all(out_);
    ASSERT_TRUE(MakeFiles(out_, files_).ok());
    EXPECT_THAT(In(out_), UnorderedElementsAre("a", "b/c", "b/d"));
    EXPECT_EQ(*ReadText(out_ + "/b/c"), "text c");
    EXPECT_EQ(ModeOf(out_ + "/a"), 0644);
    EXPECT_EQ(ModeOf(out_ + "/b/c"), 0600);
    EXPECT_EQ(ModeOf(out_ + "/b/d"), 0640);
    EXPECT_EQ(ModeOf(out_ + "/b"), 0755);
    EXPECT_EQ(ModeOf(out_), 0755);
  }
}

TEST_F(CtlFilesTest, AFolderThatIsThereIsFilledAndOthersFilesStay) {
  fs::create_directory(out_);
  folder_.Write("out/other", "stays");
  ASSERT_TRUE(MakeFiles(out_, files_).ok());
  EXPECT_THAT(In(out_), UnorderedElementsAre("a", "b/c", "b/d", "other"));
}

TEST_F(CtlFilesTest, FoldersThatAreThereAreFilledToo) {
  fs::create_directories(out_ + "/b");
  ASSERT_TRUE(MakeFiles(out_, files_).ok());
  EXPECT_THAT(In(out_), UnorderedElementsAre("a", "b/c", "b/d"));
}

TEST_F(CtlFilesTest, WhatIsThereAlreadyIsNotTouchedAndNothingIsLeftBeside) {
  fs::create_directories(out_ + "/b");
  folder_.Write("out/b/d", "stays");
  const absl::Status made = MakeFiles(out_, files_);
  EXPECT_EQ(made.code(), absl::StatusCode::kAlreadyExists);
  EXPECT_THAT(std::string(made.message()), HasSubstr("/out/b/d: File exists"));
  EXPECT_THAT(In(out_), UnorderedElementsAre("b/d"));
  EXPECT_EQ(*ReadText(out_ + "/b/d"), "stays");
}

TEST_F(CtlFilesTest, AnErrorLeavesNoFolder) {
  // The last one cannot be written: its name has no room for what it is called meanwhile.
  const absl::Status made =
      MakeFiles(out_, {{"a", "x"}, {"b/c", "y"}, {std::string(255, 'n'), "z"}});
  EXPECT_THAT(std::string(made.message()), HasSubstr("File name too long"));
  EXPECT_FALSE(fs::exists(out_));
  EXPECT_THAT(std::string(MakeFiles(folder_.path("none/out"), files_).message()),
              HasSubstr("none/out: No such file or directory"));
}

TEST_F(CtlFilesTest, AFullDiskLeavesNothing) {
  if (geteuid() != 0) GTEST_SKIP() << "mounting a small disk needs root";
  fs::create_directory(out_);
  ASSERT_EQ(std::system(("mount -t tmpfs -o size=64k tmpfs '" + out_ + "'").c_str()), 0);
  const absl::Status made = MakeFiles(out_, {{"a", "x"}, {"b", std::string(200'000, 'y')}});
  EXPECT_THAT(std::string(made.message()), HasSubstr("No space left on device"));
  EXPECT_THAT(In(out_), IsEmpty());
  EXPECT_EQ(std::system(("umount '" + out_ + "'").c_str()), 0);
}

TEST_F(CtlFilesTest, ReplacesEachInPlaceWithTheOldOnesOwner) {
  ASSERT_TRUE(MakeFiles(out_, files_).ok());
  if (geteuid() == 0) {
    ASSERT_EQ(chown((out_ + "/b/c").c_str(), 65532, 65532), 0);
  }
  struct stat old = {};
  ASSERT_EQ(stat((out_ + "/b/c").c_str(), &old), 0);
  ASSERT_TRUE(ReplaceFiles(out_, {{"b/c", "new c", 0640}, {"a", "new a", 0644}}).ok());
  EXPECT_EQ(*ReadText(out_ + "/b/c"), "new c");
  EXPECT_EQ(*ReadText(out_ + "/a"), "new a");
  struct stat fresh = {};
  ASSERT_EQ(stat((out_ + "/b/c").c_str(), &fresh), 0);
  EXPECT_EQ(fresh.st_uid, old.st_uid);
  EXPECT_EQ(fresh.st_gid, old.st_gid);
  EXPECT_NE(fresh.st_ino, old.st_ino) << "a reader of the old one goes on with it";
  EXPECT_EQ(ModeOf(out_ + "/b/c"), 0640);
  EXPECT_THAT(In(out_), UnorderedElementsAre("a", "b/c", "b/d"));
}

TEST_F(CtlFilesTest, ReplacingIsAllOrNothing) {
  ASSERT_TRUE(MakeFiles(out_, files_).ok());
  const absl::Status one = ReplaceFiles(out_, {{"a", "new"}, {"none", "new"}});
  EXPECT_THAT(std::string(one.message()), HasSubstr("none: No such file or directory"));
  EXPECT_EQ(*ReadText(out_ + "/a"), "text a");
  const std::vector<NewFile> all = {{"a", "new"}, {"b/c", "new"}, {"b/d", "new"}};
  for (int good = 0; good < 3; ++good) {
    renames_left = good;
    const absl::Status failed = ReplaceFiles(out_, all);
    EXPECT_THAT(std::string(failed.message()), HasSubstr(": Input/output error")) << good;
    EXPECT_EQ(*ReadText(out_ + "/a"), "text a") << good;
    EXPECT_EQ(*ReadText(out_ + "/b/c"), "text c") << good;
    EXPECT_EQ(*ReadText(out_ + "/b/d"), "") << good;
    EXPECT_THAT(In(out_), UnorderedElementsAre("a", "b/c", "b/d")) << good;
  }
  renames_left = -1;
  EXPECT_TRUE(ReplaceFiles(out_, all).ok());
  EXPECT_EQ(*ReadText(out_ + "/b/d"), "new");
}

TEST_F(CtlFilesTest, MakingIsAllOrNothing) {
  for (int good = 0; good < 3; ++good) {
    renames_left = good;
    const absl::Status failed = MakeFiles(out_, files_);
    EXPECT_THAT(std::string(failed.message()), HasSubstr(": Input/output error")) << good;
    EXPECT_FALSE(fs::exists(out_)) << good;
  }
  renames_left = -1;
  EXPECT_TRUE(MakeFiles(out_, files_).ok());
}

TEST_F(CtlFilesTest, AFileThatIsNotThereSaysSo) {
  EXPECT_THAT(std::string(ReadText(folder_.path("x")).status().message()),
              HasSubstr("/x: cannot be read: No such file or directory"));
}

}  // namespace
}  // namespace syncnorm::server

#include "server/file_watch.h"

#include <gtest/gtest.h>

#include <filesystem>

#include "tests/support/certificates.h"

namespace syncnorm::server {
namespace {

TEST(FileWatchTest, SeesAFileThatIsReplacedWrittenOrGone) {
  const syncnorm::testing::TestFolder folder;
  const std::string path = folder.Write("file", "one");
  FileWatch watch({"/dev/null", path});
  EXPECT_FALSE(watch.Changed());
  folder.Write("file", "two");  // another file of the same size, perhaps at the same time
  EXPECT_TRUE(watch.Changed());
  EXPECT_FALSE(watch.Changed());
  std::filesystem::resize_file(path, 2);
  EXPECT_TRUE(watch.Changed());
  std::filesystem::remove(path);
  EXPECT_TRUE(watch.Changed());
  EXPECT_FALSE(watch.Changed());
  folder.Write("file", "one");
  EXPECT_TRUE(watch.Changed());
}

TEST(FileWatchTest, SeesASymlinkOfAFolderThatLeadsElsewhere) {
  const syncnorm::testing::TestFolder folder;
  for (const char* name : {"a", "b"}) {
    std::filesystem::create_directory(folder.path(name));
    folder.Write(std::string(name) + "/file", "same");
  }
  folder.Link("now", folder.path("a"));
  FileWatch watch({folder.path("now/file")});
  EXPECT_FALSE(watch.Changed());
  folder.Link("now", folder.path("b"));
  EXPECT_TRUE(watch.Changed());
}

}  // namespace
}  // namespace syncnorm::server

// What the build has put into the program are the page's files, all of them, byte for byte.
#include "server/statusz_assets.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <filesystem>
#include <fstream>
#include <map>
#include <sstream>
#include <string>

#include "absl/strings/match.h"
#include "absl/strings/str_cat.h"

namespace syncnorm::server {
namespace {

std::map<std::string, StatuszAsset> ByPath() {
  std::map<std::string, StatuszAsset> by_path;
  for (const StatuszAsset& asset : StatuszAssets()) by_path[std::string(asset.path)] = asset;
  return by_path;
}

TEST(StatuszAssetsTest, EveryFileOfThePageIsThereByteForByte) {
  const std::map<std::string, StatuszAsset> assets = ByPath();
  ASSERT_EQ(assets.size(), StatuszAssets().size()) << "two have one path";
  const std::filesystem::path root = SYNCNORM_STATUSZ;
  size_t files = 0;
  for (const auto& entry : std::filesystem::recursive_directory_iterator(root)) {
    if (!entry.is_regular_file()) continue;
    ++files;
    std::filesystem::path name = entry.path().lexically_relative(root);
    if (name.extension() == ".html") name.replace_extension();
    const std::string path = absl::StrCat("/", name.string());
    ASSERT_TRUE(assets.contains(path)) << path << " is not listed in server/CMakeLists.txt";
    std::ifstream file(entry.path(), std::ios::binary);
    std::ostringstream bytes;
    bytes << file.rdbuf();
    EXPECT_GT(bytes.str().size(), 0u);
    EXPECT_TRUE(assets.at(path).bytes == bytes.str()) << path << " differs from the file";
  }
  EXPECT_EQ(assets.size(), files);
}

TEST(StatuszAssetsTest, EveryFileHasItsContentType) {
  for (const StatuszAsset& asset : StatuszAssets()) {
    const absl::string_view expected =
        absl::EndsWith(asset.path, ".css")  ? "text/css; charset=utf-8"
        : absl::EndsWith(asset.path, ".js") ? "text/javascript; charset=utf-8"
                                            : "text/html; charset=utf-8";
    EXPECT_EQ(asset.content_type, expected) << asset.path;
  }
}

TEST(StatuszAssetsTest, ThePageHasNothingThatItsPolicyForbids) {
  const std::string html(ByPath().at("/statusz").bytes);
  EXPECT_THAT(html, testing::Not(testing::HasSubstr(" style=")));
  EXPECT_THAT(html, testing::Not(testing::HasSubstr("<style")));
  EXPECT_THAT(html, testing::Not(testing::HasSubstr("<script>")));
  EXPECT_THAT(html, testing::Not(testing::ContainsRegex(" on[a-z]+=")));
  EXPECT_THAT(std::string(kStatuszPolicy), testing::StartsWith("default-src 'none'"));
  EXPECT_THAT(std::string(kStatuszPolicy), testing::Not(testing::HasSubstr("unsafe")));
}

}  // namespace
}  // namespace syncnorm::server

#include "client/options.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

namespace syncnorm {
namespace {

using ::testing::HasSubstr;

GroupOptions Good() {
  GroupOptions options;
  options.address = "h:1";
  options.rank = 0;
  options.world_size = 4;
  return options;
}

TEST(OptionsTest, GoodOnesPass) {
  EXPECT_TRUE(CheckOptions(Good()).ok());
  GroupOptions options = Good();
  options.rank = 4095;
  options.world_size = 4096;
  options.group = "a.B_9/x:y-z";
  EXPECT_TRUE(CheckOptions(options).ok());
}

TEST(OptionsTest, BadOnesAreNamedWithTheirValueAndWhatIsAllowed) {
  struct Case {
    void (*change)(GroupOptions*);
    std::string text;
  };
  const std::vector<Case> cases = {
      {[](GroupOptions* o) { o->address.clear(); }, "address is empty"},
      {[](GroupOptions* o) { o->group = "my group"; }, "group is \"my group\", expected 1 to 128"},
      {[](GroupOptions* o) { o->group.clear(); }, "group is \"\""},
      {[](GroupOptions* o) { o->group = std::string(129, 'a'); }, "expected 1 to 128"},
      {[](GroupOptions* o) { o->rank = -1; }, "rank is -1, expected 0 to 3 (world_size is 4)"},
      {[](GroupOptions* o) { o->rank = 4; }, "rank is 4, expected 0 to 3 (world_size is 4)"},
      {[](GroupOptions* o) { o->world_size = 0; }, "world_size is 0, expected 1 to 4096"},
      {[](GroupOptions* o) { o->world_size = 4097; }, "world_size is 4097"},
      {[](GroupOptions* o) { o->host = std::string(256, 'h'); }, "host has 256 bytes, at most 255"},
      {[](GroupOptions* o) { o->job = std::string(300, 'j'); }, "job has 300 bytes, at most 255"},
      {[](GroupOptions* o) { o->connect_timeout = absl::ZeroDuration(); },
       "connect_timeout is 0, expected more than 0"},
      {[](GroupOptions* o) { o->round_timeout = absl::Seconds(-1); }, "round_timeout is -1s"},
      {[](GroupOptions* o) { o->round_timeout = absl::InfiniteDuration(); },
       "round_timeout is inf"},
  };
  for (const Case& c : cases) {
    GroupOptions options = Good();
    c.change(&options);
    const absl::Status status = CheckOptions(options);
    EXPECT_TRUE(absl::IsInvalidArgument(status)) << c.text;
    EXPECT_THAT(std::string(status.message().data(), status.message().size()), HasSubstr(c.text));
  }
}

TEST(OptionsTest, ThisMachineHasAName) { EXPECT_NE(HostName(), ""); }

}  // namespace
}  // namespace syncnorm

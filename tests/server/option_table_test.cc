#include "server/option_table.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <set>

namespace syncnorm::server {
namespace {

using ::testing::HasSubstr;

std::string Error(const char* name, const std::string& value) {
  Options options;
  return std::string(FindOption(name)->set(value, &options).message());
}

TEST(OptionTableTest, EveryOptionTakesItsOwnDefault) {
  const Options defaults;
  std::set<std::string> names;
  for (const Option& option : OptionTable()) {
    EXPECT_TRUE(names.insert(option.name).second) << option.name;
    EXPECT_FALSE(option.help.empty()) << option.name;
    Options options;
    const std::string value = option.get(defaults);
    EXPECT_TRUE(option.set(value, &options).ok()) << option.name << " " << value;
    EXPECT_EQ(option.get(options), value) << option.name;
  }
  EXPECT_GE(names.size(), 40u);
}

TEST(OptionTableTest, EveryOptionHasAPlaceOfItsOwn) {
  for (const Option& option : OptionTable()) {
    const std::string before = option.get(Options());
    Options options;
    for (const char* other : {"true", "7", "7s", "127.0.0.1:7", "json", "debug", "text"}) {
      if (option.set(other, &options).ok() && option.get(options) != before) break;
    }
    EXPECT_NE(option.get(options), before) << option.name;
    for (const Option& other : OptionTable()) {
      if (other.name != option.name) {
        EXPECT_EQ(other.get(options), other.get(Options())) << option.name << ", " << other.name;
      }
    }
  }
}

TEST(OptionTableTest, ABadValueLeavesTheOptionAndSaysWhatIsExpected) {
  Options options;
  ASSERT_TRUE(FindOption("max_groups")->set("7", &options).ok());
  EXPECT_FALSE(FindOption("max_groups")->set("0", &options).ok());
  EXPECT_EQ(options.server.settings.limits.groups, 7u);

  EXPECT_EQ(Error("max_groups", "many"), "\"many\" is not a whole number from 0 to 4294967295");
  EXPECT_EQ(Error("max_groups", "-1"), "\"-1\" is not a whole number from 0 to 4294967295");
  EXPECT_EQ(Error("max_values", "1e6"),
            "\"1e6\" is not a whole number from 0 to 18446744073709551615");
  EXPECT_EQ(Error("max_groups", "0"), "0 is not within 1 to 2147483647");
  EXPECT_EQ(Error("max_members", "4097"), "4097 is not within 1 to 4096");
  EXPECT_EQ(Error("insecure", "maybe"), "\"maybe\" is not true or false");
  EXPECT_EQ(Error("round_timeout", "30"), "\"30\" is not a duration, such as 30s or 500ms");
  EXPECT_EQ(Error("round_timeout", "-1s"), "-1s is not above 0");
  EXPECT_EQ(Error("reconnect_grace", "-1ms"), "-1ms is below 0");
  EXPECT_EQ(Error("reload_interval", "1ms"), "1ms is below 10ms");
  EXPECT_THAT(Error("listen", "nowhere"), HasSubstr("expected HOST:PORT or unix:PATH"));
  EXPECT_THAT(Error("admin_listen", "nowhere"), HasSubstr("expected HOST:PORT"));
  EXPECT_EQ(Error("admin_listen", "unix:/s"), "address \"unix:/s\": expected HOST:PORT");
  EXPECT_THAT(Error("log_level", "loud"), HasSubstr("none of debug, info, warn, error, off"));
  EXPECT_THAT(Error("log_format", "xml"), HasSubstr("none of text, json"));
}

TEST(OptionTableTest, TheNearestNameIsOfferedUnlessNoneIsNear) {
  const auto nearest = [](const char* name) {
    const Option* option = NearestOption(name);
    return option == nullptr ? "" : option->name;
  };
  EXPECT_EQ(nearest("lisen"), "listen");
  EXPECT_EQ(nearest("max_group"), "max_groups");
  EXPECT_EQ(nearest("round-timeout"), "round_timeout");
  EXPECT_EQ(nearest("grpc_reflections"), "grpc_reflection");
  EXPECT_EQ(nearest("colour"), "");
  EXPECT_EQ(nearest(std::string(100'000, 'a').c_str()), "");
}

}  // namespace
}  // namespace syncnorm::server

// How syncnormctl writes numbers and columns.

#include "server/ctl_text.h"

#include <gtest/gtest.h>

namespace syncnorm::server {
namespace {

TEST(CtlTextTest, TimesHaveTheirUnit) {
  EXPECT_EQ(Time(0.00004), "40 us");
  EXPECT_EQ(Time(0.0123), "12.3 ms");
  EXPECT_EQ(Time(1.5), "1.5 s");
  EXPECT_EQ(Time(720), "12 min");
  EXPECT_EQ(Time(11520), "3.2 h");
  EXPECT_EQ(Time(7776000), "90 days");
}

TEST(CtlTextTest, ColumnsAreCountedInCharacters) {
  EXPECT_EQ(Left("é", 3), "é  ");
  EXPECT_EQ(Right("é", 3), "  é");
  EXPECT_EQ(Left("abcd", 3), "abcd");
}

TEST(CtlTextTest, ALineThatIsCutSaysSoAndNoCharacterIsSplit) {
  EXPECT_EQ(Cut("abc", 3), "abc");
  EXPECT_EQ(Cut("abcd", 3), "ab~");
  EXPECT_EQ(Cut("éàü", 3), "éàü");
  EXPECT_EQ(Cut("éàüö", 3), "éà~");
  EXPECT_EQ(Cut("abcd", 1), "~");
  EXPECT_EQ(Cut("abcd", 0), "");
}

TEST(CtlTextTest, AnOutputThatIsFullIsAnError) {
  std::FILE* const full = std::fopen("/dev/full", "w");
  EXPECT_EQ(Print("x", full).status().message(),
            "cannot write the answer: No space left on device");
  std::fclose(full);
}

}  // namespace
}  // namespace syncnorm::server

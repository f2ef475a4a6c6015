#include "server/certificates.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <filesystem>

#include "absl/time/clock.h"
#include "tests/support/certificates.h"

namespace syncnorm::server {
namespace {

using ::syncnorm::testing::Authority;
using ::syncnorm::testing::IssuedCertificate;
using ::syncnorm::testing::TestFolder;
using ::testing::HasSubstr;

class CertificatesTest : public ::testing::Test {
 protected:
  CertificatesTest() {
    folder_.Link("now", folder_.WriteSecret("first", first_, authority_.certificate()));
    files_ = {folder_.path("now/tls.crt"), folder_.path("now/tls.key"), folder_.path("now/ca.crt")};
  }

  std::unique_ptr<Certificates> Load() const {
    auto certificates = Certificates::Load(files_, absl::Now());
    EXPECT_TRUE(certificates.ok()) << certificates.status();
    return *std::move(certificates);
  }

  const Authority authority_{"authority"};
  const IssuedCertificate first_ = authority_.Issue({.name = "first"});
  const TestFolder folder_;
  TlsFiles files_;
};

TEST_F(CertificatesTest, LoadsWhatIsThere) {
  const auto certificates = Load();
  EXPECT_EQ(certificates->current()->texts.certificate, first_.certificate);
  EXPECT_EQ(certificates->current()->generation, 1U);
  EXPECT_GT(certificates->current()->not_after, absl::Now());
  EXPECT_FALSE(*certificates->Reload(absl::Now()));
}

TEST_F(CertificatesTest, RefusesAtTheStartWhatCannotBeUsed) {
  const IssuedCertificate old =
      authority_.Issue({.name = "old", .begins = -absl::Hours(2), .ends = -absl::Hours(1)});
  folder_.WriteSecret("first", old, authority_.certificate());
  const absl::Status status = Certificates::Load(files_, absl::Now()).status();
  EXPECT_EQ(status.code(), absl::StatusCode::kFailedPrecondition);
  EXPECT_THAT(std::string(status.message()),
              HasSubstr("tls.crt: the certificate of CN=old expired: not_after"));
}

TEST_F(CertificatesTest, ASymlinkThatIsSwappedBringsTheNewOnes) {
  const auto certificates = Load();
  const IssuedCertificate second = authority_.Issue({.name = "second"});
  folder_.Link("now", folder_.WriteSecret("second", second, authority_.certificate()));
  EXPECT_TRUE(*certificates->Reload(absl::Now()));
  EXPECT_EQ(certificates->current()->texts.key, second.key);
  EXPECT_EQ(certificates->current()->generation, 2U);
}

TEST_F(CertificatesTest, TheSameTextsInNewFilesAreNoNews) {
  const auto certificates = Load();
  folder_.Link("now", folder_.WriteSecret("copy", first_, authority_.certificate()));
  EXPECT_FALSE(*certificates->Reload(absl::Now()));
  EXPECT_EQ(certificates->current()->generation, 1U);
}

TEST_F(CertificatesTest, AReloadThatFailsKeepsTheOldOnesUntilTheFilesFit) {
  const auto certificates = Load();
  const IssuedCertificate second = authority_.Issue({.name = "second"});
  folder_.Write("first/tls.crt", second.certificate);
  for (int i = 0; i < 2; ++i) {  // tried again, though nothing changes any more
    const absl::Status status = certificates->Reload(absl::Now()).status();
    EXPECT_THAT(std::string(status.message()), HasSubstr("tls.key: is not the key of"));
    EXPECT_EQ(certificates->current()->texts.certificate, first_.certificate);
  }
  folder_.Write("first/tls.key", second.key);
  EXPECT_TRUE(*certificates->Reload(absl::Now()));
  EXPECT_EQ(certificates->current()->texts.certificate, second.certificate);
}

TEST_F(CertificatesTest, OnesThatAreNotValidYetAreTakenWhenTheyAre) {
  const auto certificates = Load();
  const IssuedCertificate future =
      authority_.Issue({.name = "future", .begins = absl::Minutes(10), .ends = absl::Hours(1)});
  folder_.WriteSecret("first", future, authority_.certificate());
  EXPECT_THAT(std::string(certificates->Reload(absl::Now()).status().message()),
              HasSubstr("CN=future is not valid yet"));
  EXPECT_TRUE(*certificates->Reload(absl::Now() + absl::Minutes(11)));
}

}  // namespace
}  // namespace syncnorm::server

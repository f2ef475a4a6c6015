#include "proto/tls_files.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>
#include <sys/stat.h>

#include <string>

#include "absl/time/clock.h"
#include "tests/support/certificates.h"

namespace syncnorm {
namespace {

using ::syncnorm::testing::Authority;
using ::syncnorm::testing::IssuedCertificate;
using ::syncnorm::testing::TestFolder;
using ::testing::AllOf;
using ::testing::HasSubstr;
using ::testing::Not;

class TlsFilesTest : public ::testing::Test {
 protected:
  TlsFilesTest() {
    files_.certificate = folder_.Write("own.crt", own_.certificate);
    files_.key = folder_.Write("own.key", own_.key);
    files_.authorities = folder_.Write("ca.crt", authority_.certificate());
  }

  void ExpectFailure(absl::StatusCode code, const std::string& text) const {
    const absl::Status status = ReadTls(files_).status();
    EXPECT_EQ(status.code(), code) << status;
    EXPECT_THAT(std::string(status.message()), HasSubstr(text));
  }

  const Authority authority_{"lab authority"};
  const IssuedCertificate own_ = authority_.Issue({.name = "coordinator"});
  const TestFolder folder_;
  TlsFiles files_;
};

TEST_F(TlsFilesTest, GoodFilesAreReadAsTheyAre) {
  const auto texts = ReadTls(files_);
  ASSERT_TRUE(texts.ok()) << texts.status();
  EXPECT_EQ(texts->certificate, own_.certificate);
  EXPECT_EQ(texts->key, own_.key);
  EXPECT_EQ(texts->authorities, authority_.certificate());
  EXPECT_TRUE(CheckDates(files_, *texts, absl::Now()).ok());
}

TEST_F(TlsFilesTest, AWorkerMayHaveOnlyTheAuthorities) {
  files_.certificate.clear();
  files_.key.clear();
  EXPECT_TRUE(ReadTls(files_).ok());
  files_.key = folder_.path("own.key");
  ExpectFailure(absl::StatusCode::kInvalidArgument, "the certificate of the key");
}

TEST_F(TlsFilesTest, AFileThatCannotBeReadIsNamedWithTheReason) {
  files_.key = folder_.path("nothing.key");
  ExpectFailure(absl::StatusCode::kNotFound,
                files_.key + ": cannot be read: No such file or directory");
  files_.key = folder_.path("");
  ExpectFailure(absl::StatusCode::kNotFound, "Is a directory");
}

TEST_F(TlsFilesTest, WhatIsNotPemIsNamed) {
  folder_.Write("own.crt", "hello");
  ExpectFailure(absl::StatusCode::kInvalidArgument, "own.crt: has no certificate in PEM");
  folder_.Write("own.crt", own_.certificate +
                               "-----BEGIN CERTIFICATE-----\nAAAA\n-----END CERTIFICATE-----\n");
  ExpectFailure(absl::StatusCode::kInvalidArgument, "own.crt: certificate 2 cannot be parsed");
  folder_.Write("own.crt", own_.certificate);
  folder_.Write("own.key", own_.certificate);
  ExpectFailure(absl::StatusCode::kInvalidArgument, "own.key: is not a private key");
}

TEST_F(TlsFilesTest, AKeyOfAnotherCertificateIsNamedAndNotQuoted) {
  const IssuedCertificate other = authority_.Issue({.name = "other"});
  folder_.Write("own.key", other.key);
  ExpectFailure(absl::StatusCode::kInvalidArgument,
                "own.key: is not the key of the certificate " + files_.certificate);
  EXPECT_THAT(std::string(ReadTls(files_).status().message()), Not(HasSubstr("PRIVATE KEY")));
}

TEST_F(TlsFilesTest, AFileWithoutEndIsNotRead) {
  files_.certificate = "/dev/zero";
  ExpectFailure(absl::StatusCode::kInvalidArgument, "/dev/zero: has more than 1048576 bytes");
}

TEST_F(TlsFilesTest, DatesAreToldWithTheLocalTime) {
  const auto texts = ReadTls(files_);
  ASSERT_TRUE(texts.ok());
  const absl::Time late = absl::Now() + absl::Hours(2);
  absl::Status status = CheckDates(files_, *texts, late);
  EXPECT_TRUE(absl::IsFailedPrecondition(status)) << status;
  EXPECT_THAT(std::string(status.message()),
              AllOf(HasSubstr("own.crt: the certificate of CN=coordinator expired: not_after 20"),
                    HasSubstr("local time " +
                              absl::FormatTime("%Y-%m-%dT%H:%M:%SZ", late, absl::UTCTimeZone()))));
  status = CheckDates(files_, *texts, absl::Now() - absl::Hours(2));
  EXPECT_THAT(std::string(status.message()),
              HasSubstr("own.crt: the certificate of CN=coordinator is not valid yet: not_before"));
}

TEST_F(TlsFilesTest, OneAuthorityInForceIsEnough) {
  const IssuedCertificate old =
      authority_.Issue({.name = "old", .begins = -absl::Hours(9), .ends = -absl::Hours(8)});
  files_.authorities = folder_.Write("ca.crt", old.certificate);
  absl::Status status = CheckDates(files_, *ReadTls(files_), absl::Now());
  EXPECT_THAT(std::string(status.message()),
              HasSubstr("ca.crt: the certificate of CN=old expired"));
  folder_.Write("ca.crt", old.certificate + authority_.certificate());
  status = CheckDates(files_, *ReadTls(files_), absl::Now());
  EXPECT_TRUE(status.ok()) << status;
}

TEST_F(TlsFilesTest, DescribesAChainInItsOrder) {
  const auto chain = Describe("chain", own_.certificate + authority_.certificate());
  ASSERT_TRUE(chain.ok()) << chain.status();
  ASSERT_EQ(chain->size(), 2);
  EXPECT_EQ((*chain)[0].subject, "CN=coordinator");
  EXPECT_EQ((*chain)[0].issuer, "CN=lab authority");
  EXPECT_EQ((*chain)[1].subject, "CN=lab authority");
}

}  // namespace
}  // namespace syncnorm

// Certificates as OpenSSL's own program sees them.

#include "server/ctl_certificates.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <string>
#include <vector>

#include "absl/strings/str_cat.h"
#include "proto/clock.h"
#include "proto/tls_files.h"
#include "tests/server/process.h"
#include "tests/support/certificates.h"

namespace syncnorm::server {
namespace {

using ::testing::AllOf;
using ::testing::ElementsAre;
using ::testing::HasSubstr;
using ::testing::Not;

const char kOpenssl[] = "/usr/bin/openssl";

class CtlCertificatesTest : public ::testing::Test {
 protected:
  void Issue(const std::vector<std::string>& names, absl::Duration lifetime = absl::Hours(48)) {
    auto authority = CertificateAuthority::Make(WallClock().Now(), absl::Hours(100));
    ASSERT_TRUE(authority.ok()) << authority.status();
    CertificateNames all;
    for (const std::string& name : names) ASSERT_TRUE(AddName(name, &all).ok()) << name;
    auto own = authority->pem();
    auto leaf = authority->Issue("someone", all, WallClock().Now(), lifetime);
    ASSERT_TRUE(own.ok() && leaf.ok());
    authority_ = *own;
    leaf_ = *leaf;
    folder_.Write("ca.crt", authority_.certificate);
    folder_.Write("leaf.crt", leaf_.certificate);
    folder_.Write("leaf.key", leaf_.key);
  }
  Ran Verify(const std::vector<std::string>& more) const {
    std::vector<std::string> command = {kOpenssl, "verify", "-x509_strict", "-CAfile",
                                        folder_.path("ca.crt")};
    command.insert(command.end(), more.begin(), more.end());
    command.push_back(folder_.path("leaf.crt"));
    return RunToEnd(command);
  }
  std::string Text(const std::string& file) const {
    return RunToEnd({kOpenssl, "x509", "-in", folder_.path(file), "-noout", "-text"}).output;
  }

  const syncnorm::testing::TestFolder folder_;
  CertificateAndKey authority_;
  CertificateAndKey leaf_;
};

TEST_F(CtlCertificatesTest, AServersIsGoodForItsNamesAsServerAndAsClient) {
  Issue({"db.example", "10.0.0.7", "::1"});
  for (const char* purpose : {"sslserver", "sslclient"}) {
    EXPECT_EQ(Verify({"-purpose", purpose}).status, 0) << purpose;
  }
  EXPECT_EQ(Verify({"-verify_hostname", "db.example"}).status, 0);
  EXPECT_EQ(Verify({"-verify_ip", "10.0.0.7"}).status, 0);
  EXPECT_EQ(Verify({"-verify_ip", "::1"}).status, 0);
  EXPECT_NE(Verify({"-verify_hostname", "other.example"}).status, 0);
  EXPECT_THAT(Text("leaf.crt"),
              AllOf(HasSubstr("NIST CURVE: P-256"), HasSubstr("ecdsa-with-SHA256"),
                    HasSubstr("Basic Constraints: critical\n                CA:FALSE"),
                    HasSubstr("Key Usage: critical\n                Digital Signature\n"),
                    HasSubstr("TLS Web Server Authentication, TLS Web Client Authentication"),
                    HasSubstr("Subject Key Identifier"), HasSubstr("Authority Key Identifier"),
                    HasSubstr("DNS:db.example, IP Address:10.0.0.7, IP Address:0:0:0:0:0:0:0:1")));
}

TEST_F(CtlCertificatesTest, AClientsIsForNoServer) {
  Issue({});
  EXPECT_EQ(Verify({"-purpose", "sslclient"}).status, 0);
  EXPECT_NE(Verify({"-purpose", "sslserver"}).status, 0);
  EXPECT_THAT(Text("leaf.crt"), Not(HasSubstr("Alternative")));
}

TEST_F(CtlCertificatesTest, TheAuthoritysMaySignEndsOnly) {
  Issue({});
  EXPECT_THAT(Text("ca.crt"),
              AllOf(HasSubstr("Basic Constraints: critical\n                CA:TRUE, pathlen:0"),
                    HasSubstr("Key Usage: critical\n                Certificate Sign, CRL Sign\n"),
                    HasSubstr("Subject Key Identifier")));
}

TEST_F(CtlCertificatesTest, TheyBeginBeforeTheyWereMadeAndEndWhenTheyShould) {
  const absl::Time before = WallClock().Now();
  Issue({}, absl::Hours(48));
  const absl::Time after = WallClock().Now();
  for (const std::string* pem : {&leaf_.certificate, &authority_.certificate}) {
    const CertificateInfo info = Describe("x", *pem)->front();
    EXPECT_GE(info.not_before, before - absl::Minutes(5) - absl::Seconds(1));
    EXPECT_LE(info.not_before, after - absl::Minutes(5));
  }
  const CertificateInfo leaf = Describe("x", leaf_.certificate)->front();
  EXPECT_GE(leaf.not_after, before + absl::Hours(48) - absl::Seconds(1));
  EXPECT_LE(leaf.not_after, after + absl::Hours(48));
}

TEST_F(CtlCertificatesTest, NoTwoAuthoritiesAndNoTwoSerialsAreAlike) {
  Issue({});
  const std::string first = Describe("x", authority_.certificate)->front().subject;
  const std::string serial =
      RunToEnd({kOpenssl, "x509", "-in", folder_.path("leaf.crt"), "-noout", "-serial"}).output;
  Issue({});
  EXPECT_NE(Describe("x", authority_.certificate)->front().subject, first);
  EXPECT_NE(
      RunToEnd({kOpenssl, "x509", "-in", folder_.path("leaf.crt"), "-noout", "-serial"}).output,
      serial);
}

TEST_F(CtlCertificatesTest, AnAuthorityIsLoadedAgainAndSignsTheSame) {
  Issue({"a.example"});
  auto loaded = CertificateAuthority::Load(authority_, "ca.crt", "ca.key");
  ASSERT_TRUE(loaded.ok()) << loaded.status();
  auto leaf = loaded->Issue("again", {}, WallClock().Now(), absl::Hours(1));
  ASSERT_TRUE(leaf.ok());
  folder_.Write("leaf.crt", leaf->certificate);
  EXPECT_EQ(Verify({}).status, 0);
  EXPECT_EQ(CertificateAuthority::Load({"x", authority_.key}, "C", "K").status().message(),
            "C: is not a certificate in PEM");
  EXPECT_EQ(CertificateAuthority::Load({authority_.certificate, "x"}, "C", "K").status().message(),
            "K: is not a private key in PEM without a passphrase");
  EXPECT_EQ(
      CertificateAuthority::Load({authority_.certificate, leaf_.key}, "C", "K").status().message(),
      "K: is not the key of the certificate C");
  EXPECT_EQ(CertificateAuthority::Load(leaf_, "C", "K").status().message(),
            "C: is not an authority's");
}

TEST_F(CtlCertificatesTest, NamesAreReadFromACertificateAsTheyWereGiven) {
  Issue({"b.example", "*.svc.cluster.local", "[fd00::1]", "192.168.0.1", "b.example"});
  const auto names = NamesIn(leaf_.certificate);
  ASSERT_TRUE(names.ok()) << names.status();
  EXPECT_THAT(names->dns, ElementsAre("b.example", "*.svc.cluster.local"));
  EXPECT_THAT(names->ips, ElementsAre("fd00::1", "192.168.0.1"));
  EXPECT_EQ(NamesIn(authority_.certificate).status().message(), "has no alternative names");
  EXPECT_EQ(NamesIn("x").status().message(), "is not a certificate in PEM");
}

TEST(CertificateNamesTest, WhatIsNoNameIsRefused) {
  CertificateNames names;
  for (const char* good : {"a", "my_service", "a-b.c1.example", "Host.Example", "*.a.b", "1a.2b"}) {
    EXPECT_TRUE(AddName(good, &names).ok()) << good;
  }
  for (const std::string& bad :
       {std::string(), std::string("a b"), std::string("host:7070"), std::string("1.2.3"),
        std::string("1.2.3.4.5"), std::string("300.1.1.1"), std::string("a..b"), std::string(".a"),
        std::string("-a"), std::string("a-"), std::string("*"), std::string("*.*.a.b"),
        std::string("*.a"), std::string("a,DNS:b"), std::string("a\nb"), std::string(64, 'l'),
        absl::StrCat(std::string(63, 'l'), ".", std::string(63, 'l'), ".", std::string(63, 'l'),
                     ".", std::string(63, 'l'))}) {
    EXPECT_FALSE(AddName(bad, &names).ok()) << bad;
  }
  EXPECT_EQ(AddName("host:7070", &names).message(),
            "\"host:7070\" is neither a host name nor an IP address (without a port)");
}

TEST(RandomHexTest, IsAsLongAsAskedForAndNeverTheSame) {
  EXPECT_EQ(RandomHex(32)->size(), 64U);
  EXPECT_NE(*RandomHex(32), *RandomHex(32));
}

}  // namespace
}  // namespace syncnorm::server

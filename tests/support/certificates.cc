#include "tests/support/certificates.h"

#include <gtest/gtest.h>
#include <openssl/bio.h>
#include <openssl/evp.h>
#include <openssl/pem.h>
#include <openssl/rand.h>
#include <openssl/x509.h>
#include <openssl/x509v3.h>
#include <unistd.h>

#include <cstdlib>
#include <filesystem>
#include <fstream>

#include "absl/strings/str_join.h"
#include "absl/time/clock.h"
#include "kernels/check.h"
#include "proto/free_by.h"

namespace syncnorm::testing {
namespace {

using Key = std::unique_ptr<EVP_PKEY, FreeBy<&EVP_PKEY_free>>;
using Certificate = std::unique_ptr<X509, FreeBy<&X509_free>>;
using Bio = std::unique_ptr<BIO, FreeBy<&BIO_free_all>>;

std::string Text(BIO* bio) {
  char* text = nullptr;
  const long size = BIO_get_mem_data(bio, &text);
  return std::string(text, static_cast<size_t>(size));
}

std::string Pem(X509* certificate) {
  const Bio bio(BIO_new(BIO_s_mem()));
  SYNCNORM_CHECK(PEM_write_bio_X509(bio.get(), certificate) == 1);
  return Text(bio.get());
}

std::string Pem(EVP_PKEY* key) {
  const Bio bio(BIO_new(BIO_s_mem()));
  SYNCNORM_CHECK(PEM_write_bio_PrivateKey(bio.get(), key, nullptr, nullptr, 0, nullptr, nullptr) ==
                 1);
  return Text(bio.get());
}

void AddExtension(X509* certificate, X509* issuer, int nid, const std::string& value) {
  X509V3_CTX context;
  X509V3_set_ctx(&context, issuer, certificate, nullptr, nullptr, 0);
  X509_EXTENSION* const extension =
      X509V3_EXT_conf_nid(nullptr, &context, nid, const_cast<char*>(value.c_str()));
  SYNCNORM_CHECK(extension != nullptr);
  X509_add_ext(certificate, extension, -1);
  X509_EXTENSION_free(extension);
}

// Without extensions and signature.
Certificate Blank(const CertificateOf& what, EVP_PKEY* key) {
  Certificate made(X509_new());
  X509_set_version(made.get(), X509_VERSION_3);
  int64_t serial = 0;
  RAND_bytes(reinterpret_cast<unsigned char*>(&serial), sizeof(serial));
  ASN1_INTEGER_set_uint64(X509_get_serialNumber(made.get()), static_cast<uint64_t>(serial) >> 1);
  ASN1_TIME_set(X509_getm_notBefore(made.get()), absl::ToTimeT(absl::Now() + what.begins));
  ASN1_TIME_set(X509_getm_notAfter(made.get()), absl::ToTimeT(absl::Now() + what.ends));
  X509_NAME_add_entry_by_txt(X509_get_subject_name(made.get()), "CN", MBSTRING_UTF8,
                             reinterpret_cast<const unsigned char*>(what.name.c_str()), -1, -1, 0);
  X509_set_pubkey(made.get(), key);
  return made;
}

}  // namespace

struct Authority::Own {
  Key key;
  Certificate certificate;
};

Authority::Authority(const std::string& name) : own_(std::make_unique<Own>()) {
  own_->key.reset(EVP_EC_gen("P-256"));
  own_->certificate = Blank({.name = name}, own_->key.get());
  X509* const certificate = own_->certificate.get();
  X509_set_issuer_name(certificate, X509_get_subject_name(certificate));
  AddExtension(certificate, certificate, NID_basic_constraints, "critical,CA:TRUE");
  AddExtension(certificate, certificate, NID_subject_key_identifier, "hash");
  SYNCNORM_CHECK(X509_sign(certificate, own_->key.get(), EVP_sha256()) > 0);
  certificate_ = Pem(certificate);
}

Authority::~Authority() = default;

IssuedCertificate Authority::Issue(const CertificateOf& what) const {
  const Key key(EVP_EC_gen("P-256"));
  const Certificate made = Blank(what, key.get());
  X509_set_issuer_name(made.get(), X509_get_subject_name(own_->certificate.get()));
  AddExtension(made.get(), own_->certificate.get(), NID_authority_key_identifier, "keyid");
  if (!what.alternative_names.empty()) {
    AddExtension(made.get(), own_->certificate.get(), NID_subject_alt_name,
                 absl::StrJoin(what.alternative_names, ","));
  }
  SYNCNORM_CHECK(X509_sign(made.get(), own_->key.get(), EVP_sha256()) > 0);
  return {Pem(made.get()), Pem(key.get())};
}

TestFolder::TestFolder() : folder_(::testing::TempDir() + "/syncnormXXXXXX") {
  SYNCNORM_CHECK(mkdtemp(folder_.data()) != nullptr);
}

TestFolder::~TestFolder() { std::filesystem::remove_all(folder_); }

std::string TestFolder::Write(const std::string& name, const std::string& text) const {
  // A new file each time: a writer that writes into the old one is seen half-way.
  const std::string fresh = path(name) + ".new";
  std::ofstream(fresh) << text;
  std::filesystem::rename(fresh, path(name));
  return path(name);
}

std::string TestFolder::WriteSecret(const std::string& name, const IssuedCertificate& own,
                                    const std::string& authorities) const {
  std::filesystem::create_directory(path(name));
  Write(name + "/tls.crt", own.certificate);
  Write(name + "/tls.key", own.key);
  Write(name + "/ca.crt", authorities);
  return path(name);
}

void TestFolder::Link(const std::string& name, const std::string& to) const {
  const std::string fresh = path(name) + ".new";
  std::filesystem::create_symlink(to, fresh);
  std::filesystem::rename(fresh, path(name));
}

}  // namespace syncnorm::testing

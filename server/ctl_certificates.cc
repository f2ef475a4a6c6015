#include "server/ctl_certificates.h"

#include <arpa/inet.h>
#include <openssl/bio.h>
#include <openssl/bn.h>
#include <openssl/err.h>
#include <openssl/evp.h>
#include <openssl/pem.h>
#include <openssl/rand.h>
#include <openssl/x509.h>
#include <openssl/x509v3.h>

#include <algorithm>
#include <cstring>
#include <utility>

#include "absl/strings/ascii.h"
#include "absl/strings/escaping.h"
#include "absl/strings/match.h"
#include "absl/strings/str_cat.h"
#include "absl/strings/str_join.h"
#include "absl/strings/str_split.h"
#include "absl/strings/strip.h"
#include "proto/free_by.h"
#include "proto/tls_files.h"

namespace syncnorm::server {
namespace {

using Bio = std::unique_ptr<BIO, FreeBy<&BIO_free_all>>;
using Certificate = std::unique_ptr<X509, FreeBy<&X509_free>>;
using Key = std::unique_ptr<EVP_PKEY, FreeBy<&EVP_PKEY_free>>;
using Number = std::unique_ptr<BIGNUM, FreeBy<&BN_free>>;
using Extension = std::unique_ptr<X509_EXTENSION, FreeBy<&X509_EXTENSION_free>>;
using Names = std::unique_ptr<GENERAL_NAMES, FreeBy<&GENERAL_NAMES_free>>;

constexpr absl::Duration kClockSkew = absl::Minutes(5);
// RFC 5280: at most 20 bytes and positive; 16 random ones never meet.
constexpr int kSerialBits = 127;
constexpr size_t kMaxDnsBytes = 253;
constexpr size_t kMaxLabelBytes = 63;

absl::Status Failed(const char* what) {
  char why[256] = "no reason given";
  if (const unsigned long code = ERR_get_error(); code != 0) {
    ERR_error_string_n(code, why, sizeof(why));
  }
  ERR_clear_error();
  return absl::InternalError(absl::StrCat("OpenSSL cannot ", what, ": ", why));
}

// A key is never asked for its passphrase on the terminal.
int NoPassphrase(char*, int, int, void*) { return -1; }

Bio Open(const std::string& pem) {
  return Bio(BIO_new_mem_buf(pem.data(), static_cast<int>(pem.size())));
}

std::string TextIn(BIO* bio) {
  char* text = nullptr;
  const long size = BIO_get_mem_data(bio, &text);
  return std::string(text, static_cast<size_t>(size));
}

absl::StatusOr<CertificateAndKey> ToPem(X509* certificate, EVP_PKEY* key) {
  const Bio first(BIO_new(BIO_s_mem()));
  const Bio second(BIO_new(BIO_s_mem()));
  if (PEM_write_bio_X509(first.get(), certificate) != 1 ||
      PEM_write_bio_PKCS8PrivateKey(second.get(), key, nullptr, nullptr, 0, nullptr, nullptr) !=
          1) {
    return Failed("write PEM");
  }
  return CertificateAndKey{TextIn(first.get()), TextIn(second.get())};
}

bool SetSerial(X509* certificate) {
  const Number serial(BN_new());
  return BN_rand(serial.get(), kSerialBits, BN_RAND_TOP_ANY, BN_RAND_BOTTOM_ANY) == 1 &&
         BN_to_ASN1_INTEGER(serial.get(), X509_get_serialNumber(certificate)) != nullptr;
}

bool AddExtension(X509* certificate, X509* issuer, int nid, const std::string& value) {
  X509V3_CTX context;
  X509V3_set_ctx_nodb(&context);
  X509V3_set_ctx(&context, issuer, certificate, nullptr, nullptr, 0);
  const Extension extension(X509V3_EXT_conf_nid(nullptr, &context, nid, value.c_str()));
  return extension != nullptr && X509_add_ext(certificate, extension.get(), -1) == 1;
}

// Without issuer, extensions and signature.
absl::StatusOr<Certificate> Blank(const std::string& common_name, EVP_PKEY* key, absl::Time now,
                                  absl::Duration lifetime) {
  Certificate made(X509_new());
  const bool good =
      key != nullptr && made != nullptr && X509_set_version(made.get(), X509_VERSION_3) == 1 &&
      SetSerial(made.get()) &&
      ASN1_TIME_set(X509_getm_notBefore(made.get()), absl::ToTimeT(now - kClockSkew)) != nullptr &&
      ASN1_TIME_set(X509_getm_notAfter(made.get()), absl::ToTimeT(now + lifetime)) != nullptr &&
      X509_NAME_add_entry_by_txt(X509_get_subject_name(made.get()), "CN", MBSTRING_UTF8,
                                 reinterpret_cast<const unsigned char*>(common_name.c_str()), -1,
                                 -1, 0) == 1 &&
      X509_set_pubkey(made.get(), key) == 1;
  if (!good) return Failed("make a certificate");
  return made;
}

std::string AlternativeNames(const CertificateNames& names) {
  std::vector<std::string> all;
  for (const std::string& name : names.dns) all.push_back(absl::StrCat("DNS:", name));
  for (const std::string& ip : names.ips) all.push_back(absl::StrCat("IP:", ip));
  return absl::StrJoin(all, ",");
}

// Letters, digits and '-' as RFC 1123 has it; '_' too, which names of containers have.
bool IsLabel(absl::string_view label) {
  return !label.empty() && label.size() <= kMaxLabelBytes && label.front() != '-' &&
         label.back() != '-' && std::all_of(label.begin(), label.end(), [](char c) {
           return absl::ascii_isalnum(static_cast<unsigned char>(c)) || c == '-' || c == '_';
         });
}

bool IsDnsName(absl::string_view name) {
  if (name.size() > kMaxDnsBytes) return false;
  const bool wild = absl::ConsumePrefix(&name, "*.");
  const std::vector<absl::string_view> labels = absl::StrSplit(name, '.');
  // "1.2.3" is a slip in an address.
  const bool number = std::all_of(labels.back().begin(), labels.back().end(), [](char c) {
    return absl::ascii_isdigit(static_cast<unsigned char>(c));
  });
  return !number && (!wild || labels.size() > 1) &&
         std::all_of(labels.begin(), labels.end(), IsLabel);
}

// "" if it is not an address; otherwise as everybody writes it.
std::string Address(const std::string& text) {
  std::string bare = text;
  if (bare.size() > 2 && bare.front() == '[' && bare.back() == ']') {
    bare = bare.substr(1, bare.size() - 2);
  }
  unsigned char bytes[16];
  char written[INET6_ADDRSTRLEN] = "";
  for (const int family : {AF_INET, AF_INET6}) {
    if (inet_pton(family, bare.c_str(), bytes) == 1) {
      return inet_ntop(family, bytes, written, sizeof(written));
    }
  }
  return "";
}

void AddOnce(const std::string& name, std::vector<std::string>* names) {
  if (std::find(names->begin(), names->end(), name) == names->end()) names->push_back(name);
}

}  // namespace

struct CertificateAuthority::Own {
  Key key;
  Certificate certificate;
};

CertificateAuthority::CertificateAuthority(std::unique_ptr<Own> own) : own_(std::move(own)) {}
CertificateAuthority::CertificateAuthority(CertificateAuthority&&) noexcept = default;
CertificateAuthority& CertificateAuthority::operator=(CertificateAuthority&&) noexcept = default;
CertificateAuthority::~CertificateAuthority() = default;

absl::StatusOr<CertificateAuthority> CertificateAuthority::Make(absl::Time now,
                                                                absl::Duration lifetime) {
  // Two authorities are told apart in errors by their names.
  const absl::StatusOr<std::string> mark = RandomHex(3);
  if (!mark.ok()) return mark.status();
  auto own = std::make_unique<Own>();
  own->key.reset(EVP_EC_gen("P-256"));
  absl::StatusOr<Certificate> blank =
      Blank(absl::StrCat("syncnorm authority ", *mark), own->key.get(), now, lifetime);
  if (!blank.ok()) return blank.status();
  own->certificate = *std::move(blank);
  X509* const made = own->certificate.get();
  const bool good = X509_set_issuer_name(made, X509_get_subject_name(made)) == 1 &&
                    AddExtension(made, made, NID_basic_constraints, "critical,CA:TRUE,pathlen:0") &&
                    AddExtension(made, made, NID_key_usage, "critical,keyCertSign,cRLSign") &&
                    AddExtension(made, made, NID_subject_key_identifier, "hash") &&
                    AddExtension(made, made, NID_authority_key_identifier, "keyid:always") &&
                    X509_sign(made, own->key.get(), EVP_sha256()) > 0;
  if (!good) return Failed("make an authority");
  return CertificateAuthority(std::move(own));
}

absl::StatusOr<CertificateAuthority> CertificateAuthority::Load(const CertificateAndKey& pem,
                                                                const std::string& certificate_file,
                                                                const std::string& key_file) {
  auto own = std::make_unique<Own>();
  own->certificate.reset(
      PEM_read_bio_X509(Open(pem.certificate).get(), nullptr, &NoPassphrase, nullptr));
  own->key.reset(PEM_read_bio_PrivateKey(Open(pem.key).get(), nullptr, &NoPassphrase, nullptr));
  const bool key_fits = own->certificate != nullptr && own->key != nullptr &&
                        X509_check_private_key(own->certificate.get(), own->key.get()) == 1;
  ERR_clear_error();
  if (own->certificate == nullptr) {
    return absl::InvalidArgumentError(
        absl::StrCat(certificate_file, ": is not a certificate in PEM"));
  }
  if (own->key == nullptr) {
    return absl::InvalidArgumentError(
        absl::StrCat(key_file, ": is not a private key in PEM without a passphrase"));
  }
  if (!key_fits) {
    return absl::InvalidArgumentError(
        absl::StrCat(key_file, ": is not the key of the certificate ", certificate_file));
  }
  if (X509_check_ca(own->certificate.get()) != 1) {
    return absl::InvalidArgumentError(absl::StrCat(certificate_file, ": is not an authority's"));
  }
  return CertificateAuthority(std::move(own));
}

absl::StatusOr<CertificateAndKey> CertificateAuthority::pem() const {
  return ToPem(own_->certificate.get(), own_->key.get());
}

absl::Time CertificateAuthority::not_after() const {
  return Describe(own_->certificate.get()).not_after;
}

absl::StatusOr<CertificateAndKey> CertificateAuthority::Issue(const std::string& common_name,
                                                              const CertificateNames& names,
                                                              absl::Time now,
                                                              absl::Duration lifetime) const {
  const Key key(EVP_EC_gen("P-256"));
  const absl::StatusOr<Certificate> made = Blank(common_name, key.get(), now, lifetime);
  if (!made.ok()) return made.status();
  X509* const leaf = made->get();
  X509* const issuer = own_->certificate.get();
  const bool good = X509_set_issuer_name(leaf, X509_get_subject_name(issuer)) == 1 &&
                    AddExtension(leaf, issuer, NID_basic_constraints, "critical,CA:FALSE") &&
                    AddExtension(leaf, issuer, NID_key_usage, "critical,digitalSignature") &&
                    AddExtension(leaf, issuer, NID_ext_key_usage,
                                 names.empty() ? "clientAuth" : "serverAuth,clientAuth") &&
                    AddExtension(leaf, issuer, NID_subject_key_identifier, "hash") &&
                    AddExtension(leaf, issuer, NID_authority_key_identifier, "keyid:always") &&
                    (names.empty() ||
                     AddExtension(leaf, issuer, NID_subject_alt_name, AlternativeNames(names))) &&
                    X509_sign(leaf, own_->key.get(), EVP_sha256()) > 0;
  if (!good) return Failed("sign a certificate");
  return ToPem(leaf, key.get());
}

absl::Status AddName(const std::string& text, CertificateNames* names) {
  if (const std::string address = Address(text); !address.empty()) {
    AddOnce(address, &names->ips);
  } else if (IsDnsName(text)) {
    AddOnce(absl::AsciiStrToLower(text), &names->dns);
  } else {
    return absl::InvalidArgumentError(absl::StrCat(
        "\"", absl::CEscape(text), "\" is neither a host name nor an IP address (without a port)"));
  }
  return absl::OkStatus();
}

absl::StatusOr<CertificateNames> NamesIn(const std::string& pem) {
  const Certificate certificate(
      PEM_read_bio_X509(Open(pem).get(), nullptr, &NoPassphrase, nullptr));
  if (certificate == nullptr) {
    ERR_clear_error();
    return absl::InvalidArgumentError("is not a certificate in PEM");
  }
  CertificateNames names;
  const Names all(static_cast<GENERAL_NAMES*>(
      X509_get_ext_d2i(certificate.get(), NID_subject_alt_name, nullptr, nullptr)));
  for (int i = 0; all != nullptr && i < sk_GENERAL_NAME_num(all.get()); ++i) {
    const GENERAL_NAME* const name = sk_GENERAL_NAME_value(all.get(), i);
    int type = 0;
    const auto* const text = static_cast<const ASN1_STRING*>(GENERAL_NAME_get0_value(name, &type));
    if (type != GEN_DNS && type != GEN_IPADD) continue;
    const std::string bytes(reinterpret_cast<const char*>(ASN1_STRING_get0_data(text)),
                            static_cast<size_t>(ASN1_STRING_length(text)));
    if (type == GEN_DNS) {
      names.dns.push_back(bytes);
      continue;
    }
    char written[INET6_ADDRSTRLEN] = "";
    const int family = bytes.size() == 4 ? AF_INET : AF_INET6;
    if (bytes.size() != 4 && bytes.size() != 16) continue;
    names.ips.emplace_back(inet_ntop(family, bytes.data(), written, sizeof(written)));
  }
  if (names.empty()) return absl::InvalidArgumentError("has no alternative names");
  return names;
}

absl::StatusOr<std::string> RandomHex(size_t bytes) {
  std::string random(bytes, '\0');
  if (RAND_bytes(reinterpret_cast<unsigned char*>(random.data()), static_cast<int>(bytes)) != 1) {
    return Failed("make random bytes");
  }
  return absl::BytesToHexString(random);
}

}  // namespace syncnorm::server

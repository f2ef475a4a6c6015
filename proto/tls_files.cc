#include "proto/tls_files.h"

#include <openssl/bio.h>
#include <openssl/err.h>
#include <openssl/evp.h>
#include <openssl/pem.h>
#include <openssl/x509.h>

#include <algorithm>
#include <cerrno>
#include <cstdio>
#include <cstring>
#include <ctime>
#include <memory>

#include "absl/strings/str_cat.h"
#include "proto/free_by.h"

namespace syncnorm {
namespace {

// A bundle of all public authorities has about 220 KB.
constexpr size_t kMaxFileBytes = 1 << 20;

using Bio = std::unique_ptr<BIO, FreeBy<&BIO_free_all>>;
using Certificate = std::unique_ptr<X509, FreeBy<&X509_free>>;
using Key = std::unique_ptr<EVP_PKEY, FreeBy<&EVP_PKEY_free>>;

absl::Status Bad(const std::string& file, absl::string_view why) {
  return absl::InvalidArgumentError(absl::StrCat(file, ": ", why));
}

absl::StatusOr<std::string> Read(const std::string& path) {
  const auto failed = [&] {
    return absl::NotFoundError(absl::StrCat(path, ": cannot be read: ", std::strerror(errno)));
  };
  const std::unique_ptr<std::FILE, FreeBy<&std::fclose>> file(std::fopen(path.c_str(), "re"));
  if (file == nullptr) return failed();
  std::string text(kMaxFileBytes + 1, '\0');
  text.resize(std::fread(text.data(), 1, text.size(), file.get()));
  if (std::ferror(file.get()) != 0) return failed();
  if (text.size() > kMaxFileBytes) {
    return Bad(path, absl::StrCat("has more than ", kMaxFileBytes, " bytes"));
  }
  return text;
}

Bio Open(const std::string& pem) {
  return Bio(BIO_new_mem_buf(pem.data(), static_cast<int>(pem.size())));
}

// A key is never asked for its passphrase on the terminal.
int NoPassphrase(char*, int, int, void*) { return -1; }

absl::Time ToTime(const ASN1_TIME* time) {
  std::tm tm = {};
  if (ASN1_TIME_to_tm(time, &tm) != 1) return absl::InfinitePast();
  return absl::FromTimeT(timegm(&tm));
}

std::string Date(absl::Time time) {
  return absl::FormatTime("%Y-%m-%dT%H:%M:%SZ", time, absl::UTCTimeZone());
}

absl::Status CheckKey(const TlsFiles& files, const TlsTexts& texts) {
  const Key key(PEM_read_bio_PrivateKey(Open(texts.key).get(), nullptr, &NoPassphrase, nullptr));
  if (key == nullptr) {
    ERR_clear_error();
    return Bad(files.key, "is not a private key in PEM without a passphrase");
  }
  const Certificate leaf(
      PEM_read_bio_X509(Open(texts.certificate).get(), nullptr, &NoPassphrase, nullptr));
  if (leaf == nullptr || X509_check_private_key(leaf.get(), key.get()) != 1) {
    ERR_clear_error();
    return Bad(files.key, absl::StrCat("is not the key of the certificate ", files.certificate));
  }
  return absl::OkStatus();
}

}  // namespace

std::string TextOf(const X509_name_st* name) {
  const Bio bio(BIO_new(BIO_s_mem()));
  X509_NAME_print_ex(bio.get(), name, 0, XN_FLAG_ONELINE & ~XN_FLAG_SPC_EQ);
  char* text = nullptr;
  const long size = BIO_get_mem_data(bio.get(), &text);
  return std::string(text, static_cast<size_t>(size));
}

CertificateInfo Describe(const x509_st* certificate) {
  return {TextOf(X509_get_subject_name(certificate)), TextOf(X509_get_issuer_name(certificate)),
          ToTime(X509_get0_notBefore(certificate)), ToTime(X509_get0_notAfter(certificate))};
}

absl::StatusOr<std::vector<CertificateInfo>> Describe(const std::string& file,
                                                      const std::string& pem) {
  std::vector<CertificateInfo> all;
  const Bio bio = Open(pem);
  while (true) {
    const Certificate one(PEM_read_bio_X509(bio.get(), nullptr, &NoPassphrase, nullptr));
    if (one == nullptr) break;
    all.push_back(Describe(one.get()));
  }
  // The end of the text is told as an error too.
  const bool at_end = ERR_GET_REASON(ERR_peek_last_error()) == PEM_R_NO_START_LINE;
  ERR_clear_error();
  if (!at_end) return Bad(file, absl::StrCat("certificate ", all.size() + 1, " cannot be parsed"));
  if (all.empty()) return Bad(file, "has no certificate in PEM");
  return all;
}

absl::StatusOr<TlsTexts> ReadTls(const TlsFiles& files) {
  if (files.certificate.empty() != files.key.empty()) {
    return absl::InvalidArgumentError(
        files.key.empty()
            ? absl::StrCat("the key of the certificate ", files.certificate, " is not given")
            : absl::StrCat("the certificate of the key ", files.key, " is not given"));
  }
  TlsTexts texts;
  for (const auto& [path, text] :
       {std::pair(&files.certificate, &texts.certificate), std::pair(&files.key, &texts.key),
        std::pair(&files.authorities, &texts.authorities)}) {
    if (path->empty()) continue;
    absl::StatusOr<std::string> read = Read(*path);
    if (!read.ok()) return read.status();
    *text = *std::move(read);
    if (path == &files.key) continue;
    if (absl::Status status = Describe(*path, *text).status(); !status.ok()) return status;
  }
  if (!files.key.empty()) {
    if (absl::Status status = CheckKey(files, texts); !status.ok()) return status;
  }
  return texts;
}

absl::Status CheckDates(const std::string& file, const CertificateInfo& certificate,
                        absl::Time now) {
  const auto bad = [&](absl::string_view what, absl::string_view which, absl::Time when) {
    return absl::FailedPreconditionError(absl::StrCat(file, ": the certificate of ",
                                                      certificate.subject, " ", what, ": ", which,
                                                      " ", Date(when), ", local time ", Date(now)));
  };
  if (now > certificate.not_after) return bad("expired", "not_after", certificate.not_after);
  if (now < certificate.not_before) {
    return bad("is not valid yet", "not_before", certificate.not_before);
  }
  return absl::OkStatus();
}

absl::Status CheckDates(const TlsFiles& files, const TlsTexts& texts, absl::Time now) {
  if (!texts.certificate.empty()) {
    const auto chain = Describe(files.certificate, texts.certificate);
    if (!chain.ok()) return chain.status();
    for (const CertificateInfo& one : *chain) {
      if (absl::Status status = CheckDates(files.certificate, one, now); !status.ok()) {
        return status;
      }
    }
  }
  if (texts.authorities.empty()) return absl::OkStatus();
  const auto authorities = Describe(files.authorities, texts.authorities);
  if (!authorities.ok()) return authorities.status();
  absl::Status last;
  for (const CertificateInfo& one : *authorities) {
    last = CheckDates(files.authorities, one, now);
    if (last.ok()) break;
  }
  return last;
}

}  // namespace syncnorm

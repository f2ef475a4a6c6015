// TlsFiles: the files with which one end of a connection shows who it is and
// checks the other end: read, held against each other and described before
// they are used, since what TLS itself says of a bad one is "handshake failed".
//
// Callers may rely on:
//   * What ReadTls gives can be used: PEM that parses, and a key that belongs to its certificate.
//   * Errors name the file and what is wrong with it; never what a key file contains.
//
// Thread-safety: functions of their arguments and of the files.
#pragma once

#include <string>
#include <vector>

#include "absl/status/status.h"
#include "absl/status/statusor.h"
#include "absl/time/time.h"

struct x509_st;       // OpenSSL's X509
struct X509_name_st;  // and X509_NAME

namespace syncnorm {

// Paths; an empty one: none.
struct TlsFiles {
  std::string certificate;  // its own, then what signed it, up to the authority; PEM
  std::string key;          // of that certificate; PEM, without a passphrase
  std::string authorities;  // that the other end's certificate must come from; PEM
};

// What is in them.
struct TlsTexts {
  std::string certificate;
  std::string key;
  std::string authorities;

  bool operator==(const TlsTexts&) const = default;
};

struct CertificateInfo {
  std::string subject;  // "CN=coordinator, O=lab"
  std::string issuer;
  absl::Time not_before;
  absl::Time not_after;
};

// kNotFound: cannot be read (why).  kInvalidArgument: not PEM, the key is not that of the
// certificate, or one of the two is missing.
absl::StatusOr<TlsTexts> ReadTls(const TlsFiles& files);

// All certificates in a PEM text, in their order; `file` is for the errors.  kInvalidArgument:
// there is none, or one cannot be parsed.
absl::StatusOr<std::vector<CertificateInfo>> Describe(const std::string& file,
                                                      const std::string& pem);

// The same of what OpenSSL holds already.
CertificateInfo Describe(const x509_st* certificate);
std::string TextOf(const X509_name_st* name);

// kFailedPrecondition: "FILE: the certificate of CN=x expired: not_after ..., local time ...", or
// that it is not valid yet.
absl::Status CheckDates(const std::string& file, const CertificateInfo& certificate,
                        absl::Time now);

// CheckDates of all that must be in force: the own certificate, and one of the authorities.
absl::Status CheckDates(const TlsFiles& files, const TlsTexts& texts, absl::Time now);

}  // namespace syncnorm

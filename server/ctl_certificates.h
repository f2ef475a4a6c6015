// An authority of one's own, and the certificates that it signs: what
// syncnormctl certs makes.  P-256 keys, SHA-256, X.509 version 3.
//
// Callers may rely on:
//   * The authority's is CA:TRUE and may sign nothing but certificates of ends; an end's says
//   whether
//     it may be a server, and has the names it is for.
//   * All begin five minutes before they were made, for clocks that are behind.
//
// Thread-safety: thread-compatible.
#pragma once

#include <memory>
#include <string>
#include <vector>

#include "absl/status/statusor.h"
#include "absl/time/time.h"

namespace syncnorm::server {

// PEM.
struct CertificateAndKey {
  std::string certificate;
  std::string key;
};

// What a certificate is for.
struct CertificateNames {
  std::vector<std::string> dns;
  std::vector<std::string> ips;

  bool empty() const { return dns.empty() && ips.empty(); }
};

class CertificateAuthority {
 public:
  // A new one, with a name of its own.  kInternal: what OpenSSL says.
  static absl::StatusOr<CertificateAuthority> Make(absl::Time now, absl::Duration lifetime);
  // One that was made before.  kInvalidArgument: not PEM, or not this certificate's key; the
  // texts name `certificate_file` and `key_file`.
  static absl::StatusOr<CertificateAuthority> Load(const CertificateAndKey& pem,
                                                   const std::string& certificate_file,
                                                   const std::string& key_file);
  CertificateAuthority(CertificateAuthority&&) noexcept;
  CertificateAuthority& operator=(CertificateAuthority&&) noexcept;
  ~CertificateAuthority();

  absl::StatusOr<CertificateAndKey> pem() const;
  absl::Time not_after() const;

  // Of a server, which is a client too, when it asks itself; or, without names, of a client.
  absl::StatusOr<CertificateAndKey> Issue(const std::string& common_name,
                                          const CertificateNames& names, absl::Time now,
                                          absl::Duration lifetime) const;

 private:
  struct Own;
  explicit CertificateAuthority(std::unique_ptr<Own> own);

  std::unique_ptr<Own> own_;
};

// kInvalidArgument: not a name as in the DNS, nor an IP address.  "*.example.org" is one; a
// wildcard for all of "org" is not, since nobody would take it.
absl::Status AddName(const std::string& text, CertificateNames* names);

// The alternative names of the first certificate in a PEM text.  kInvalidArgument: there is none.
absl::StatusOr<CertificateNames> NamesIn(const std::string& pem);

// `bytes` random ones, in hexadecimal.
absl::StatusOr<std::string> RandomHex(size_t bytes);

}  // namespace syncnorm::server

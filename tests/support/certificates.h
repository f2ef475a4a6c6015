// Certificates that a test makes: authorities, and what they sign, good or bad
// in one way; and a folder of its own to put them into.
//
// Thread-safety: thread-compatible.
#pragma once

#include <memory>
#include <string>
#include <vector>

#include "absl/time/time.h"

namespace syncnorm::testing {

// What a certificate says.  Valid from an hour ago for two, unless told otherwise.
struct CertificateOf {
  std::string name = "someone";
  std::vector<std::string> alternative_names = {"DNS:localhost", "IP:127.0.0.1"};
  absl::Duration begins = -absl::Hours(1);  // from now
  absl::Duration ends = absl::Hours(1);
};

// PEM.
struct IssuedCertificate {
  std::string certificate;
  std::string key;
};

class Authority {
 public:
  explicit Authority(const std::string& name);
  ~Authority();

  const std::string& certificate() const { return certificate_; }
  IssuedCertificate Issue(const CertificateOf& what) const;

 private:
  struct Own;
  std::unique_ptr<Own> own_;
  std::string certificate_;
};

// A folder that goes with the object.
class TestFolder {
 public:
  TestFolder();
  ~TestFolder();
  TestFolder(const TestFolder&) = delete;
  TestFolder& operator=(const TestFolder&) = delete;

  std::string path(const std::string& name) const { return folder_ + "/" + name; }
  // Writes a file, in place of one that is there, and gives its path.
  std::string Write(const std::string& name, const std::string& text) const;
  // A folder NAME with the file names of a Kubernetes secret: tls.crt, tls.key, ca.crt.
  std::string WriteSecret(const std::string& name, const IssuedCertificate& own,
                          const std::string& authorities) const;
  // Lets the symlink NAME lead to `to` from now on, in one step.
  void Link(const std::string& name, const std::string& to) const;

 private:
  std::string folder_;
};

}  // namespace syncnorm::testing

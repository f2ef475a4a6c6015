#include "client/tls_diagnosis.h"

#include <fcntl.h>
#include <netdb.h>
#include <openssl/err.h>
#include <openssl/ssl.h>
#include <openssl/x509v3.h>
#include <poll.h>
#include <sys/socket.h>
#include <sys/un.h>
#include <unistd.h>

#include <algorithm>
#include <cerrno>
#include <memory>
#include <utility>
#include <vector>

#include "absl/algorithm/container.h"
#include "absl/strings/str_cat.h"
#include "absl/strings/str_join.h"
#include "proto/clock.h"
#include "proto/free_by.h"
#include "proto/tls_files.h"

namespace syncnorm {
namespace {

using Context = std::unique_ptr<SSL_CTX, FreeBy<&SSL_CTX_free>>;
using Connection = std::unique_ptr<SSL, FreeBy<&SSL_free>>;
using Certificate = std::unique_ptr<X509, FreeBy<&X509_free>>;
using AlternativeNames = std::unique_ptr<GENERAL_NAMES, FreeBy<&GENERAL_NAMES_free>>;
using Bio = std::unique_ptr<BIO, FreeBy<&BIO_free_all>>;

struct Socket {
  explicit Socket(int number) : fd(number) {}
  Socket(Socket&& other) noexcept : fd(std::exchange(other.fd, -1)) {}
  Socket& operator=(Socket&& other) noexcept {
    std::swap(fd, other.fd);
    return *this;
  }
  ~Socket() {
    if (fd >= 0) close(fd);
  }
  int fd;
};

absl::Status Found(absl::string_view what) { return absl::UnauthenticatedError(what); }

// Waits for the socket, at most until `deadline`.
bool Await(int fd, short events, absl::Time deadline) {
  const absl::Duration left = deadline - MonotonicClock().Now();
  if (left <= absl::ZeroDuration()) return false;
  pollfd one = {fd, events, 0};
  return poll(&one, 1, static_cast<int>(absl::ToInt64Milliseconds(left)) + 1) > 0;
}

Socket ConnectTo(int family, const sockaddr* to, socklen_t size, absl::Time deadline) {
  Socket made(socket(family, SOCK_STREAM | SOCK_CLOEXEC | SOCK_NONBLOCK, 0));
  if (made.fd < 0 || connect(made.fd, to, size) == 0) return made;
  int error = errno;
  socklen_t error_size = sizeof(error);
  if (error == EINPROGRESS && Await(made.fd, POLLOUT, deadline) &&
      getsockopt(made.fd, SOL_SOCKET, SO_ERROR, &error, &error_size) == 0 && error == 0) {
    return made;
  }
  return Socket(-1);
}

Socket ConnectTo(const Target& target, absl::Time deadline) {
  if (!target.path.empty()) {
    sockaddr_un name = {};
    name.sun_family = AF_UNIX;
    target.path.copy(name.sun_path, sizeof(name.sun_path) - 1);
    return ConnectTo(AF_UNIX, reinterpret_cast<const sockaddr*>(&name), sizeof(name), deadline);
  }
  addrinfo hints = {};
  hints.ai_socktype = SOCK_STREAM;
  addrinfo* list = nullptr;
  // gRPC has just found the name, so that this does not wait for long.
  if (target.host.empty() || target.port.empty() ||
      getaddrinfo(target.host.c_str(), target.port.c_str(), &hints, &list) != 0) {
    return Socket(-1);
  }
  const std::unique_ptr<addrinfo, FreeBy<&freeaddrinfo>> found(list);
  for (const addrinfo* at = list; at != nullptr; at = at->ai_next) {
    Socket made = ConnectTo(at->ai_family, at->ai_addr, at->ai_addrlen, deadline);
    if (made.fd >= 0) return made;
  }
  return Socket(-1);
}

// Once the coordinator asks for a client certificate.
int NoteRequest(SSL*, void* asked) {
  *static_cast<bool*>(asked) = true;
  return 1;
}

Context MakeContext(const TlsOptions& tls, bool* asked) {
  Context context(SSL_CTX_new(TLS_client_method()));
  SSL_CTX_set_verify(context.get(), SSL_VERIFY_NONE, nullptr);  // the result is looked at later
  SSL_CTX_set_cert_cb(context.get(), &NoteRequest, asked);
  static constexpr unsigned char kHttp2[] = {2, 'h', '2'};
  SSL_CTX_set_alpn_protos(context.get(), kHttp2, sizeof(kHttp2));
  if (!tls.ca_file.empty()) {
    SSL_CTX_load_verify_locations(context.get(), tls.ca_file.c_str(), nullptr);
    // As gRPC does.
    X509_STORE_set_flags(SSL_CTX_get_cert_store(context.get()),
                         X509_V_FLAG_PARTIAL_CHAIN | X509_V_FLAG_TRUSTED_FIRST);
  }
  if (!tls.cert_file.empty()) {
    SSL_CTX_use_certificate_chain_file(context.get(), tls.cert_file.c_str());
    SSL_CTX_use_PrivateKey_file(context.get(), tls.key_file.c_str(), SSL_FILETYPE_PEM);
  }
  return context;
}

// What came of the connection.
struct Probe {
  bool connected = false;  // TCP
  bool timed_out = false;
  bool handshake = false;  // complete, as far as this side can tell
  bool accepted = false;   // the coordinator spoke after it
  bool asked = false;      // for a client certificate
  int reason = 0;          // OpenSSL's, of what ended it
  std::vector<std::string> accepted_authorities;
  long verified = X509_V_OK;
  Certificate certificate;  // the coordinator's
};

// Sends what TLS has written.  By send, not by OpenSSL: a write to a connection that is gone must
// not raise SIGPIPE in the trainer.  A few KB, which fit any socket's buffer.
void Flush(SSL* ssl, int fd) {
  char* bytes = nullptr;
  const long size = BIO_get_mem_data(SSL_get_wbio(ssl), &bytes);
  if (size > 0) static_cast<void>(send(fd, bytes, static_cast<size_t>(size), MSG_NOSIGNAL));
  static_cast<void>(BIO_reset(SSL_get_wbio(ssl)));
}

// Runs one step of TLS until it is done or cannot be; whether it is.
template <typename Step>
bool RunStep(SSL* ssl, int fd, absl::Time deadline, Probe* probe, Step step) {
  while (true) {
    ERR_clear_error();
    const int result = step();
    const int error = SSL_get_error(ssl, result);
    const int reason = ERR_GET_REASON(ERR_peek_error());
    Flush(ssl, fd);
    if (result > 0) return true;
    if (error != SSL_ERROR_WANT_READ) {
      probe->reason = reason;
      return false;
    }
    if (!Await(fd, POLLIN, deadline)) {
      probe->timed_out = true;
      return false;
    }
    char bytes[4096];
    const ssize_t size = recv(fd, bytes, sizeof(bytes), 0);
    if (size <= 0) return false;
    BIO_write(SSL_get_rbio(ssl), bytes, static_cast<int>(size));
  }
}

Probe Connect(const Target& target, const TlsOptions& tls, absl::Time deadline) {
  Probe probe;
  const Socket socket = ConnectTo(target, deadline);
  if (socket.fd < 0) return probe;
  probe.connected = true;
  const Context context = MakeContext(tls, &probe.asked);
  const Connection ssl(SSL_new(context.get()));
  SSL_set_bio(ssl.get(), BIO_new(BIO_s_mem()), BIO_new(BIO_s_mem()));
  const std::string name = tls.server_name.empty() ? target.host : tls.server_name;
  SSL_set_tlsext_host_name(ssl.get(), name.c_str());
  probe.handshake =
      RunStep(ssl.get(), socket.fd, deadline, &probe, [&ssl] { return SSL_connect(ssl.get()); });
  probe.certificate.reset(SSL_get1_peer_certificate(ssl.get()));
  probe.verified = SSL_get_verify_result(ssl.get());
  const STACK_OF(X509_NAME)* authorities = SSL_get0_peer_CA_list(ssl.get());
  for (int i = 0; i < sk_X509_NAME_num(authorities); ++i) {
    probe.accepted_authorities.push_back(TextOf(sk_X509_NAME_value(authorities, i)));
  }
  if (probe.handshake) {
    // With TLS 1.3 a client is done before the server has looked at its certificate: the server's
    // first word tells.
    char byte = 0;
    probe.accepted = RunStep(ssl.get(), socket.fd, deadline, &probe,
                             [&ssl, &byte] { return SSL_read(ssl.get(), &byte, 1); });
  }
  ERR_clear_error();
  return probe;
}

// What the other end chose to say is cut: an error text is for people.
std::string List(std::vector<std::string> texts) {
  constexpr size_t kMost = 8;
  const size_t all = texts.size();
  if (all > kMost) texts.resize(kMost);
  return absl::StrCat(absl::StrJoin(texts, ", "),
                      all > kMost ? absl::StrCat(", ... (", all, " in all)") : "");
}

// "DNS:a, IP Address:10.0.0.1"
std::string NamesOf(X509* certificate) {
  std::vector<std::string> texts;
  const AlternativeNames names(static_cast<GENERAL_NAMES*>(
      X509_get_ext_d2i(certificate, NID_subject_alt_name, nullptr, nullptr)));
  for (int i = 0; i < sk_GENERAL_NAME_num(names.get()); ++i) {
    const Bio bio(BIO_new(BIO_s_mem()));
    GENERAL_NAME_print(bio.get(), sk_GENERAL_NAME_value(names.get(), i));
    char* text = nullptr;
    const long size = BIO_get_mem_data(bio.get(), &text);
    texts.emplace_back(text, static_cast<size_t>(size));
  }
  return texts.empty() ? "no name" : List(texts);
}

bool IsFor(X509* certificate, const std::string& name) {
  return X509_check_ip_asc(certificate, name.c_str(), 0) == 1 ||
         X509_check_host(certificate, name.data(), name.size(), 0, nullptr) == 1;
}

// What this side finds wrong with the coordinator's certificate.
absl::Status JudgeCoordinator(const Probe& probe, const std::string& name, const TlsOptions& tls,
                              absl::Time now) {
  const CertificateInfo its = Describe(probe.certificate.get());
  if (absl::Status status = CheckDates("TLS", its, now); !status.ok()) {
    return Found(absl::StrCat("the coordinator's side of ", status.message()));
  }
  if (probe.verified != X509_V_OK) {
    return Found(absl::StrCat("TLS: the coordinator's certificate, of ", its.subject, " signed by ",
                              its.issuer, ", does not come from an authority in ", tls.ca_file,
                              ": ", X509_verify_cert_error_string(probe.verified)));
  }
  if (!IsFor(probe.certificate.get(), name)) {
    return Found(absl::StrCat("TLS: the coordinator's certificate, of ", its.subject, ", is for ",
                              NamesOf(probe.certificate.get()), ", not for ", name,
                              " (tls.server_name says another name to look for)"));
  }
  return absl::OkStatus();
}

// Why the coordinator did not want this side's certificate.
absl::Status JudgeOurs(const Probe& probe, const TlsOptions& tls, absl::Time now) {
  if (tls.cert_file.empty()) {
    if (!probe.asked) return absl::OkStatus();
    return Found(
        "TLS: the coordinator asks for a client certificate, and none is given (tls.cert_file)");
  }
  const TlsFiles files = {tls.cert_file, tls.key_file, tls.ca_file};
  const absl::StatusOr<TlsTexts> texts = ReadTls(files);
  if (!texts.ok()) return Found(absl::StrCat("TLS: ", texts.status().message()));
  const auto chain = Describe(tls.cert_file, texts->certificate);
  if (!chain.ok()) return Found(absl::StrCat("TLS: ", chain.status().message()));
  constexpr char kRefused[] = "TLS: the coordinator refuses this side's certificate: ";
  for (const CertificateInfo& one : *chain) {
    if (absl::Status status = CheckDates(tls.cert_file, one, now); !status.ok()) {
      return Found(absl::StrCat(kRefused, status.message()));
    }
  }
  const bool known =
      std::any_of(chain->begin(), chain->end(), [&probe](const CertificateInfo& one) {
        return absl::c_linear_search(probe.accepted_authorities, one.issuer);
      });
  if (!known && !probe.accepted_authorities.empty()) {
    return Found(absl::StrCat(kRefused, tls.cert_file, ": it is of ", chain->front().subject,
                              " signed by ", chain->back().issuer, ", the coordinator accepts ",
                              List(probe.accepted_authorities)));
  }
  const std::string which = absl::StrCat(tls.cert_file, ", of ", chain->front().subject,
                                         " signed by ", chain->back().issuer);
  if (probe.reason > SSL_AD_REASON_OFFSET) {
    return Found(absl::StrCat(kRefused, which, ": ",
                              ERR_reason_error_string(ERR_PACK(ERR_LIB_SSL, 0, probe.reason))));
  }
  // It closed the connection without a word: so does one that is just going down.
  return absl::UnavailableError(absl::StrCat(
      "the coordinator closed the TLS connection; perhaps it refuses this side's certificate ",
      which));
}

}  // namespace

absl::Status DiagnoseTls(const std::string& address, const ChannelSecurity& security,
                         absl::Time wall_now, absl::Duration budget) {
  const Target target = ParseTarget(address);
  const TlsOptions& tls = security.tls;
  const absl::Time deadline = MonotonicClock().Now() + budget;
  const Probe probe = Connect(target, tls, deadline);
  if (!probe.connected) return absl::OkStatus();
  if (!security.uses_tls()) {
    if (probe.certificate == nullptr) return absl::OkStatus();
    return Found("the coordinator speaks TLS, and this side plaintext (tls.ca_file is not set)");
  }
  if (probe.certificate == nullptr) {
    // Only of something that did answer, but not in TLS.
    if (probe.reason != SSL_R_WRONG_VERSION_NUMBER) return absl::OkStatus();
    return Found("TLS: the coordinator does not speak TLS, and tls.ca_file is set");
  }
  const std::string name = tls.server_name.empty() ? target.host : tls.server_name;
  if (absl::Status status = JudgeCoordinator(probe, name, tls, wall_now); !status.ok()) {
    return status;
  }
  if (probe.accepted || probe.timed_out) return absl::OkStatus();
  return JudgeOurs(probe, tls, wall_now);
}

}  // namespace syncnorm

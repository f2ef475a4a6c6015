// Groups over TLS with client certificates, and with tokens: what is good connects and reduces,
// what is bad says which end is at fault, and why.
#include <gmock/gmock.h>
#include <grpcpp/generic/async_generic_service.h>
#include <grpcpp/grpcpp.h>
#include <gtest/gtest.h>
#include <syncnorm/embedded.h>
#include <syncnorm/group.h>

#include <cstdlib>
#include <fstream>
#include <memory>
#include <string>

#include "proto/clock.h"
#include "server/server.h"
#include "tests/client/silent_coordinator.h"
#include "tests/client/workers.h"
#include "tests/server/token_lines.h"
#include "tests/support/certificates.h"

namespace syncnorm {
namespace {

using ::syncnorm::server::TokenLine;
using ::syncnorm::testing::Authority;
using ::syncnorm::testing::CertificateOf;
using ::syncnorm::testing::TestFolder;
using ::testing::AllOf;
using ::testing::HasSubstr;
using ::testing::Not;
using ::testing::internal::CaptureStderr;
using ::testing::internal::GetCapturedStderr;

// Listens with any certificate, and takes no calls.
class TlsListener {
 public:
  explicit TlsListener(const testing::IssuedCertificate& own) {
    grpc::SslServerCredentialsOptions options;
    options.pem_key_cert_pairs = {{own.key, own.certificate}};
    grpc::ServerBuilder builder;
    builder.AddListeningPort("127.0.0.1:0", grpc::SslServerCredentials(options), &port_);
    builder.RegisterCallbackGenericService(&service_);  // it does not start without any
    server_ = builder.BuildAndStart();
  }
  std::string address() const { return "127.0.0.1:" + std::to_string(port_); }

 private:
  int port_ = 0;
  grpc::CallbackGenericService service_;
  std::unique_ptr<grpc::Server> server_;
};

class SecureGroupTest : public ::testing::Test {
 protected:
  // A coordinator with TLS that shows `what`, and knows workers of `workers`.
  void Start(const CertificateOf& what = {.name = "coordinator"},
             const std::string& listen = "127.0.0.1:0") {
    Secret("first", what);
    folder_.Link("server", folder_.path("first"));
    options_.listen = *server::ListenAddress::Parse(listen);
    options_.security.tls = {folder_.path("server/tls.crt"), folder_.path("server/tls.key"),
                             folder_.path("server/ca.crt")};
    options_.security.reload_interval = absl::Milliseconds(1);
    StartAsIs();
  }
  void StartAsIs() {
    auto started = server::Server::Start(options_);
    ASSERT_TRUE(started.ok()) << started.status();
    server_ = *std::move(started);
  }
  std::string Secret(const std::string& name, const CertificateOf& what) const {
    return folder_.WriteSecret(name, authority_.Issue(what), authority_.certificate());
  }

  // What a worker needs; `what` it shows.
  TlsOptions Tls(const CertificateOf& what = {.name = "worker"}) const {
    return TlsOf(authority_, what);
  }
  TlsOptions TlsOf(const Authority& authority, const CertificateOf& what) const {
    const auto issued = authority.Issue(what);
    return {.ca_file = folder_.Write("ca.crt", authority_.certificate()),
            .cert_file = folder_.Write("worker.crt", issued.certificate),
            .key_file = folder_.Write("worker.key", issued.key)};
  }
  GroupOptions Worker(const TlsOptions& tls, int rank = 0, int world_size = 1) const {
    GroupOptions options = Options(server_->address(), rank, world_size);
    options.tls = tls;
    return options;
  }

  // What a worker is told that cannot connect; at once, not at its deadline.
  static absl::Status Refused(const GroupOptions& options) {
    const absl::Time began = MonotonicClock().Now();
    const absl::Status status = Group::Connect(options).status();
    EXPECT_LT(MonotonicClock().Now() - began, absl::Seconds(10));
    return status;
  }
  static void ExpectRefused(const GroupOptions& options, const std::string& text) {
    const absl::Status status = Refused(options);
    EXPECT_TRUE(absl::IsUnauthenticated(status)) << status;
    EXPECT_THAT(Text(status), HasSubstr(text));
  }
  static void ExpectReduces(Group* group, int round = 0) {
    const auto result = group->ReduceNow(Layer("bn", round + 1), MomentsOf(0, round));
    ASSERT_TRUE(result.ok()) << result.status();
    EXPECT_EQ(*result, Expected(1, round));
  }

  const Authority authority_{"lab authority"};
  const Authority stranger_{"other authority"};
  const TestFolder folder_;
  server::ServerOptions options_;
  std::unique_ptr<server::Server> server_;
};

TEST_F(SecureGroupTest, CertificatesOfBothEndsConnectAndReduce) {
  Start();
  const TlsOptions tls = Tls();
  const auto groups =
      ConnectAll(server_->address(), 2, [&](GroupOptions* options) { options->tls = tls; });
  InThreads(2, [&](int rank) {
    for (int round = 0; round < 10; ++round) {
      const auto result =
          groups[rank]->ReduceNow(Layer("bn", round + 1), MomentsOf(rank, round, 2048));
      ASSERT_TRUE(result.ok()) << result.status();
      EXPECT_EQ(*result, Expected(2, round, 2048));
    }
    EXPECT_TRUE(groups[rank]->Leave().ok());
  });
  EXPECT_TRUE(server_->security().tls);
}

TEST_F(SecureGroupTest, AUnixSocketMayBeProtectedToo) {
  Start({.name = "coordinator"}, "unix:" + folder_.path("s"));
  const auto group = Group::Connect(Worker(Tls()));
  ASSERT_TRUE(group.ok()) << group.status();
  ExpectReduces(group->get());
}

TEST_F(SecureGroupTest, ACoordinatorOfAnotherNameIsNotTalkedToUnlessThatNameIsGiven) {
  Start({.name = "coordinator", .alternative_names = {"DNS:coordinator.lab", "IP:10.1.2.3"}});
  GroupOptions options = Worker(Tls());
  ExpectRefused(options,
                "the coordinator's certificate, of CN=coordinator, is for DNS:coordinator.lab, IP "
                "Address:10.1.2.3, not for 127.0.0.1");
  options.tls.server_name = "elsewhere.lab";
  ExpectRefused(options, "not for elsewhere.lab");
  options.tls.server_name = "coordinator.lab";
  const auto group = Group::Connect(options);
  ASSERT_TRUE(group.ok()) << group.status();
  ExpectReduces(group->get());
}

TEST_F(SecureGroupTest, ACoordinatorOfAnotherAuthorityIsNamedWithIt) {
  Start();
  GroupOptions options = Worker(Tls());
  options.tls.ca_file = folder_.Write("ca.crt", stranger_.certificate());
  ExpectRefused(options,
                "the coordinator's certificate, of CN=coordinator signed by CN=lab authority, does "
                "not come from an authority in " +
                    options.tls.ca_file);
}

TEST_F(SecureGroupTest, ACoordinatorOutOfItsDatesIsToldWithThemAndTheLocalTime) {
  // Ours would not start with them; but may be left with them.
  const TlsListener expired(
      authority_.Issue({.name = "old", .begins = -absl::Hours(2), .ends = -absl::Hours(1)}));
  GroupOptions options = Options(expired.address(), 0, 1);
  options.tls = Tls();
  const absl::Status status = Refused(options);
  EXPECT_TRUE(absl::IsUnauthenticated(status)) << status;
  EXPECT_THAT(
      Text(status),
      AllOf(HasSubstr(
                "the coordinator's side of TLS: the certificate of CN=old expired: not_after 20"),
            HasSubstr("local time 20")));
  const TlsListener early(
      authority_.Issue({.name = "new", .begins = absl::Hours(1), .ends = absl::Hours(2)}));
  options.address = early.address();
  ExpectRefused(options, "the certificate of CN=new is not valid yet: not_before 20");
}

TEST_F(SecureGroupTest, AWorkerWithoutACertificateIsToldToGiveOne) {
  Start();
  TlsOptions tls = Tls();
  tls.cert_file.clear();
  tls.key_file.clear();
  ExpectRefused(Worker(tls), "asks for a client certificate, and none is given (tls.cert_file)");
  EXPECT_EQ(server_->snapshot().streams, 0U);
}

TEST_F(SecureGroupTest, AnExpiredWorkerIsToldWithItsEndAndTheLocalTime) {
  Start();
  const absl::Status status = Refused(
      Worker(Tls({.name = "worker 7", .begins = -absl::Hours(2), .ends = -absl::Hours(1)})));
  EXPECT_TRUE(absl::IsUnauthenticated(status)) << status;
  EXPECT_THAT(Text(status), AllOf(HasSubstr("the coordinator refuses this side's certificate"),
                                  HasSubstr("worker.crt: the certificate of CN=worker 7 expired: "
                                            "not_after 20"),
                                  HasSubstr("local time 20")));
}

TEST_F(SecureGroupTest, AWorkerThatIsNotValidYetIsToldWithItsBeginning) {
  Start();
  ExpectRefused(Worker(Tls({.name = "worker", .begins = absl::Hours(1), .ends = absl::Hours(2)})),
                "worker.crt: the certificate of CN=worker is not valid yet: not_before 20");
}

TEST_F(SecureGroupTest, AWorkerOfAnotherAuthorityIsToldWhichAreAccepted) {
  Start();
  ExpectRefused(Worker(TlsOf(stranger_, {.name = "spy"})),
                "it is of CN=spy signed by CN=other authority, the coordinator accepts CN=lab "
                "authority");
}

TEST_F(SecureGroupTest, AWorkerOfAnAuthorityThatOnlyHasTheSameNameIsTriedAgainAndToldWhatIsLikely) {
  Start();
  const Authority remade("lab authority");
  GroupOptions options = Worker(TlsOf(remade, {.name = "worker"}));
  options.connect_timeout = absl::Milliseconds(500);
  const absl::Status status = Refused(options);
  EXPECT_TRUE(absl::IsUnavailable(status)) << status;
  EXPECT_THAT(Text(status),
              HasSubstr("perhaps it refuses this side's certificate " + options.tls.cert_file +
                        ", of CN=worker signed by CN=lab authority"));
}

TEST_F(SecureGroupTest, PlaintextToACoordinatorWithTlsIsNamed) {
  Start();
  ExpectRefused(Options(server_->address(), 0, 1),
                "the coordinator speaks TLS, and this side plaintext (tls.ca_file is not set)");
}

TEST_F(SecureGroupTest, TlsToACoordinatorWithoutIsNamed) {
  const auto coordinator = StartCoordinator();
  GroupOptions options = Options(coordinator->address(), 0, 1);
  options.tls = Tls();
  ExpectRefused(options, "the coordinator does not speak TLS");
}

TEST_F(SecureGroupTest, FilesThatCannotBeUsedAreNamedAtOnce) {
  Start();
  GroupOptions options = Worker(Tls());
  options.tls.key_file = folder_.path("none.key");
  absl::Status status = Refused(options);
  EXPECT_TRUE(absl::IsFailedPrecondition(status)) << status;
  EXPECT_THAT(Text(status), HasSubstr("none.key: cannot be read: No such file"));
  options.tls.key_file = folder_.Write("other.key", stranger_.Issue({}).key);
  status = Refused(options);
  EXPECT_THAT(Text(status), HasSubstr("other.key: is not the key of the certificate"));
}

TEST_F(SecureGroupTest, ASilentPortEndsAtTheDeadlineWithTlsToo) {
  const SilentPort port;
  GroupOptions options = Options(port.address(), 0, 1);
  options.tls = Tls();
  options.connect_timeout = absl::Seconds(1);
  const absl::Time began = MonotonicClock().Now();
  const absl::Status status = Group::Connect(options).status();
  EXPECT_TRUE(absl::IsUnavailable(status)) << status;
  EXPECT_LE(MonotonicClock().Now() - began, absl::Seconds(1) + absl::Milliseconds(100));
}

TEST_F(SecureGroupTest, ARotationServesNewConnectionsAndLeavesOldOnesAlone) {
  Start();
  const auto old = Group::Connect(Worker(Tls()));
  ASSERT_TRUE(old.ok()) << old.status();
  ExpectReduces(old->get(), 0);

  // Everything is new: the authority, too.
  const Authority next("next authority");
  folder_.WriteSecret("second", next.Issue({.name = "second"}), next.certificate());
  folder_.Link("server", folder_.path("second"));
  while (server_->security().reloads == 0) std::this_thread::yield();
  GroupOptions options = Worker(Tls());
  options.group = "new";
  ExpectRefused(options, "of CN=second signed by CN=next authority");
  options.tls = TlsOf(next, {.name = "worker"});
  options.tls.ca_file = folder_.Write("next.crt", next.certificate());
  const auto fresh = Group::Connect(options);
  ASSERT_TRUE(fresh.ok()) << fresh.status();
  ExpectReduces(fresh->get());
  ExpectReduces(old->get(), 1);
}

TEST_F(SecureGroupTest, ARotationThatFailsGoesOnServingTheOldCertificate) {
  Start();
  CaptureStderr();
  folder_.Write("first/tls.key", stranger_.Issue({}).key);
  while (server_->security().reload_failures == 0) std::this_thread::yield();
  EXPECT_THAT(GetCapturedStderr(), HasSubstr("the old certificates stay in force"));
  for (int i = 0; i < 2; ++i) {
    const auto group = Group::Connect(Worker(Tls()));
    ASSERT_TRUE(group.ok()) << group.status();
    ExpectReduces(group->get());
  }
}

TEST_F(SecureGroupTest, AWorkerThatComesBackUsesTheFilesAsTheyAreThen) {
  Start();
  const TlsOptions tls = Tls();
  GroupOptions options = Worker(tls);
  const auto group = Group::Connect(options);
  ASSERT_TRUE(group.ok()) << group.status();
  ExpectReduces(group->get(), 0);

  // The coordinator is another one, on the same port, and all certificates are new.
  options_.listen.port = server_->port();
  server_.reset();
  const Authority next("next authority");
  const auto own = next.Issue({.name = "worker"});
  folder_.WriteSecret("first", next.Issue({.name = "second"}), next.certificate());
  folder_.Write("worker.crt", own.certificate);
  folder_.Write("worker.key", own.key);
  folder_.Write("ca.crt", next.certificate());
  StartAsIs();
  ExpectReduces(group->get(), 1);
}

TEST_F(SecureGroupTest, ATokenFromAFileJoinsAndOneThatIsWrongIsToldSo) {
  options_.security.tokens =
      folder_.Write("tokens", TokenLine("right-secret", "worker", "team-a/*") + "\n" +
                                  TokenLine("late-secret", "worker", "*", "2026-01-01T00:00:00Z"));
  CaptureStderr();
  Start();
  GroupOptions options = Worker(Tls());
  options.group = "team-a/x";
  ExpectRefused(options, "asks for a token, and none was sent");
  options.token_file = folder_.Write("token", "wrong-secret\n");
  ExpectRefused(options, "the token is not known here");
  folder_.Write("token", "late-secret\n");
  ExpectRefused(options, "the token expired: not_after 2026-01-01T00:00:00+00:00");
  folder_.Write("token", "right-secret\n");
  {
    const auto group = Group::Connect(options);
    ASSERT_TRUE(group.ok()) << group.status();
    ExpectReduces(group->get());
  }
  options.group = "team-b/x";
  const absl::Status status = Refused(options);
  EXPECT_TRUE(absl::IsPermissionDenied(status)) << status;
  EXPECT_THAT(Text(status),
              ::testing::EndsWith(": the token does not allow to join group team-b/x"));
  options.token_file = folder_.path("none");
  EXPECT_THAT(Text(Refused(options)), HasSubstr("none: cannot be read"));
  EXPECT_THAT(GetCapturedStderr(), Not(HasSubstr("secret"))) << "a token is in the log";
}

// The shell commands of a page: its blocks that say ```sh.
std::string CommandsOf(const std::string& page) {
  std::ifstream file(page);
  std::string commands;
  bool inside = false;
  for (std::string line; std::getline(file, line);) {
    if (line == "```sh") {
      inside = true;
    } else if (line == "```") {
      inside = false;
    } else if (inside) {
      commands += line + "\n";
    }
  }
  return commands;
}

TEST_F(SecureGroupTest, TheCommandsOfTheDocumentationMakeWhatWorks) {
  if (std::system("openssl version >/dev/null 2>&1") != 0) GTEST_SKIP() << "no openssl command";
  const std::string commands = CommandsOf(SYNCNORM_SECURITY_PAGE);
  EXPECT_THAT(commands, AllOf(HasSubstr("syncnormctl certs"), HasSubstr("openssl req"),
                              HasSubstr("coordinator/tokens")));
  const std::string script = folder_.Write("script", commands);
  ASSERT_EQ(std::system(("cd " + folder_.path("") +
                         " && PATH=\"$(dirname " SYNCNORM_CTL "):$PATH\" bash -e script >log 2>&1")
                            .c_str()),
            0);
  for (const std::string made : {"certs/", "own/"}) {
    options_.listen = *server::ListenAddress::Parse("127.0.0.1:0");
    options_.security.tls = {folder_.path(made + "coordinator/tls.crt"),
                             folder_.path(made + "coordinator/tls.key"),
                             folder_.path(made + "coordinator/ca.crt")};
    options_.security.tokens = folder_.path(made + "coordinator/tokens");
    StartAsIs();
    GroupOptions options = Worker({.ca_file = folder_.path(made + "worker/ca.crt"),
                                   .cert_file = folder_.path(made + "worker/tls.crt"),
                                   .key_file = folder_.path(made + "worker/tls.key")});
    options.token_file = folder_.path(made + "worker/token");
    options.group = "team-a/x";
    const auto group = Group::Connect(options);
    ASSERT_TRUE(group.ok()) << made << ": " << group.status();
    ExpectReduces(group->get());
  }
}

TEST_F(SecureGroupTest, AnEmbeddedCoordinatorObeysTheSameRules) {
  const absl::Status status = StartEmbeddedCoordinator("0.0.0.0:0").status();
  EXPECT_TRUE(absl::IsInvalidArgument(status)) << status;
  EXPECT_THAT(Text(status), HasSubstr("needs TLS"));

  CaptureStderr();
  EXPECT_TRUE(EmbeddedCoordinator({.insecure = true})("0.0.0.0:0").ok());
  EXPECT_THAT(GetCapturedStderr(), HasSubstr("insecure"));

  const std::string secret = Secret("rank0", {.name = "rank 0"});
  GroupOptions options = Options("127.0.0.1:0", 0, 1);
  options.tls = Tls();
  options.token = "secret";
  options.coordinator_factory = EmbeddedCoordinator(
      {.cert_file = secret + "/tls.crt",
       .key_file = secret + "/tls.key",
       .client_ca_file = secret + "/ca.crt",
       .tokens_file = folder_.Write("tokens", TokenLine("secret", "worker", "world"))});
  {
    const auto group = Group::Connect(options);
    ASSERT_TRUE(group.ok()) << group.status();
    ExpectReduces(group->get());
  }
  options.token.clear();
  EXPECT_TRUE(absl::IsUnauthenticated(Refused(options)));
}

}  // namespace
}  // namespace syncnorm

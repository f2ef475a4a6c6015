// syncnormctl certs, with a coordinator, workers and probes that use what it makes.

#include <gmock/gmock.h>
#include <gtest/gtest.h>
#include <syncnorm/group.h>
#include <sys/stat.h>
#include <sys/wait.h>
#include <unistd.h>

#include <algorithm>
#include <filesystem>
#include <fstream>
#include <memory>
#include <string>
#include <thread>
#include <vector>

#include "absl/strings/str_cat.h"
#include "proto/clock.h"
#include "proto/tls_files.h"
#include "server/ctl_files.h"
#include "server/server.h"
#include "server/tokens.h"
#include "tests/client/workers.h"
#include "tests/server/ctl_run.h"
#include "tests/support/certificates.h"

namespace syncnorm::server {
namespace {

using ::testing::AllOf;
using ::testing::HasSubstr;
using ::testing::Not;
using ::testing::UnorderedElementsAre;

namespace fs = std::filesystem;

class CtlCertsTest : public ::testing::Test {
 protected:
  ~CtlCertsTest() override { umask(before_); }

  Ran Certs(std::vector<std::string> more) const {
    more.insert(more.begin(), {"certs", "--out=" + out_});
    return Ctl(more);
  }
  void Make(std::vector<std::string> more = {}) const {
    more.insert(more.begin(), "--coordinator=db.example,10.0.0.7");
    const Ran ran = Certs(more);
    ASSERT_EQ(ran.status, 0) << ran.errors;
  }
  static void ExpectOneLine(const Ran& ran, const std::string& text) {
    EXPECT_NE(ran.status, 0);
    EXPECT_EQ(ran.output, "");
    EXPECT_THAT(ran.errors, HasSubstr(text));
    EXPECT_EQ(std::count(ran.errors.begin(), ran.errors.end(), '\n'), 1) << ran.errors;
  }
  std::string In(const std::string& path) const { return out_ + "/" + path; }
  std::string TextOf(const std::string& path) const { return *ReadText(In(path)); }
  mode_t ModeOf(const std::string& path) const {
    struct stat found = {};
    EXPECT_EQ(stat(In(path).c_str(), &found), 0) << path;
    return found.st_mode & 07777;
  }
  CertificateInfo InfoOf(const std::string& path) const {
    return Describe(path, TextOf(path))->front();
  }
  // All files below, with their texts.
  std::vector<std::pair<std::string, std::string>> Everything() const {
    std::vector<std::pair<std::string, std::string>> all;
    for (const auto& entry : fs::recursive_directory_iterator(out_)) {
      if (entry.is_regular_file()) all.emplace_back(entry.path(), *ReadText(entry.path()));
    }
    std::sort(all.begin(), all.end());
    return all;
  }

  void StartCoordinator() {
    ServerOptions options;
    options.listen = *ListenAddress::Parse("127.0.0.1:0");
    options.security.tls = {In("coordinator/tls.crt"), In("coordinator/tls.key"),
                            In("coordinator/ca.crt")};
    options.security.tokens = In("coordinator/tokens");
    options.security.reload_interval = absl::Milliseconds(1);
    auto server = Server::Start(options);
    ASSERT_TRUE(server.ok()) << server.status();
    server_ = *std::move(server);
  }
  GroupOptions Worker(int rank, int world_size, const std::string& group = "world") const {
    GroupOptions options = Options(server_->address(), rank, world_size);
    options.tls = {.ca_file = In("worker/ca.crt"),
                   .cert_file = In("worker/tls.crt"),
                   .key_file = In("worker/tls.key")};
    options.token_file = In("worker/token");
    options.group = group;
    return options;
  }
  // Two workers connect, reduce, and leave.
  void ExpectReduces() const {
    InThreads(2, [this](int rank) {
      const auto group = syncnorm::Group::Connect(Worker(rank, 2));
      ASSERT_TRUE(group.ok()) << group.status();
      const auto result = (*group)->ReduceNow(Layer("bn"), MomentsOf(rank, 0));
      ASSERT_TRUE(result.ok()) << result.status();
      EXPECT_EQ(*result, Expected(2, 0));
    });
  }
  Ran Ask(const std::string& what, const std::string& whose) const {
    return Ctl({what, "--address=" + server_->address(), "--tls_dir=" + In(whose)});
  }

  const mode_t before_ = umask(022);
  const syncnorm::testing::TestFolder folder_;
  const std::string out_ = folder_.path("certs");
  std::unique_ptr<Server> server_;
};

TEST_F(CtlCertsTest, WhatItMakesConnectsWorkersProbesAndAdmins) {
  Make({"--groups=world,team-a/*"});
  StartCoordinator();
  ExpectReduces();
  const absl::Status other = syncnorm::Group::Connect(Worker(0, 1, "team-b/x")).status();
  EXPECT_TRUE(absl::IsPermissionDenied(other)) << other;
  for (const char* end : {"coordinator", "worker", "admin"}) {
    const Ran health = Ask("health", end);
    EXPECT_EQ(health.status, 0) << end << ": " << health.errors;
    EXPECT_THAT(health.output, HasSubstr(": SERVING\n"));
  }
  const Ran groups = Ask("status", "admin");
  EXPECT_EQ(groups.status, 0) << groups.errors;
  EXPECT_THAT(Ask("status", "worker").errors, HasSubstr("the token has not the role reader"));
  EXPECT_THAT(Ask("status", "coordinator").errors, HasSubstr("none was sent"));
}

TEST_F(CtlCertsTest, OpensslAgreesWithEachOfThem) {
  Make();
  for (const std::string end : {"coordinator", "worker", "admin"}) {
    const Ran verified = RunToEnd({"/usr/bin/openssl", "verify", "-x509_strict", "-purpose",
                                   end == "coordinator" ? "sslserver" : "sslclient", "-CAfile",
                                   In(end + "/ca.crt"), In(end + "/tls.crt")});
    EXPECT_EQ(verified.status, 0) << verified.output << verified.errors;
    EXPECT_EQ(TextOf(end + "/ca.crt"), TextOf("ca.crt"));
  }
  const Ran text =
      RunToEnd({"/usr/bin/openssl", "x509", "-noout", "-text", "-in", In("coordinator/tls.crt")});
  EXPECT_THAT(text.output, HasSubstr("DNS:db.example, DNS:localhost, IP Address:10.0.0.7, IP "
                                     "Address:127.0.0.1, IP Address:0:0:0:0:0:0:0:1\n"));
}

TEST_F(CtlCertsTest, OnlyTheOwnerReadsKeysAndTokensWhateverTheUmask) {
  umask(0);
  Make();
  for (const char* secret : {"ca.key", "coordinator/tls.key", "coordinator/tokens",
                             "worker/tls.key", "worker/token", "admin/tls.key", "admin/token"}) {
    EXPECT_EQ(ModeOf(secret), 0600) << secret;
  }
  for (const char* open : {"ca.crt", "coordinator/tls.crt", "worker/ca.crt"}) {
    EXPECT_EQ(ModeOf(open), 0644) << open;
  }
}

TEST_F(CtlCertsTest, AGroupMayReadThemWhereThatIsWantedButNotTheAuthoritysKey) {
  Make({"--mode=0640"});
  EXPECT_EQ(ModeOf("worker/tls.key"), 0640);
  EXPECT_EQ(ModeOf("worker/token"), 0640);
  EXPECT_EQ(ModeOf("coordinator/tokens"), 0640);
  EXPECT_EQ(ModeOf("ca.key"), 0600);
  ASSERT_EQ(Certs({"--renew"}).status, 0);
  EXPECT_EQ(ModeOf("worker/tls.key"), 0640) << "as it was";
  ASSERT_EQ(Certs({"--renew", "--mode=0600"}).status, 0);
  EXPECT_EQ(ModeOf("worker/tls.key"), 0600);
}

TEST_F(CtlCertsTest, TokensAreLongRandomAndKnownByTheirDigests) {
  Make({"--groups=team-a/*"});
  const std::string worker = TextOf("worker/token");
  const std::string admin = TextOf("admin/token");
  EXPECT_EQ(worker.size(), 65U);
  EXPECT_NE(worker, admin);
  const auto tokens = Tokens::Read(In("coordinator/tokens"));
  ASSERT_TRUE(tokens.ok()) << tokens.status();
  EXPECT_EQ(tokens->size(), 2U);
  const TokenEntry* entry = tokens->Find(DigestOf(worker.substr(0, 64)));
  ASSERT_NE(entry, nullptr);
  EXPECT_EQ(entry->role, Role::kWorker);
  EXPECT_TRUE(entry->HoldsFor("team-a/x"));
  EXPECT_FALSE(entry->HoldsFor("world"));
  entry = tokens->Find(DigestOf(admin.substr(0, 64)));
  ASSERT_NE(entry, nullptr);
  EXPECT_EQ(entry->role, Role::kAdmin);
  EXPECT_THAT(TextOf("coordinator/tokens"), Not(HasSubstr(worker.substr(0, 64))));
}

TEST_F(CtlCertsTest, ARunningCoordinatorTakesRenewedCertificates) {
  Make({"--days=3"});
  StartCoordinator();
  const std::string ca = TextOf("ca.crt");
  const std::string token = TextOf("worker/token");
  const std::string key = TextOf("coordinator/tls.key");
  const absl::Time old = InfoOf("coordinator/tls.crt").not_after;
  const Ran renewed = Certs({"--renew", "--days=30"});
  ASSERT_EQ(renewed.status, 0) << renewed.errors;
  EXPECT_THAT(renewed.output, HasSubstr("for db.example, localhost, 10.0.0.7, 127.0.0.1, ::1"));
  EXPECT_EQ(InfoOf("coordinator/tls.crt").not_after - old, absl::Hours(27 * 24))
      << "to the second, as both began in one";
  EXPECT_NE(TextOf("coordinator/tls.key"), key);
  EXPECT_EQ(TextOf("ca.crt"), ca);
  EXPECT_EQ(TextOf("worker/token"), token);
  while (server_->security().reloads == 0 && !HasFailure()) std::this_thread::yield();
  ExpectReduces();
  EXPECT_EQ(Ask("health", "admin").status, 0);
  EXPECT_EQ(fs::directory_entry(In("coordinator")).exists(), true);
  EXPECT_EQ(std::distance(fs::directory_iterator(In("coordinator")), {}), 4) << "nothing beside";
}

TEST_F(CtlCertsTest, ARenewalMayHaveOtherNamesAndLeavesOutWhatWasTakenAway) {
  Make();
  fs::remove_all(In("worker"));
  const Ran renewed = Certs({"--renew", "--coordinator=new.example"});
  ASSERT_EQ(renewed.status, 0) << renewed.errors;
  EXPECT_THAT(renewed.output, HasSubstr("for new.example, localhost, 127.0.0.1, ::1"));
  EXPECT_FALSE(fs::exists(In("worker")));
}

TEST_F(CtlCertsTest, WhatIsThereIsNeverOverwritten) {
  Make();
  const auto before = Everything();
  ExpectOneLine(Certs({"--coordinator=x"}), "certs/ca.crt is there already: --renew makes");
  const Ran kept = Certs({"--coordinator=x", "--keep"});
  EXPECT_EQ(kept.status, 0) << kept.errors;
  EXPECT_EQ(Everything(), before);
  fs::remove(In("admin/token"));
  ExpectOneLine(Certs({"--coordinator=x", "--keep"}), "certs/admin/token is missing");
}

TEST_F(CtlCertsTest, EmptyFoldersAsOfVolumesAreFilledAndKeepMakesWhatIsNotThere) {
  for (const char* end : {"coordinator", "worker"}) fs::create_directories(In(end));
  Make({"--keep"});
  EXPECT_TRUE(fs::exists(In("ca.key")));
  EXPECT_TRUE(fs::exists(In("worker/token")));
}

TEST_F(CtlCertsTest, MistakesAreOneLineAndLeaveNothing) {
  ExpectOneLine(Ctl({"certs", "--coordinator=x"}), "--out: is missing");
  ExpectOneLine(Certs({}), "--coordinator: is missing");
  ExpectOneLine(Certs({"--coordinator=a,b c"}),
                "--coordinator: \"b c\" is neither a host name nor");
  ExpectOneLine(Certs({"--coordinator=a,"}), "--coordinator: \"\" is neither a host name nor");
  ExpectOneLine(Certs({"--coordinator=a:7070"}), "without a port");
  ExpectOneLine(Certs({"--coordinator=a", "--days=0"}), "--days: 0 is not within 1 to 3650");
  ExpectOneLine(Certs({"--coordinator=a", "--days=3651"}), "--days: 3651 is not within 1 to 3650");
  ExpectOneLine(Certs({"--coordinator=a", "--groups=a b"}), "--groups: \"a b\" are not names of");
  ExpectOneLine(Certs({"--coordinator=a", "--groups="}), "--groups: \"\" are not names of");
  for (const char* mode : {"0644", "0604", "0200", "0700", "rw", "00600", "8", ""}) {
    ExpectOneLine(Certs({"--coordinator=a", absl::StrCat("--mode=", mode)}), "--mode: ");
  }
  ExpectOneLine(Certs({"--renew", "--keep"}), "exclude each other");
  ExpectOneLine(Certs({"--renew", "--groups=x"}), "--renew keeps the tokens");
  ExpectOneLine(Certs({"--renew"}), "certs/ca.crt: cannot be read: No such file or directory");
  ExpectOneLine(Ctl({"certs", "--out=/proc/x", "--coordinator=a"}), "cannot make /proc/x: ");
  ExpectOneLine(Ctl({"certs", "--out=/nowhere/x", "--coordinator=a"}),
                "cannot make /nowhere/x: No such file or directory");
  ExpectOneLine(Certs({"--coordinator=a", "more"}), "unexpected argument \"more\"");
  EXPECT_FALSE(fs::exists(out_));
}

TEST_F(CtlCertsTest, ARenewalThatCannotBeLeavesEverythingAsItWas) {
  Make({"--days=3"});
  auto before = Everything();
  const auto without = [&](const std::string& file, const std::string& text) {
    fs::rename(In(file), In(file) + ".away");
    ExpectOneLine(Certs({"--renew"}), text);
    fs::rename(In(file) + ".away", In(file));
    EXPECT_EQ(Everything(), before);
  };
  without("ca.key", "ca.key: cannot be read: No such file or directory; the authority's key signs");
  without("coordinator/tls.crt", "coordinator/tls.crt: cannot be read");
  without("admin/tls.key", "cannot replace ");
  std::ofstream(In("ca.key")) << TextOf("worker/tls.key");
  ExpectOneLine(Certs({"--renew"}), "ca.key: is not the key of the certificate ");
}

TEST_F(CtlCertsTest, NoCertificateOutlivesItsAuthority) {
  Make();
  // An authority of 20 days.
  ASSERT_EQ(RunToEnd({"/usr/bin/openssl", "req", "-x509", "-newkey", "ec", "-pkeyopt",
                      "ec_paramgen_curve:P-256", "-nodes", "-days", "20", "-subj", "/CN=short",
                      "-keyout", In("ca.key"), "-out", In("ca.crt")})
                .status,
            0);
  ExpectOneLine(Certs({"--renew"}), "--days: 90 is longer than the authority ");
  EXPECT_EQ(Certs({"--renew", "--days=19"}).status, 0) << "openssl's authority is as good";
}

TEST_F(CtlCertsTest, AnotherUsersFolderIsNotWrittenTo) {
  if (geteuid() != 0) GTEST_SKIP() << "becoming another user needs root";
  fs::create_directory(out_);
  fs::permissions(folder_.path("."), fs::perms(0755));
  const pid_t child = fork();
  if (child == 0) {
    if (setegid(65532) != 0 || seteuid(65532) != 0) _exit(2);
    _exit(Certs({"--coordinator=a"}).errors.find(": Permission denied") != std::string::npos ? 0
                                                                                             : 1);
  }
  int status = 0;
  ASSERT_EQ(waitpid(child, &status, 0), child);
  EXPECT_EQ(status, 0);
}

}  // namespace
}  // namespace syncnorm::server

// The admin port beside workers that reduce.

#include "server/admin.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>
#include <httplib.h>
#include <netinet/in.h>
#include <sys/socket.h>
#include <unistd.h>

#include <atomic>
#include <memory>
#include <nlohmann/json.hpp>
#include <string>
#include <thread>
#include <utility>
#include <vector>

#include "absl/strings/str_cat.h"
#include "absl/synchronization/notification.h"
#include "server/server.h"
#include "tests/server/test_worker.h"

namespace syncnorm::server {
namespace {

using nlohmann::json;
using testing::HasSubstr;
using testing::StartsWith;

const ListenAddress kAny = *ListenAddress::Parse("127.0.0.1:0");

Admin::Source Of(Server* server) {
  return {&MonotonicClock(), [server] { return server->alive(); },
          [server] { return server->ready(); },
          [server](const std::string& group, bool timeline) {
            return server->vitals(group, timeline);
          }};
}

class AdminTest : public testing::Test {
 protected:
  AdminTest() {
    ServerOptions options;
    options.listen = kAny;
    server_ = *Server::Start(options);
    admin_ = *Admin::Start(kAny, Of(server_.get()));
  }

  httplib::Result Get(const std::string& path) {
    httplib::Client client("127.0.0.1", admin_->port());
    client.set_read_timeout(20);
    return client.Get(path);
  }

  bool Waits() { return server_->snapshot().open_rounds > 0; }

  std::unique_ptr<Server> server_;
  std::unique_ptr<Admin> admin_;
};

TEST_F(AdminTest, ProbesFollowTheCoordinatorsLife) {
  EXPECT_EQ(Get("/healthz")->status, 200);
  EXPECT_EQ(Get("/readyz")->status, 200);
  // Drains for as long as a member is in a round.
  TestPair pair(server_->address());
  pair.a.Contribute(1);
  while (!Waits()) std::this_thread::yield();
  std::thread drainer([&] { EXPECT_TRUE(server_->Drain(absl::Minutes(1))); });
  while (server_->ready()) std::this_thread::yield();
  EXPECT_EQ(Get("/readyz")->status, 503);
  EXPECT_EQ(Get("/healthz")->status, 200) << "a restart would lose nothing, but help nobody either";
  while (!server_->snapshot().draining) std::this_thread::yield();
  EXPECT_TRUE(json::parse(Get("/statusz.json")->body)["draining"]);
  pair.b.Contribute(1);
  drainer.join();
  EXPECT_EQ(Get("/readyz")->status, 503);
}

TEST_F(AdminTest, ThePageAndTheMetricsTellTheSameFigures) {
  TestPair pair(server_->address());
  for (uint64_t round = 1; round <= 5; ++round) pair.Reduce(round, [this] { return Waits(); });
  const auto page = Get("/statusz.json?group=world&timeline=1");
  ASSERT_EQ(page->status, 200);
  EXPECT_EQ(page->get_header_value("Content-Type"), "application/json");
  const json group = json::parse(page->body)["groups"][0];
  EXPECT_EQ(group["counters"]["completed"], 5);
  const auto metrics = Get("/metrics");
  ASSERT_EQ(metrics->status, 200);
  EXPECT_EQ(metrics->get_header_value("Content-Type"), "text/plain; version=0.0.4; charset=utf-8");
  const auto value = [&](const std::string& series) {
    const size_t at = metrics->body.find("\n" + series + " ");
    EXPECT_NE(at, std::string::npos) << series;
    return at == std::string::npos ? -1.0 : std::stod(metrics->body.substr(at + series.size() + 2));
  };
  EXPECT_EQ(value("syncnorm_group_rounds_total{group=\"world\"}"), 5);
  for (int rank = 0; rank < 2; ++rank) {
    const json member = group["members"][rank];
    const std::string labels = absl::StrCat("{group=\"world\",rank=\"", rank, "\"}");
    EXPECT_EQ(value("syncnorm_rank_last_total" + labels), member["last"]);
    EXPECT_EQ(value("syncnorm_rank_rounds_total" + labels), member["rounds"]);
    EXPECT_NEAR(value("syncnorm_rank_late_seconds_total" + labels), member["late_s"], 1e-12);
  }
  double cumulative = 0;
  for (const json& bucket : group["durations"]["buckets"]) {
    cumulative += bucket["rounds"].get<double>();
    const std::string le =
        bucket.contains("within_s") ? absl::StrCat(bucket["within_s"].get<double>()) : "+Inf";
    EXPECT_EQ(value("syncnorm_group_round_seconds_bucket{group=\"world\",le=\"" + le + "\"}"),
              cumulative)
        << le;
  }
  EXPECT_EQ(cumulative, 5);
}

TEST_F(AdminTest, ServesThePageFromTheProgramAlone) {
  const auto page = Get("/statusz");
  ASSERT_EQ(page->status, 200);
  EXPECT_THAT(page->get_header_value("Content-Type"), StartsWith("text/html"));
  EXPECT_THAT(page->get_header_value("Content-Security-Policy"), HasSubstr("default-src 'none'"));
  EXPECT_THAT(page->body, HasSubstr("<!doctype html"));
  EXPECT_EQ(Get("/statusz.css")->status, 200);
  EXPECT_THAT(Get("/statusz.js")->get_header_value("Content-Type"), StartsWith("text/javascript"));
  EXPECT_EQ(Get("/")->get_header_value("Location"), "/statusz");
}

TEST_F(AdminTest, WhatIsNotThereIsToldInWords) {
  const auto group = Get("/statusz.json?group=a%22b%0a");
  EXPECT_EQ(group->status, 404);
  EXPECT_EQ(json::parse(group->body)["error"], "no group \"a\\\"b\\n\"");
  EXPECT_EQ(Get("/nothing")->status, 404);
  EXPECT_THAT(Get("/nothing")->body, HasSubstr("/statusz"));
  EXPECT_EQ(Get("/../../etc/passwd")->status, 404);
}

TEST_F(AdminTest, NothingCanBeChanged) {
  httplib::Client client("127.0.0.1", admin_->port());
  EXPECT_EQ(client.Post("/readyz", "x", "text/plain")->status, 404);
  EXPECT_EQ(client.Delete("/statusz")->status, 404);
}

TEST_F(AdminTest, ManyWhoLookCostWhatOneDoes) {
  std::atomic<int> asked = 0;
  Admin::Source source = Of(server_.get());
  source.vitals = [&, ask = source.vitals](const std::string& group, bool timeline) {
    ++asked;
    return ask(group, timeline);
  };
  const auto admin = *Admin::Start(kAny, std::move(source));
  const absl::Time started = MonotonicClock().Now();
  std::vector<std::thread> people;
  for (int i = 0; i < 16; ++i) {
    people.emplace_back([&] {
      httplib::Client client("127.0.0.1", admin->port());
      client.set_read_timeout(20);
      EXPECT_EQ(client.Get("/metrics")->status, 200);
    });
  }
  for (std::thread& one : people) one.join();
  const absl::Duration took = MonotonicClock().Now() - started;
  EXPECT_LE(asked, 1 + took / Admin::kFresh);
}

TEST_F(AdminTest, AConnectionThatSaysNothingKeepsNobodyOut) {
  std::vector<int> silent;
  for (int i = 0; i < Admin::kThreads; ++i) {
    const int fd = socket(AF_INET, SOCK_STREAM, 0);
    sockaddr_in to = {};
    to.sin_family = AF_INET;
    to.sin_port = htons(static_cast<uint16_t>(admin_->port()));
    to.sin_addr.s_addr = htonl(INADDR_LOOPBACK);
    ASSERT_EQ(connect(fd, reinterpret_cast<const sockaddr*>(&to), sizeof(to)), 0);
    silent.push_back(fd);
  }
  EXPECT_EQ(Get("/healthz")->status, 200);
  for (const int fd : silent) close(fd);
}

TEST_F(AdminTest, APortThatIsInUseIsRefused) {
  const auto second = Admin::Start(*ListenAddress::Parse(admin_->address()), Of(server_.get()));
  ASSERT_FALSE(second.ok());
  EXPECT_EQ(second.status().message(),
            absl::StrCat("cannot listen on ", admin_->address(), ": Address already in use"));
}

TEST_F(AdminTest, AThreadThatDoesNotGoRoundIsNotHealthy) {
  Admin::Source source = Of(server_.get());
  source.alive = [] { return false; };
  source.vitals = [](const std::string&, bool) {
    return absl::DeadlineExceededError("the coordinator did not answer within 5s");
  };
  const auto admin = *Admin::Start(kAny, std::move(source));
  httplib::Client client("127.0.0.1", admin->port());
  EXPECT_EQ(client.Get("/healthz")->status, 503);
  EXPECT_EQ(client.Get("/readyz")->status, 503);
  EXPECT_EQ(client.Get("/metrics")->status, 503);
  EXPECT_EQ(client.Get("/metrics")->body, "the coordinator did not answer within 5s\n");
  EXPECT_EQ(json::parse(client.Get("/statusz.json")->body)["error"],
            "the coordinator did not answer within 5s");
}

}  // namespace
}  // namespace syncnorm::server

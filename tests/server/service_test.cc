// The gRPC shell, with real streams over loopback.

#include "server/service.h"

#include <arpa/inet.h>
#include <gmock/gmock.h>
#include <gtest/gtest.h>
#include <netinet/in.h>
#include <sys/socket.h>
#include <unistd.h>

#include <filesystem>
#include <memory>
#include <string>
#include <thread>
#include <vector>

#include "absl/strings/str_cat.h"
#include "proto/clock.h"
#include "server/server.h"
#include "tests/server/test_worker.h"

namespace syncnorm::server {
namespace {

using testing::AllOf;
using testing::HasSubstr;

class ServiceTest : public testing::Test {
 protected:
  void Start(Settings settings = Settings(), const std::string& listen = "127.0.0.1:0") {
    ServerOptions options;
    options.listen = *ListenAddress::Parse(listen);
    options.settings = settings;
    absl::StatusOr<std::unique_ptr<Server>> server = Server::Start(options);
    ASSERT_TRUE(server.ok()) << server.status();
    server_ = *std::move(server);
  }

  std::unique_ptr<TestWorker> Worker() const {
    return std::make_unique<TestWorker>(server_->address());
  }
  // A group of workers that have joined.
  std::vector<std::unique_ptr<TestWorker>> Form(uint32_t world_size) const {
    std::vector<std::unique_ptr<TestWorker>> workers;
    for (uint32_t rank = 0; rank < world_size; ++rank) {
      workers.push_back(Worker());
      workers.back()->Join(rank, world_size);
    }
    for (const auto& worker : workers) worker->ReadJoined();
    return workers;
  }
  // A contribution has been sent; now the coordinator has it.
  void WaitForAnOpenRound() const {
    while (server_->snapshot().open_rounds == 0) std::this_thread::yield();
  }
  void ExpectItStillServes() const {
    wire::Join join = Worker()->MakeJoin(0, 1);
    join.group = "still-serving";
    const std::unique_ptr<TestWorker> worker = Worker();
    worker->Send(join);
    worker->ReadJoined();
    worker->Contribute(1, 2.5);
    EXPECT_EQ(worker->ReadResult().moments.values[0], 2.5);
    worker->Send(wire::Leave{});  // and wait: the next call joins as the same rank
    EXPECT_EQ(worker->ReadToEnd(), "");
  }

  std::unique_ptr<Server> server_;
};

// A TCP connection that sends `bytes` and reads until the server ends it.
void SendGarbage(int port, const std::string& bytes) {
  const int fd = socket(AF_INET, SOCK_STREAM, 0);
  ASSERT_GE(fd, 0);
  sockaddr_in address = {};
  address.sin_family = AF_INET;
  address.sin_port = htons(static_cast<uint16_t>(port));
  address.sin_addr.s_addr = htonl(INADDR_LOOPBACK);
  ASSERT_EQ(connect(fd, reinterpret_cast<sockaddr*>(&address), sizeof(address)), 0);
  EXPECT_EQ(send(fd, bytes.data(), bytes.size(), MSG_NOSIGNAL), static_cast<ssize_t>(bytes.size()));
  char buffer[4096];
  while (recv(fd, buffer, sizeof(buffer), 0) > 0) {
  }
  close(fd);
}

TEST_F(ServiceTest, GivesAllMembersTheSameBytes) {
  Start();
  const auto workers = Form(4);
  for (uint64_t round = 1; round <= 50; ++round) {
    for (size_t rank = 0; rank < workers.size(); ++rank) {
      workers[(rank + round) % 4]->Contribute(round, static_cast<double>(round));
    }
    const wire::Result result = workers[0]->ReadResult();
    EXPECT_EQ(result.key.round, round);
    EXPECT_EQ(result.moments.values[0], 4.0 * static_cast<double>(round));
    for (size_t rank = 1; rank < workers.size(); ++rank) {
      workers[rank]->ReadResult();
      EXPECT_EQ(workers[rank]->last_bytes(), workers[0]->last_bytes());
    }
  }
  for (const auto& worker : workers) {
    EXPECT_TRUE(worker->Send(wire::Leave{}));
    EXPECT_EQ(worker->ReadToEnd(), "");
    EXPECT_TRUE(worker->Finish().ok());
  }
}

TEST_F(ServiceTest, WorkersInThreadsRunAtTheirOwnPace) {
  Start();
  constexpr uint32_t kWorkers = 8;
  constexpr uint64_t kRounds = 300;
  std::vector<std::thread> threads;
  for (uint32_t rank = 0; rank < kWorkers; ++rank) {
    threads.emplace_back([this, rank] {
      const std::unique_ptr<TestWorker> worker = Worker();
      worker->Join(rank, kWorkers);
      worker->ReadJoined();
      for (uint64_t round = 1; round <= kRounds; ++round) {
        worker->Contribute(round, rank, 256);
        EXPECT_EQ(worker->ReadResult().moments.values[255], 28.0);
      }
      worker->Send(wire::Leave{});
      EXPECT_EQ(worker->ReadToEnd(), "");
    });
  }
  for (std::thread& thread : threads) thread.join();
}

TEST_F(ServiceTest, AnyNumberOfContributionsMayBeSentAhead) {
  Start();
  const auto workers = Form(2);
  constexpr uint64_t kRounds = 200;
  std::vector<std::thread> threads;
  for (const auto& worker : workers) {
    threads.emplace_back([&worker] {
      std::thread reader([&worker] {
        for (uint64_t round = 1; round <= kRounds; ++round) {
          EXPECT_EQ(worker->ReadResult().key.round, round);
        }
      });
      for (uint64_t round = 1; round <= kRounds; ++round) worker->Contribute(round, 1, 4096);
      reader.join();
    });
  }
  for (std::thread& thread : threads) thread.join();
}

TEST_F(ServiceTest, AWorkerThatBreaksMidRoundIsNamedToTheOthersAtOnce) {
  Start();
  const auto workers = Form(3);
  workers[0]->Contribute(1);
  WaitForAnOpenRound();
  const absl::Time before = MonotonicClock().Now();
  workers[2]->Cancel();
  // Rank 1 waits in a Read with nothing contributed, rank 0 for its round.
  const Failure round = workers[0]->ReadFailure();
  const Failure membership = workers[1]->ReadFailure();
  EXPECT_LT(MonotonicClock().Now() - before, absl::Seconds(1));
  EXPECT_THAT(round.text, AllOf(HasSubstr("rank 2 (host h2"), HasSubstr("disconnected")));
  EXPECT_EQ(membership.key.round, 0u);
  EXPECT_EQ(membership.ranks, std::vector<uint32_t>{2});
  EXPECT_EQ(workers[0]->ReadFailure().key.round, 0u);
  // The survivors may ask on, and are told the same.
  workers[1]->Contribute(1);
  EXPECT_EQ(workers[1]->ReadFailure().text, membership.text);
}

TEST_F(ServiceTest, AWorkerThatWaitsForItsAnswerIsNoticedWhenItBreaks) {
  Start();
  const auto workers = Form(2);
  workers[0]->Contribute(1);
  WaitForAnOpenRound();
  workers[0]->Cancel();  // no Read of the coordinator is pending on that stream
  EXPECT_EQ(workers[1]->ReadFailure().ranks, std::vector<uint32_t>{0});
}

TEST_F(ServiceTest, HalfClosingWithoutLeavingLosesTheMember) {
  Start();
  const auto workers = Form(2);
  workers[0]->HalfClose();
  EXPECT_EQ(workers[1]->ReadFailure().ranks, std::vector<uint32_t>{0});
  workers[0]->ReadToEnd();
}

TEST_F(ServiceTest, AMalformedMessageFailsItsStreamAndIsNamed) {
  Start();
  const auto workers = Form(2);
  workers[0]->Contribute(1);
  workers[1]->SendBytes("");  // a message with no field set
  const Failure own = workers[1]->ReadFailure();
  EXPECT_EQ(own.code, absl::StatusCode::kInvalidArgument);
  EXPECT_THAT(own.text, AllOf(HasSubstr("rank 1 (host h1"), HasSubstr("malformed message")));
  workers[1]->ReadToEnd();
  EXPECT_TRUE(workers[1]->Finish().ok()) << "the failure says it all";
  EXPECT_THAT(workers[0]->ReadFailure().text, HasSubstr("rank 1 (host h1"));
  ExpectItStillServes();
}

TEST_F(ServiceTest, AnOversizedMessageEndsItsStreamOnly) {
  Settings settings;
  settings.limits.values = 1000;
  Start(settings);
  const auto workers = Form(2);
  workers[0]->Contribute(1);
  workers[1]->Contribute(1, 1, 1 << 20);  // 8 MiB
  // Not read at all, rather than read and refused for its number of values.
  EXPECT_THAT(workers[0]->ReadFailure().text,
              AllOf(HasSubstr("rank 1 (host h1"), HasSubstr("disconnected")));
  workers[1]->ReadToEnd();
  EXPECT_FALSE(workers[1]->Finish().ok());
  ExpectItStillServes();
}

TEST_F(ServiceTest, TooManyValuesFailTheRoundWithResourceExhausted) {
  Settings settings;
  settings.limits.values = 1000;
  Start(settings);
  const auto workers = Form(2);
  for (const auto& worker : workers) worker->Contribute(1, 1, 1001);
  for (const auto& worker : workers) {
    EXPECT_EQ(worker->ReadFailure().code, absl::StatusCode::kResourceExhausted);
  }
  for (const auto& worker : workers) worker->Contribute(2, 1, 1000);
  for (const auto& worker : workers) EXPECT_EQ(worker->ReadResult().key.round, 2u);
}

TEST_F(ServiceTest, GarbageOnThePortDisturbsNobody) {
  Start();
  const auto workers = Form(2);
  SendGarbage(server_->port(), "GET / HTTP/1.1\r\nHost: x\r\n\r\n");
  SendGarbage(server_->port(), std::string(100'000, '\xff'));
  SendGarbage(server_->port(), "PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n" + std::string(1000, '\x01'));
  for (const auto& worker : workers) worker->Contribute(1);
  for (const auto& worker : workers) worker->ReadResult();
}

TEST_F(ServiceTest, AStreamThatDoesNotJoinIsClosed) {
  Settings settings;
  settings.timeouts.hello = absl::Milliseconds(50);
  Start(settings);
  const std::unique_ptr<TestWorker> worker = Worker();
  EXPECT_EQ(worker->ReadFailure().code, absl::StatusCode::kUnavailable);
  EXPECT_FALSE(worker->Read().has_value());
}

TEST_F(ServiceTest, TimeoutsOfTheWorkersAreKept) {
  Start();
  const std::unique_ptr<TestWorker> alone = Worker();
  wire::Join join = alone->MakeJoin(0, 2);
  join.join_timeout = absl::Milliseconds(50);
  const absl::Time before = MonotonicClock().Now();
  alone->Send(join);
  const Failure failure = alone->ReadFailure();
  EXPECT_EQ(failure.code, absl::StatusCode::kDeadlineExceeded);
  EXPECT_EQ(failure.ranks, std::vector<uint32_t>{1});
  EXPECT_FALSE(alone->Read().has_value());

  const std::unique_ptr<TestWorker> a = Worker();
  const std::unique_ptr<TestWorker> b = Worker();
  join.join_timeout = absl::ZeroDuration();
  join.round_timeout = absl::Milliseconds(50);
  a->Send(join);
  b->Join(1, 2);
  a->ReadJoined();
  b->ReadJoined();
  b->Contribute(1);
  EXPECT_EQ(b->ReadFailure().ranks, std::vector<uint32_t>{0});
  EXPECT_LT(MonotonicClock().Now() - before, absl::Seconds(5));
}

TEST_F(ServiceTest, AWorkerThatDoesNotReadIsCutOffAndNamed) {
  Settings settings;
  settings.limits.queued_messages = 4;
  Start(settings);
  const auto workers = Form(2);
  // 128 KiB a result: the transport's window of 64 KiB is full at once.
  constexpr int64_t kChannels = 16 << 10;
  std::thread slow([&] {
    for (uint64_t round = 1; workers[1]->Contribute(round, 1, kChannels); ++round) {
    }
  });
  std::string text;
  for (uint64_t round = 1; text.empty() && round < 1000; ++round) {
    workers[0]->Contribute(round, 1, kChannels);
    const std::optional<wire::CoordinatorMessage> message = workers[0]->Read();
    ASSERT_TRUE(message.has_value());
    if (message->kind == wire::CoordinatorMessage::Kind::kFailure) text = message->failure.text;
  }
  EXPECT_THAT(text, AllOf(HasSubstr("rank 1 (host h1"), HasSubstr("as it does not read")));
  slow.join();
}

TEST_F(ServiceTest, MoreStreamsThanAllowedAreRefusedByName) {
  Settings settings;
  settings.limits.streams = 2;
  Start(settings);
  const auto workers = Form(2);
  const std::unique_ptr<TestWorker> third = Worker();
  EXPECT_EQ(third->ReadFailure().code, absl::StatusCode::kResourceExhausted);
  for (const auto& worker : workers) worker->Contribute(1);
  for (const auto& worker : workers) worker->ReadResult();
}

TEST_F(ServiceTest, MembersJoinAgainAfterOneWasLost) {
  Start();
  auto workers = Form(2);
  workers[1]->Cancel();
  workers[0]->ReadFailure();
  workers = Form(2);
  for (const auto& worker : workers) worker->Contribute(1);
  for (const auto& worker : workers) EXPECT_EQ(worker->ReadResult().key.epoch, 2u);
}

TEST_F(ServiceTest, DrainLetsTheOpenRoundFinishAndTellsAll) {
  Start();
  const auto workers = Form(2);
  workers[0]->Contribute(1);
  WaitForAnOpenRound();
  bool drained = false;
  std::thread drainer([&] { drained = server_->Drain(absl::Seconds(10)); });
  for (const auto& worker : workers) {
    EXPECT_EQ(worker->Read()->kind, wire::CoordinatorMessage::Kind::kDraining);
  }
  workers[1]->Contribute(1);
  for (const auto& worker : workers) {
    EXPECT_EQ(worker->ReadResult().key.round, 1u);
    EXPECT_THAT(worker->ReadToEnd(), HasSubstr("going down"));
  }
  drainer.join();
  EXPECT_TRUE(drained);
}

TEST_F(ServiceTest, ManyServersLiveInOneProcess) {
  for (int i = 0; i < 3; ++i) {
    Start();
    const std::unique_ptr<Server> first = std::move(server_);
    Start();
    ExpectItStillServes();
    EXPECT_NE(first->port(), server_->port());
  }
}

TEST_F(ServiceTest, APortInUseIsAnErrorThatSaysSo) {
  Start();
  ServerOptions options;
  options.listen = *ListenAddress::Parse(server_->address());
  const absl::StatusOr<std::unique_ptr<Server>> second = Server::Start(options);
  ASSERT_FALSE(second.ok());
  EXPECT_EQ(second.status().code(), absl::StatusCode::kUnavailable);
  EXPECT_THAT(std::string(second.status().message()),
              AllOf(HasSubstr(server_->address()), HasSubstr("Address already in use")));
  ExpectItStillServes();
}

TEST_F(ServiceTest, ServesOnAUnixSocketThatIsThenItsOwn) {
  const std::string path =
      (std::filesystem::path(testing::TempDir()) / absl::StrCat("s", getpid(), ".sock")).string();
  Start(Settings(), "unix:" + path);
  ExpectItStillServes();
  ServerOptions options;
  options.listen = *ListenAddress::Parse("unix:" + path);
  EXPECT_FALSE(Server::Start(options).ok());
  ExpectItStillServes();
}

}  // namespace
}  // namespace syncnorm::server

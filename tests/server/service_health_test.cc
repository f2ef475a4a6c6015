// gRPC's health service, asked by a stub of protoc's.

#include "server/service_health.h"

#include <arpa/inet.h>
#include <gmock/gmock.h>
#include <grpc/health/v1/health.grpc.pb.h>
#include <grpcpp/health_check_service_interface.h>
#include <gtest/gtest.h>
#include <netinet/in.h>
#include <sys/socket.h>
#include <unistd.h>

#include <atomic>
#include <memory>
#include <string>
#include <thread>
#include <vector>

#include "proto/clock.h"
#include "server/server.h"
#include "tests/server/test_worker.h"
#include "tests/server/token_lines.h"
#include "tests/support/certificates.h"

namespace syncnorm::server {
namespace {

using ::grpc::health::v1::Health;
using ::grpc::health::v1::HealthCheckRequest;
using ::grpc::health::v1::HealthCheckResponse;
using ::testing::HasSubstr;
using ::testing::Not;

HealthCheckRequest RequestFor(const std::string& service) {
  HealthCheckRequest request;
  request.set_service(service);
  return request;
}

gpr_timespec Deadline() {
  return gpr_time_add(gpr_now(GPR_CLOCK_MONOTONIC), gpr_time_from_seconds(20, GPR_TIMESPAN));
}

std::shared_ptr<grpc::Channel> Connect(const std::string& address,
                                       const std::shared_ptr<grpc::ChannelCredentials>&
                                           credentials = grpc::InsecureChannelCredentials()) {
  grpc::ChannelArguments arguments;
  arguments.SetInt(GRPC_ARG_USE_LOCAL_SUBCHANNEL_POOL, 1);
  return grpc::CreateCustomChannel(address, credentials, arguments);
}

// A stream of Watch.
class Watcher {
 public:
  Watcher(Health::Stub* stub, const std::string& service) {
    context_.set_deadline(Deadline());
    stream_ = stub->Watch(&context_, RequestFor(service));
  }
  ~Watcher() {
    Cancel();
    Finish();
  }

  // The next status; nothing at the stream's end.
  std::string Next() {
    HealthCheckResponse response;
    if (!stream_->Read(&response)) return "";
    return HealthCheckResponse::ServingStatus_Name(response.status());
  }
  void Cancel() { context_.TryCancel(); }
  grpc::Status Finish() {
    if (!finished_) status_ = stream_->Finish();
    finished_ = true;
    return status_;
  }

 private:
  grpc::ClientContext context_;
  std::unique_ptr<grpc::ClientReader<HealthCheckResponse>> stream_;
  bool finished_ = false;
  grpc::Status status_;
};

class ServiceHealthTest : public ::testing::Test {
 protected:
  void Start(const SecurityOptions& security = {}) {
    ServerOptions options;
    options.listen = *ListenAddress::Parse("127.0.0.1:0");
    options.security = security;
    auto server = Server::Start(options);
    ASSERT_TRUE(server.ok()) << server.status();
    server_ = *std::move(server);
    stub_ = Health::NewStub(Connect(server_->address()));
  }
  static grpc::Status Check(Health::Stub* stub, const std::string& service, std::string* answer) {
    grpc::ClientContext context;
    context.set_deadline(Deadline());
    HealthCheckResponse response;
    const grpc::Status status = stub->Check(&context, RequestFor(service), &response);
    *answer = HealthCheckResponse::ServingStatus_Name(response.status());
    return status;
  }
  std::string Check(const std::string& service) {
    std::string answer;
    const grpc::Status status = Check(stub_.get(), service, &answer);
    return status.ok() ? answer : status.error_message();
  }

  std::unique_ptr<Server> server_;
  std::unique_ptr<Health::Stub> stub_;
};

TEST_F(ServiceHealthTest, EachOfItsServicesServesFromTheStart) {
  Start();
  for (const char* service : {"", "syncnorm.v1.Coordinator", "readiness", "liveness"}) {
    EXPECT_EQ(Check(service), "SERVING") << service;
    EXPECT_EQ(Watcher(stub_.get(), service).Next(), "SERVING") << service;
  }
}

TEST_F(ServiceHealthTest, AServiceThatIsNotThereIsNotFoundAndWatchGoesOn) {
  Start();
  std::string answer;
  const grpc::Status status = Check(stub_.get(), "some\nbody", &answer);
  EXPECT_EQ(status.error_code(), grpc::StatusCode::NOT_FOUND);
  EXPECT_EQ(status.error_message(), "no service \"some\\nbody\"");
  Watcher watcher(stub_.get(), "somebody");
  EXPECT_EQ(watcher.Next(), "SERVICE_UNKNOWN");
  EXPECT_EQ(Check(""), "SERVING");
  watcher.Cancel();
  EXPECT_EQ(watcher.Finish().error_code(), grpc::StatusCode::CANCELLED) << "it was open until then";
}

TEST_F(ServiceHealthTest, ARequestThatIsTooLargeIsRefusedAndTheNextOneIsServed) {
  Start();
  std::string answer;
  const std::string large(2000, 'x');
  EXPECT_EQ(Check(stub_.get(), large, &answer).error_code(), grpc::StatusCode::INVALID_ARGUMENT);
  Watcher watcher(stub_.get(), large);
  EXPECT_EQ(watcher.Next(), "");
  EXPECT_EQ(watcher.Finish().error_code(), grpc::StatusCode::INVALID_ARGUMENT);
  EXPECT_EQ(Check(""), "SERVING");
}

TEST_F(ServiceHealthTest, AProbeNeedsACertificateAndNoToken) {
  const syncnorm::testing::Authority authority("authority");
  const syncnorm::testing::TestFolder folder;
  const syncnorm::testing::IssuedCertificate own = authority.Issue({});
  const std::string secret = folder.WriteSecret("tls", own, authority.certificate());
  SecurityOptions security;
  security.tls = {secret + "/tls.crt", secret + "/tls.key", secret + "/ca.crt"};
  security.tokens = folder.Write("tokens", TokenLine("t", "worker", "*"));
  Start(security);
  std::string answer;
  EXPECT_EQ(Check(stub_.get(), "", &answer).error_code(), grpc::StatusCode::UNAVAILABLE)
      << "in plaintext";
  const auto without = Health::NewStub(
      Connect(server_->address(), grpc::SslCredentials({authority.certificate(), "", ""})));
  EXPECT_EQ(Check(without.get(), "", &answer).error_code(), grpc::StatusCode::UNAVAILABLE);
  const auto with = Health::NewStub(
      Connect(server_->address(),
              grpc::SslCredentials({authority.certificate(), own.key, own.certificate})));
  EXPECT_TRUE(Check(with.get(), "", &answer).ok());
  EXPECT_EQ(answer, "SERVING");
  EXPECT_EQ(server_->security().refusals.total(), 0U);
}

TEST_F(ServiceHealthTest, ADrainIsToldFromItsBeginningAndWatchEndsWithIt) {
  Start();
  TestWorker early(server_->address());
  TestWorker late(server_->address());
  early.Join(0, 2);
  late.Join(1, 2);
  early.ReadJoined();
  late.ReadJoined();
  early.Contribute(1);
  while (server_->snapshot().open_rounds == 0) std::this_thread::yield();
  Watcher all(stub_.get(), "");
  Watcher ready(stub_.get(), "readiness");
  Watcher alive(stub_.get(), "liveness");
  EXPECT_EQ(all.Next(), "SERVING");
  EXPECT_EQ(ready.Next(), "SERVING");
  EXPECT_EQ(alive.Next(), "SERVING");

  bool drained = false;
  std::thread drain([&] { drained = server_->Drain(absl::Seconds(15)); });
  EXPECT_EQ(all.Next(), "NOT_SERVING");
  EXPECT_EQ(ready.Next(), "NOT_SERVING");
  EXPECT_EQ(Check(""), "NOT_SERVING");
  EXPECT_EQ(Check("syncnorm.v1.Coordinator"), "NOT_SERVING");
  EXPECT_EQ(Check("readiness"), "NOT_SERVING");
  EXPECT_EQ(Check("liveness"), "SERVING") << "it lives, and lets its rounds finish";
  Watcher newcomer(stub_.get(), "");
  EXPECT_EQ(newcomer.Next(), "NOT_SERVING");

  late.Contribute(1);  // what the drain waits for
  early.ReadToEnd();
  late.ReadToEnd();
  drain.join();
  EXPECT_TRUE(drained);
  for (Watcher* watcher : {&all, &ready, &alive, &newcomer}) {
    EXPECT_EQ(watcher->Next(), "");
    EXPECT_TRUE(watcher->Finish().ok()) << watcher->Finish().error_message();
  }
}

TEST_F(ServiceHealthTest, AServerWithoutWorkersTellsWatchBeforeItEnds) {
  for (int time = 0; time < 20; ++time) {
    Start();
    Watcher watcher(stub_.get(), "");
    EXPECT_EQ(watcher.Next(), "SERVING");
    EXPECT_TRUE(server_->Drain(absl::Seconds(5)));
    EXPECT_EQ(watcher.Next(), "NOT_SERVING");
    EXPECT_EQ(watcher.Next(), "");
    EXPECT_TRUE(watcher.Finish().ok()) << watcher.Finish().error_message();
  }
}

TEST_F(ServiceHealthTest, WatchStreamsAreBoundedAndAPlaceThatIsLeftIsTakenAgain) {
  Start();
  std::vector<std::unique_ptr<Watcher>> watchers;
  for (size_t i = 0; i < ServiceHealth::kMaxWatches; ++i) {
    watchers.push_back(std::make_unique<Watcher>(stub_.get(), ""));
    ASSERT_EQ(watchers.back()->Next(), "SERVING") << i;
  }
  for (int i = 0; i < 40; ++i) {
    Watcher more(stub_.get(), "");
    EXPECT_EQ(more.Next(), "");
    EXPECT_EQ(more.Finish().error_code(), grpc::StatusCode::RESOURCE_EXHAUSTED);
    EXPECT_THAT(more.Finish().error_message(), HasSubstr("64 Watch streams"));
  }
  EXPECT_EQ(Check(""), "SERVING") << "that is another matter";
  watchers.pop_back();
  std::string next;
  while (next.empty() && !HasFailure()) {
    watchers.push_back(std::make_unique<Watcher>(stub_.get(), ""));
    next = watchers.back()->Next();
    if (next.empty()) watchers.pop_back();
  }
  EXPECT_EQ(next, "SERVING");
}

TEST_F(ServiceHealthTest, TheServerStopsWhileCallersCheckAndWatch) {
  Start();
  std::vector<std::thread> callers;
  std::atomic<int> answered = 0;
  std::atomic<bool> stopped = false;
  for (int i = 0; i < 4; ++i) {
    callers.emplace_back([this, &answered, &stopped] {
      while (!stopped) {
        std::string answer;
        if (Check(stub_.get(), "", &answer).ok()) ++answered;
        Watcher watcher(stub_.get(), "");
        if (!watcher.Next().empty()) ++answered;
      }
    });
  }
  while (answered < 40) std::this_thread::yield();
  server_.reset();
  stopped = true;
  for (std::thread& caller : callers) caller.join();
}

TEST_F(ServiceHealthTest, GrpcsOwnHealthServiceMayBeOnInTheProgramAroundIt) {
  grpc::EnableDefaultHealthCheckService(true);
  ::testing::internal::CaptureStderr();
  Start();
  EXPECT_THAT(::testing::internal::GetCapturedStderr(), Not(HasSubstr("duplicate")))
      << "it was added beside ours, with its queue";
  EXPECT_EQ(Check("liveness"), "SERVING") << "its own does not know that";
  grpc::EnableDefaultHealthCheckService(false);
}

// A client that speaks HTTP/2 and lets the server send no data: no library does that.
class Deaf {
 public:
  explicit Deaf(int port) : fd_(socket(AF_INET, SOCK_STREAM | SOCK_CLOEXEC, 0)) {
    sockaddr_in address = {};
    address.sin_family = AF_INET;
    address.sin_port = htons(static_cast<uint16_t>(port));
    address.sin_addr.s_addr = htonl(INADDR_LOOPBACK);
    EXPECT_EQ(connect(fd_, reinterpret_cast<sockaddr*>(&address), sizeof(address)), 0);
    timeval limit = {20, 0};
    setsockopt(fd_, SOL_SOCKET, SO_RCVTIMEO, &limit, sizeof(limit));
    Send("PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n");
    // SETTINGS: the initial window is 0.
    Send(Frame(4, 0, 0, std::string("\x00\x04\x00\x00\x00\x00", 6)));
  }
  ~Deaf() { close(fd_); }

  void Watch() {
    const std::string headers =
        Header(":method", "POST") + Header(":scheme", "http") +
        Header(":path", health::kWatchMethod) + Header(":authority", "localhost") +
        Header("content-type", "application/grpc") + Header("te", "trailers");
    Send(Frame(1, /*END_HEADERS=*/4, 1, headers));
    Send(Frame(0, /*END_STREAM=*/1, 1, std::string(5, '\0')));  // an empty message
  }
  // Reads frames until one of that type; whether it came.  Acknowledges settings and pings.
  bool ReadUntil(uint8_t type) {
    std::string head;
    while (Receive(9, &head)) {
      const size_t size = static_cast<uint8_t>(head[0]) << 16 | static_cast<uint8_t>(head[1]) << 8 |
                          static_cast<uint8_t>(head[2]);
      std::string body;
      if (!Receive(size, &body)) return false;
      const auto got = static_cast<uint8_t>(head[3]);
      if (got == type) return true;
      const bool ack = (head[4] & 1) != 0;
      if (got == 4 && !ack) Send(Frame(4, 1, 0, ""));
      if (got == 6 && !ack) Send(Frame(6, 1, 0, body));
    }
    return false;
  }

 private:
  static std::string Header(const std::string& name, const std::string& value) {
    return std::string(1, '\0') + static_cast<char>(name.size()) + name +
           static_cast<char>(value.size()) + value;  // literal, not indexed
  }
  static std::string Frame(uint8_t type, uint8_t flags, uint32_t stream, const std::string& body) {
    std::string frame = {static_cast<char>(body.size() >> 16),
                         static_cast<char>(body.size() >> 8),
                         static_cast<char>(body.size()),
                         static_cast<char>(type),
                         static_cast<char>(flags),
                         '\0',
                         '\0',
                         '\0',
                         static_cast<char>(stream)};
    return frame + body;
  }
  void Send(const std::string& bytes) const {
    EXPECT_EQ(send(fd_, bytes.data(), bytes.size(), MSG_NOSIGNAL),
              static_cast<ssize_t>(bytes.size()));
  }
  bool Receive(size_t size, std::string* bytes) const {
    bytes->resize(size);
    for (size_t done = 0; done < size;) {
      const ssize_t n = recv(fd_, bytes->data() + done, size - done, 0);
      if (n <= 0) return false;
      done += static_cast<size_t>(n);
    }
    return true;
  }

  int fd_;
};

constexpr uint8_t kHeadersFrame = 1;
constexpr uint8_t kResetFrame = 3;

TEST_F(ServiceHealthTest, AWatchThatDoesNotReadIsCutOff) {
  Start();
  Deaf deaf(server_->port());
  deaf.Watch();
  const absl::Time before = MonotonicClock().Now();
  EXPECT_TRUE(deaf.ReadUntil(kResetFrame));
  const absl::Duration took = MonotonicClock().Now() - before;
  EXPECT_GT(took, absl::Seconds(9));
  EXPECT_LT(took, absl::Seconds(15));
  EXPECT_EQ(Check(""), "SERVING");
}

TEST_F(ServiceHealthTest, AWatchThatDoesNotReadDoesNotHoldUpADrain) {
  Start();
  Deaf deaf(server_->port());
  deaf.Watch();
  ASSERT_TRUE(deaf.ReadUntil(kHeadersFrame)) << "of the answer: the stream is open";
  const absl::Time before = MonotonicClock().Now();
  EXPECT_TRUE(server_->Drain(absl::Seconds(10)));
  EXPECT_LT(MonotonicClock().Now() - before, absl::Seconds(4));
}

}  // namespace
}  // namespace syncnorm::server

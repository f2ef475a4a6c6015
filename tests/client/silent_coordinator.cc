#include "tests/client/silent_coordinator.h"

#include <arpa/inet.h>
#include <grpcpp/generic/async_generic_service.h>
#include <grpcpp/server_builder.h>
#include <netinet/in.h>
#include <sys/socket.h>
#include <unistd.h>

#include <thread>

#include "kernels/check.h"
#include "proto/codec.h"

namespace syncnorm {

struct SilentCoordinator::Running {
  int port = 0;
  grpc::AsyncGenericService service;
  std::unique_ptr<grpc::ServerCompletionQueue> queue;
  std::unique_ptr<grpc::Server> server;
  grpc::GenericServerContext context;
  grpc::GenericServerAsyncReaderWriter stream{&context};
  grpc::ByteBuffer read, written;
  std::thread thread;

  void Serve(Says says, int round_timeout_ms) {
    void* tag = nullptr;
    bool ok = false;
    char called = 0, joined = 0, answered = 0;
    service.RequestCall(&context, &stream, queue.get(), queue.get(), &called);
    while (queue->Next(&tag, &ok)) {
      if (!ok) continue;
      if (tag == &called) stream.Read(&read, &joined);
      if (tag == &joined && says == Says::kJoined) {
        wire::Joined message;
        message.epoch = 1;
        message.world_size = 1;
        message.hosts = {"h0"};
        message.limits = {1000, 100, 2, 1 << 20};
        message.round_timeout = absl::Milliseconds(round_timeout_ms);
        const grpc::Slice slice(wire::Codec().Encode(message));
        written = grpc::ByteBuffer(&slice, 1);
        stream.Write(written, &answered);
      }
    }
  }
};

SilentCoordinator::SilentCoordinator(Says says, int round_timeout_ms)
    : running_(std::make_unique<Running>()) {
  grpc::ServerBuilder builder;
  builder.AddListeningPort("127.0.0.1:0", grpc::InsecureServerCredentials(), &running_->port);
  builder.RegisterAsyncGenericService(&running_->service);
  running_->queue = builder.AddCompletionQueue();
  running_->server = builder.BuildAndStart();
  SYNCNORM_CHECK(running_->server != nullptr);
  running_->thread =
      std::thread([this, says, round_timeout_ms] { running_->Serve(says, round_timeout_ms); });
}

SilentCoordinator::~SilentCoordinator() {
  running_->server->Shutdown(std::chrono::system_clock::time_point());
  running_->queue->Shutdown();
  running_->thread.join();
}

std::string SilentCoordinator::address() const {
  return "127.0.0.1:" + std::to_string(running_->port);
}

SilentPort::SilentPort() : socket_(socket(AF_INET, SOCK_STREAM | SOCK_CLOEXEC, 0)) {
  sockaddr_in address = {};
  address.sin_family = AF_INET;
  address.sin_addr.s_addr = htonl(INADDR_LOOPBACK);
  SYNCNORM_CHECK(bind(socket_, reinterpret_cast<sockaddr*>(&address), sizeof(address)) == 0);
  SYNCNORM_CHECK(listen(socket_, 16) == 0);
}

SilentPort::~SilentPort() { close(socket_); }

std::string SilentPort::address() const {
  sockaddr_in address = {};
  socklen_t size = sizeof(address);
  SYNCNORM_CHECK(getsockname(socket_, reinterpret_cast<sockaddr*>(&address), &size) == 0);
  return "127.0.0.1:" + std::to_string(ntohs(address.sin_port));
}

}  // namespace syncnorm

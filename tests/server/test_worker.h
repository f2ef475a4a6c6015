// TestWorker: a worker over real gRPC, message by message, on a connection of
// its own.  Every call ends within 20 s.
#pragma once

#include <grpcpp/grpcpp.h>

#include <cstdint>
#include <functional>
#include <memory>
#include <optional>
#include <string>

#include "proto/codec.h"
#include "proto/wire.h"
#include "syncnorm/v1/syncnorm.grpc.pb.h"

namespace syncnorm::server {

class TestWorker {
 public:
  // `token`: goes with the call, as "Bearer TOKEN"; empty: none.
  explicit TestWorker(const std::string& address, const std::string& token = "");
  ~TestWorker() { Cancel(); }

  wire::Join MakeJoin(uint32_t rank, uint32_t world_size) const;
  void Join(uint32_t rank, uint32_t world_size) { Send(MakeJoin(rank, world_size)); }
  bool Send(const wire::Join& join) { return SendBytes(codec_.Encode(join)); }
  bool Send(const wire::Contribution& contribution) {
    return SendBytes(codec_.Encode(contribution));
  }
  bool Send(const wire::Leave& leave) { return SendBytes(codec_.Encode(leave)); }
  bool SendBytes(const std::string& bytes);
  // Of round `round` in the epoch that was joined: `channels` times `value`.
  bool Contribute(uint64_t round, double value = 1, int64_t channels = 4);

  // None when the stream has ended.
  std::optional<wire::CoordinatorMessage> Read();
  // Reads one message of that kind (a test failure otherwise).
  wire::Joined ReadJoined();
  wire::Result ReadResult();
  Failure ReadFailure();
  // Reads until the stream ends; its last failure's text.
  std::string ReadToEnd();

  void HalfClose() { stream_->WritesDone(); }
  grpc::Status Finish() { return stream_->Finish(); }
  // Breaks the stream without a word, as a crash does.
  void Cancel() { context_.TryCancel(); }

  const std::string& last_bytes() const { return last_bytes_; }

 private:
  wire::Codec codec_;
  std::unique_ptr<v1::Coordinator::Stub> stub_;
  grpc::ClientContext context_;
  std::unique_ptr<grpc::ClientReaderWriter<v1::WorkerMessage, v1::CoordinatorMessage>> stream_;
  uint64_t epoch_ = 0;
  std::string last_bytes_;
};

// A group of two, joined.
struct TestPair {
  explicit TestPair(const std::string& address);

  // `b` contributes when `waits` says that `a` is seen to wait for it.
  void Reduce(uint64_t round, const std::function<bool()>& waits);

  TestWorker a;  // rank 0
  TestWorker b;  // rank 1
};

}  // namespace syncnorm::server

// ServiceStream: one Synchronize call on the coordinator's side: the objects
// that gRPC wants to outlive its operations, and which of them are under way.
//
//   requested --> open --------------------------------> finishing --> over
//                  reads and writes, at most one of each   Finish, once
//
// The service owns it and deletes it when Over(): when the call's end was told
// and every operation has come back.
//
// Thread-safety: used by the service's one thread.
#pragma once

#include <grpcpp/grpcpp.h>
#include <grpcpp/impl/codegen/async_stream.h>
#include <grpcpp/support/byte_buffer.h>

#include <array>
#include <cstddef>
#include <cstdint>
#include <deque>

#include "absl/time/time.h"
#include "server/access.h"
#include "server/output.h"

namespace syncnorm::server {

class ServiceStream {
 public:
  // What came back from the completion queue.
  enum class Operation : uint8_t { kRequest, kRead, kWrite, kFinish, kDone };
  struct Tag {
    ServiceStream* stream;  // null: not of a stream, the service's own
    Operation operation;
  };
  using Rpc = grpc::ServerAsyncReaderWriter<grpc::ByteBuffer, grpc::ByteBuffer>;

  explicit ServiceStream(StreamId id);
  ServiceStream(const ServiceStream&) = delete;
  ServiceStream& operator=(const ServiceStream&) = delete;

  StreamId id() const { return id_; }
  grpc::ServerContext* context() { return &context_; }
  Rpc* rpc() { return &rpc_; }
  void* tag(Operation operation) { return &tags_[static_cast<size_t>(operation)]; }

  // Posts a Read, if none is under way and the stream is not about to end.
  void Read();
  // Hands out what was read.  Not kept: it may hold on to the whole chunk of 256 KiB it came in.
  grpc::ByteBuffer ReadDone();

  // Writes now, or after what is being written.
  void Write(const grpc::Slice& slice);
  void WriteDone(bool ok);
  // Ends the stream after what is still to be written.
  void Close(absl::Time now);
  void FinishDone() { finish_ = Finish::kDone; }
  // The call is over, for whatever reason: nothing is written any more.
  void Done();
  // Ends the call at once; what is queued is lost.
  void Cancel() { context_.TryCancel(); }

  // Its last message was not answered yet: no Read is posted until it is.
  bool unanswered = false;
  // Who it is, as far as Access asks.
  Pass pass;

  size_t queued() const { return queue_.size(); }
  uint64_t queued_bytes() const { return queued_bytes_; }
  bool closing() const { return finish_ != Finish::kNo; }
  absl::Time closed() const { return closed_; }  // when, if closing
  bool Over() const;

 private:
  enum class Finish : uint8_t { kNo, kWanted, kStarted, kDone };

  void StartWrite(const grpc::Slice& slice);
  void MaybeFinish();

  const StreamId id_;
  grpc::ServerContext context_;
  Rpc rpc_{&context_};
  std::array<Tag, 5> tags_;
  grpc::ByteBuffer read_;
  std::deque<grpc::Slice> queue_;  // behind the write under way
  uint64_t queued_bytes_ = 0;
  bool reading_ = false;
  bool writing_ = false;
  bool broken_ = false;  // a write failed, or the call is over
  bool done_ = false;
  Finish finish_ = Finish::kNo;
  absl::Time closed_ = absl::InfiniteFuture();
};

}  // namespace syncnorm::server

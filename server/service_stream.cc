#include "server/service_stream.h"

#include <utility>

namespace syncnorm::server {

ServiceStream::ServiceStream(StreamId id)
    : id_(id),
      tags_{{{this, Operation::kRequest},
             {this, Operation::kRead},
             {this, Operation::kWrite},
             {this, Operation::kFinish},
             {this, Operation::kDone}}} {}

void ServiceStream::Read() {
  if (reading_ || closing() || broken_) return;
  reading_ = true;
  rpc_.Read(&read_, tag(Operation::kRead));
}

grpc::ByteBuffer ServiceStream::ReadDone() {
  reading_ = false;
  grpc::ByteBuffer bytes;
  bytes.Swap(&read_);
  return bytes;
}

void ServiceStream::Write(const grpc::Slice& slice) {
  if (closing() || broken_) return;
  if (writing_) {
    queue_.push_back(slice);
    queued_bytes_ += slice.size();
    return;
  }
  StartWrite(slice);
}

void ServiceStream::StartWrite(const grpc::Slice& slice) {
  writing_ = true;
  // The buffer refers to the slice, which all members share; gRPC keeps a reference of its own.
  rpc_.Write(grpc::ByteBuffer(&slice, 1), tag(Operation::kWrite));
}

void ServiceStream::WriteDone(bool ok) {
  writing_ = false;
  if (!ok) broken_ = true;
  if (broken_) {
    queue_.clear();
    queued_bytes_ = 0;
  }
  if (!queue_.empty()) {
    const grpc::Slice next = std::move(queue_.front());
    queue_.pop_front();
    queued_bytes_ -= next.size();
    StartWrite(next);
    return;
  }
  MaybeFinish();
}

void ServiceStream::Close(absl::Time now) {
  if (closing()) return;
  finish_ = Finish::kWanted;
  closed_ = now;
  MaybeFinish();
}

void ServiceStream::MaybeFinish() {
  if (finish_ != Finish::kWanted || writing_ || !queue_.empty()) return;
  finish_ = Finish::kStarted;
  // Always OK: what went wrong was said in a Failure.  A status other than OK may overtake messages
  // that the worker has not read yet.
  rpc_.Finish(grpc::Status::OK, tag(Operation::kFinish));
}

void ServiceStream::Done() {
  done_ = true;
  broken_ = true;
  queue_.clear();
  queued_bytes_ = 0;
}

bool ServiceStream::Over() const {
  // Without a Finish of ours the call was cancelled, and needs none.
  const bool finished = finish_ == Finish::kNo || finish_ == Finish::kDone;
  return done_ && finished && !reading_ && !writing_;
}

}  // namespace syncnorm::server

// ServiceTask: a tag of the service's queue that carries what is to be done
// when it comes out: work that another thread brought through the queue with the
// alarm, or what follows an operation of gRPC.
//
// Whoever takes it out of the queue runs it once and deletes it.
//
// Thread-safety: made on any thread, run on the service's.
#pragma once

#include <grpcpp/alarm.h>

#include <functional>
#include <utility>

#include "server/service_stream.h"

namespace syncnorm::server {

struct ServiceTask : ServiceStream::Tag {
  explicit ServiceTask(std::function<void(bool ok)> work)
      : ServiceStream::Tag{nullptr, ServiceStream::Operation::kRequest}, run(std::move(work)) {}

  // What gRPC is given as the tag.
  void* tag() { return static_cast<ServiceStream::Tag*>(this); }

  grpc::Alarm alarm;
  std::function<void(bool ok)> run;
};

}  // namespace syncnorm::server

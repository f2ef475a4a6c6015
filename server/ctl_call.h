// CtlCalls: the calls that syncnormctl makes, each with the deadline and the
// token of the flags.
//
// Thread-safety: thread-compatible.
#pragma once

#include <grpcpp/grpcpp.h>

#include <memory>
#include <string>

#include "absl/status/status.h"
#include "absl/status/statusor.h"
#include "proto/health.h"
#include "server/ctl_flags.h"
#include "syncnorm/v1/admin.grpc.pb.h"

namespace syncnorm::server {

class CtlCalls {
 public:
  // Which file cannot be used, and why.
  static absl::StatusOr<CtlCalls> Make(const CtlFlags& flags);

  // Errors have the code that was answered, and a text "ADDRESS: WHY", in one line.
  absl::StatusOr<v1::VitalsReply> Vitals(const std::string& group);
  absl::StatusOr<v1::ReportReply> Report(const std::string& group, uint32_t rounds);
  absl::StatusOr<v1::StatusReply> Status();
  absl::Status Drain();
  absl::StatusOr<health::ServingStatus> Health(const std::string& service);

 private:
  CtlCalls(const CtlFlags& flags, CtlOptions options, std::shared_ptr<grpc::Channel> channel);

  // The deadline, and the token where one is wanted.
  absl::Status Prepare(bool with_token, grpc::ClientContext* context) const;
  absl::Status Error(const grpc::Status& status) const;
  template <typename Request, typename Reply>
  absl::StatusOr<Reply> Call(grpc::Status (v1::Admin::Stub::*method)(grpc::ClientContext*,
                                                                     const Request&, Reply*),
                             const Request& request);

  absl::Duration timeout_;
  CtlOptions options_;
  std::shared_ptr<grpc::Channel> channel_;
  std::unique_ptr<v1::Admin::Stub> stub_;
};

}  // namespace syncnorm::server

#include "server/service_admin.h"

#include <limits>
#include <utility>

#include "absl/strings/escaping.h"
#include "absl/strings/str_cat.h"
#include "proto/wire.h"
#include "server/log.h"
#include "server/service_access.h"
#include "server/service_report.h"
#include "server/service_task.h"

namespace syncnorm::server {
namespace {

// Of a request: a group's name and a number.
constexpr size_t kMaxRequestBytes = wire::kMaxGroupNameBytes + 64;
// Of a report: 32 groups with 2,048 layers and rounds each, or some thousand usual ones.  Its JSON
// is some five times as large.
constexpr uint64_t kMaxReportBytes = 32u << 20;
// Rounds a group in an answer, where the caller says nothing: most of a step of ResNet-152.
constexpr uint32_t kUsualRounds = 256;
// For a caller to take its answer: 32 MiB over 30 Mbit/s.
constexpr absl::Duration kAnswerTimeout = absl::Seconds(10);

constexpr char kLeftOut[] = "a dump was left out: too many wait to be written";

grpc::ByteBuffer Buffer(const std::string& bytes) {
  const grpc::Slice slice(bytes);
  return grpc::ByteBuffer(&slice, 1);
}

bool Parse(const grpc::ByteBuffer& buffer, google::protobuf::MessageLite* message) {
  grpc::Slice slice;
  if (buffer.Length() > kMaxRequestBytes) return false;
  if (!buffer.Valid() || !buffer.DumpToSingleSlice(&slice).ok()) return false;
  return message->ParseFromArray(slice.begin(), static_cast<int>(slice.size()));
}

}  // namespace

struct ServiceAdmin::Call {
  explicit Call(Method method) : method(method) {}

  const Method method;
  uint64_t id = 0;
  grpc::ServerContext context;
  grpc::ByteBuffer request;
  grpc::ServerAsyncResponseWriter<grpc::ByteBuffer> responder{&context};
  absl::Time answered = absl::InfiniteFuture();
};

struct ServiceAdmin::Collection {
  std::vector<uint64_t> groups;
  size_t next = 0;
  size_t rounds = 0;
  uint64_t bytes = 0;
  std::shared_ptr<Report> report;
  std::function<void(std::shared_ptr<Report>)> done;
};

ServiceAdmin::ServiceAdmin(const Coordinator* coordinator, uint64_t coordinator_id, Clock* clock,
                           Access* access, Post post, const std::string& dump_dir)
    : coordinator_(coordinator),
      coordinator_id_(coordinator_id),
      clock_(clock),
      access_(access),
      post_(std::move(post)),
      files_(dump_dir) {}

ServiceAdmin::~ServiceAdmin() = default;

void ServiceAdmin::Clear() { calls_.clear(); }

void ServiceAdmin::Start(grpc::ServerCompletionQueue* queue) {
  queue_ = queue;
  Request(Method::kReport);
  Request(Method::kStatus);
}

void ServiceAdmin::Request(Method method) {
  if (shut_) return;
  auto made = std::make_unique<Call>(method);
  Call* const call = made.get();
  call->id = ++last_call_;
  calls_.emplace(call->id, std::move(made));
  auto* const task = new ServiceTask([this, call](bool ok) {
    if (ok) {
      Handle(call);
    } else {
      calls_.erase(call->id);  // the server shuts down
    }
  });
  switch (method) {
    case Method::kReport:
      grpc_.RequestReport(&call->context, &call->request, &call->responder, queue_, queue_,
                          task->tag());
      break;
    case Method::kStatus:
      grpc_.RequestStatus(&call->context, &call->request, &call->responder, queue_, queue_,
                          task->tag());
      break;
  }
}

bool ServiceAdmin::Permit(Call* call, const std::string& group) {
  const grpc::Status permitted = CheckRole(access_, call->context, Role::kReader, group);
  if (!permitted.ok()) Finish(call->id, permitted, "");
  return permitted.ok();
}

void ServiceAdmin::Handle(Call* call) {
  if (shut_) return;
  switch (call->method) {
    case Method::kReport:
      HandleReport(call);
      break;
    case Method::kStatus:
      HandleStatus(call);
      break;
  }
}

void ServiceAdmin::HandleReport(Call* call) {
  const uint64_t id = call->id;
  v1::ReportRequest request;
  if (!Parse(call->request, &request)) {
    Finish(id, grpc::Status(grpc::StatusCode::INVALID_ARGUMENT, "not a ReportRequest"), "");
    return;
  }
  if (!Permit(call, request.group())) return;
  std::vector<uint64_t> groups = coordinator_->GroupsNamed(request.group());
  if (groups.empty() && !request.group().empty()) {
    Finish(id,
           grpc::Status(grpc::StatusCode::NOT_FOUND,
                        absl::StrCat("no group \"", absl::CEscape(request.group()), "\"")),
           "");
    return;
  }
  const size_t rounds = request.rounds() == 0 ? kUsualRounds : request.rounds();
  Collect(std::move(groups), rounds, "asked for", [this, id](std::shared_ptr<Report> report) {
    const bool taken = background_.Run([this, id, report = std::move(report)] {
      post_([this, id, bytes = ToBytes(*report)] { Finish(id, grpc::Status::OK, bytes); });
    });
    if (!taken) {
      Finish(id,
             grpc::Status(grpc::StatusCode::RESOURCE_EXHAUSTED,
                          "too many reports are being made or written; try again"),
             "");
    }
  });
}

void ServiceAdmin::HandleStatus(Call* call) {
  if (!Permit(call, "")) return;
  const Snapshot snapshot = coordinator_->snapshot();
  v1::StatusReply reply;
  reply.set_coordinator_id(coordinator_id_);
  reply.set_streams(static_cast<uint32_t>(snapshot.streams));
  reply.set_groups(static_cast<uint32_t>(snapshot.groups));
  reply.set_members(static_cast<uint32_t>(snapshot.members));
  const auto number = [](uint64_t count) { return static_cast<double>(count); };
  reply.set_open_rounds(number(snapshot.open_rounds));
  reply.set_open_bytes(number(snapshot.open_bytes));
  reply.set_kept_rounds(number(snapshot.kept_rounds));
  reply.set_kept_bytes(number(snapshot.kept_bytes));
  reply.set_epochs(number(snapshot.epochs));
  reply.set_contributions(number(snapshot.rounds.contributions));
  reply.set_repeats(number(snapshot.rounds.repeats));
  reply.set_rounds_completed(number(snapshot.rounds.completed));
  reply.set_rounds_failed(number(snapshot.rounds.failed));
  reply.set_stragglers(number(snapshot.rounds.stragglers));
  reply.set_dumps_written(number(files_.written()));
  reply.set_dumps_failed(number(files_.failed()));
  Finish(call->id, grpc::Status::OK, reply.SerializeAsString());
}

void ServiceAdmin::Finish(uint64_t id, const grpc::Status& status, const std::string& bytes) {
  const auto it = calls_.find(id);
  if (shut_ || it == calls_.end()) return;
  Call* const call = it->second.get();
  call->answered = clock_->Now();
  auto* const task = new ServiceTask([this, call](bool) {
    const Method method = call->method;
    calls_.erase(call->id);
    Request(method);
  });
  if (status.ok()) {
    call->responder.Finish(Buffer(bytes), status, task->tag());
  } else {
    call->responder.FinishWithError(status, task->tag());
  }
}

void ServiceAdmin::Tick(absl::Time now) {
  for (const auto& [id, call] : calls_) {
    if (now - call->answered > kAnswerTimeout) call->context.TryCancel();
  }
}

void ServiceAdmin::Collect(std::vector<uint64_t> groups, size_t rounds, std::string why,
                           std::function<void(std::shared_ptr<Report>)> done) {
  auto collection = std::make_shared<Collection>();
  collection->groups = std::move(groups);
  collection->rounds = rounds;
  collection->report = std::make_shared<Report>();
  collection->report->why = std::move(why);
  collection->report->coordinator_id = coordinator_id_;
  collection->report->now = clock_->Now();
  collection->done = std::move(done);
  CollectNext(std::move(collection));
}

void ServiceAdmin::CollectNext(std::shared_ptr<Collection> collection) {
  if (shut_) return;
  if (collection->next == collection->groups.size()) {
    collection->done(std::move(collection->report));
    return;
  }
  Report& report = *collection->report;
  const uint64_t id = collection->groups[collection->next++];
  if (auto group = coordinator_->ReportOn(report.now, id, collection->rounds)) {
    const uint64_t bytes = ApproximateBytes(*group);
    // The first is told whatever it weighs.
    if (!report.groups.empty() && collection->bytes + bytes > kMaxReportBytes) {
      ++report.groups_left_out;
    } else {
      collection->bytes += bytes;
      report.groups.push_back(*std::move(group));
    }
  }
  // Behind what waits in the queue.
  post_([this, collection = std::move(collection)] { CollectNext(collection); });
}

void ServiceAdmin::Write(Report incident) {
  if (!files_.on() || incident.groups.empty()) return;
  auto report = std::make_shared<const Report>(std::move(incident));
  const bool taken = background_.Run([this, report] {
    const Report::Group& group = report->groups.front();
    files_.Write(DumpFiles::Name(group.name, group.epoch), ToJson(*report)).IgnoreError();
  });
  if (!taken) Log(LogLevel::kWarning, kLeftOut);
}

void ServiceAdmin::Dump(const std::string& why) {
  if (dumping_) return;
  dumping_ = true;
  Collect(coordinator_->GroupsNamed(""), std::numeric_limits<size_t>::max(), why,
          [this](std::shared_ptr<Report> report) {
            dumping_ = false;
            const bool taken = background_.Run([this, report = std::move(report)] {
              files_.Write("syncnorm-report", ToJson(*report)).IgnoreError();
            });
            if (!taken) Log(LogLevel::kWarning, kLeftOut);
          });
}

}  // namespace syncnorm::server

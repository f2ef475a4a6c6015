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
  Extent extent;
  uint64_t bytes = 0;
  std::shared_ptr<Report> report;
  ReportDone done;
};

ServiceAdmin::ServiceAdmin(const Coordinator* coordinator, Clock* clock, Clock* wall_clock,
                           Security* security, Post post, Options options)
    : coordinator_(coordinator),
      options_(std::move(options)),
      clock_(clock),
      wall_clock_(wall_clock),
      security_(security),
      post_(std::move(post)),
      started_(clock->Now()),
      files_(options_.dump_dir) {}

ServiceAdmin::~ServiceAdmin() = default;

void ServiceAdmin::Clear() { calls_.clear(); }

void ServiceAdmin::Start(grpc::ServerCompletionQueue* queue) {
  queue_ = queue;
  for (const Method method : {Method::kReport, Method::kStatus, Method::kVitals, Method::kDrain}) {
    Request(method);
  }
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
  const auto request = [&](auto ask) {
    (grpc_.*ask)(&call->context, &call->request, &call->responder, queue_, queue_, task->tag());
  };
  switch (method) {
    case Method::kReport:
      return request(&decltype(grpc_)::RequestReport);
    case Method::kStatus:
      return request(&decltype(grpc_)::RequestStatus);
    case Method::kVitals:
      return request(&decltype(grpc_)::RequestVitals);
    case Method::kDrain:
      return request(&decltype(grpc_)::RequestDrain);
  }
}

bool ServiceAdmin::Permit(Call* call, Role role, const std::string& group) {
  const grpc::Status permitted = CheckRole(security_->access(), call->context, role, group);
  if (!permitted.ok()) Finish(call->id, permitted, "");
  return permitted.ok();
}

void ServiceAdmin::Handle(Call* call) {
  if (shut_) return;
  switch (call->method) {
    case Method::kReport:
      return HandleReport(call);
    case Method::kStatus:
      return HandleStatus(call);
    case Method::kVitals:
      return HandleVitals(call);
    case Method::kDrain:
      return HandleDrain(call);
  }
}

absl::StatusOr<std::vector<uint64_t>> ServiceAdmin::GroupsNamed(const std::string& name) const {
  std::vector<uint64_t> groups = coordinator_->GroupsNamed(name);
  if (!groups.empty() || name.empty()) return groups;
  return absl::NotFoundError(absl::StrCat("no group \"", absl::CEscape(name), "\""));
}

template <typename Value>
void ServiceAdmin::Reply(uint64_t call, std::shared_ptr<Value> value) {
  const bool taken = background_.Run([this, call, value = std::move(value)] {
    post_([this, call, bytes = ToBytes(*value)] { Finish(call, grpc::Status::OK, bytes); });
  });
  if (!taken) {
    Fail(call,
         absl::ResourceExhaustedError("too many reports are being made or written; try again"));
  }
}

void ServiceAdmin::HandleReport(Call* call) {
  const uint64_t id = call->id;
  v1::ReportRequest request;
  if (!Parse(call->request, &request)) {
    return Fail(id, absl::InvalidArgumentError("not a ReportRequest"));
  }
  if (!Permit(call, Role::kReader, request.group())) return;
  absl::StatusOr<std::vector<uint64_t>> groups = GroupsNamed(request.group());
  if (!groups.ok()) return Fail(id, groups.status());
  const size_t rounds = request.rounds() == 0 ? kUsualRounds : request.rounds();
  Collect(*std::move(groups), {.rounds = rounds}, "asked for",
          [this, id](std::shared_ptr<Report> report) {
            if (report != nullptr) Reply(id, std::move(report));
          });
}

Status ServiceAdmin::StatusNow() {
  return {options_.coordinator_id, coordinator_->snapshot(), files_.written(), files_.failed()};
}

void ServiceAdmin::HandleStatus(Call* call) {
  if (!Permit(call, Role::kReader, "")) return;
  Finish(call->id, grpc::Status::OK, ToBytes(StatusNow()));
}

void ServiceAdmin::HandleVitals(Call* call) {
  const uint64_t id = call->id;
  v1::VitalsRequest request;
  if (!Parse(call->request, &request)) {
    return Fail(id, absl::InvalidArgumentError("not a VitalsRequest"));
  }
  // Beside the groups it tells of all failures.
  if (!Permit(call, Role::kReader, "")) return;
  CollectVitals(request.group(), request.timeline(),
                [this, id](absl::StatusOr<std::shared_ptr<const Vitals>> vitals) {
                  if (!vitals.ok()) return Fail(id, vitals.status());
                  Reply(id, *std::move(vitals));
                });
}

void ServiceAdmin::HandleDrain(Call* call) {
  if (!Permit(call, Role::kAdmin, "")) return;
  if (!options_.on_drain) {
    return Fail(call->id, absl::UnimplementedError(
                              "this coordinator is part of another program, and ends with it"));
  }
  Log(LogLevel::kWarning, absl::StrCat("asked to drain by ", call->context.peer()));
  Finish(call->id, grpc::Status::OK, v1::DrainReply().SerializeAsString());
  options_.on_drain();
}

void ServiceAdmin::CollectVitals(const std::string& group, bool timeline, VitalsDone done) {
  absl::StatusOr<std::vector<uint64_t>> groups = GroupsNamed(group);
  if (!groups.ok()) return done(groups.status());
  Collect(*std::move(groups), {.timeline = timeline}, "asked for",
          [this, done = std::move(done)](std::shared_ptr<Report> report) {
            if (report == nullptr) return done(absl::UnavailableError("the coordinator stops"));
            auto vitals = std::make_shared<Vitals>();
            vitals->status = StatusNow();
            vitals->report = std::move(*report);
            vitals->failures.assign(coordinator_->failures().begin(),
                                    coordinator_->failures().end());
            vitals->security = security_->state();
            vitals->certificate_left = vitals->security.certificate_not_after - wall_clock_->Now();
            vitals->log_dropped = LogDropped();
            vitals->version = SYNCNORM_VERSION;
            vitals->grpc_version = grpc::Version();
            vitals->up = clock_->Now() - started_;
            done(std::move(vitals));
          });
}

void ServiceAdmin::Fail(uint64_t call, const absl::Status& status) {
  Finish(call,
         grpc::Status(static_cast<grpc::StatusCode>(status.code()), std::string(status.message())),
         "");
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

void ServiceAdmin::Collect(std::vector<uint64_t> groups, Extent extent, std::string why,
                           ReportDone done) {
  auto collection = std::make_shared<Collection>();
  collection->groups = std::move(groups);
  collection->extent = extent;
  collection->report = std::make_shared<Report>();
  collection->report->why = std::move(why);
  collection->report->coordinator_id = options_.coordinator_id;
  collection->report->now = clock_->Now();
  collection->done = std::move(done);
  CollectNext(std::move(collection));
}

void ServiceAdmin::CollectNext(std::shared_ptr<Collection> collection) {
  if (shut_) return collection->done(nullptr);
  if (collection->next == collection->groups.size()) {
    collection->done(std::move(collection->report));
    return;
  }
  Report& report = *collection->report;
  const uint64_t id = collection->groups[collection->next++];
  if (auto group = coordinator_->ReportOn(report.now, id, collection->extent.rounds,
                                          collection->extent.timeline)) {
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
  Collect(coordinator_->GroupsNamed(""), {.rounds = std::numeric_limits<size_t>::max()}, why,
          [this](std::shared_ptr<Report> report) {
            dumping_ = false;
            if (report == nullptr) return;
            const bool taken = background_.Run([this, report = std::move(report)] {
              files_.Write("syncnorm-report", ToJson(*report)).IgnoreError();
            });
            if (!taken) Log(LogLevel::kWarning, kLeftOut);
          });
}

}  // namespace syncnorm::server

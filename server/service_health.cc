#include "server/service_health.h"

#include <grpcpp/ext/health_check_service_server_builder_option.h>
#include <grpcpp/support/async_stream.h>
#include <grpcpp/support/async_unary_call.h>

#include <optional>
#include <utility>

#include "absl/strings/escaping.h"
#include "absl/strings/str_cat.h"
#include "server/service_task.h"

namespace syncnorm::server {
namespace {

using health::ServingStatus;

// Of a request: a service's name.
constexpr size_t kMaxRequestBytes = 1024;
// For a caller to take an answer of two bytes.
constexpr absl::Duration kAnswerTimeout = absl::Seconds(10);
// The same when the drain is over, and waits for it.
constexpr absl::Duration kCloseTimeout = absl::Milliseconds(200);
// Watch streams that are being refused, beside those that are open.
constexpr size_t kMaxRefusals = 16;

grpc::ByteBuffer Buffer(ServingStatus status) {
  const grpc::Slice slice(health::EncodeResponse(status));
  return grpc::ByteBuffer(&slice, 1);
}

// None: too large, or not a request.
std::optional<std::string> ServiceIn(const grpc::ByteBuffer& request) {
  if (!request.Valid()) return std::string();  // an empty message: of the server as a whole
  grpc::Slice slice;
  if (request.Length() > kMaxRequestBytes || !request.DumpToSingleSlice(&slice).ok()) {
    return std::nullopt;
  }
  return health::DecodeRequest(
      absl::string_view(reinterpret_cast<const char*>(slice.begin()), slice.size()));
}

grpc::Status NotARequest() {
  return grpc::Status(grpc::StatusCode::INVALID_ARGUMENT, "not a HealthCheckRequest");
}

}  // namespace

// What protoc's plugin would generate for raw methods, without the messages (proto/health.h).
class ServiceHealth::Methods final : public grpc::Service {
 public:
  Methods() {
    using Method = grpc::internal::RpcMethod;
    AddMethod(new grpc::internal::RpcServiceMethod(health::kCheckMethod, Method::NORMAL_RPC,
                                                   /*handler=*/nullptr));
    AddMethod(new grpc::internal::RpcServiceMethod(health::kWatchMethod, Method::SERVER_STREAMING,
                                                   /*handler=*/nullptr));
    MarkMethodRaw(kCheck);
    MarkMethodRaw(kWatch);
  }

  void RequestCheck(grpc::ServerContext* context, grpc::ByteBuffer* request,
                    grpc::ServerAsyncResponseWriter<grpc::ByteBuffer>* responder,
                    grpc::ServerCompletionQueue* queue, void* tag) {
    RequestAsyncUnary(kCheck, context, request, responder, queue, queue, tag);
  }
  void RequestWatch(grpc::ServerContext* context, grpc::ByteBuffer* request,
                    grpc::ServerAsyncWriter<grpc::ByteBuffer>* writer,
                    grpc::ServerCompletionQueue* queue, void* tag) {
    RequestAsyncServerStreaming(kWatch, context, request, writer, queue, queue, tag);
  }

 private:
  static constexpr int kCheck = 0;
  static constexpr int kWatch = 1;
};

struct ServiceHealth::Check {
  explicit Check(uint64_t id) : id(id) {}

  const uint64_t id;
  grpc::ServerContext context;
  grpc::ByteBuffer request;
  grpc::ServerAsyncResponseWriter<grpc::ByteBuffer> responder{&context};
  absl::Time answered = absl::InfiniteFuture();
};

struct ServiceHealth::Watch {
  explicit Watch(uint64_t id) : id(id) {}

  const uint64_t id;
  grpc::ServerContext context;
  grpc::ByteBuffer request;
  grpc::ServerAsyncWriter<grpc::ByteBuffer> writer{&context};
  ServiceTask* done = nullptr;  // gRPC's, once the call has begun
  std::string service;
  std::optional<ServingStatus> told;
  bool busy = false;  // an operation is under way, since:
  absl::Time busy_since = absl::InfiniteFuture();
  bool finishing = false;  // Finish was called
  bool over = false;       // the call has ended
};

ServiceHealth::ServiceHealth(Clock* clock) : clock_(clock), methods_(std::make_unique<Methods>()) {}

ServiceHealth::~ServiceHealth() = default;

void ServiceHealth::AddTo(grpc::ServerBuilder* builder) {
  // A program around an embedded coordinator may have turned gRPC's own on, for all servers.
  builder->SetOption(std::make_unique<grpc::HealthCheckServiceServerBuilderOption>(nullptr));
  builder->RegisterService(methods_.get());
}

void ServiceHealth::Start(grpc::ServerCompletionQueue* queue) {
  queue_ = queue;
  Request();
}

void ServiceHealth::Clear() {
  checks_.clear();
  watches_.clear();
}

ServingStatus ServiceHealth::StatusOf(const std::string& service) const {
  if (service == "liveness") return ServingStatus::kServing;
  if (service.empty() || service == "syncnorm.v1.Coordinator" || service == "readiness") {
    return draining_ ? ServingStatus::kNotServing : ServingStatus::kServing;
  }
  return ServingStatus::kNoService;
}

void ServiceHealth::Request() {
  if (shut_) return;
  if (!check_requested_ && checks_.size() < kMaxChecks) RequestCheck();
  if (!watch_requested_ && watches_.size() < kMaxWatches + kMaxRefusals) RequestWatch();
}

void ServiceHealth::RequestCheck() {
  check_requested_ = true;
  auto made = std::make_unique<Check>(++last_id_);
  Check* const check = made.get();
  checks_.emplace(check->id, std::move(made));
  auto* const task = new ServiceTask([this, check](bool ok) {
    check_requested_ = false;
    if (ok) {
      Answer(check);
    } else {
      shut_ = true;  // the server shuts down
      checks_.erase(check->id);
    }
    Request();
  });
  methods_->RequestCheck(&check->context, &check->request, &check->responder, queue_, task->tag());
}

void ServiceHealth::Answer(Check* check) {
  if (shut_) return;
  check->answered = clock_->Now();
  auto* const task = new ServiceTask([this, check](bool) {
    checks_.erase(check->id);
    Request();
  });
  const std::optional<std::string> service = ServiceIn(check->request);
  if (!service) {
    check->responder.FinishWithError(NotARequest(), task->tag());
    return;
  }
  const ServingStatus status = StatusOf(*service);
  if (status == ServingStatus::kNoService) {
    check->responder.FinishWithError(
        grpc::Status(grpc::StatusCode::NOT_FOUND,
                     absl::StrCat("no service \"", absl::CEscape(*service), "\"")),
        task->tag());
  } else {
    check->responder.Finish(Buffer(status), grpc::Status::OK, task->tag());
  }
}

void ServiceHealth::RequestWatch() {
  watch_requested_ = true;
  auto made = std::make_unique<Watch>(++last_id_);
  Watch* const watch = made.get();
  watches_.emplace(watch->id, std::move(made));
  watch->done = new ServiceTask([this, watch](bool) {
    watch->over = true;
    ForgetIfOver(watch);
  });
  watch->context.AsyncNotifyWhenDone(watch->done->tag());
  auto* const task = new ServiceTask([this, watch](bool ok) {
    watch_requested_ = false;
    if (ok) {
      Open(watch);
    } else {
      shut_ = true;  // the server shuts down; such a call never says that it is done
      delete watch->done;
      watches_.erase(watch->id);
    }
    Request();
  });
  methods_->RequestWatch(&watch->context, &watch->request, &watch->writer, queue_, task->tag());
}

void ServiceHealth::Open(Watch* watch) {
  std::optional<std::string> service = ServiceIn(watch->request);
  if (!service) {
    Finish(watch, NotARequest());
  } else if (watches_.size() > kMaxWatches) {
    Finish(watch, grpc::Status(grpc::StatusCode::RESOURCE_EXHAUSTED,
                               absl::StrCat(kMaxWatches, " Watch streams are open already")));
  } else {
    watch->service = *std::move(service);
    Advance(watch);
  }
}

void ServiceHealth::Advance(Watch* watch) {
  if (shut_ || watch->busy || watch->finishing || watch->over) return;
  const ServingStatus status = StatusOf(watch->service);
  if (watch->told != status) {
    watch->told = status;
    watch->busy = true;
    watch->busy_since = clock_->Now();
    auto* const task = new ServiceTask([this, watch](bool ok) {
      watch->busy = false;
      if (ok) Advance(watch);
      ForgetIfOver(watch);
    });
    watch->writer.Write(Buffer(status), task->tag());
  } else if (closing_) {
    Finish(watch, grpc::Status::OK);
  }
}

void ServiceHealth::Finish(Watch* watch, const grpc::Status& status) {
  if (shut_) return;
  watch->finishing = true;
  watch->busy = true;
  watch->busy_since = clock_->Now();
  auto* const task = new ServiceTask([this, watch](bool) {
    watch->busy = false;
    ForgetIfOver(watch);
  });
  watch->writer.Finish(status, task->tag());
}

void ServiceHealth::ForgetIfOver(Watch* watch) {
  if (!watch->over || watch->busy) return;
  watches_.erase(watch->id);
  Request();
}

void ServiceHealth::Drain() {
  draining_ = true;
  for (const auto& [id, watch] : watches_) {
    if (watch->told) Advance(watch.get());
  }
}

bool ServiceHealth::Close() {
  closing_ = true;
  for (const auto& [id, watch] : watches_) {
    if (watch->told) Advance(watch.get());
  }
  return watches_.size() == (watch_requested_ ? 1 : 0);
}

void ServiceHealth::Tick(absl::Time now) {
  for (const auto& [id, check] : checks_) {
    if (now - check->answered > kAnswerTimeout) check->context.TryCancel();
  }
  for (const auto& [id, watch] : watches_) {
    if (watch->busy && now - watch->busy_since > (closing_ ? kCloseTimeout : kAnswerTimeout)) {
      watch->context.TryCancel();
    }
  }
}

}  // namespace syncnorm::server

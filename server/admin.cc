#include "server/admin.h"

#include <httplib.h>
#include <sys/socket.h>

#include <deque>
#include <thread>
#include <utility>

#include "absl/base/thread_annotations.h"
#include "absl/strings/str_cat.h"
#include "absl/synchronization/mutex.h"
#include "server/metrics.h"
#include "server/service_report.h"
#include "server/statusz_assets.h"

namespace syncnorm::server {
namespace {

constexpr char kText[] = "text/plain; charset=utf-8";
constexpr char kJson[] = "application/json";
// From one byte of a request to the next, and for an answer to be taken: a person's browser on the
// same network.
constexpr time_t kPatienceSeconds = 2;
// From a connection to its request: less than a probe waits, should all threads be taken by those
// that send none.
constexpr time_t kSilenceSeconds = 1;
// Of a request; nothing that is asked here has a body.
constexpr size_t kMaxBodyBytes = 4096;

// The vitals that were last asked for, so that many who look cost what one does.
class Latest {
 public:
  Latest(Clock* clock, decltype(Admin::Source::vitals) ask) : clock_(clock), ask_(std::move(ask)) {}

  absl::StatusOr<std::shared_ptr<const Vitals>> Get(const std::string& group, bool timeline) {
    const absl::MutexLock lock(&mutex_);
    const absl::Time now = clock_->Now();
    while (!entries_.empty() && now - entries_.front().taken >= Admin::kFresh) entries_.pop_front();
    for (const Entry& entry : entries_) {
      if (entry.group == group && entry.timeline == timeline) return entry.vitals;
    }
    auto vitals = ask_(group, timeline);
    if (!vitals.ok()) return vitals;
    entries_.push_back({group, timeline, now, *vitals});
    if (entries_.size() > kEntries) entries_.pop_front();
    return vitals;
  }

 private:
  struct Entry {
    std::string group;
    bool timeline;
    absl::Time taken;
    std::shared_ptr<const Vitals> vitals;
  };
  // All groups, and the few that people look at.
  static constexpr size_t kEntries = 8;

  Clock* const clock_;
  const decltype(Admin::Source::vitals) ask_;
  absl::Mutex mutex_;
  std::deque<Entry> entries_ ABSL_GUARDED_BY(mutex_);
};

void AnswerProbe(bool good, httplib::Response* response) {
  response->status = good ? 200 : 503;
  response->set_content(good ? "ok\n" : "not ok\n", kText);
}

int HttpCode(const absl::Status& status) {
  return status.code() == absl::StatusCode::kNotFound ? 404 : 503;
}

std::string JsonError(const absl::Status& status) {
  std::string text;
  for (const char c : status.message()) {
    if (c == '"' || c == '\\') text += '\\';
    text += static_cast<unsigned char>(c) < 0x20 ? ' ' : c;
  }
  return absl::StrCat("{\"error\": \"", text, "\"}\n");
}

}  // namespace

struct Admin::Running {
  explicit Running(Source from) : source(std::move(from)), latest(source.clock, source.vitals) {}

  void Route();

  const Source source;
  Latest latest;
  httplib::Server http;
  std::string address;
  int port = 0;
  std::thread thread;
};

void Admin::Running::Route() {
  http.Get("/healthz", [this](const httplib::Request&, httplib::Response& response) {
    AnswerProbe(source.alive(), &response);
  });
  http.Get("/readyz", [this](const httplib::Request&, httplib::Response& response) {
    AnswerProbe(source.alive() && source.ready(), &response);
  });
  http.Get("/metrics", [this](const httplib::Request&, httplib::Response& response) {
    const auto vitals = latest.Get("", /*timeline=*/false);
    response.status = vitals.ok() ? 200 : HttpCode(vitals.status());
    response.set_content(
        vitals.ok() ? MetricsText(**vitals) : absl::StrCat(vitals.status().message(), "\n"),
        vitals.ok() ? "text/plain; version=0.0.4; charset=utf-8" : kText);
  });
  http.Get("/statusz.json", [this](const httplib::Request& request, httplib::Response& response) {
    const auto vitals =
        latest.Get(request.get_param_value("group"), request.get_param_value("timeline") == "1");
    response.status = vitals.ok() ? 200 : HttpCode(vitals.status());
    response.set_content(vitals.ok() ? ToJson(**vitals) : JsonError(vitals.status()), kJson);
  });
  for (const StatuszAsset& asset : StatuszAssets()) {
    http.Get(std::string(asset.path), [&asset](const httplib::Request&,
                                               httplib::Response& response) {
      response.set_content(asset.bytes.data(), asset.bytes.size(), std::string(asset.content_type));
    });
  }
  http.Get("/", [](const httplib::Request&, httplib::Response& response) {
    response.set_redirect("/statusz");
  });
  http.set_default_headers({{"Content-Security-Policy", std::string(kStatuszPolicy)},
                            {"X-Content-Type-Options", "nosniff"},
                            {"Referrer-Policy", "no-referrer"},
                            {"Cache-Control", "no-store"}});
  http.set_error_handler([](const httplib::Request&, httplib::Response& response) {
    if (!response.body.empty()) return;
    response.set_content(response.status == 404
                             ? "nothing here; there are /statusz, /metrics, /healthz and /readyz\n"
                             : "this cannot be answered\n",
                         kText);
  });
}

absl::StatusOr<std::unique_ptr<Admin>> Admin::Start(const ListenAddress& listen, Source source) {
  if (absl::Status status = TryToBind(listen); !status.ok()) return status;
  auto running = std::make_unique<Running>(std::move(source));
  httplib::Server& http = running->http;
  running->Route();
  http.new_task_queue = [] { return new httplib::ThreadPool(kThreads); };
  // A thread is not kept by a connection that is silent.
  http.set_keep_alive_max_count(1);
  http.set_keep_alive_timeout(kSilenceSeconds);
  http.set_read_timeout(kPatienceSeconds);
  http.set_write_timeout(kPatienceSeconds);
  http.set_payload_max_length(kMaxBodyBytes);
  // The library's own would share the port with whoever else listens there.
  http.set_socket_options([](int socket) {
    const int on = 1;
    setsockopt(socket, SOL_SOCKET, SO_REUSEADDR, &on, sizeof(on));
  });
  running->port = listen.port;
  const bool bound = listen.port != 0 ? http.bind_to_port(listen.host, listen.port)
                                      : (running->port = http.bind_to_any_port(listen.host)) > 0;
  if (!bound) {
    return absl::UnavailableError(absl::StrCat("cannot listen on ", listen.With(listen.port)));
  }
  running->address = listen.With(running->port);
  running->thread = std::thread([&http] { http.listen_after_bind(); });
  // stop() before that is forgotten.
  while (!http.is_running()) std::this_thread::yield();
  return std::unique_ptr<Admin>(new Admin(std::move(running)));
}

Admin::Admin(std::unique_ptr<Running> running) : running_(std::move(running)) {}

Admin::~Admin() {
  running_->http.stop();
  running_->thread.join();
}

const std::string& Admin::address() const { return running_->address; }
int Admin::port() const { return running_->port; }

}  // namespace syncnorm::server

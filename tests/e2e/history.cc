#include "tests/e2e/history.h"

#include <syncnorm/failure.h>
#include <unistd.h>

#include <cerrno>
#include <cstdlib>
#include <cstring>
#include <nlohmann/json.hpp>

#include "absl/strings/str_format.h"
#include "proto/clock.h"

namespace syncnorm::e2e {
namespace {

using nlohmann::json;

std::string Hex(uint64_t digest) { return absl::StrFormat("%016x", digest); }

int64_t NowMicros() { return absl::ToUnixMicros(MonotonicClock().Now()); }

void Write(std::FILE* file, json line) {
  line["t"] = NowMicros();
  // Texts of peers may hold any bytes.
  const std::string text = line.dump(-1, ' ', false, json::error_handler_t::replace) + "\n";
  std::fwrite(text.data(), 1, text.size(), file);
  std::fflush(file);
}

void Describe(const absl::Status& status, json* line) {
  (*line)["code"] = absl::StatusCodeToString(status.code());
  (*line)["text"] = std::string(status.message());
  const std::optional<Failure> failure = FailureOf(status);
  (*line)["round"] = failure.has_value() ? failure->key.round : 0;
  (*line)["ranks"] = failure.has_value() ? failure->ranks : std::vector<uint32_t>();
}

}  // namespace

History::History(const std::string& path) {
  if (path.empty()) return;
  file_ = std::fopen(path.c_str(), "ae");
  if (file_ == nullptr) {
    std::fprintf(stderr, "history %s: %s\n", path.c_str(), std::strerror(errno));
    std::exit(2);
  }
}

History::~History() {
  if (file_ != nullptr) std::fclose(file_);
}

void History::Worker(const GroupOptions& options, const Workload& workload) {
  if (file_ == nullptr) return;
  Write(file_, {{"e", "worker"},
                {"rank", options.rank},
                {"pid", getpid()},
                {"host", options.host},
                {"world", options.world_size},
                {"group", options.group},
                {"seed", workload.seed},
                {"channels", workload.channels},
                {"on_loss", std::string(Name(options.on_loss))},
                {"round_timeout_us", absl::ToInt64Microseconds(options.round_timeout)}});
}

void History::Joined(const Group& group) {
  if (file_ == nullptr) return;
  Write(file_, {{"e", "joined"},
                {"epoch", group.epoch()},
                {"late", !group.handed_over().empty()},
                {"hosts", group.hosts()},
                {"members", group.members()}});
}

void History::Epoch(const Group& group) {
  if (file_ == nullptr) return;
  Write(file_, {{"e", "epoch"}, {"epoch", group.epoch()}, {"members", group.members()}});
}

uint64_t History::Call(uint64_t epoch, const Operation& operation, const Moments& moments) {
  ++last_id_;
  if (file_ == nullptr) return last_id_;
  const ReduceKey key = KeyOf(operation);
  Write(file_, {{"e", "call"},
                {"id", last_id_},
                {"epoch", epoch},
                {"layer", operation.layer},
                {"direction", static_cast<int>(operation.direction)},
                {"step", operation.step},
                {"sent", Hex(Digest(moments))},
                {"count", moments.count}});
  return last_id_;
}

void History::Return(uint64_t id, uint64_t epoch, absl::Time waited,
                     const absl::StatusOr<Moments>& result) {
  if (file_ == nullptr) return;
  json line = {
      {"e", "return"}, {"id", id}, {"epoch", epoch}, {"waited", absl::ToUnixMicros(waited)}};
  Describe(result.status(), &line);
  if (result.ok()) {
    line["count"] = result->count;
    line["got"] = Hex(Digest(*result));
  }
  Write(file_, std::move(line));
}

void History::Ended(uint64_t epoch, const absl::Status& why) {
  if (file_ == nullptr) return;
  json line = {{"e", "ended"}, {"epoch", epoch}};
  Describe(why, &line);
  Write(file_, std::move(line));
}

void History::Left(uint64_t epoch) {
  if (file_ == nullptr) return;
  Write(file_, {{"e", "left"}, {"epoch", epoch}});
}

}  // namespace syncnorm::e2e

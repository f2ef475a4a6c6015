#include "bench/latency/place.h"

#include <unistd.h>

#include <cstdio>
#include <utility>

#include "absl/strings/match.h"
#include "absl/strings/str_cat.h"
#include "bench/latency/process.h"

namespace syncnorm::bench {
namespace {

class Loopback : public Place {
 public:
  std::string name() const override { return "loopback"; }
  std::string AddressOf(int) const override { return "127.0.0.1"; }
  std::vector<std::string> On(int, std::vector<std::string> command) const override {
    return command;
  }
};

class Netlab : public Place {
 public:
  Netlab(std::string script, std::string log_dir)
      : script_(std::move(script)), log_dir_(std::move(log_dir)) {}

  ~Netlab() override {
    // A few dozen `ip` commands; 30 s are far more than they take on a busy machine.
    const absl::Status status =
        RunToEnd({script_, "down"}, absl::StrCat(log_dir_, "/netlab_down.log"), absl::Seconds(30));
    if (!status.ok()) {
      std::fprintf(stderr, "netlab: the network may still be up: %s\n", status.ToString().c_str());
    }
  }

  std::string name() const override { return "netlab"; }
  std::string AddressOf(int host) const override { return absl::StrCat("10.77.0.", host + 1); }
  std::vector<std::string> On(int host, std::vector<std::string> command) const override {
    std::vector<std::string> placed = {script_, "exec", absl::StrCat(host)};
    placed.insert(placed.end(), command.begin(), command.end());
    return placed;
  }

 private:
  const std::string script_;
  const std::string log_dir_;
};

}  // namespace

std::unique_ptr<Place> MakeLoopback() { return std::make_unique<Loopback>(); }

absl::StatusOr<std::unique_ptr<Place>> MakeNetlab(const std::string& script, int hosts,
                                                  absl::Duration one_way_delay,
                                                  const std::string& log_dir) {
  if (geteuid() != 0) return absl::FailedPreconditionError("network namespaces need root");
  if (script.empty() || access(script.c_str(), X_OK) != 0) {
    return absl::FailedPreconditionError(absl::StrCat("no network script at '", script, "'"));
  }
  const absl::Status up = RunToEnd({script, "up", absl::StrCat(hosts), "--delay",
                                    absl::StrCat(absl::ToInt64Microseconds(one_way_delay))},
                                   absl::StrCat(log_dir, "/netlab_up.log"), absl::Seconds(60));
  if (absl::StrContains(up.message(), "already up")) {
    return absl::FailedPreconditionError("another network is up on this machine");
  }
  auto network = std::make_unique<Netlab>(script, log_dir);  // takes it down, whole or not
  if (!up.ok()) return up;
  return absl::StatusOr<std::unique_ptr<Place>>(std::move(network));
}

}  // namespace syncnorm::bench

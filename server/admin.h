// Admin: the coordinator's HTTP port, for probes, Prometheus and people.
//
//   /healthz       200 while the service's thread goes round; a round that waits is no reason for
//                  less, or a slow worker would have the coordinator killed
//   /readyz        200 while it takes workers in: not while it drains
//   /metrics       metrics.h
//   /statusz       the status page, with /statusz.css, /statusz.js and
//   /statusz.json  what it draws: a VitalsReply in protobuf's JSON form;
//                  ?group=NAME of one group, ?timeline=1 with the last minutes; 404 names the group
//                  that is not there
//
// Plain HTTP, and whoever reaches it may read; nothing can be changed here.
//
// Callers may rely on:
//   * Rounds do not wait for it: what costs time is done on its own threads.
//   * Bounds.  kThreads requests at once, each connection for one request and a few seconds;
//     vitals are collected one at a time, and asked for again within kFresh are those of before.
//
// Thread-safety: thread-compatible; calls `source` from its own threads.
#pragma once

#include <functional>
#include <memory>
#include <string>

#include "absl/status/statusor.h"
#include "absl/time/time.h"
#include "proto/clock.h"
#include "server/listen_address.h"
#include "server/vitals.h"

namespace syncnorm::server {

class Admin {
 public:
  static constexpr int kThreads = 8;
  // Shorter than anybody's pause between two looks.
  static constexpr absl::Duration kFresh = absl::Milliseconds(200);

  // Where it gets its answers; called from its threads until it is destroyed.
  struct Source {
    Clock* clock;
    std::function<bool()> alive;
    std::function<bool()> ready;
    std::function<absl::StatusOr<std::shared_ptr<const Vitals>>(const std::string& group,
                                                                bool timeline)>
        vitals;
  };

  // Listens when it returns.  `listen` is no unix socket; port 0 picks one.  kUnavailable says why
  // it cannot.
  static absl::StatusOr<std::unique_ptr<Admin>> Start(const ListenAddress& listen, Source source);
  // Waits for requests under way.
  ~Admin();
  Admin(const Admin&) = delete;
  Admin& operator=(const Admin&) = delete;

  const std::string& address() const;  // with the port it got
  int port() const;

 private:
  struct Running;
  explicit Admin(std::unique_ptr<Running> running);

  std::unique_ptr<Running> running_;
};

}  // namespace syncnorm::server

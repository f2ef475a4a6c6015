// A lane is one way for W workers to agree on their statistics.  A lane
// appears twice: in the harness, which asks it for the processes to start, and
// in those processes (this same program, exec'd with --role), where it is one
// end of the exchange.
//
// To add a lane: write one file, and name it in AllLanes.
//
// Thread-safety: const after construction.
#pragma once

#include <cstdint>
#include <memory>
#include <string>
#include <vector>

#include "absl/status/status.h"
#include "absl/status/statusor.h"
#include "bench/latency/place.h"
#include "bench/latency/role.h"
#include "bench/latency/rounds.h"

namespace syncnorm::bench {

// A process to start, and the host it belongs on.
struct PlacedCommand {
  int host = 0;
  std::vector<std::string> command;
};

// The file in which a coordinator leaves its port, as one line.
std::string PortPath(const std::string& dir);

class Lane {
 public:
  virtual ~Lane() = default;

  // ---- in the harness ----

  virtual std::string name() const = 0;

  // Bytes that one worker contributes, and receives.
  virtual int64_t PayloadBytes(int64_t channels) const = 0;

  // OK, or the reason why this lane is skipped on `place`.
  virtual absl::Status Available(const Place& place) const = 0;

  // The coordinator's command on `address`:0; empty if the lane has none.
  virtual std::vector<std::string> CoordinatorCommand(const Cell& cell, const std::string& address,
                                                      const std::string& dir) const = 0;

  // The commands that start all workers; every worker leaves its report in
  // `common.dir`.  `common` holds all that does not differ between workers.
  // The default starts this program once per rank.
  virtual std::vector<PlacedCommand> WorkerCommands(const Place& place,
                                                    const RoleOptions& common) const;

  // ---- in the processes ----

  // Serves until the last worker has left.
  virtual absl::Status Coordinate(const RoleOptions& options) const;

  virtual absl::StatusOr<std::unique_ptr<WorkerEnd>> Connect(const RoleOptions& options) const;
};

// In the order of the tables; the floor comes first.
const std::vector<std::unique_ptr<Lane>>& AllLanes();

// nullptr if there is none of that name.
const Lane* FindLane(const std::string& name);

std::unique_ptr<Lane> MakeTcpStarLane();
std::unique_ptr<Lane> MakeSyncnormLane();
std::unique_ptr<Lane> MakeGlooLane();
std::unique_ptr<Lane> MakeGlooBcubeLane();
std::unique_ptr<Lane> MakeOpenMpiTcpLane();
std::unique_ptr<Lane> MakeOpenMpiSharedMemoryLane();

// Stands for a lane whose library was not there at build time: never Available.
std::unique_ptr<Lane> MakeMissingLane(std::string name, std::string reason);

}  // namespace syncnorm::bench

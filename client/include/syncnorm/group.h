// Group: one worker's membership in a named set of workers, and its connection to
// the coordinator that reduces for them.
//
//   Connect ----- all members joined ----> connected ---- Leave ----> left
//                                             |
//                                             +--- a member or the coordinator
//                                                  is gone --------------> failed
//
// Callers may rely on:
//   * No call blocks past its deadline: Connect returns within
//     connect_timeout, Reduce's future within round_timeout, + 100 ms.
//   * Every member gets the same bytes for a round, or the same failure.
//   * Each contribution counts once.
//   * A failed round fails for all members.  After a member is lost no round of
//     the epoch completes; calls fail at once with the text that names it.
//     Connect again to form a new epoch.
//
// A worker whose coordinator has not answered a round by its deadline cannot know
// whether the others got the result: its membership is over, and the others are
// told that it is lost.
//
// With a coordinator_factory the coordinator lives as long as rank 0's Group.  ~Group
// leaves, then lets the coordinator tell all others, finish open rounds and end
// their streams (at most 5 s).  Their Leave then is OK as long as no round of theirs was refused.
//
// fork(): make Groups after forking.  In a child an inherited one does nothing:
// calls fail with kFailedPrecondition ("client created in pid 10 used in pid 11; create
// it after fork"), and its destructor leaks what belongs to the parent.
//
// A process's first Group makes two settings of the process; see client/grpc_transport.h.
//
// Thread-safety: thread-safe.
#pragma once

#include <syncnorm/reducer.h>

#include <cstdint>
#include <functional>
#include <memory>
#include <string>
#include <vector>

#include "absl/status/status.h"
#include "absl/status/statusor.h"
#include "absl/time/time.h"

namespace syncnorm {

// A coordinator that lives in this process; see embedded.h.  Destroying it
// drains and stops it.
class CoordinatorHandle {
 public:
  virtual ~CoordinatorHandle() = default;
  virtual std::string address() const = 0;  // "host:port", the port it got
};

// PEM files.  TLS is used when ca_file is set.  They are read at each attempt to connect, so that
// a connection that is made after a rotation uses the new ones.  docs/security.md shows how to make
// them.
struct TlsOptions {
  std::string ca_file;    // authorities of the coordinator's certificate
  std::string cert_file;  // this worker's certificate and what signed it; a coordinator asks for it
  std::string key_file;   // its private key, without a passphrase
  std::string server_name;  // that the coordinator's certificate is for; empty: the address's host
};

struct GroupOptions {
  // "host:port" of the coordinator; also any gRPC target, e.g. "unix:/run/syncnorm.sock".
  std::string address;
  std::string group = "world";
  int rank = -1;
  int world_size = 0;
  // Machine name for the fold order and for errors; empty: this machine's.
  std::string host;
  // Identity of the job; members must agree.  Empty: not checked.
  std::string job;
  // Until every member has joined.
  absl::Duration connect_timeout = absl::Minutes(5);
  // From a round's first contribution to its failure.  The smallest of the members' values holds.
  absl::Duration round_timeout = absl::Seconds(60);
  TlsOptions tls;
  // What lets this worker join, where the coordinator asks for a token: itself, or a file of it,
  // read at each attempt to connect.  Never sent in plaintext to another machine, unless
  // `insecure`.
  std::string token;
  std::string token_file;
  // A token may go over the network in plaintext.  Not from the environment: it is said in the
  // program, or not at all.
  bool insecure = false;
  // Set on every rank to let rank 0 carry the coordinator: rank 0 calls it with
  // `address` to listen on; the others connect there.  See EmbeddedCoordinator()
  // in embedded.h.
  std::function<absl::StatusOr<std::unique_ptr<CoordinatorHandle>>(const std::string& address)>
      coordinator_factory;

  // Fills what the environment tells, first source first:
  //   rank, world size   SYNCNORM_RANK, SYNCNORM_WORLD_SIZE; RANK, WORLD_SIZE (torchrun);
  //                      OMPI_COMM_WORLD_RANK, _SIZE (OpenMPI); SLURM_PROCID, SLURM_NTASKS.
  //                      A launcher counts only if it tells both.
  //   address            SYNCNORM_ADDR; MASTER_ADDR:SYNCNORM_PORT
  //   job                SYNCNORM_JOB; TORCHELASTIC_RUN_ID; SLURM_JOB_ID
  //   group, timeouts    SYNCNORM_GROUP; SYNCNORM_CONNECT_TIMEOUT, SYNCNORM_ROUND_TIMEOUT ("30s")
  //   tls                SYNCNORM_TLS_CA, SYNCNORM_TLS_CERT, SYNCNORM_TLS_KEY,
  //                      SYNCNORM_TLS_SERVER_NAME
  //   token_file         SYNCNORM_TOKEN_FILE.  There is no variable for a token itself: children
  //                      inherit variables, and ps, crash reports and job descriptions show them.
  // An empty variable is as good as none.
  // kInvalidArgument names the variable and the value that could not be read;
  // kNotFound says which of rank, world size and address nothing told.
  static absl::StatusOr<GroupOptions> FromEnvironment();
};

class Group : public Reducer {
 public:
  // Connects and joins; returns when every member has.  Errors name the address,
  // the group and the rank:
  //   kInvalidArgument     an option is wrong (which, its value, what is allowed);
  //   kUnavailable         nothing answered at the address in time (last error);
  //   kDeadlineExceeded    some ranks did not join in time (which);
  //   kAborted             the members disagree, e.g. on the world size (both values);
  //   kAlreadyExists       a living worker holds the rank (its host and pid);
  //   kUnauthenticated     TLS or the token: what is wrong, with dates where one is expired;
  //   kPermissionDenied    the token does not allow to join this group;
  //   kFailedPrecondition  the token's file cannot be read, or is not one token;
  //   kUnimplemented       the coordinator speaks another protocol version.
  static absl::StatusOr<std::unique_ptr<Group>> Connect(GroupOptions options);

  // Leaves, if Leave was not called.
  ~Group() override = default;

  virtual const std::string& name() const = 0;
  virtual int rank() const = 0;
  virtual uint64_t epoch() const = 0;
  // Host of each rank, as told at the join.
  virtual const std::vector<std::string>& hosts() const = 0;

  // Ends the membership cleanly, once everything submitted has been answered.  Later calls fail
  // with kFailedPrecondition.  Safe to call twice.  Otherwise:
  //   the membership's failure  it had failed before;
  //   kDeadlineExceeded         the coordinator did not confirm within 1 s; it is over anyway.
  virtual absl::Status Leave() = 0;
};

}  // namespace syncnorm

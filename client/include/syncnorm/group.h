// Group: one worker's membership in a named set of workers, and its connection to
// the coordinator that reduces for them.
//
//   Connect ----- all members joined ----> connected ---- Leave ----> left
//                                             |
//                                             +--- a member is lost, or the
//                                                  coordinator for good ----> failed
//
// Callers may rely on:
//   * No call blocks past its deadline: Connect returns within
//     connect_timeout, Reduce's future within round_timeout, + 100 ms.
//   * Every member gets the same bytes for a round, or the same failure.
//   * Each contribution counts once.
//   * A broken connection, and a coordinator that is killed and started again at the
//     address, are not noticed, but by the time they take: rounds go on where they were.  If it
//     does not come back: kUnavailable, at the deadline of the first round that waits, with the
//     address, the attempts and the last error.
//   * A failed round fails for all members.
//   * OnLoss::kFail: after a member is lost no round of the epoch completes; calls fail at
//     once with the text that names it.  Connect again to form a new epoch.
//
// A worker whose coordinator has not answered a round by its deadline cannot know
// whether the others got the result: its membership is over, and the others are
// told that it is lost.
//
// OnLoss::kShrink.  Rounds complete with the members that are left, and their counts say so.
// A worker that comes late, or again, Connects as usual: it waits until the others call
// AtBoundary.  Its layers then start from a member's running statistics (AddLayer loads them),
// and handed_over() is what the others' trainer gave; weights are the trainer's to bring.
//
// OnLoss::kFinish.  For data that ends earlier on some members: they call Finish, the others
// go on without them, and when all have finished all are members again, and their layers go on
// from the states of the member that went on longest.
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

#include <syncnorm/policy.h>
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
  // What becomes of the group when a member is lost, and of a round when a contribution has a NaN
  // or an infinity.  The members of a group say the same.
  OnLoss on_loss = OnLoss::kFail;
  NonFinite non_finite = NonFinite::kFail;
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
  //   policies           SYNCNORM_ON_LOSS (fail, shrink, finish), SYNCNORM_NON_FINITE (fail,
  //                      propagate, drop)
  //   tls                SYNCNORM_TLS_CA, SYNCNORM_TLS_CERT, SYNCNORM_TLS_KEY,
  //                      SYNCNORM_TLS_SERVER_NAME
  //   token_file         SYNCNORM_TOKEN_FILE.  There is no variable for a token itself: children
  //                      inherit variables, and ps, crash reports and job descriptions show them.
  // An empty variable is as good as none.
  // kInvalidArgument names the variable and the value that could not be read;
  // kNotFound says which of rank, world size and address nothing told.
  static absl::StatusOr<GroupOptions> FromEnvironment();
  // The same, for callers that tell the rest: what nothing told is as above.
  static absl::StatusOr<GroupOptions> ReadEnvironment();
};

// What a boundary found.
struct Boundary {
  uint64_t epoch = 0;
  std::vector<int> members;   // ranks that take part from here on
  std::vector<int> admitted;  // those of them that did not before
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
  // Grows with every change of the members.
  virtual uint64_t epoch() const = 0;
  // The ranks that take part in rounds, increasing; all but with kShrink and kFinish.
  virtual std::vector<int> members() const = 0;
  // Host of each rank, as told at the join.
  virtual std::vector<std::string> hosts() const = 0;

  // kShrink: a point of the program between two steps that is the same on all members; a round of
  // its own.  Workers that wait to join are let in here: one of the members, which the coordinator
  // picks, hands over the states of its layers and what `state` (may be null) gives, e.g. the
  // step's number and where the weights lie.  At most 128 MiB.
  //   failures of the round, as MomentsFuture::Wait; kFailedPrecondition with another policy; what
  //   `state` or a layer's Save fails with, kResourceExhausted beyond the 128 MiB: then those that
  //   wait are not let in, and are told at once why.
  virtual absl::StatusOr<Boundary> AtBoundary(
      const std::function<absl::StatusOr<std::string>()>& state) = 0;
  // What this worker was handed when it joined a running group; empty otherwise.
  virtual const std::string& handed_over() const = 0;

  // kFinish, kShrink: no data is left here; the others go on.  Returns when all members have
  // finished, all are members again, and the layers of all have the states (running statistics,
  // steps, parameters) of the one that went on longest; of several, of the lowest rank.
  // A timeout of 0 only says so, and waits for nobody: always kDeadlineExceeded.
  //   kDeadlineExceeded    not all have by then; call it again;
  //   kFailedPrecondition  with kFail;
  //   otherwise            the membership's failure.
  virtual absl::Status Finish(absl::Duration timeout) = 0;

  // Ends the membership cleanly, once everything submitted has been answered.  Later calls fail
  // with kFailedPrecondition.  Safe to call twice.  Otherwise:
  //   the membership's failure  it had failed before;
  //   kDeadlineExceeded         the coordinator did not confirm within 1 s; it is over anyway;
  //   kUnavailable              the coordinator was away, and not back within 1 s; likewise.
  virtual absl::Status Leave() = 0;
};

}  // namespace syncnorm

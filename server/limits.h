// Every limit of a coordinator, with the arithmetic behind its default.  Hitting
// one is answered with kResourceExhausted on the stream, or for the round, that
// hit it; everybody else goes on.  All can be set by flags (options.h).
//
// Thread-safety: plain values.
#pragma once

#include <cstdint>

#include "absl/time/time.h"

namespace syncnorm::server {

struct Limits {
  // Groups that are forming or running.  A job needs one to three ("world", and some for subsets),
  // and at rest a group costs about 2 KiB a member and 15 KiB for its timeline, so this is some
  // hundreds of jobs.
  uint32_t groups = 1024;
  // Members of one group.  The wire allows 4,096; each connection keeps a read buffer of 256 KiB,
  // so 1,024 of them are 256 MiB.
  uint32_t members = 1024;
  // Streams open at once, over all groups: 4 groups of the largest size.  Needs as many file
  // descriptors when each worker is a process of its own.
  uint32_t streams = 4096;

  // rows x channels of one contribution.  The widest norm in use is about 2 x 16,384 = 32,768; this
  // leaves room for plain reductions, and makes the largest message 8 MiB.
  uint64_t values = 1u << 20;
  // Bytes of a layer's name.  "model.backbone.layer4.2.downsample.1.bn" is 39.
  uint32_t layer_name_bytes = 256;

  // Rounds that have ended, kept per group to answer repeats and late members.  A member is at most
  // one round behind the others in a full barrier; 64 also covers a worker that has 64 unanswered
  // rounds in flight when it sends them again.  At least kMinKeptRounds are kept whatever they
  // weigh.
  uint32_t kept_rounds = 64;
  // Bytes that those may hold per group: 64 results of 2 x 16,384 channels, 64 x (8 + 4) x 16,384 =
  // 12 MiB, fit.
  uint64_t kept_bytes = 16u << 20;

  // Layers of a group whose waits are told apart, a layer's two directions counting as two:
  // ResNet-152 has 155 norms, hence 310; this is six times as many.  Each takes its name and 8
  // bytes a member: 2,048 x (40 + 8 x 8) = 0.2 MiB for a group of 8.  Those beyond are counted
  // together.
  uint32_t layers = 2048;
  // Ended rounds of a group whose course is told in a report: six steps of ResNet-152.  At most 1.9
  // MiB a group, usually 0.4 (flight_recorder.h).
  uint32_t flight_rounds = 2048;

  // Rounds open at once, per group.  The gRPC service reads one unanswered contribution per stream,
  // so that it opens one or two; the core allows a whole step of 1,000 layers.
  uint32_t open_rounds = 1024;
  // Values waiting in open rounds, per group.  The worst order of arrival holds members x values x
  // 8 bytes: 1,000 layers x 2 x 2,048 channels x 7 of 8 members x 8 = 229 MB fit.
  uint64_t open_bytes = 256u << 20;

  // Bytes of the state that is handed over to late workers, per group: the norms' statistics (4 x 8
  // bytes for each of 1,000 layers x 2,048 channels are 64 MiB) and what the trainer adds.
  uint64_t handover_bytes = 128u << 20;

  // Messages and bytes that wait for one stream whose worker does not read; a state that is handed
  // over may wait beyond them.  The bytes of a result
  // are shared by all members.  A worker that was stopped for a while has at most its own rounds in
  // flight here: 1,024 of them, as above.
  uint32_t queued_messages = 1024;
  uint64_t queued_bytes = 16u << 20;
};

// Two: the round that a member behind the others is in, and the one before, whose answer it may
// have lost.
constexpr uint32_t kMinKeptRounds = 2;

struct Timeouts {
  // From a round's first contribution to its failure, where the members say nothing.  A collective
  // of a trainer waits for the slowest loader; a minute is a hang, not a straggler.
  absl::Duration round = absl::Seconds(60);
  // From a round's first contribution to a line in the log that names whom it waits for; infinite:
  // none.  A hundred times what a slow batch takes, a sixtieth of the default deadline.
  absl::Duration straggler_warning = absl::Seconds(1);
  // From a group's first join to its failure, where the members say nothing: the time that a
  // cluster takes to start the last of the workers.
  absl::Duration join = absl::Minutes(5);
  // From a connection's opening to its first stream's: TLS and the settings of HTTP/2, a few round
  // trips.
  absl::Duration handshake = absl::Seconds(5);
  // For a connection that has no stream, to open one, or another.  A worker opens its stream at
  // once; more is for tools, which open a new connection when they need it.
  absl::Duration idle = absl::Seconds(10);
  // From a stream's opening to its Join, which the worker sends at once: only an idle or hostile
  // peer takes longer.
  absl::Duration hello = absl::Seconds(5);
  // From the end of a member's connection to its loss, for it to come back.  A worker notices
  // within 20 ms (client/connection.cc) and needs two round trips; the others are to know within
  // 200 ms that it is gone.
  absl::Duration reconnect = absl::Milliseconds(150);
  // After a restart of the coordinator, from the first member that resumes to the last: workers try
  // every 250 ms, so that this is for those that are slow to notice (15 s where packets vanish).
  absl::Duration resume = absl::Seconds(30);
  // A worker that claims a living member's rank takes its place, and the epoch ends; otherwise the
  // newcomer is refused.
  bool replace_duplicates = false;
};

// Bytes of the largest legal message: all values in f64, the names, each member's rank (2 bytes)
// and ticket (8), and 2 KiB for the fields around them (about 20 of at most 11 bytes, the group and
// the host names being below 1 KiB together).
constexpr uint64_t MaxMessageBytes(const Limits& limits) {
  return limits.values * 8 + limits.layer_name_bytes + uint64_t{10} * limits.members + 2048;
}

}  // namespace syncnorm::server

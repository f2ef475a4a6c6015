// One sample of every message.  The golden files hold the bytes of exactly
// these, so a change here is a change of them.
#pragma once

#include "proto/layer_state.h"
#include "proto/member_state.h"
#include "proto/wire.h"

namespace syncnorm::wire {

inline Join SampleJoin() {
  Join join;
  join.protocol_minor = 0;
  join.group = "world";
  join.rank = 3;
  join.world_size = 4;
  join.host = "node-7";
  join.pid = 4711;
  join.incarnation = "0123456789abcdef";
  join.job = "run-1";
  join.round_timeout = absl::Seconds(60);
  join.join_timeout = absl::Minutes(5);
  return join;
}

inline Joined SampleJoined() {
  Joined joined;
  joined.protocol_minor = 0;
  joined.epoch = 7;
  joined.world_size = 2;
  joined.hosts = {"node-7", "node-8"};
  joined.limits = {1 << 20, 256, 64, 8 << 20};
  joined.round_timeout = absl::Milliseconds(1500);
  joined.coordinator_id = 0x1122334455667788;
  return joined;
}

inline Contribution SampleContribution() {
  Contribution contribution;
  contribution.key = {7, 41, "conv1.bn", Direction::kForward, 17};
  contribution.dtype = DType::kF32;
  contribution.moments = Moments::MeanM2(3, Precision::kF32);
  contribution.moments.count = 4096;
  contribution.moments.values = {1.0000000001, -2.5, 1e4, 0.5, 2.25, 4096.0};
  return contribution;
}

inline Contribution SampleSums() {
  Contribution contribution;
  contribution.key = {7, 42, "conv1.bn", Direction::kBackward, 17};
  contribution.dtype = DType::kF64;
  contribution.moments = Moments::Sums(2, 2, Precision::kF64);
  contribution.moments.count = 4096;
  contribution.moments.values = {0.1, -0.2, 0.3, 0.0};
  return contribution;
}

inline Result SampleResult() { return {SampleContribution().key, SampleContribution().moments}; }

inline Failure SampleFailure() {
  Failure failure;
  failure.code = absl::StatusCode::kDeadlineExceeded;
  failure.key = {7, 41, "conv1.bn", Direction::kForward, 17};
  failure.text = "group \"world\" epoch 7 round 41: ranks 2,3 did not contribute";
  failure.group = "world";
  failure.ranks = {2, 3};
  failure.hosts = {"node-8", ""};
  return failure;
}

// What 1.1 added.

inline Join SampleResumingJoin() {
  Join join = SampleJoin();
  join.protocol_minor = 1;
  join.on_loss = OnLoss::kShrink;
  join.non_finite = NonFinite::kDrop;
  join.resume = Resume{0x0102030405060708, 0x1122334455667788, 9, 41, 2, {0, 3}, true, 30};
  return join;
}

inline Joined SampleResumedJoined() {
  Joined joined = SampleJoined();
  joined.protocol_minor = 1;
  joined.run_id = 0x0102030405060708;
  joined.first_round = 42;
  joined.members = {0, 1};
  joined.epoch_first_round = 30;
  return joined;
}

inline Contribution SampleBoundary() {
  Contribution contribution = SampleSums();
  contribution.answered = 41;
  contribution.boundary = true;
  return contribution;
}

inline Result SampleSettledResult() {
  Result result = SampleResult();
  result.settled = 40;
  return result;
}

inline EpochChanged SampleEpochChanged() {
  return {8, 43, {0, 1}, {"node-7", "node-8"}, "rank 1 (host node-8) was admitted", {1}, 0};
}

// What 1.2 added.

inline Join SampleJoinWithTicket() {
  Join join = SampleResumingJoin();
  join.protocol_minor = 2;
  join.ticket = 0x3132333435363738;
  join.resume->tickets = {0x2122232425262728, 0, 0, 0x3132333435363738};
  return join;
}

inline Joined SampleJoinedWithTickets() {
  Joined joined = SampleResumedJoined();
  joined.protocol_minor = 2;
  joined.tickets = {0x2122232425262728, 0};
  return joined;
}

inline LayerState SampleLayerState() { return {{"running_mean", {0.5, -1.25}}, {"steps", {17}}}; }

inline MemberState SampleMemberState() {
  return {{{"bn1", EncodeLayerState(SampleLayerState())}, {"bn2", ""}}, "weights of step 17", 4};
}

}  // namespace syncnorm::wire

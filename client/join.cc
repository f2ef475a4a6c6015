#include "client/join.h"

#include <syncnorm/interrupt.h>

#include <algorithm>
#include <utility>
#include <vector>

#include "absl/strings/str_cat.h"
#include "client/backoff.h"

namespace syncnorm {
namespace {

// How one try ended that did not lead to a membership.  A Read is outstanding
// then, unless the stream is closed.
struct Attempt {
  absl::Status status;
  bool reached = false;      // the Join went out: somebody listens
  bool timed_out = false;    // otherwise: `status` says why
  bool interrupted = false;  // likewise
  bool closed = false;       // the stream has ended by itself
};

// One try: the joined session, or null and `attempt`.
std::unique_ptr<Session> TryOnce(const std::string& address, const wire::Join& join,
                                 absl::Time give_up, Clock* clock, Transport* transport,
                                 Attempt* attempt) {
  auto session = std::make_unique<Session>(address, join);
  wire::Codec codec;
  wire::CoordinatorMessage message;
  std::vector<Session::Completion> none;  // no round exists yet
  transport->Open();
  transport->Write(session->Start().front(), /*last=*/false);  // the Join alone, as it is the first
  transport->Read();
  while (!attempt->reached || session->phase() == Session::Phase::kJoining) {
    // Once a coordinator has the join, its own text is worth waiting for.
    const absl::Duration slack = attempt->reached ? Session::kAnswerSlack : absl::ZeroDuration();
    const absl::Time until = give_up + slack;
    switch (transport->Next(InterruptScope::NextLook(clock->Now(), until))) {
      case Transport::Event::kNothing:
        attempt->interrupted = InterruptScope::Interrupted();
        attempt->timed_out = !InterruptScope::active() || clock->Now() >= until;
        if (!attempt->interrupted && !attempt->timed_out) break;
        return nullptr;
      case Transport::Event::kWritten:
        attempt->reached = true;
        break;
      case Transport::Event::kMessage: {
        const absl::Status decoded = codec.Decode(transport->message(), &message);
        if (decoded.ok()) {
          session->Receive(&message, transport->message(), clock->Now(), &none);
        } else {
          session->Garbled(decoded, &none);
        }
        if (session->phase() != Session::Phase::kJoined) transport->Read();
        break;
      }
      case Transport::Event::kClosed:
        attempt->closed = true;
        session->Closed(transport->status(), clock->Now(), &none);
        attempt->status = session->failure();
        return nullptr;
    }
  }
  if (session->phase() == Session::Phase::kJoined) return session;
  attempt->status = session->failure();
  return nullptr;
}

void Close(Transport* transport) {
  transport->Cancel();
  while (transport->Next(absl::InfiniteFuture()) != Transport::Event::kClosed) {
  }
}

// Waits until another try is worth it, at most until `retry`.  False: interrupted.
bool AwaitRetry(absl::Time retry, Clock* clock, Transport* transport) {
  for (;;) {
    const absl::Time look = InterruptScope::NextLook(clock->Now(), retry);
    transport->AwaitRetry(look);
    if (InterruptScope::Interrupted()) return false;
    // Before its time: the connection has changed.
    if (look == retry || clock->Now() < look) return true;
  }
}

// A coordinator that is not there yet may take long to come.
constexpr absl::Duration kMostToCome = absl::Seconds(1);

}  // namespace

absl::StatusOr<std::unique_ptr<Session>> JoinGroup(const std::string& address,
                                                   const wire::Join& join, Clock* clock,
                                                   Transport* transport) {
  const absl::Time began = clock->Now();
  const absl::Time give_up = began + join.join_timeout;
  const std::string who =
      absl::StrCat("rank ", join.rank, " of group ", join.group, " at ", address);
  std::string last_error = "no connection yet";
  bool reached = false;  // by the last attempt
  int in_a_row = 0;      // attempts of which the same was true
  for (int attempts = 1;; ++attempts) {
    // The coordinator counts from the join it sees; the caller from when it called.
    wire::Join attempted = join;
    attempted.join_timeout = std::max(give_up - clock->Now(), absl::Milliseconds(1));
    Attempt attempt;
    std::unique_ptr<Session> session =
        TryOnce(address, attempted, give_up, clock, transport, &attempt);
    if (session != nullptr) return session;
    if (!attempt.closed) Close(transport);
    if (attempt.interrupted) return InterruptScope::Status(absl::StrCat("the join of ", who));
    const absl::Time now = clock->Now();
    if (attempt.timed_out && attempt.reached) {
      return absl::DeadlineExceededError(absl::StrCat(
          "no answer from the coordinator to the join of ", who, " for ",
          absl::FormatDuration(now - began), "; are all ", join.world_size, " members there?"));
    }
    if (!attempt.timed_out) {
      if (!absl::IsUnavailable(attempt.status)) return attempt.status;
      const absl::Status& why = attempt.closed ? transport->status() : attempt.status;
      last_error = std::string(why.message().data(), why.message().size());
    }
    if (!attempt.timed_out) {
      in_a_row = attempt.reached == reached ? in_a_row + 1 : 1;
      reached = attempt.reached;
      // A coordinator that has taken the Join may have made this worker a member.
      const absl::Duration most = reached ? kMostToReturn : kMostToCome;
      const absl::Time retry = std::min(now + Backoff(in_a_row, join.rank, most), give_up);
      if (!AwaitRetry(retry, clock, transport)) {
        return InterruptScope::Status(absl::StrCat("the join of ", who));
      }
    }
    if (clock->Now() >= give_up) {
      return absl::UnavailableError(absl::StrCat("nothing answered the join of ", who, " for ",
                                                 absl::FormatDuration(give_up - began), " (",
                                                 attempts, " attempts); last error: ", last_error));
    }
  }
}

}  // namespace syncnorm

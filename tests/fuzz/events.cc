// fuzz_events: bytes as a list of events (events.h): workers that come, contribute, break off,
// return, lie, leave; strangers; time; a coordinator that drains or is started again.  They meet
// in the core and in real sessions.  What is required stands in members.h, ledger.h and shell.h.

#include "tests/fuzz/events.h"

#include <cstdint>
#include <iterator>

#include "absl/time/time.h"
#include "tests/fuzz/input.h"
#include "tests/fuzz/members.h"

namespace syncnorm::fuzz {
namespace {

constexpr absl::Duration kPasses[] = {
    absl::ZeroDuration(), absl::Milliseconds(1), absl::Milliseconds(100), absl::Milliseconds(200),
    absl::Seconds(5),     absl::Seconds(31),     absl::Seconds(61),       absl::Minutes(5)};

Members::Plan TakePlan(Input* input) {
  Members::Plan plan;
  const uint8_t policies = input->Byte();
  plan.world = 1 + (policies & 3);
  plan.on_loss = static_cast<OnLoss>((policies >> 2 & 3) % 3);
  plan.non_finite = static_cast<NonFinite>((policies >> 4 & 3) % 3);
  const uint8_t settings = input->Byte();
  plan.replace_duplicates = (settings & 1) != 0;
  plan.grace = (settings & 2) == 0;
  return plan;
}

void TellLie(Members* members, uint32_t rank, uint8_t choice) {
  constexpr uint32_t kLies = static_cast<uint32_t>(Members::Lie::kLast) + 1;
  switch (choice % (kLies + 3)) {
    case kLies:
      members->SubmitNaN(rank);
      break;
    case kLies + 1:
      members->Deafen(rank);
      break;
    case kLies + 2:
      members->CutOff(rank);
      break;
    default:
      members->Tell(rank, static_cast<Members::Lie>(choice % (kLies + 3)));
  }
}

void Coordinator(Members* members, uint8_t choice) {
  switch (choice & 3) {
    case 0:
      members->Restart();
      break;
    case 1:
      members->Drain(kPasses[(choice >> 2) % std::size(kPasses)]);
      break;
    default:
      members->Notice();
  }
}

void Happen(Members* members, Input* input) {
  constexpr uint32_t kStrangers = static_cast<uint32_t>(Members::Stranger::kLast) + 1;
  const uint8_t byte = input->Byte();
  const uint32_t rank = (byte >> 4 & 3) % members->world();
  switch (static_cast<Event>(byte & 15)) {
    case Event::kRun:
      members->Run();
      break;
    case Event::kSubmit:
      members->Submit(rank);
      break;
    case Event::kSubmitAll:
      for (uint32_t each = 0; each < members->world(); ++each) members->Submit(each);
      members->Run();
      break;
    case Event::kRead:
      members->Read(rank);
      break;
    case Event::kTake:
      members->Take(rank);
      break;
    case Event::kStart:
      members->Start(rank);
      break;
    case Event::kStartAll:
      for (uint32_t each = 0; each < members->world(); ++each) {
        if (members->Absent(each)) members->Start(each);
      }
      members->Run();
      break;
    case Event::kBreak:
      members->Break(rank, input->Flag());
      break;
    case Event::kReturn:
      members->Return(rank);
      break;
    case Event::kKill:
      members->Kill(rank, input->Flag());
      break;
    case Event::kLeave:
      members->Leave(rank);
      break;
    case Event::kFinish:
      members->FinishData(rank);
      break;
    case Event::kPass:
      if (const uint32_t choice = input->Below(std::size(kPasses) + 1);
          choice < std::size(kPasses)) {
        members->Pass(kPasses[choice]);
      } else {
        members->PassToDeadline();
      }
      break;
    case Event::kCoordinator:
      Coordinator(members, input->Byte());
      break;
    case Event::kLie:
      TellLie(members, rank, input->Byte());
      break;
    case Event::kStranger:
      members->Come(static_cast<Members::Stranger>(input->Below(kStrangers)), rank);
      break;
  }
}

}  // namespace
}  // namespace syncnorm::fuzz

extern "C" int LLVMFuzzerTestOneInput(const uint8_t* data, size_t size) {
  syncnorm::fuzz::Input input(data, size);
  syncnorm::fuzz::Members members(syncnorm::fuzz::TakePlan(&input));
  while (!input.empty()) syncnorm::fuzz::Happen(&members, &input);
  members.Finish();
  return 0;
}

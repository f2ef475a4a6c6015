#include "tests/sim/network.h"

#include <algorithm>
#include <utility>

namespace syncnorm::sim {

Network::Network(Timeline* timeline, const NetworkPlan& plan, uint64_t seed)
    : timeline_(timeline), plan_(plan), random_(seed) {}

Line* Network::Open(uint32_t machine, Caller* caller) {
  Line* line = &lines_.emplace_back();
  line->id_ = lines_.size();
  line->machine_ = machine;
  line->caller_ = caller;
  std::vector<Line*>& of_machine = of_machine_[machine];
  std::erase_if(of_machine, [](const Line* other) {
    return other->ways_[0].sealed && other->ways_[1].sealed &&
           other->under_way(Way::kUp) + other->under_way(Way::kDown) == 0;
  });
  of_machine.push_back(line);
  Append(line, Way::kUp, {Line::Item::Kind::kOpen}, absl::ZeroDuration());
  timeline_->After(plan_.connect_timeout, [this, line] {
    if (!line->opened_) GiveUp(line, Way::kDown, "connecting timed out");
  });
  return line;
}

absl::Duration Network::Delay() {
  absl::Duration delay = random_.Between(plan_.least, plan_.most);
  if (plan_.spike_chance > 0 && random_.Chance(plan_.spike_chance)) {
    delay += random_.Between(absl::ZeroDuration(), plan_.spike);
  }
  return delay;
}

bool Network::Blocked(const Line* line, Way way) const {
  const auto it = blocked_.find(line->machine_);
  return it != blocked_.end() && it->second[static_cast<size_t>(way)] > 0;
}

void Network::Send(Line* line, Way way, Bytes bytes) {
  if (At(line, way).sealed) return;
  Append(line, way, {Line::Item::Kind::kMessage, {}, std::move(bytes)}, absl::ZeroDuration());
}

void Network::Append(Line* line, Way way, Line::Item item, absl::Duration wait) {
  Line::Direction& direction = At(line, way);
  if (item.kind == Line::Item::Kind::kEnd) direction.sealed = true;
  direction.last = std::max(direction.last, timeline_->now() + wait + Delay());
  item.arrival = direction.last;
  direction.items.push_back(std::move(item));
  Plan(line, way);
}

void Network::Plan(Line* line, Way way) {
  Line::Direction& direction = At(line, way);
  if (direction.planned || direction.items.empty() || Blocked(line, way)) return;
  direction.planned = true;
  // Two words, which std::function keeps without an allocation.
  if (way == Way::kUp) {
    timeline_->At(direction.items.front().arrival, [this, line] { Deliver(line, Way::kUp); });
  } else {
    timeline_->At(direction.items.front().arrival, [this, line] { Deliver(line, Way::kDown); });
  }
}

void Network::Deliver(Line* line, Way way) {
  Line::Direction& direction = At(line, way);
  direction.planned = false;
  if (direction.items.empty() || Blocked(line, way)) return;
  if (direction.items.front().arrival > timeline_->now()) {
    Plan(line, way);
    return;
  }
  const Line::Item item = std::move(direction.items.front());
  direction.items.pop_front();
  Plan(line, way);
  if (direction.deaf) return;
  switch (item.kind) {
    case Line::Item::Kind::kOpen:
      line->arrived_ = true;
      if (acceptor_ == nullptr) {
        direction.deaf = direction.sealed = true;
        Append(line, Way::kDown,
               {Line::Item::Kind::kEnd, {}, {}, absl::UnavailableError("connection refused")},
               absl::ZeroDuration());
        return;
      }
      line->opened_ = true;
      if (!At(line, Way::kDown).deaf) line->caller_->OnOpened(line);
      acceptor_->OnOpen(line);
      return;
    case Line::Item::Kind::kMessage:
      if (way == Way::kUp) {
        if (acceptor_ != nullptr) acceptor_->OnMessage(line, item.bytes);
      } else {
        line->caller_->OnMessage(line, item.bytes);
      }
      return;
    case Line::Item::Kind::kEnd:
      direction.deaf = true;
      if (way == Way::kUp) {
        if (acceptor_ != nullptr) acceptor_->OnEnd(line);
      } else {
        At(line, Way::kUp).sealed = true;
        line->opened_ = true;  // connecting, at least, is over
        line->caller_->OnClosed(line, item.status);
      }
      return;
  }
}

void Network::EndDown(Line* line) {
  if (At(line, Way::kDown).sealed) return;
  Append(line, Way::kDown, {Line::Item::Kind::kEnd, {}, {}, absl::OkStatus()},
         absl::ZeroDuration());
  At(line, Way::kUp).deaf = true;
}

void Network::StopOpening(Line* line) {
  line->opened_ = true;
  if (line->arrived_) return;
  Line::Direction& up = At(line, Way::kUp);
  up.items.clear();
  up.sealed = up.deaf = true;
}

void Network::Cancel(Line* line) {
  At(line, Way::kDown).deaf = true;
  StopOpening(line);
  HalfClose(line);
}

void Network::HalfClose(Line* line) {
  if (At(line, Way::kUp).sealed) return;
  Append(line, Way::kUp, {Line::Item::Kind::kEnd}, absl::ZeroDuration());
}

void Network::Truncate(Line::Direction* direction) {
  const size_t keep = random_.Below(static_cast<uint32_t>(direction->items.size()) + 1);
  direction->items.erase(direction->items.begin() + static_cast<std::ptrdiff_t>(keep),
                         direction->items.end());
}

void Network::Break(Line* line, absl::Duration caller_notice, absl::Duration acceptor_notice) {
  const auto end = [&](Way way, absl::Duration notice) {
    Line::Direction& direction = At(line, way);
    if (direction.sealed) return;  // its end is under way already
    Truncate(&direction);
    direction.sealed = true;
    if (notice == absl::InfiniteDuration()) return;
    Append(line, way,
           {Line::Item::Kind::kEnd, {}, {}, absl::UnavailableError("connection reset by peer")},
           notice);
  };
  end(Way::kDown, caller_notice);
  end(Way::kUp, acceptor_notice);
}

void Network::CallerDies(Line* line, absl::Duration notice) {
  At(line, Way::kDown).deaf = At(line, Way::kDown).sealed = true;
  StopOpening(line);
  Line::Direction& up = At(line, Way::kUp);
  if (up.sealed) return;
  Truncate(&up);
  up.sealed = true;
  Append(line, Way::kUp, {Line::Item::Kind::kEnd}, notice);
}

void Network::AcceptorDies(absl::Duration least_notice, absl::Duration most_notice) {
  acceptor_ = nullptr;
  for (auto& [machine, lines] : of_machine_) {
    for (Line* line : lines) {
      // One that is still being opened finds nobody, or the next life.
      if (!line->opened_) continue;
      At(line, Way::kUp).deaf = At(line, Way::kUp).sealed = true;
      Line::Direction& down = At(line, Way::kDown);
      if (down.sealed) continue;
      Truncate(&down);
      Append(line, Way::kDown,
             {Line::Item::Kind::kEnd, {}, {}, absl::UnavailableError("connection reset by peer")},
             random_.Between(least_notice, most_notice));
    }
  }
}

void Network::Block(uint32_t machine, Way way) { ++blocked_[machine][static_cast<size_t>(way)]; }

void Network::Unblock(uint32_t machine, Way way) {
  int& blocked = blocked_[machine][static_cast<size_t>(way)];
  if (--blocked > 0) return;
  for (Line* line : of_machine_[machine]) {
    // TCP sends again what was lost, soon after.
    Line::Direction& direction = At(line, way);
    const absl::Time soon = timeline_->now() + Delay();
    for (Line::Item& item : direction.items) item.arrival = std::max(item.arrival, soon);
    direction.last = std::max(direction.last, soon);
    Plan(line, way);
  }
}

void Network::GiveUp(Line* line, Way way, const std::string& why) {
  Line::Direction& incoming = At(line, way);
  if (incoming.deaf) return;
  incoming.items.clear();
  incoming.deaf = incoming.sealed = true;
  StopOpening(line);
  const Way back = way == Way::kUp ? Way::kDown : Way::kUp;
  if (!At(line, back).sealed) {
    Append(line, back,
           {Line::Item::Kind::kEnd, {}, {}, absl::UnavailableError("connection reset by peer")},
           absl::ZeroDuration());
  }
  if (way == Way::kUp) {
    if (acceptor_ != nullptr) acceptor_->OnEnd(line);
  } else {
    line->caller_->OnClosed(line, absl::UnavailableError(why));
  }
}

void Network::KeepaliveOfCaller(uint32_t machine, std::function<bool()> still) {
  std::vector<Line*> lines = LinesOf(machine);
  timeline_->After(plan_.caller_keepalive, [this, lines, still = std::move(still)] {
    if (!still()) return;
    for (Line* line : lines) GiveUp(line, Way::kDown, "keepalive watchdog timeout");
  });
}

void Network::KeepaliveOfAcceptor(uint32_t machine, std::function<bool()> still) {
  std::vector<Line*> lines = LinesOf(machine);
  timeline_->After(plan_.acceptor_keepalive, [this, lines, still = std::move(still)] {
    if (!still()) return;
    for (Line* line : lines) GiveUp(line, Way::kUp, "keepalive watchdog timeout");
  });
}

std::vector<Line*> Network::LinesOf(uint32_t machine) {
  std::vector<Line*> lines;
  for (Line* line : of_machine_[machine]) {
    if (alive(line)) lines.push_back(line);
  }
  return lines;
}

}  // namespace syncnorm::sim

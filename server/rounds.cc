#include "server/rounds.h"

#include <algorithm>
#include <cmath>
#include <iterator>
#include <limits>
#include <memory>
#include <utility>

#include "absl/strings/str_cat.h"
#include "kernels/check.h"
#include "server/fingerprint.h"
#include "server/names.h"

namespace syncnorm::server {
namespace {

// Missing members that a text describes one by one; the others by number.
constexpr size_t kMaxDescribed = 8;

std::vector<uint32_t> With(std::vector<uint32_t> ranks, uint32_t rank) {
  const auto at = std::lower_bound(ranks.begin(), ranks.end(), rank);
  if (at == ranks.end() || *at != rank) ranks.insert(at, rank);
  return ranks;
}

std::string Seem(const std::vector<uint32_t>& ranks) {
  return absl::StrCat(Ranks(ranks), ranks.size() == 1 ? " seems" : " seem");
}

// What most likely happened when `senders` and `others` are at different places.
std::string Guess(const std::vector<uint32_t>& senders, const Fingerprint& sent,
                  const std::vector<uint32_t>& others, const Fingerprint& expected,
                  const History& history) {
  const bool same_layer = sent.layer == expected.layer && sent.direction == expected.direction;
  if (sent.step != expected.step) {
    const bool ahead = sent.step > expected.step;
    const std::vector<uint32_t>& later = ahead ? senders : others;
    const std::vector<uint32_t>& earlier = ahead ? others : senders;
    const uint64_t step = std::min(sent.step, expected.step);
    if (same_layer) {
      return absl::StrCat("the steps differ: ", Seem(later), " to have skipped step ", step,
                          " of this layer, or ", Ranks(earlier), " to have repeated it");
    }
    return absl::StrCat("the steps differ: ", Seem(later), " to have skipped the rest of step ",
                        step);
  }
  const bool sender_skipped = history.Follows(expected, sent);
  const bool others_skipped = history.Follows(sent, expected);
  if (sender_skipped && !others_skipped) {
    return absl::StrCat(Seem(senders), " to have skipped ", expected.layer);
  }
  if (others_skipped && !sender_skipped) {
    return absl::StrCat(Seem(others), " to have skipped ", sent.layer);
  }
  if (sent.layer == expected.layer) return "the directions differ";
  return "the layers' order differs";
}

// Whether all are finite; false may be wrong.  What is not finite stays so in every sum, and eight
// sums side by side are added without a branch, two at a time (callgrind, 512 values: 860 of 1,900
// instructions less than by looking at each one's exponent).  Sums that overflow are the doubt.
bool SurelyFinite(const std::vector<double>& values) {
  constexpr size_t kLanes = 8;
  double sums[kLanes] = {};
  size_t i = 0;
  for (; i + kLanes <= values.size(); i += kLanes) {
    for (size_t lane = 0; lane < kLanes; ++lane) sums[lane] += values[i + lane];
  }
  for (; i < values.size(); ++i) sums[0] += values[i];
  return std::all_of(std::begin(sums), std::end(sums),
                     [](double sum) { return std::isfinite(sum); });
}

// "NaN in row 0 (mean) at channel 5"; empty if all are finite.
std::string FirstNotFinite(const Moments& moments) {
  if (SurelyFinite(moments.values)) return "";
  const auto found = std::find_if(moments.values.begin(), moments.values.end(),
                                  [](double value) { return !std::isfinite(value); });
  if (found == moments.values.end()) return "";
  const auto index = static_cast<int64_t>(found - moments.values.begin());
  const int64_t row = index / moments.channels;
  const char* const what = std::isnan(*found) ? "NaN" : *found > 0 ? "Inf" : "-Inf";
  const char* const name = moments.kind != MomentKind::kMeanM2 ? ""
                           : row == 0                          ? " (mean)"
                                                               : " (M2)";
  return absl::StrCat(what, " in row ", row, name, " at channel ", index % moments.channels);
}

}  // namespace

Rounds::Rounds(const Membership& members, const Limits& limits, wire::Codec* codec)
    : Rounds(members, limits, codec, std::vector<uint64_t>(members.size()), {}) {}

Rounds::Rounds(const Membership& members, const Limits& limits, wire::Codec* codec,
               const std::vector<uint64_t>& answered, std::vector<KeptAnswer> answers)
    : members_(members),
      limits_(limits),
      codec_(codec),
      last_(answered),
      answered_(answered),
      lateness_(limits.layers),
      drift_(limits.layers),
      recorder_(limits.flight_rounds) {
  orders_.emplace_back(members.hosts());
  first_ = answers.empty() ? *std::max_element(answered.begin(), answered.end()) + 1
                           : answers.front().key.round;
  for (KeptAnswer& answer : answers) {
    SYNCNORM_CHECK(answer.key.round == next());
    const Round& round = rounds_.emplace_back(
        orders_.back(), std::move(answer.key),
        answer.failed ? Round::State::kFailed : Round::State::kComplete, std::move(answer.bytes));
    kept_bytes_ += round.kept_bytes();
  }
  oldest_open_ = unwarned_ = next();
}

std::optional<EndOfEpoch> Rounds::Contribute(absl::Time now, uint32_t rank,
                                             wire::Contribution* contribution,
                                             std::vector<Answer>* answers) {
  const uint64_t number = contribution->key.round;
  if (number > last_[rank] + 1) return Desync(rank, number);
  const bool opens = number == next();
  if (opens && rounds_.size() >= size_t{limits_.open_rounds} + limits_.kept_rounds &&
      rounds_.front().open()) {
    // Only behind an open round can so many others have ended: it is not worth keeping them.
    return EndOfEpoch{absl::StatusCode::kResourceExhausted,
                      {rank},
                      absl::StrCat(members_.Who(rank), " is at round ", number, " while round ",
                                   oldest_open_, " is still open; that is too far ahead")};
  }
  ++counters_.contributions;
  last_[rank] = std::max(last_[rank], number);
  // A member that does not tell (1.0) cannot resume either, so that nothing is kept for it.
  const uint64_t told =
      members_.member(rank).acknowledges ? contribution->answered : last_[rank] - 1;
  answered_[rank] = std::max(answered_[rank], std::min(told, last_[rank] - 1));
  if (number < first_) {
    const Failure failure =
        members_.Fail(absl::StatusCode::kFailedPrecondition, contribution->key, {rank},
                      absl::StrCat(members_.Name(), ": ", members_.Who(rank), " sent round ",
                                   number, " < oldest kept ", first_));
    answers->push_back(Answer{number, {rank}, Encode(failure)});
    return std::nullopt;
  }
  if (opens) {
    rounds_.emplace_back(orders_.back(), members_.taking_part(), *contribution, members_.epoch(),
                         now);
    if (!spare_.empty()) {
      rounds_.back().arrivals() = std::move(spare_.back());
      spare_.pop_back();
    }
    ++open_;
    if (drift_.Wants(now, *contribution)) drift_.Begin(now, number);
  }
  Round& round = At(number);
  if (!round.open()) {
    ++counters_.repeats;
    if (round.state() == Round::State::kComplete && !round.Repeats(rank, *contribution)) {
      // The others have its result, to which it did not contribute this.
      return EndOfEpoch{absl::StatusCode::kAborted,
                        {rank},
                        absl::StrCat(Describe(round.key()), ": ",
                                     Changed(round, rank, *contribution), ", after its result")};
    }
    answers->push_back(Answer{number, {rank}, round.answer()});
  } else if (const auto refused = Refuse(rank, round, *contribution, opens)) {
    End(now, &round, *refused, rank, answers);
  } else {
    Add(now, &round, rank, contribution, answers);
  }
  return std::nullopt;
}

std::string Rounds::Changed(const Round& round, uint32_t rank,
                            const wire::Contribution& contribution) const {
  return absl::StrCat(members_.Who(rank), " sent it again with other contents (",
                      round.Compare(rank, contribution), ")");
}

void Rounds::Add(absl::Time now, Round* round, uint32_t rank, wire::Contribution* contribution,
                 std::vector<Answer>* answers) {
  const NonFinite policy = members_.non_finite();
  std::string bad;
  if (policy != NonFinite::kPropagate) bad = FirstNotFinite(contribution->moments);
  if (!bad.empty() && !round->has(rank)) {
    ++counters_.not_finite;
    bad = absl::StrCat(members_.Who(rank), " sent ", bad);
    if (policy == NonFinite::kFail) {
      End(now, round, Fail(absl::StatusCode::kAborted, *round, {rank}, bad), rank, answers);
      return;
    }
    failures_.push_back(
        Fail(absl::StatusCode::kAborted, *round, {rank}, bad + "; it is left out for all"));
  }
  if (drift_.Measures(round->key().round) && bad.empty() && !round->has(rank)) {
    drift_.Keep(rank, contribution->moments);
  }
  open_bytes_ -= round->open_bytes();
  const Round::Added added =
      bad.empty() ? round->Add(rank, contribution) : round->AddWithoutValues(rank, *contribution);
  open_bytes_ += round->open_bytes();
  if (added == Round::Added::kWaiting || added == Round::Added::kLast) {
    round->arrivals().push_back({rank, now});
  }
  switch (added) {
    case Round::Added::kWaiting:
      break;
    case Round::Added::kLast:
      Complete(now, round, answers);
      break;
    case Round::Added::kRepeat:
      ++counters_.repeats;
      break;
    case Round::Added::kChanged:
      End(now, round,
          Fail(absl::StatusCode::kAborted, *round, {rank}, Changed(*round, rank, *contribution)),
          rank, answers);
      break;
    case Round::Added::kMismatch:
      End(now, round, Mismatch(rank, *round, *contribution), rank, answers);
      break;
    case Round::Added::kOverflow:
      End(now, round,
          Fail(absl::StatusCode::kInvalidArgument, *round, {rank},
               absl::StrCat(members_.Who(rank), " sent count=", contribution->moments.count,
                            ", with which the sum of the counts overflows 64 bits")),
          rank, answers);
      break;
  }
}

void Rounds::Excuse(absl::Time now, uint32_t rank, std::vector<Answer>* answers) {
  for (uint64_t number = oldest_open_; number < next(); ++number) {
    Round& round = At(number);
    if (!round.open()) continue;
    open_bytes_ -= round.open_bytes();
    const bool last = round.Excuse(rank);
    open_bytes_ += round.open_bytes();
    if (last) Complete(now, &round, answers);
  }
}

void Rounds::Admit(const std::vector<uint32_t>& ranks) {
  if (open_ == 0) orders_.clear();
  orders_.emplace_back(members_.hosts());
  for (const uint32_t rank : ranks) last_[rank] = answered_[rank] = next() - 1;
}

EndOfEpoch Rounds::Desync(uint32_t rank, uint64_t number) const {
  return EndOfEpoch{
      absl::StatusCode::kAborted,
      {rank},
      absl::StrCat("desync: ", members_.Who(rank), " is at round ", number, ", ", LastOf(rank),
                   ", the group's next is ", next(), ": a contribution was lost")};
}

std::optional<Failure> Rounds::Refuse(uint32_t rank, const Round& round,
                                      const wire::Contribution& contribution, bool opens) const {
  const Moments& moments = contribution.moments;
  const auto exhausted = [&](const std::string& what) {
    return Fail(absl::StatusCode::kResourceExhausted, round, {rank}, what);
  };
  if (moments.values.empty()) {
    return Fail(absl::StatusCode::kInvalidArgument, round, {rank},
                absl::StrCat(members_.Who(rank), " sent no values"));
  }
  if (contribution.key.layer.size() > limits_.layer_name_bytes) {
    return exhausted(absl::StrCat(members_.Who(rank), " sent a layer's name of ",
                                  contribution.key.layer.size(), " bytes, more than ",
                                  limits_.layer_name_bytes));
  }
  if (moments.values.size() > limits_.values) {
    return exhausted(absl::StrCat(members_.Who(rank), " sent ", moments.rows, " x ",
                                  moments.channels, " values, more than ", limits_.values));
  }
  if (opens && open_ > limits_.open_rounds) {
    return exhausted(absl::StrCat("more than ", limits_.open_rounds, " rounds are open; ",
                                  Ranks(At(oldest_open_).missing()), " of round ", oldest_open_,
                                  " behind"));
  }
  const uint64_t bytes = moments.values.size() * sizeof(double);
  if (open_bytes_ + bytes > limits_.open_bytes) {
    return exhausted(absl::StrCat("the open rounds hold ", open_bytes_, " bytes, ", bytes,
                                  " more exceed ", limits_.open_bytes));
  }
  return std::nullopt;
}

Failure Rounds::Mismatch(uint32_t rank, const Round& round, const wire::Contribution& sent) const {
  const Fingerprint& expected = round.fingerprint();
  const Fingerprint came(sent);
  const std::vector<uint32_t> others = round.contributed();
  // Against several that agree, one is wrong; of two, either may be.
  const std::vector<uint32_t> at_fault =
      others.size() > 1 ? std::vector<uint32_t>{rank} : With(others, rank);

  std::string tail = "; no round was common before";
  if (const RoundKey* common = history_.last()) {
    tail = absl::StrCat("; last common round ", common->round, " ", common->layer);
  }
  if (came.SamePlace(expected)) {
    return Fail(absl::StatusCode::kAborted, round, at_fault,
                absl::StrCat(Ranks({rank}), " sent ", Shape(came, expected), ", ", Ranks(others),
                             " sent ", Shape(expected, came), tail));
  }
  return members_.Fail(
      absl::StatusCode::kAborted, round.key(), at_fault,
      absl::StrCat(members_.Name(), " round ", round.key().round, ": ", Ranks({rank}), " sent ",
                   Place(came.layer, came.direction, came.step), ", ", Ranks(others), " sent ",
                   Place(expected.layer, expected.direction, expected.step), ": ",
                   Guess({rank}, came, others, expected, history_), tail));
}

Failure Rounds::Fail(absl::StatusCode code, const Round& round, std::vector<uint32_t> ranks,
                     const std::string& what) const {
  return members_.Fail(code, round.key(), std::move(ranks),
                       absl::StrCat(members_.Name(), " ", Describe(round.key()), ": ", what));
}

std::string Rounds::Missing(absl::Time now, const Round& round) const {
  const std::vector<uint32_t> missing = round.missing();
  std::string text;
  for (size_t i = 0; i < missing.size() && i < kMaxDescribed; ++i) {
    absl::StrAppend(&text, i == 0 ? "" : ", ", members_.Who(missing[i]), " last heard ",
                    InSeconds(now - members_.member(missing[i]).heard), " ago");
  }
  if (missing.size() > kMaxDescribed) absl::StrAppend(&text, " and others of ", Ranks(missing));
  return text;
}

void Rounds::Expire(absl::Time now, std::vector<Answer>* answers) {
  while (open_ > 0 && At(oldest_open_).opened() + members_.round_timeout() <= now) {
    Round& round = At(oldest_open_);
    const std::string what =
        absl::StrCat(Missing(now, round), " did not contribute within ",
                     InSeconds(members_.round_timeout()), "; ", Ranks(round.contributed()), " did");
    End(now, &round, Fail(absl::StatusCode::kDeadlineExceeded, round, round.missing(), what),
        std::nullopt, answers);
  }
}

void Rounds::Warn(absl::Time now) {
  for (; unwarned_ < next(); ++unwarned_) {
    const Round& round = At(unwarned_);
    if (!round.open()) continue;
    if (round.opened() + members_.straggler_warning() > now) return;
    ++counters_.stragglers;
    Remark(absl::StrCat(members_.Name(), " ", Describe(round.key()), ": has waited ",
                        InSeconds(now - round.opened()), " for ", Missing(now, round), "; ",
                        Ranks(round.contributed()), " came"),
           round.key(), round.missing());
  }
}

void Rounds::FailOpen(absl::Time now, absl::StatusCode code, const std::vector<uint32_t>& ranks,
                      const std::string& what, std::vector<Answer>* answers) {
  while (open_ > 0) {
    Round& round = At(oldest_open_);
    End(now, &round, Fail(code, round, ranks, what), std::nullopt, answers);
  }
}

void Rounds::Complete(absl::Time now, Round* round, std::vector<Answer>* answers) {
  open_bytes_ -= round->open_bytes();
  result_.key = round->key();
  result_.moments = round->Total();
  if (drift_.Measures(round->key().round)) {
    drift_.Measure(now, round->key().layer, result_.moments);
  }
  RoundToWire(&result_.moments);
  result_.settled = Settled();
  auto bytes = std::make_shared<const std::string>(codec_->Encode(result_));
  round->Complete(bytes);
  history_.Add(round->key());
  ++counters_.completed;
  boundary_ |= round->fingerprint().boundary;
  answers->push_back(Answer{round->key().round, round->contributed(), std::move(bytes)});
  Record(now, nullptr, round);
  Ended(*round);
}

void Rounds::End(absl::Time now, Round* round, const Failure& failure,
                 std::optional<uint32_t> sender, std::vector<Answer>* answers) {
  open_bytes_ -= round->open_bytes();
  std::vector<uint32_t> ranks = round->contributed();
  if (sender.has_value()) ranks = With(std::move(ranks), *sender);
  Bytes bytes = Encode(failure);
  round->Fail(bytes);
  if (drift_.Measures(round->key().round)) drift_.Abandon();
  ++counters_.failed;
  ++counters_.failed_by[static_cast<size_t>(failure.code)];
  failures_.push_back(failure);
  answers->push_back(Answer{round->key().round, std::move(ranks), std::move(bytes)});
  Record(now, &failure, round);
  Ended(*round);
}

void Rounds::Ended(const Round& round) {
  --open_;
  kept_bytes_ += round.kept_bytes();
  while (oldest_open_ < next() && !At(oldest_open_).open()) ++oldest_open_;
  while (unwarned_ < next() && !At(unwarned_).open()) ++unwarned_;
  Trim();
}

void Rounds::Remark(std::string text, const RoundKey& key, std::vector<uint32_t> ranks) {
  remarks_.push_back({Note::Severity::kWarning,
                      Note::Source::kWait,
                      std::move(text),
                      {members_.group(), key, std::move(ranks)}});
}

void Rounds::Record(absl::Time now, const Failure* failure, Round* round) {
  FlightRecorder::Outcome outcome;
  outcome.bytes = round->answer()->size();
  std::vector<uint32_t> missing;  // without memory when complete
  std::vector<Arrival>& arrivals = round->arrivals();
  if (failure == nullptr) {
    counters_.durations.Add(now - round->opened());
    if (lateness_.Add(round->key().layer, round->key().direction, arrivals)) {
      Remark(absl::StrCat(members_.Name(), ": more than ", limits_.layers,
                          " layers; the waits of the others, ", round->key().layer,
                          " the first of them, are counted together"),
             round->key(), {});
    }
  } else {
    missing = round->missing();
    outcome.code = failure->code;
    outcome.text = failure->text;
    if (failure->code == absl::StatusCode::kDeadlineExceeded) lateness_.Missed(missing);
  }
  recorder_.Ended(round->key(), round->opened(), now, arrivals, missing, outcome);
  arrivals.clear();
  spare_.push_back(std::move(arrivals));
}

std::vector<const Round*> Rounds::OpenRounds(size_t most) const {
  std::vector<const Round*> rounds;
  for (uint64_t number = oldest_open_; number < next() && rounds.size() < most; ++number) {
    if (At(number).open()) rounds.push_back(&At(number));
  }
  return rounds;
}

// A round that is not settled is worth as many as a worker can have unanswered.
void Rounds::Trim() {
  const uint64_t settled = Settled();
  while (!rounds_.empty() && !rounds_.front().open() && kept() > kMinKeptRounds) {
    const uint64_t most = first_ <= settled ? limits_.kept_rounds
                                            : std::max(limits_.kept_rounds, limits_.open_rounds);
    if (kept() <= most && kept_bytes_ <= limits_.kept_bytes) break;
    kept_bytes_ -= rounds_.front().kept_bytes();
    rounds_.pop_front();
    ++first_;
  }
}

uint64_t Rounds::Settled() const {
  uint64_t settled = std::numeric_limits<uint64_t>::max();
  for (uint32_t rank = 0; rank < members_.size(); ++rank) {
    if (members_.takes_part(rank)) settled = std::min(settled, answered_[rank]);
  }
  return settled == std::numeric_limits<uint64_t>::max() ? 0 : settled;
}

absl::Time Rounds::NextDeadline() const {
  if (open_ == 0) return absl::InfiniteFuture();
  const absl::Time deadline = At(oldest_open_).opened() + members_.round_timeout();
  if (unwarned_ == next()) return deadline;
  return std::min(deadline, At(unwarned_).opened() + members_.straggler_warning());
}

bool Rounds::Expects(uint32_t rank, uint64_t number) const {
  if (number >= next()) return members_.takes_part(rank);
  return number < first_ || !At(number).open() || At(number).expects(rank);
}

bool Rounds::Waits(uint32_t rank) const {
  for (uint64_t number = oldest_open_; number < next(); ++number) {
    const Round& round = At(number);
    if (round.open() && round.expects(rank) && !round.has(rank)) return true;
  }
  return false;
}

std::string Rounds::LastOf(uint32_t rank) const {
  if (last_[rank] == 0) return "it contributed to no round";
  const RoundKey* key = history_.Find(last_[rank]);
  if (key == nullptr && last_[rank] >= first_) key = &At(last_[rank]).key();
  return absl::StrCat("its last was ",
                      key != nullptr ? Describe(*key) : absl::StrCat("round ", last_[rank]));
}

Bytes Rounds::Encode(const Failure& failure) const {
  return std::make_shared<const std::string>(codec_->Encode(failure));
}

}  // namespace syncnorm::server

#include "proto/messages.h"

#include <algorithm>
#include <cmath>
#include <cstring>
#include <limits>

#include "absl/strings/str_cat.h"
#include "absl/strings/string_view.h"

namespace syncnorm::wire {
namespace {

absl::string_view View(std::string_view text) { return {text.data(), text.size()}; }

template <typename... Parts>
absl::Status Invalid(const Parts&... parts) {
  return absl::InvalidArgumentError(absl::StrCat(parts...));
}

// Field numbers of the enums are those of the structs' enumerators; these say so.
static_assert(static_cast<int>(Direction::kForward) == v1::DIRECTION_FORWARD);
static_assert(static_cast<int>(Direction::kBackward) == v1::DIRECTION_BACKWARD);
static_assert(static_cast<int>(Direction::kNone) == v1::DIRECTION_NONE);
static_assert(static_cast<int>(MomentKind::kMeanM2) == v1::MOMENT_KIND_MEAN_M2);
static_assert(static_cast<int>(MomentKind::kSums) == v1::MOMENT_KIND_SUMS);
static_assert(static_cast<int>(Precision::kF32) == v1::PRECISION_F32);
static_assert(static_cast<int>(Precision::kF64) == v1::PRECISION_F64);
static_assert(static_cast<int>(DType::kF32) == v1::DTYPE_F32);
static_assert(static_cast<int>(DType::kF64) == v1::DTYPE_F64);
static_assert(static_cast<int>(DType::kF16) == v1::DTYPE_F16);
static_assert(static_cast<int>(DType::kBF16) == v1::DTYPE_BF16);
static_assert(static_cast<int>(OnLoss::kFail) == v1::ON_LOSS_FAIL);
static_assert(static_cast<int>(OnLoss::kShrink) == v1::ON_LOSS_SHRINK);
static_assert(static_cast<int>(OnLoss::kFinish) == v1::ON_LOSS_FINISH);
static_assert(static_cast<int>(NonFinite::kFail) == v1::NON_FINITE_FAIL);
static_assert(static_cast<int>(NonFinite::kPropagate) == v1::NON_FINITE_PROPAGATE);
static_assert(static_cast<int>(NonFinite::kDrop) == v1::NON_FINITE_DROP);

// proto3 enums are open: any int arrives.
template <typename Enum>
absl::Status EnumFrom(int value, int smallest, int largest, absl::string_view field, Enum* to) {
  if (value < smallest || value > largest) {
    return Invalid(field, " is ", value, ", expected ", smallest, " to ", largest);
  }
  *to = static_cast<Enum>(value);
  return absl::OkStatus();
}

void To(const RoundKey& from, v1::RoundKey* to) {
  to->set_epoch(from.epoch);
  to->set_round(from.round);
  to->set_layer(from.layer);
  to->set_direction(static_cast<v1::Direction>(from.direction));
  to->set_step(from.step);
}

// The key of a round that exists: a number, a layer and a direction.
absl::Status From(const v1::RoundKey& from, RoundKey* to) {
  to->epoch = from.epoch();
  to->round = from.round();
  to->layer = from.layer();
  to->step = from.step();
  if (to->round == 0) return Invalid("key.round is 0, rounds are numbered from 1");
  if (to->layer.empty()) return Invalid("key.layer is empty");
  return EnumFrom(from.direction(), v1::DIRECTION_FORWARD, v1::DIRECTION_NONE, "key.direction",
                  &to->direction);
}

// How many of a moments' values travel in each precision.
struct Split {
  size_t f64 = 0;
  size_t f32 = 0;
};

Split SplitOf(MomentKind kind, Precision precision, uint64_t rows, uint64_t channels) {
  if (precision == Precision::kF64) return {rows * channels, 0};
  if (kind == MomentKind::kMeanM2) return {channels, channels};
  return {0, rows * channels};
}

template <typename Message>
void MomentsTo(const Moments& from, Message* to) {
  to->set_kind(static_cast<v1::MomentKind>(from.kind));
  to->set_precision(static_cast<v1::Precision>(from.precision));
  to->set_rows(static_cast<uint32_t>(from.rows));
  to->set_channels(static_cast<uint32_t>(from.channels));
  to->set_count(from.count);
  const Split split = SplitOf(from.kind, from.precision, from.rows, from.channels);
  to->mutable_f64()->Resize(split.f64, 0);
  to->mutable_f32()->Resize(split.f32, 0);
  std::copy_n(from.values.data(), split.f64, to->mutable_f64()->mutable_data());
  std::transform(from.values.data() + split.f64, from.values.data() + split.f64 + split.f32,
                 to->mutable_f32()->mutable_data(), [](double v) { return static_cast<float>(v); });
}

template <typename Message>
absl::Status MomentsFrom(const Message& from, Moments* to) {
  if (absl::Status s =
          EnumFrom(from.kind(), v1::MOMENT_KIND_MEAN_M2, v1::MOMENT_KIND_SUMS, "kind", &to->kind);
      !s.ok()) {
    return s;
  }
  if (absl::Status s = EnumFrom(from.precision(), v1::PRECISION_F32, v1::PRECISION_F64, "precision",
                                &to->precision);
      !s.ok()) {
    return s;
  }
  const uint64_t rows = from.rows();
  const uint64_t channels = from.channels();
  if (rows == 0 || channels == 0) {
    return Invalid("rows is ", rows, " and channels is ", channels, ", both must be at least 1");
  }
  if (to->kind == MomentKind::kMeanM2 && rows != 2) {
    return Invalid("mean_m2 with rows=", rows, ", expected 2 (mean, M2)");
  }
  // Both factors have 32 bits, so the product cannot overflow; and it is held
  // against what arrived before memory is asked for.
  const Split split = SplitOf(to->kind, to->precision, rows, channels);
  if (static_cast<size_t>(from.f64_size()) != split.f64 ||
      static_cast<size_t>(from.f32_size()) != split.f32) {
    return Invalid("rows=", rows, " channels=", channels, " kind=", View(Name(to->kind)),
                   " precision=", View(Name(to->precision)), " needs ", split.f64, " f64 and ",
                   split.f32, " f32 values, got ", from.f64_size(), " and ", from.f32_size());
  }
  to->rows = static_cast<int64_t>(rows);
  to->channels = static_cast<int64_t>(channels);
  to->count = from.count();
  to->values.reserve(split.f64 + split.f32);
  to->values.assign(from.f64().begin(), from.f64().end());
  to->values.insert(to->values.end(), from.f32().begin(), from.f32().end());
  if (to->kind != MomentKind::kMeanM2) return absl::OkStatus();

  if (to->count == 0) {
    for (size_t i = 0; i < to->values.size(); ++i) {
      if (!(to->values[i] == 0)) {
        return Invalid("mean_m2 with count 0 but value ", to->values[i], " at row ", i / channels,
                       " channel ", i % channels, ", expected 0");
      }
    }
    return absl::OkStatus();
  }
  const absl::Span<const double> m2 = to->row(1);
  const auto negative = std::find_if(m2.begin(), m2.end(), [](double v) { return v < 0; });
  if (negative != m2.end()) {
    return Invalid("M2 is ", *negative, " at channel ", negative - m2.begin(),
                   ", a sum of squares is never negative");
  }
  return absl::OkStatus();
}

absl::Status CheckLength(absl::string_view field, size_t bytes, size_t largest) {
  if (bytes <= largest) return absl::OkStatus();
  return Invalid(field, " has ", bytes, " bytes, at most ", largest, " are allowed");
}

uint64_t ToMicroseconds(absl::Duration duration) {
  return static_cast<uint64_t>(std::max<int64_t>(0, absl::ToInt64Microseconds(duration)));
}

// Values beyond 2^62 us (146,000 years) mean "for ever".
absl::Duration FromMicroseconds(uint64_t us) {
  constexpr uint64_t kForever = uint64_t{1} << 62;
  return us >= kForever ? absl::InfiniteDuration() : absl::Microseconds(static_cast<int64_t>(us));
}

struct CodePair {
  v1::Code wire;
  absl::StatusCode status;
};
constexpr CodePair kCodes[] = {
    {v1::CODE_INVALID_ARGUMENT, absl::StatusCode::kInvalidArgument},
    {v1::CODE_ABORTED, absl::StatusCode::kAborted},
    {v1::CODE_DEADLINE_EXCEEDED, absl::StatusCode::kDeadlineExceeded},
    {v1::CODE_FAILED_PRECONDITION, absl::StatusCode::kFailedPrecondition},
    {v1::CODE_ALREADY_EXISTS, absl::StatusCode::kAlreadyExists},
    {v1::CODE_RESOURCE_EXHAUSTED, absl::StatusCode::kResourceExhausted},
    {v1::CODE_UNAVAILABLE, absl::StatusCode::kUnavailable},
    {v1::CODE_UNIMPLEMENTED, absl::StatusCode::kUnimplemented},
    {v1::CODE_UNAUTHENTICATED, absl::StatusCode::kUnauthenticated},
    {v1::CODE_PERMISSION_DENIED, absl::StatusCode::kPermissionDenied},
};

bool IsGroupNameByte(char c) {
  return (c >= 'a' && c <= 'z') || (c >= 'A' && c <= 'Z') || (c >= '0' && c <= '9') || c == '.' ||
         c == '_' || c == '/' || c == ':' || c == '-';
}

// Ranks as the wire lists them: increasing, below the world size.
absl::Status RanksFrom(const google::protobuf::RepeatedField<uint32_t>& from, uint32_t world_size,
                       absl::string_view field, std::vector<uint32_t>* to) {
  to->assign(from.begin(), from.end());
  for (size_t i = 0; i < to->size(); ++i) {
    if ((*to)[i] >= world_size) {
      return Invalid(field, " has rank ", (*to)[i], ", not below world_size ", world_size);
    }
    if (i > 0 && (*to)[i] <= (*to)[i - 1]) return Invalid(field, " is not increasing");
  }
  return absl::OkStatus();
}

absl::Status TicketsFrom(const google::protobuf::RepeatedField<uint64_t>& from, uint32_t world_size,
                         absl::string_view field, std::vector<uint64_t>* to) {
  to->assign(from.begin(), from.end());
  if (to->empty() || to->size() == world_size) return absl::OkStatus();
  return Invalid(field, ": ", to->size(), " for a world size of ", world_size);
}

void To(const Resume& from, v1::Resume* to) {
  to->set_run_id(from.run_id);
  to->set_coordinator_id(from.coordinator_id);
  to->set_epoch(from.epoch);
  to->set_answered(from.answered);
  to->set_kept(from.kept);
  to->mutable_members()->Assign(from.members.begin(), from.members.end());
  to->set_finished(from.finished);
  to->set_first_round(from.first_round);
  to->mutable_tickets()->Assign(from.tickets.begin(), from.tickets.end());
}

absl::Status From(const v1::Resume& from, uint32_t world_size, Resume* to) {
  to->run_id = from.run_id();
  to->coordinator_id = from.coordinator_id();
  to->epoch = from.epoch();
  to->answered = from.answered();
  to->kept = from.kept();
  to->finished = from.finished();
  to->first_round = from.first_round();
  if (to->run_id == 0 || to->epoch == 0) {
    return Invalid("join: resume of run ", to->run_id, " epoch ", to->epoch, ", both are above 0");
  }
  if (to->kept > to->answered) {
    return Invalid("join: resume with ", to->kept, " kept answers of ", to->answered);
  }
  if (absl::Status s =
          TicketsFrom(from.tickets(), world_size, "join: resume: tickets", &to->tickets);
      !s.ok()) {
    return s;
  }
  return RanksFrom(from.members(), world_size, "join: resume: members", &to->members);
}

}  // namespace

void To(const Join& from, v1::Join* to) {
  to->set_protocol_major(from.protocol_major);
  to->set_protocol_minor(from.protocol_minor);
  to->set_group(from.group);
  to->set_rank(from.rank);
  to->set_world_size(from.world_size);
  to->set_host(from.host);
  to->set_pid(from.pid);
  to->set_incarnation(from.incarnation);
  to->set_job(from.job);
  to->set_round_timeout_us(ToMicroseconds(from.round_timeout));
  to->set_join_timeout_us(ToMicroseconds(from.join_timeout));
  to->set_on_loss(static_cast<v1::OnLoss>(from.on_loss));
  to->set_non_finite(static_cast<v1::NonFinite>(from.non_finite));
  if (from.resume) To(*from.resume, to->mutable_resume());
  to->set_ticket(from.ticket);
}

absl::Status From(const v1::Join& from, Join* to) {
  to->protocol_major = from.protocol_major();
  to->protocol_minor = from.protocol_minor();
  to->group = from.group();
  to->rank = from.rank();
  to->world_size = from.world_size();
  to->host = from.host();
  to->pid = from.pid();
  to->incarnation = from.incarnation();
  to->job = from.job();
  to->round_timeout = FromMicroseconds(from.round_timeout_us());
  to->join_timeout = FromMicroseconds(from.join_timeout_us());
  to->ticket = from.ticket();
  if (to->group.empty()) return Invalid("join: group is empty");
  for (const absl::Status& s : {CheckLength("join: group", to->group.size(), kMaxGroupNameBytes),
                                CheckLength("join: host", to->host.size(), kMaxHostNameBytes),
                                CheckLength("join: job", to->job.size(), kMaxJobBytes)}) {
    if (!s.ok()) return s;
  }
  if (!std::all_of(to->group.begin(), to->group.end(), IsGroupNameByte)) {
    return Invalid("join: group has a byte outside [A-Za-z0-9._/:-]");
  }
  if (to->incarnation.size() != kIncarnationBytes) {
    return Invalid("join: incarnation has ", to->incarnation.size(), " bytes, expected ",
                   kIncarnationBytes);
  }
  if (to->world_size == 0 || to->world_size > kMaxWorldSize) {
    return Invalid("join: rank ", to->rank, " says world_size ", to->world_size, ", expected 1 to ",
                   kMaxWorldSize);
  }
  if (to->rank >= to->world_size) {
    return Invalid("join: rank ", to->rank, " is not below world_size ", to->world_size);
  }
  to->resume.reset();
  if (absl::Status s = EnumFrom(from.on_loss(), v1::ON_LOSS_FAIL, v1::ON_LOSS_FINISH,
                                "join: on_loss", &to->on_loss);
      !s.ok()) {
    return s;
  }
  if (absl::Status s = EnumFrom(from.non_finite(), v1::NON_FINITE_FAIL, v1::NON_FINITE_DROP,
                                "join: non_finite", &to->non_finite);
      !s.ok()) {
    return s;
  }
  return from.has_resume() ? From(from.resume(), to->world_size, &to->resume.emplace())
                           : absl::OkStatus();
}

void To(const Joined& from, v1::Joined* to) {
  to->set_protocol_major(from.protocol_major);
  to->set_protocol_minor(from.protocol_minor);
  to->set_epoch(from.epoch);
  to->set_world_size(from.world_size);
  to->mutable_hosts()->Assign(from.hosts.begin(), from.hosts.end());
  v1::Limits* limits = to->mutable_limits();
  limits->set_max_values(from.limits.max_values);
  limits->set_max_layer_name_bytes(from.limits.max_layer_name_bytes);
  limits->set_kept_results(from.limits.kept_results);
  limits->set_max_message_bytes(from.limits.max_message_bytes);
  to->set_round_timeout_us(ToMicroseconds(from.round_timeout));
  to->set_coordinator_id(from.coordinator_id);
  to->set_run_id(from.run_id);
  to->set_first_round(from.first_round);
  to->mutable_members()->Assign(from.members.begin(), from.members.end());
  to->set_epoch_first_round(from.epoch_first_round);
  to->mutable_tickets()->Assign(from.tickets.begin(), from.tickets.end());
}

absl::Status From(const v1::Joined& from, Joined* to) {
  to->protocol_major = from.protocol_major();
  to->protocol_minor = from.protocol_minor();
  to->epoch = from.epoch();
  to->world_size = from.world_size();
  to->hosts.assign(from.hosts().begin(), from.hosts().end());
  to->limits.max_values = from.limits().max_values();
  to->limits.max_layer_name_bytes = from.limits().max_layer_name_bytes();
  to->limits.kept_results = from.limits().kept_results();
  to->limits.max_message_bytes = from.limits().max_message_bytes();
  to->round_timeout = FromMicroseconds(from.round_timeout_us());
  to->coordinator_id = from.coordinator_id();
  to->run_id = from.run_id();
  to->first_round = from.first_round();
  to->epoch_first_round = from.epoch_first_round();
  if (to->epoch == 0) return Invalid("joined: epoch is 0");
  if (to->hosts.size() != to->world_size) {
    return Invalid("joined: ", to->hosts.size(), " hosts for a world size of ", to->world_size);
  }
  if (absl::Status s = TicketsFrom(from.tickets(), to->world_size, "joined: tickets", &to->tickets);
      !s.ok()) {
    return s;
  }
  return RanksFrom(from.members(), to->world_size, "joined: members", &to->members);
}

void To(const EpochChanged& from, v1::EpochChanged* to) {
  to->set_epoch(from.epoch);
  to->set_first_round(from.first_round);
  to->mutable_members()->Assign(from.members.begin(), from.members.end());
  to->mutable_hosts()->Assign(from.hosts.begin(), from.hosts.end());
  to->set_text(from.text);
  to->mutable_admitted()->Assign(from.admitted.begin(), from.admitted.end());
  to->set_provider(from.provider);
  to->set_regrouped(from.regrouped);
}

absl::Status From(const v1::EpochChanged& from, EpochChanged* to) {
  to->epoch = from.epoch();
  to->first_round = from.first_round();
  to->hosts.assign(from.hosts().begin(), from.hosts().end());
  to->text = from.text();
  to->provider = from.provider();
  to->regrouped = from.regrouped();
  if (to->epoch == 0 || to->first_round == 0) {
    return Invalid("epoch_changed: epoch ", to->epoch, " from round ", to->first_round,
                   ", both are above 0");
  }
  const auto world_size = static_cast<uint32_t>(to->hosts.size());
  if (absl::Status s =
          RanksFrom(from.members(), world_size, "epoch_changed: members", &to->members);
      !s.ok()) {
    return s;
  }
  return RanksFrom(from.admitted(), world_size, "epoch_changed: admitted", &to->admitted);
}

void To(const Contribution& from, v1::Contribution* to) {
  To(from.key, to->mutable_key());
  to->set_dtype(from.dtype ? static_cast<v1::DType>(*from.dtype) : v1::DTYPE_UNSPECIFIED);
  MomentsTo(from.moments, to);
  to->set_answered(from.answered);
  to->set_boundary(from.boundary);
}

absl::Status From(const v1::Contribution& from, Contribution* to) {
  if (absl::Status s = From(from.key(), &to->key); !s.ok()) return s;
  to->dtype.reset();
  if (from.dtype() != v1::DTYPE_UNSPECIFIED) {
    DType dtype{};
    if (absl::Status s = EnumFrom(from.dtype(), v1::DTYPE_F32, v1::DTYPE_BF16, "dtype", &dtype);
        !s.ok()) {
      return s;
    }
    to->dtype = dtype;
  }
  to->answered = from.answered();
  to->boundary = from.boundary();
  return MomentsFrom(from, &to->moments);
}

void To(const Result& from, v1::Result* to) {
  To(from.key, to->mutable_key());
  MomentsTo(from.moments, to);
  to->set_settled(from.settled);
}

absl::Status From(const v1::Result& from, Result* to) {
  if (absl::Status s = From(from.key(), &to->key); !s.ok()) return s;
  to->settled = from.settled();
  return MomentsFrom(from, &to->moments);
}

void To(const Failure& from, v1::Failure* to) {
  to->set_code(v1::CODE_ABORTED);
  for (const CodePair& pair : kCodes) {
    if (pair.status == from.code) to->set_code(pair.wire);
  }
  To(from.key, to->mutable_key());
  to->set_text(from.text);
  to->set_group(from.group);
  to->mutable_ranks()->Assign(from.ranks.begin(), from.ranks.end());
  to->mutable_hosts()->Assign(from.hosts.begin(), from.hosts.end());
}

// Lenient: a failure that cannot be read in full is still a failure.
absl::Status From(const v1::Failure& from, Failure* to) {
  to->code = absl::StatusCode::kAborted;
  for (const CodePair& pair : kCodes) {
    if (pair.wire == from.code()) to->code = pair.status;
  }
  to->key.epoch = from.key().epoch();
  to->key.round = from.key().round();
  to->key.layer = from.key().layer();
  to->key.step = from.key().step();
  if (!EnumFrom(from.key().direction(), v1::DIRECTION_FORWARD, v1::DIRECTION_NONE, "direction",
                &to->key.direction)
           .ok()) {
    to->key.direction = Direction::kNone;
  }
  to->text = from.text();
  to->group = from.group();
  to->ranks.assign(from.ranks().begin(), from.ranks().end());
  to->hosts.assign(from.hosts().begin(), from.hosts().end());
  return absl::OkStatus();
}

void To(const Draining& from, v1::Draining* to) { to->set_text(from.text); }
void To(const Leave& from, v1::Leave* to) { to->set_reason(from.reason); }
void To(const Restored& from, v1::Restored* to) { to->set_answer(from.answer); }
void To(const Handover& from, v1::Handover* to) {
  to->set_chunk(from.chunk);
  to->set_last(from.last);
  to->set_failure(from.failure);
}

}  // namespace syncnorm::wire

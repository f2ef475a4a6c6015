#include "tests/sim/oracle.h"

#include <algorithm>
#include <bit>
#include <cmath>

#include "absl/strings/str_cat.h"
#include "absl/strings/str_join.h"

namespace syncnorm::sim {
namespace {

using Real = long double;

// What is being folded: a count and plain rows.
struct Running {
  bool any = false;
  uint64_t count = 0;
  std::vector<double> values;
};

// Chan, Golub and LeVeque's update of the first by the second.
void Merge(MomentKind kind, size_t channels, uint64_t count, const std::vector<double>& values,
           Running* running) {
  if (!running->any) {
    *running = Running{true, count, values};
    return;
  }
  if (kind == MomentKind::kSums) {
    for (size_t i = 0; i < values.size(); ++i) running->values[i] += values[i];
  } else if (count > 0) {
    if (running->count == 0) {
      running->values = values;
    } else {
      const double n = static_cast<double>(running->count);
      const double k = static_cast<double>(count);
      const double part = k / (n + k);
      for (size_t c = 0; c < channels; ++c) {
        const double difference = values[c] - running->values[c];
        running->values[c] += difference * part;
        running->values[channels + c] +=
            values[channels + c] + difference * difference * (n * part);
      }
    }
  }
  running->count += count;
}

}  // namespace

Moments FoldAgain(const Moments& shape, const std::vector<Part>& parts) {
  const auto channels = static_cast<size_t>(shape.channels);
  Running total;
  std::vector<bool> folded(parts.size());
  for (size_t first = 0; first < parts.size(); ++first) {
    if (folded[first]) continue;
    Running of_host;
    for (size_t i = first; i < parts.size(); ++i) {
      if (folded[i] || *parts[i].host != *parts[first].host) continue;
      folded[i] = true;
      Merge(shape.kind, channels, parts[i].moments->count, parts[i].moments->values, &of_host);
    }
    Merge(shape.kind, channels, of_host.count, of_host.values, &total);
  }
  Moments result = shape;
  result.count = total.count;
  result.values = total.values;
  if (!total.any) result.values.assign(static_cast<size_t>(shape.rows) * channels, 0.0);
  if (shape.precision == Precision::kF32) {
    const size_t exact = shape.kind == MomentKind::kMeanM2 ? channels : 0;
    for (size_t i = exact; i < result.values.size(); ++i) {
      result.values[i] = static_cast<float>(result.values[i]);
    }
  }
  return result;
}

bool SameBits(const Moments& a, const Moments& b) {
  if (a.kind != b.kind || a.precision != b.precision || a.rows != b.rows ||
      a.channels != b.channels || a.count != b.count || a.values.size() != b.values.size()) {
    return false;
  }
  for (size_t i = 0; i < a.values.size(); ++i) {
    if (std::isnan(a.values[i]) && std::isnan(b.values[i])) continue;
    if (std::bit_cast<uint64_t>(a.values[i]) != std::bit_cast<uint64_t>(b.values[i])) return false;
  }
  return true;
}

std::string CompareWithDefinition(const Moments& result, const std::vector<Part>& parts) {
  const auto channels = static_cast<size_t>(result.channels);
  uint64_t count = 0;
  for (const Part& part : parts) count += part.moments->count;
  if (count != result.count) {
    return absl::StrCat("count is ", result.count, ", expected ", count);
  }
  // 40 folds of values near 10 err by less than 40 x 2^-53 x their size; what travels as float32 by
  // 2^-24 of it in each contribution and once more in the result.
  const bool f32 = result.precision == Precision::kF32;
  const auto check = [&](size_t row, size_t c, Real expected, Real size,
                         bool travels_as_f32) -> std::string {
    const Real error = std::abs(static_cast<Real>(result.values[row * channels + c]) - expected);
    const Real bound = size * (travels_as_f32 ? 0x1p-22L : 0x1p-44L);
    if (error <= bound) return "";
    return absl::StrCat("row ", row, " channel ", c, " is ", result.values[row * channels + c],
                        ", expected ", static_cast<double>(expected), ", error ",
                        static_cast<double>(error), " > ", static_cast<double>(bound));
  };
  for (size_t c = 0; c < channels; ++c) {
    if (result.kind == MomentKind::kSums) {
      for (size_t row = 0; row < static_cast<size_t>(result.rows); ++row) {
        Real sum = 0, size = 0;
        for (const Part& part : parts) {
          sum += part.moments->values[row * channels + c];
          size += std::abs(static_cast<Real>(part.moments->values[row * channels + c]));
        }
        if (std::string bad = check(row, c, sum, size, f32); !bad.empty()) return bad;
      }
      continue;
    }
    Real sum = 0, m2 = 0, size = 0;
    for (const Part& part : parts) {
      for (size_t i = c; i < part.samples->size(); i += channels) sum += (*part.samples)[i];
    }
    const Real mean = count == 0 ? 0 : sum / static_cast<Real>(count);
    for (const Part& part : parts) {
      for (size_t i = c; i < part.samples->size(); i += channels) {
        const Real off = (*part.samples)[i] - mean;
        m2 += off * off;
        size += (*part.samples)[i] * (*part.samples)[i];
      }
    }
    if (std::string bad = check(0, c, mean, std::abs(mean), false); !bad.empty()) return bad;
    // The size is that of the squares before the mean is taken off, whose rounding is what is left.
    const Real scale = f32 ? std::max(m2, size * 0x1p-22L) : size;
    if (std::string bad = check(1, c, m2, scale, f32); !bad.empty()) return bad;
  }
  return "";
}

std::string Show(const Moments& moments) {
  return absl::StrCat("count=", moments.count, " [", absl::StrJoin(moments.values, " "), "]");
}

}  // namespace syncnorm::sim

#include "tests/support/oracle.h"

#include <cmath>

namespace syncnorm::testing {
namespace {

bool Counts(const std::vector<uint8_t>& valid, size_t position) {
  return valid.empty() || valid[position] != 0;
}

bool Finite(const Reals& reals) {
  for (Real real : reals) {
    if (!std::isfinite(real)) return false;
  }
  return true;
}

}  // namespace

Numbers Rounded(const Reals& reals) {
  Numbers numbers;
  for (Real real : reals) numbers.push_back(static_cast<double>(real));
  return numbers;
}

BatchNormOracle::BatchNormOracle(int64_t channels, double eps, std::optional<double> momentum)
    : channels(channels),
      eps(eps),
      momentum(momentum),
      weight(channels, 1),
      bias(channels, 0),
      running_mean(channels, 0),
      running_var(channels, 1) {}

Numbers BatchNormOracle::Forward(const Numbers& x, const std::vector<uint8_t>& valid,
                                 Saved* saved) {
  const size_t width = static_cast<size_t>(channels), positions = x.size() / width;
  saved->x = x;
  saved->valid = valid;
  saved->mean.assign(width, 0);
  saved->var.assign(width, 0);
  saved->count = 0;
  for (size_t p = 0; p < positions; ++p) saved->count += Counts(valid, p);
  const Real n = static_cast<Real>(saved->count);
  Numbers y(x.size(), 0);
  if (saved->count == 0) return y;
  ++batches;
  const Real f = momentum.has_value() ? static_cast<Real>(*momentum) : Real{1} / batches;
  for (size_t c = 0; c < width; ++c) {
    Real sum = 0, squares = 0;
    for (size_t p = 0; p < positions; ++p) {
      if (Counts(valid, p)) sum += x[p * width + c];
    }
    const Real mean = sum / n;
    for (size_t p = 0; p < positions; ++p) {
      if (Counts(valid, p)) squares += (x[p * width + c] - mean) * (x[p * width + c] - mean);
    }
    const Real root = std::sqrt(squares / n + eps);
    for (size_t p = 0; p < positions; ++p) {
      if (!Counts(valid, p)) continue;
      const Real h = (x[p * width + c] - mean) / root;
      y[p * width + c] = static_cast<double>(weight[c] * h + bias[c]);
    }
    saved->mean[c] = mean;
    saved->var[c] = squares / n;
    running_mean[c] += f * (mean - running_mean[c]);
    if (saved->count > 1) running_var[c] += f * (squares / (n - 1) - running_var[c]);
  }
  return y;
}

// With h = (x - mean) / root:  dx = w / root * (dy - mean(dy) - h * mean(dy h)).
OracleGradients BatchNormOracle::Backward(const Saved& saved, const Numbers& dy) const {
  const size_t width = static_cast<size_t>(channels), positions = saved.x.size() / width;
  OracleGradients result{Numbers(saved.x.size(), 0), Numbers(width, 0), Numbers(width, 0)};
  const Real n = static_cast<Real>(saved.count);
  for (size_t c = 0; c < width; ++c) {
    const Real root = std::sqrt(saved.var[c] + eps);
    const auto h = [&](size_t p) { return (saved.x[p * width + c] - saved.mean[c]) / root; };
    Real sum = 0, sum_h = 0;
    for (size_t p = 0; p < positions; ++p) {
      if (!Counts(saved.valid, p)) continue;
      sum += dy[p * width + c];
      sum_h += dy[p * width + c] * h(p);
    }
    for (size_t p = 0; p < positions; ++p) {
      if (!Counts(saved.valid, p)) continue;
      result.dx[p * width + c] = static_cast<double>(
          weight[c] / root * (dy[p * width + c] - sum / n - h(p) * (sum_h / n)));
    }
    result.weight[c] = static_cast<double>(sum_h);
    result.bias[c] = static_cast<double>(sum);
  }
  return result;
}

Numbers BatchNormOracle::Infer(const Numbers& x) const {
  const size_t width = static_cast<size_t>(channels);
  Numbers y;
  for (size_t i = 0; i < x.size(); ++i) {
    const size_t c = i % width;
    y.push_back(static_cast<double>(
        weight[c] * (x[i] - running_mean[c]) / std::sqrt(running_var[c] + eps) + bias[c]));
  }
  return y;
}

PowerNormOracle::PowerNormOracle(int64_t channels, PowerNormOracleOptions options)
    : channels(channels),
      options(options),
      weight(channels, 1),
      bias(channels, 0),
      phi(channels, 1),
      ema(channels, 0) {}

Reals PowerNormOracle::Scaled(const Numbers& x, Reals* scale) const {
  const size_t size = static_cast<size_t>(channels / options.groups);
  Reals xs;
  scale->clear();
  for (size_t begin = 0; begin < x.size(); begin += size) {
    Real squares = 0;
    for (size_t i = begin; i < begin + size; ++i) squares += static_cast<Real>(x[i]) * x[i];
    const Real r = 1 / std::sqrt(squares / size + options.group_eps);
    scale->push_back(r);
    for (size_t i = begin; i < begin + size; ++i) xs.push_back(x[i] * r);
  }
  return xs;
}

Numbers PowerNormOracle::Forward(const Numbers& x, const std::vector<uint8_t>& valid,
                                 Saved* saved) {
  const size_t width = static_cast<size_t>(channels), positions = x.size() / width;
  saved->xs = Scaled(x, &saved->scale);
  saved->valid = valid;
  saved->t = iters + 1;
  saved->count = 0;
  saved->power.assign(width, 0);
  for (size_t p = 0; p < positions; ++p) {
    if (!Counts(valid, p)) continue;
    ++saved->count;
    for (size_t c = 0; c < width; ++c) {
      saved->power[c] += saved->xs[p * width + c] * saved->xs[p * width + c];
    }
  }
  if (saved->count > 0) {
    for (Real& power : saved->power) power /= saved->count;
  }
  const bool by_batch = saved->t <= options.warmup && saved->count > 0;
  saved->root.resize(width);
  for (size_t c = 0; c < width; ++c) {
    saved->root[c] = std::sqrt((by_batch ? saved->power[c] : phi[c]) + options.eps);
  }
  saved->z = saved->xs;
  Numbers y(x.size());
  for (size_t i = 0; i < x.size(); ++i) {
    saved->z[i] /= saved->root[i % width];
    y[i] = static_cast<double>(weight[i % width] * saved->z[i] + bias[i % width]);
  }
  if (saved->count == 0 || !Finite(saved->power)) return y;
  iters = saved->t;
  for (size_t c = 0; c < width; ++c) {
    if (!options.paper && saved->t < options.warmup) {
      phi[c] = ((saved->t - 1) * phi[c] + saved->power[c]) / saved->t;
    }
    const Real alpha = options.alpha_fwd;
    phi[c] = alpha * phi[c] + (1 - alpha) * saved->power[c];
  }
  return y;
}

// a = g - (1 - alpha) e z, dx~ = a / root; e moves by the mean of a z.  The exact PN-V
// gradient (paper, warm-up) has the mean of g z in the place of (1 - alpha) e.
OracleGradients PowerNormOracle::Backward(const Saved& saved, const Numbers& dy,
                                          double grad_scale) {
  const size_t width = static_cast<size_t>(channels), positions = dy.size() / width;
  const size_t size = static_cast<size_t>(channels / options.groups);
  const Real rest = 1 - static_cast<Real>(options.alpha_bkw);
  OracleGradients result{Numbers(dy.size(), 0), Numbers(width, 0), Numbers(width, 0)};
  Reals moved = ema, d(dy.size(), 0);
  const auto in_statistic = [&](size_t p) {
    return !options.masked_backward || Counts(saved.valid, p);
  };
  for (size_t c = 0; c < width; ++c) {
    Real m = 0, sum_gz = 0, sum_az = 0, sum_dyz = 0, sum_dy = 0;
    for (size_t p = 0; p < positions; ++p) {
      const Real g = static_cast<Real>(weight[c]) * dy[p * width + c], z = saved.z[p * width + c];
      sum_dy += dy[p * width + c];
      sum_dyz += dy[p * width + c] * z;
      if (!in_statistic(p)) continue;
      m += 1;
      sum_gz += g * z;
      sum_az += (g / grad_scale - rest * ema[c] * z) * z;
    }
    const bool exact = options.paper && saved.t <= options.warmup;
    const Real correction = exact ? (m > 0 ? sum_gz / m : 0) : rest * ema[c] * grad_scale;
    const Real root =
        options.paper || saved.count == 0 ? saved.root[c] : std::sqrt(saved.power[c] + options.eps);
    for (size_t p = 0; p < positions; ++p) {
      const size_t i = p * width + c;
      const Real g = static_cast<Real>(weight[c]) * dy[i];
      if (in_statistic(p)) d[i] = (g - correction * saved.z[i]) / root;
    }
    if (m > 0) moved[c] += sum_az / m;
    result.weight[c] = static_cast<double>(sum_dyz);
    result.bias[c] = static_cast<double>(sum_dy);
  }
  if (saved.count > 0 && Finite(moved)) ema = moved;

  // Through the group scaling: dx = r d - x r^3 mean(x d) = r (d - xs mean(xs d)).
  for (size_t begin = 0; begin < d.size(); begin += size) {
    Real mean = 0;
    for (size_t i = begin; i < begin + size; ++i) mean += saved.xs[i] * d[i] / size;
    for (size_t i = begin; i < begin + size; ++i) {
      result.dx[i] = static_cast<double>(saved.scale[begin / size] * (d[i] - saved.xs[i] * mean));
    }
  }
  return result;
}

Numbers PowerNormOracle::Infer(const Numbers& x) const {
  const size_t width = static_cast<size_t>(channels);
  Reals scale;
  const Reals xs = Scaled(x, &scale);
  Numbers y;
  for (size_t i = 0; i < x.size(); ++i) {
    const size_t c = i % width;
    y.push_back(static_cast<double>(weight[c] * xs[i] / std::sqrt(phi[c] + options.eps) + bias[c]));
  }
  return y;
}

}  // namespace syncnorm::testing

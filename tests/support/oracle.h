// What the norms must compute, from the formulas of docs/numerics.md, on the
// whole batch in one place and in long double.  Shares no code with what it judges: no
// moments, no fold, no kernels.
//
// Batches are positions x channels.  `valid`: empty (all count) or one byte a
// position.  Results are rounded to double at the very end.
//
// Thread-safety: thread-compatible.
#pragma once

#include <cstdint>
#include <optional>
#include <vector>

#include "tests/support/host_tensor.h"

namespace syncnorm::testing {

using Real = long double;
using Reals = std::vector<Real>;

struct OracleGradients {
  Numbers dx, weight, bias;
};

struct BatchNormOracle {
  struct Saved {
    Numbers x;
    std::vector<uint8_t> valid;
    Reals mean, var;
    int64_t count = 0;
  };

  explicit BatchNormOracle(int64_t channels, double eps = 1e-5,
                           std::optional<double> momentum = 0.1);

  Numbers Forward(const Numbers& x, const std::vector<uint8_t>& valid, Saved* saved);
  OracleGradients Backward(const Saved& saved, const Numbers& dy) const;
  Numbers Infer(const Numbers& x) const;

  int64_t channels;
  double eps;
  std::optional<double> momentum;
  Numbers weight, bias;
  Reals running_mean, running_var;
  int64_t batches = 0;
};

struct PowerNormOracleOptions {
  double eps = 1e-5, alpha_fwd = 0.9, alpha_bkw = 0.9, group_eps = 1e-5;
  int64_t warmup = 10000, groups = 1;
  bool paper = false;
  bool masked_backward = false;
};

// In the authors' variable, e = ema_gz.
struct PowerNormOracle {
  struct Saved {
    Reals xs, scale, z, root, power;  // root: what the forward divided by
    std::vector<uint8_t> valid;
    int64_t t = 0, count = 0;
  };

  PowerNormOracle(int64_t channels, PowerNormOracleOptions options);

  Numbers Forward(const Numbers& x, const std::vector<uint8_t>& valid, Saved* saved);
  OracleGradients Backward(const Saved& saved, const Numbers& dy, double grad_scale = 1);
  Numbers Infer(const Numbers& x) const;

  int64_t channels;
  PowerNormOracleOptions options;
  Numbers weight, bias;
  Reals phi, ema;
  int64_t iters = 0;

 private:
  Reals Scaled(const Numbers& x, Reals* scale) const;
};

Numbers Rounded(const Reals& reals);

}  // namespace syncnorm::testing

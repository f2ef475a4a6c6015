#include "tests/kernels/cuda/every_operation.h"

#include <random>

namespace syncnorm::kernels {
namespace {

constexpr uint32_t kSeed = 20261125;

std::vector<double> Values(int64_t n, double first, double step, int64_t period) {
  std::vector<double> values(static_cast<size_t>(n));
  for (int64_t i = 0; i < n; ++i) values[i] = first + step * static_cast<double>(i % period);
  return values;
}

std::vector<double> Decode(Memory& memory) {
  EXPECT_TRUE(memory.PoisonIsIntact());
  std::vector<double> values(memory.elements());
  for (size_t i = 0; i < values.size(); ++i) values[i] = memory.Get(i);
  return values;
}

}  // namespace

std::string Describe(const OperationCase& c) {
  return std::string(Name(c.dtype)) + " " + Describe(c.grid) + ", mask " +
         std::to_string(static_cast<int>(c.mask)) + ", groups " + std::to_string(c.groups) +
         ", skews " + std::to_string(c.x_skew) + " " + std::to_string(c.dy_skew) + " " +
         std::to_string(c.out_skew);
}

Results RunEveryOperation(const Kernels& kernels, const OperationCase& c) {
  std::mt19937 random(kSeed);
  std::normal_distribution<double> normal;
  const int64_t channels = c.grid.channels, positions = c.grid.positions();
  const std::vector<uint8_t> bytes = MaskOf(c.mask, positions, random);
  const uint8_t* valid = c.mask == Mask::kNone ? nullptr : bytes.data();
  Memory x(c.dtype, c.grid, c.x_skew), dy(c.dtype, c.grid, c.dy_skew);
  for (size_t i = 0; i < x.elements(); ++i) {
    x.Put(i, 3 + normal(random));
    dy.Put(i, 2 + 0.3 * normal(random));
  }
  const std::vector<double> center = Values(channels, 1, 0.013, 7);
  const std::vector<double> scale = Values(channels, 0.7, 0.11, 5);
  const std::vector<double> shift = Values(channels, -0.2, 0.3, 3);
  const std::vector<double> d = Values(channels, 0.1, 0.05, 4);

  Results results;
  uint64_t count = 0;
  const auto sum = [&](const char* name) {
    std::vector<double>& result = results[name];
    result.resize(static_cast<size_t>(channels));
    return result.data();
  };
  const auto counted = [&](const char* name) { results[name] = {static_cast<double>(count)}; };
  const auto map = [&](const char* name, const auto& run) {
    Memory out(c.dtype, c.grid, c.out_skew);
    run(out);
    results[name] = Decode(out);
  };
  kernels.MeanM2(x.slab(), valid, &count, sum("mean"), sum("m2"));
  counted("count");
  map("affine", [&](Memory& y) {
    kernels.Affine(x.slab(), valid, center.data(), scale.data(), shift.data(), y.slab());
  });
  kernels.GradSums(x.slab(), dy.slab(), valid, center.data(), sum("sum_dy"), sum("sum_dy_xc"));
  map("grad", [&](Memory& dx) {
    kernels.Grad(x.slab(), dy.slab(), valid, center.data(), scale.data(), shift.data(), d.data(),
                 dx.slab());
  });
  if (c.grid.inner != 1) return results;

  std::vector<double> r(static_cast<size_t>(c.grid.outer * c.groups));
  kernels.GroupScale(x.slab(), c.groups, 1e-5, r.data());
  results["r"] = r;
  kernels.PowerSums(x.slab(), r.data(), c.groups, valid, &count, sum("power_x2"));
  counted("power count");
  map("power apply", [&](Memory& y) {
    kernels.PowerApply(x.slab(), r.data(), c.groups, scale.data(), shift.data(), y.slab());
  });
  kernels.PowerGradSums(x.slab(), r.data(), c.groups, dy.slab(), valid, &count,
                        sum("power_grad_dy"), sum("power_grad_dy_xs"), sum("power_grad_xs2"));
  counted("power grad count");
  map("power grad", [&](Memory& dx) {
    kernels.PowerGrad(x.slab(), r.data(), c.groups, dy.slab(), valid, scale.data(), d.data(),
                      dx.slab());
  });
  return results;
}

const std::vector<OperationCase> kEveryWay = [] {
  std::vector<OperationCase> cases;
  for (DType dtype : kDTypes) {
    for (Mask mask : {Mask::kNone, Mask::kMost}) {
      for (const auto& [grid, groups] : std::vector<std::pair<Grid, int64_t>>{
               {{3, 5, 7}, 1},        // runs shorter than a window and a bit, a few threads each
               {{2, 3, 49}, 1},       //
               {{4, 2, 3136}, 1},     // blocks
               {{1, 1, 30011}, 1},    // split, odd
               {{5, 24, 1}, 4},       // columns, aligned
               {{37, 17, 1}, 17},     // and not; groups of one
               {{3000, 6, 1}, 2},     // few columns, many rows
               {{9001, 8, 1}, 1},     // split
               {{2, 700, 1}, 7},      // many columns, few rows
               {{1, 1, 1}, 1},        //
               {{3, 4608, 1}, 1}}) {  // a team of several warps for a token
        cases.push_back({dtype, grid, mask, groups});
      }
    }
  }
  return cases;
}();

}  // namespace syncnorm::kernels

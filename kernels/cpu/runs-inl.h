// Runs: consecutive elements of one channel, as in contiguous (N, C, S...)
// tensors.  An operation sees a vector at a time and its parameters are the
// same for the whole run.
//
// Per target; included inside foreach_target's loop only.
#if defined(SYNCNORM_KERNELS_CPU_RUNS_INL_H_) == defined(HWY_TARGET_TOGGLE)
#ifdef SYNCNORM_KERNELS_CPU_RUNS_INL_H_
#undef SYNCNORM_KERNELS_CPU_RUNS_INL_H_
#else
#define SYNCNORM_KERNELS_CPU_RUNS_INL_H_
#endif

#include "kernels/cpu/lanes-inl.h"

HWY_BEFORE_NAMESPACE();
namespace syncnorm::kernels::HWY_NAMESPACE {

// Elements a block of sums may have: 4 accumulators of 128 additions per lane.
// Rounding then costs at most 128 * 2^-24 = 8e-6 of a sum of positive terms,
// and some 6e-7 where the errors are random.  At 16 lanes a block is 32 KiB of
// f32, which a second pass finds in the cache.
template <class D>
constexpr size_t BlockElements(D d) {
  return 4 * 128 * hn::MaxLanes(d);
}

// The valid ones among n positions.
inline size_t CountValid(const uint8_t* valid, size_t n) {
  if (valid == nullptr) return n;
  size_t count = 0;
  for (size_t i = 0; i < n; ++i) count += valid[i] != 0;
  return count;
}

// sums = over the valid elements, op's two terms.  Op has
//   Add(d, j, x, dy, &sum0, &sum1), and
//   NeutralX(d, j), the x that adds nothing when dy is 0.
// n is at most BlockElements.
template <size_t kInputs, bool kMasked, class T, class Op>
HWY_NOINLINE void SumRun(const T* x, const T* dy, const uint8_t* valid, size_t n, const Op& op,
                         double* sums) {
  const hn::ScalableTag<Wide<T>> d;
  const size_t lanes = hn::Lanes(d);
  const auto add = [&](size_t i, auto& sum0, auto& sum1) HWY_ATTR {
    auto vx = LoadLanes(d, x + i);
    auto vdy = hn::Zero(d);
    if constexpr (kInputs == 2) vdy = LoadLanes(d, dy + i);
    if constexpr (kMasked) {
      const auto ok = LoadValid(d, valid + i);
      vx = hn::IfThenElse(ok, vx, op.NeutralX(d, i));
      vdy = hn::IfThenElseZero(ok, vdy);
    }
    op.Add(d, i, vx, vdy, sum0, sum1);
  };

  auto a0 = hn::Zero(d), a1 = a0, a2 = a0, a3 = a0;
  auto b0 = a0, b1 = a0, b2 = a0, b3 = a0;
  size_t i = 0;
  for (; i + 4 * lanes <= n; i += 4 * lanes) {
    add(i, a0, b0);
    add(i + lanes, a1, b1);
    add(i + 2 * lanes, a2, b2);
    add(i + 3 * lanes, a3, b3);
  }
  for (; i + lanes <= n; i += lanes) add(i, a0, b0);
  if (i < n) {
    const size_t rest = n - i;
    auto ok = hn::FirstN(d, rest);
    if constexpr (kMasked) ok = LoadSomeValid(d, valid + i, rest);
    const auto vx = hn::IfThenElse(ok, LoadSome(d, x + i, rest), op.NeutralX(d, i));
    auto vdy = hn::Zero(d);
    if constexpr (kInputs == 2) vdy = hn::IfThenElseZero(ok, LoadSome(d, dy + i, rest));
    op.Add(d, i, vx, vdy, a1, b1);
  }
  const auto a = hn::Add(hn::Add(a0, a1), hn::Add(a2, a3));
  const auto b = hn::Add(hn::Add(b0, b1), hn::Add(b2, b3));
  sums[0] = hn::GetLane(hn::SumOfLanes(d, a));
  sums[1] = hn::GetLane(hn::SumOfLanes(d, b));
}

// y = op.Map(x, dy), 0 at masked positions.  y may be x or dy.
template <size_t kInputs, bool kMasked, class T, class Op>
HWY_NOINLINE void MapRun(const T* x, const T* dy, const uint8_t* valid, size_t n, const Op& op,
                         T* y) {
  const hn::ScalableTag<Wide<T>> d;
  const size_t lanes = hn::Lanes(d);
  const size_t whole = n - n % lanes;
  for (size_t i = 0; i < whole; i += lanes) {
    const auto vx = LoadLanes(d, x + i);
    auto v = vx;
    if constexpr (kInputs == 2) v = LoadLanes(d, dy + i);
    v = op.Map(d, i, vx, v);
    if constexpr (kMasked) v = hn::IfThenElseZero(LoadValid(d, valid + i), v);
    StoreLanes(v, d, y + i);
  }
  if (whole < n) {
    const size_t rest = n - whole;
    const auto vx = LoadSome(d, x + whole, rest);
    auto v = vx;
    if constexpr (kInputs == 2) v = LoadSome(d, dy + whole, rest);
    v = op.Map(d, whole, vx, v);
    if constexpr (kMasked) {
      v = hn::IfThenElseZero(LoadSomeValid(d, valid + whole, rest), v);
    }
    StoreSome(v, d, y + whole, rest);
  }
}

}  // namespace syncnorm::kernels::HWY_NAMESPACE
HWY_AFTER_NAMESPACE();
#endif  // SYNCNORM_KERNELS_CPU_RUNS_INL_H_

// With d = a * dy + b * xs, the gradient through the group scaling,
//   dx = r * d - x * r^3 * mean over the group of x * d,
// by a team that reads a token's group, agrees on the mean and writes dx.  A thread keeps kKept
// windows in registers; groups that are larger than that read the others once more, from the cache.
#include "kernels/cuda/accumulate.cuh"
#include "kernels/cuda/tokens.cuh"

namespace syncnorm::kernels::cuda {
namespace {

constexpr int kKept = 2;

template <class T>
struct PowerGradArgs {
  int64_t runs, size, run_items, groups;
  int64_t elements;
  int team, head;
  bool aligned;  // do dy and dx lie as x does?
  const T* x;
  const T* dy;
  const Wide<T>* r;
  const uint8_t* valid;
  const double* a;
  const double* b;
  Wide<T> per_size;
  T* dx;
};

// One window's values.
template <class T>
struct Gradient {
  static constexpr int kN = kLanes<T>;
  using W = Wide<T>;

  Gradient() = default;
  __device__ Gradient(const PowerGradArgs<T>& a, int64_t run, int64_t channel, W r,
                      const Window& window) {
    const Lanes<T> xs = LoadLanes(a.x, window.at, a.elements, true);
    const Lanes<T> dys = LoadLanes(a.dy, window.at, a.elements, a.aligned);
#pragma unroll
    for (int k = 0; k < kN; ++k) {
      const int64_t i = window.i + k;
      x[k] = d[k] = 0;
      if (i < 0 || i >= a.size) continue;
      x[k] = Widen(xs.at[k]);
      d[k] = fma(static_cast<W>(a.a[channel + i]), Widen(dys.at[k]),
                 static_cast<W>(a.b[channel + i]) * (x[k] * r));
    }
  }

  W x[kN], d[kN];
};

template <class T>
__global__ void __launch_bounds__(kThreads, 1) PowerGradKernel(PowerGradArgs<T> a) {
  using W = Wide<T>;
  constexpr int kN = kLanes<T>;
  const int teams = kThreads / a.team;
  const int lane = static_cast<int>(threadIdx.x) % a.team;
  for (int64_t base = int64_t{blockIdx.x} * teams; base < a.runs;
       base += int64_t{gridDim.x} * teams) {
    const int64_t run = base + threadIdx.x / a.team;
    const bool mine = run < a.runs;
    const int64_t token = run / a.groups;
    const int64_t channel = (run - token * a.groups) * a.size;
    const bool ok = mine && (a.valid == nullptr || a.valid[token] != 0);
    const W r = ok ? a.r[run] : W{0};
    SumsAccumulator<W, 1, 1> sum;
    const auto add = [&](const Gradient<T>& g) {
      bool all[kN];
#pragma unroll
      for (int k = 0; k < kN; ++k) all[k] = true;
      sum.AddTerms([&](int, int k, int) { return g.x[k] * g.d[k]; }, all);
    };
    const auto read = [&](int64_t item) {
      return Gradient<T>(a, run, channel, r, WindowOf<kN>(run, a.size, item, a.head));
    };
    Gradient<T> kept[kKept];
#pragma unroll
    for (int u = 0; u < kKept; ++u) {
      if (!ok || lane + u * a.team >= a.run_items) continue;
      kept[u] = read(lane + u * a.team);
      add(kept[u]);
    }
    int batches = 0;
    for (int64_t item = lane + kKept * a.team; ok && item < a.run_items; item += a.team) {
      add(read(item));
      if (++batches % kFoldEvery == 0) sum.Fold();
    }
    sum.Fold();
    const W mean = static_cast<W>(SumOverTeam(sum.Get(0, 1), a.team)) * a.per_size;
    const W pull = r * (r * (r * mean));
    const auto write = [&](int64_t item, const Gradient<T>& g) {
      const Window window = WindowOf<kN>(run, a.size, item, a.head);
      Lanes<T> out;
#pragma unroll
      for (int k = 0; k < kN; ++k) {
        Narrow(ok ? fma(-g.x[k], pull, r * g.d[k]) : W{0}, &out.at[k]);
      }
      // A neighbour's elements in this window are not this run's to write.
      if (window.i >= 0 && window.i + kN <= a.size) {
        StoreLanes(out, a.dx, window.at, a.elements, a.aligned);
      } else {
        StoreLanes(out, a.dx + run * a.size, window.i, a.size, false);
      }
    };
#pragma unroll
    for (int u = 0; u < kKept; ++u) {
      if (mine && lane + u * a.team < a.run_items) write(lane + u * a.team, kept[u]);
    }
    for (int64_t item = lane + kKept * a.team; mine && item < a.run_items; item += a.team) {
      write(item, ok ? read(item) : Gradient<T>());
    }
  }
}

}  // namespace

cudaError_t PowerGrad(const ConstSlab& x, const void* r, int64_t groups, const ConstSlab& dy,
                      const uint8_t* valid, const double* a, const double* b, const Slab& dx,
                      const Launch& on) {
  return WithElement(x.dtype, [&](auto element) {
    using T = decltype(element);
    using W = Wide<T>;
    const GroupsLayout layout(x.grid, groups, kLanes<T>, kKept, on.multiprocessors);
    const int64_t size = x.grid.channels / groups;
    const int head = HeadOf<T>(x.data);
    const PowerGradArgs<T> args{layout.runs,
                                size,
                                layout.run_items,
                                groups,
                                x.grid.outer * x.grid.channels,
                                layout.team,
                                head,
                                HeadOf<T>(dy.data) == head && HeadOf<T>(dx.data) == head,
                                static_cast<const T*>(x.data),
                                static_cast<const T*>(dy.data),
                                static_cast<const W*>(r),
                                valid,
                                a,
                                b,
                                static_cast<W>(1 / static_cast<double>(size)),
                                static_cast<T*>(dx.data)};
    return Run(on, layout.blocks, PowerGradKernel<T>, args);
  });
}

}  // namespace syncnorm::kernels::cuda

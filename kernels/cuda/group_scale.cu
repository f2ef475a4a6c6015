// r = 1 / sqrt(mean over the group of x^2 + eps), for every token and group.
#include "kernels/cuda/accumulate.cuh"
#include "kernels/cuda/tokens.cuh"

namespace syncnorm::kernels::cuda {
namespace {

// Loads that a thread has under way.
constexpr int kUnroll = kTeamItems;

template <class T>
struct ScaleArgs {
  int64_t runs, size, run_items;
  int64_t elements;
  int team, head;
  const T* x;
  Wide<T> per_size, eps;
  Wide<T>* r;
};

template <class T>
__global__ void __launch_bounds__(kThreads, 1) GroupScaleKernel(ScaleArgs<T> a) {
  using W = Wide<T>;
  constexpr int kN = kLanes<T>;
  const int teams = kThreads / a.team;
  const int lane = static_cast<int>(threadIdx.x) % a.team;
  for (int64_t base = int64_t{blockIdx.x} * teams; base < a.runs;
       base += int64_t{gridDim.x} * teams) {
    const int64_t run = base + threadIdx.x / a.team;
    const bool mine = run < a.runs;
    SumsAccumulator<W, 1, 1> sum;
    int batches = 0;
    for (int64_t item = lane; mine && item < a.run_items; item += int64_t{a.team} * kUnroll) {
      Lanes<T> xs[kUnroll];
      bool ok[kUnroll * kN];
#pragma unroll
      for (int u = 0; u < kUnroll; ++u) {
        const Window window = WindowOf<kN>(run, a.size, item + u * a.team, a.head);
        xs[u] = {};
        if (item + u * a.team < a.run_items) xs[u] = LoadLanes(a.x, window.at, a.elements, true);
#pragma unroll
        for (int k = 0; k < kN; ++k) {
          ok[u * kN + k] = window.i + k >= 0 && window.i + k < a.size;
        }
      }
      sum.AddTerms(
          [&](int, int i, int) {
            const W x = Widen(xs[i / kN].at[i % kN]);
            return x * x;
          },
          ok);
      if (++batches % kFoldEvery == 0) sum.Fold();
    }
    sum.Fold();
    const W total = static_cast<W>(SumOverTeam(sum.Get(0, 1), a.team));
    if (mine && lane == 0) a.r[run] = W{1} / sqrt(fma(total, a.per_size, a.eps));
  }
}

}  // namespace

cudaError_t GroupScale(const ConstSlab& x, int64_t groups, double eps, void* r, const Launch& on) {
  return WithElement(x.dtype, [&](auto element) {
    using T = decltype(element);
    using W = Wide<T>;
    const GroupsLayout layout(x.grid, groups, kLanes<T>, kUnroll, on.multiprocessors);
    const int64_t size = x.grid.channels / groups;
    const ScaleArgs<T> args{layout.runs,
                            size,
                            layout.run_items,
                            x.grid.outer * x.grid.channels,
                            layout.team,
                            HeadOf<T>(x.data),
                            static_cast<const T*>(x.data),
                            static_cast<W>(1 / static_cast<double>(size)),
                            static_cast<W>(eps),
                            static_cast<W*>(r)};
    return Run(on, layout.blocks, GroupScaleKernel<T>, args);
  });
}

}  // namespace syncnorm::kernels::cuda

// What the folding kernels of both norms do with what a forward keeps (BatchNormKept, PowerKept).
//
// Thread-safety: pure functions.
#pragma once

#include <cstdint>

#include "kernels/cuda/fold.h"

namespace syncnorm::kernels::cuda {

__device__ inline double NotANumber() { return __longlong_as_double(0x7ff8000000000000LL); }

// A mask that was wrong is told once; the next one starts without.
template <class Kept>
__device__ void ReportMask(Kept* kept, uint64_t* bad) {
  MomentsHeader* header = kept->local().header;
  if (bad != nullptr && header->bad != 0) *bad = header->bad;
  header->bad = 0;
}

// Of the candidates, newest first, whose local moments, `values` doubles, have the same bits as
// kept's: the newest whose backward has not come, or the newest; null: none.  To be called by all
// threads of the one block, which compare together; the same in all of them.
template <class Kept>
__device__ Kept* FindRepeated(Kept* kept, Kept* const* candidates, int count, int64_t values) {
  const MomentsView mine = kept->local();
  const auto* a = reinterpret_cast<const uint64_t*>(mine.values());
  Kept* newest = nullptr;
  for (int i = 0; i < count; ++i) {
    Kept* candidate = candidates[i];
    const MomentsView theirs = candidate->local();
    const auto* b = reinterpret_cast<const uint64_t*>(theirs.values());
    bool differs = mine.header->count != theirs.header->count;
    for (int64_t w = threadIdx.x; w < values; w += blockDim.x) differs |= a[w] != b[w];
    if (__syncthreads_or(differs)) continue;
    if (candidate->backward_came == 0) return candidate;
    if (newest == nullptr) newest = candidate;
  }
  return newest;
}

}  // namespace syncnorm::kernels::cuda

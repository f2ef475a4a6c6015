#include "bench/kernels/copy.h"

#include <cstdint>
#include <cstring>

#if defined(__x86_64__)
#include <emmintrin.h>
#endif

namespace syncnorm::bench {
namespace {

// Vectors of a cache line, so that a line is written at once.
using Line = uint64_t __attribute__((vector_size(64), may_alias));

void LibraryCopy(const void* from, void* to, size_t bytes) { std::memcpy(to, from, bytes); }

void PlainCopy(const void* from, void* to, size_t bytes) {
  const Line* in = static_cast<const Line*>(from);
  Line* out = static_cast<Line*>(to);
  const size_t lines = bytes / sizeof(Line);
  for (size_t i = 0; i < lines; ++i) {
    out[i] = in[i];
    asm volatile("" ::: "memory");  // else the compiler calls memcpy
  }
  std::memcpy(out + lines, in + lines, bytes % sizeof(Line));
}

void NonTemporalCopy(const void* from, void* to, size_t bytes) {
#if defined(__x86_64__)
  const __m128i* in = static_cast<const __m128i*>(from);
  __m128i* out = static_cast<__m128i*>(to);
  const size_t vectors = bytes / sizeof(__m128i);
  for (size_t i = 0; i < vectors; ++i) _mm_stream_si128(out + i, _mm_load_si128(in + i));
  _mm_sfence();
  std::memcpy(out + vectors, in + vectors, bytes % sizeof(__m128i));
#else
  PlainCopy(from, to, bytes);
#endif
}

}  // namespace

const Copy kCopyVariants[kCopies] = {
    {"copy_library", LibraryCopy},
    {"copy_plain", PlainCopy},
    {"copy_non_temporal", NonTemporalCopy},
};

}  // namespace syncnorm::bench

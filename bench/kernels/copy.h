// Copies: what this machine's memory can do, the floor of every kernel.
//
// Three ways, for none of them is the fastest on every machine and size: the C
// library's, plain vector stores, and non-temporal stores, which do not read
// the destination first.
//
// Thread-safety: pure functions of their arguments.
#pragma once

#include <cstddef>

namespace syncnorm::bench {

struct Copy {
  const char* name;
  void (*run)(const void* from, void* to, size_t bytes);  // 64-byte aligned, no overlap
};

inline constexpr size_t kCopies = 3;
extern const Copy kCopyVariants[kCopies];

}  // namespace syncnorm::bench

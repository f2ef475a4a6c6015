// Counts the allocations of a test's program: linked in, it replaces operator new.
#pragma once

#include <cstdint>

namespace syncnorm::server {

// Since the program's start, of all threads.
uint64_t Allocations();

}  // namespace syncnorm::server

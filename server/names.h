// How error texts name ranks, workers and times.
#pragma once

#include <cstdint>
#include <string>

#include "absl/strings/string_view.h"
#include "absl/time/time.h"
#include "absl/types/span.h"

namespace syncnorm::server {

// "rank 2", "ranks 0,1", "ranks 0-3,7".  `ranks` is increasing and not empty.  A list of many
// separate pieces is cut, and ends with how many ranks it is of.
std::string Ranks(absl::Span<const uint32_t> ranks);

// "rank 3 (host h3, pid 77)"; what is not known is left out.
std::string Worker(uint32_t rank, absl::string_view host, uint32_t pid);

// "2.0 s": seconds, one decimal.
std::string InSeconds(absl::Duration duration);

}  // namespace syncnorm::server

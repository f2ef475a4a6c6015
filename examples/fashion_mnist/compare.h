// How far two trained networks are apart.
#pragma once

#include <string>

namespace syncnorm::examples {

struct Difference {
  double largest = 0;  // over all tensors: max |a - b| / max |b|
  std::string tensor;  // where
};

// Of all parameters and running statistics of two saved networks, of any floating type.  A NaN
// anywhere makes the difference infinite.  Throws what LibTorch throws on files that are none.
Difference Compare(const std::string& file_a, const std::string& file_b);

}  // namespace syncnorm::examples

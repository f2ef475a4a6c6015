// How far two trained networks are apart.
#pragma once

#include <string>

#include "examples/fashion_mnist/network.h"

namespace syncnorm::examples {

struct Difference {
  double largest = 0;   // over all tensors: max |a - b| / max |b|
  std::string tensor;   // where
};

// Of all parameters and running statistics.  A NaN anywhere makes the difference infinite.
Difference Compare(const Network& a, const Network& b);

}  // namespace syncnorm::examples

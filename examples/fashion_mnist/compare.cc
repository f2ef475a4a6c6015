#include "examples/fashion_mnist/compare.h"

#include <cmath>
#include <limits>

#include <torch/torch.h>

namespace syncnorm::examples {
namespace {

void Compare(const torch::OrderedDict<std::string, torch::Tensor>& a,
             const torch::OrderedDict<std::string, torch::Tensor>& b, Difference* difference) {
  for (const auto& item : b) {
    if (!item.value().is_floating_point()) continue;
    const torch::Tensor reference = item.value().detach().to(torch::kDouble);
    const torch::Tensor other = a[item.key()].detach().to(torch::kDouble);
    const double error = (other - reference).abs().max().item<double>();
    double relative = error == 0 ? 0 : error / reference.abs().max().item<double>();
    if (std::isnan(relative)) relative = std::numeric_limits<double>::infinity();
    if (difference->tensor.empty() || relative > difference->largest) {
      *difference = {relative, item.key()};
    }
  }
}

}  // namespace

Difference Compare(const Network& a, const Network& b) {
  Difference difference;
  Compare(a->named_parameters(), b->named_parameters(), &difference);
  Compare(a->named_buffers(), b->named_buffers(), &difference);
  return difference;
}

}  // namespace syncnorm::examples

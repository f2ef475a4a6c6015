#include "examples/fashion_mnist/compare.h"

#include <torch/torch.h>

#include <cmath>
#include <limits>
#include <vector>

#include "absl/strings/str_split.h"
#include "examples/fashion_mnist/network.h"

namespace syncnorm::examples {
namespace {

// The tensor "conv1.weight" of a saved network, in float64.  Read by its path, because loading a
// network takes a file's memory as if it had the network's types.
torch::Tensor Read(torch::serialize::InputArchive& file, const std::string& name) {
  const std::vector<std::string> path = absl::StrSplit(name, '.');
  torch::serialize::InputArchive module;
  torch::Tensor tensor;
  file.read(path[0], module);
  if (!module.try_read(path[1], tensor)) module.read(path[1], tensor, /*is_buffer=*/true);
  return tensor.to(torch::kDouble);
}

}  // namespace

Difference Compare(const std::string& file_a, const std::string& file_b) {
  torch::serialize::InputArchive a, b;
  a.load_from(file_a);
  b.load_from(file_b);
  const Network names(TorchNorms());
  std::vector<std::string> tensors = names->named_parameters().keys();
  for (const std::string& buffer : names->named_buffers().keys()) tensors.push_back(buffer);

  Difference difference;
  for (const std::string& name : tensors) {
    const torch::Tensor reference = Read(b, name);
    const double error = (Read(a, name) - reference).abs().max().item<double>();
    double relative = error == 0 ? 0 : error / reference.abs().max().item<double>();
    if (std::isnan(relative)) relative = std::numeric_limits<double>::infinity();
    if (difference.tensor.empty() || relative > difference.largest) difference = {relative, name};
  }
  return difference;
}

}  // namespace syncnorm::examples

#include "examples/fashion_mnist/hand_over.h"

#include <torch/torch.h>

#include <exception>
#include <sstream>

#include "absl/strings/str_cat.h"

namespace syncnorm::examples {

absl::StatusOr<std::string> HandOver(int64_t step, const Network& network,
                                     const torch::optim::SGD& optimizer) {
  try {
    torch::serialize::OutputArchive whole, of_network, of_optimizer;
    network->save(of_network);
    optimizer.save(of_optimizer);
    whole.write("step", torch::tensor(step, torch::kLong));
    whole.write("network", of_network);
    whole.write("optimizer", of_optimizer);
    std::ostringstream bytes;
    whole.save_to(bytes);
    return bytes.str();
  } catch (const std::exception& error) {  // LibTorch reports by throwing
    return absl::InternalError(absl::StrCat("cannot hand over: ", error.what()));
  }
}

absl::StatusOr<int64_t> TakeOver(const std::string& handed_over, Network& network,
                                 torch::optim::SGD& optimizer) {
  try {
    torch::serialize::InputArchive whole, of_network, of_optimizer;
    whole.load_from(handed_over.data(), handed_over.size());
    torch::Tensor step;
    whole.read("step", step);
    whole.read("network", of_network);
    whole.read("optimizer", of_optimizer);
    network->load(of_network);
    optimizer.load(of_optimizer);
    return step.item<int64_t>();
  } catch (const std::exception& error) {
    return absl::DataLossError(absl::StrCat("what was handed over: ", error.what()));
  }
}

}  // namespace syncnorm::examples

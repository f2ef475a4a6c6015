#include "examples/fashion_mnist/dataset.h"

#include <torch/torch.h>
#include <zlib.h>

#include <cstdint>
#include <memory>
#include <vector>

#include "absl/strings/str_cat.h"

namespace syncnorm::examples {
namespace {

// Of the training images' grey values in [0, 1].
constexpr double kMean = 0.2860;
constexpr double kDeviation = 0.3530;

// An IDX file of bytes: 0, 0, type 8, number of dimensions, each dimension as four bytes with the
// highest first, then the bytes.
absl::StatusOr<torch::Tensor> ReadIdx(const std::string& path, size_t dimensions) {
  const std::unique_ptr<gzFile_s, int (*)(gzFile)> file(gzopen(path.c_str(), "rb"), gzclose);
  if (file == nullptr) {
    return absl::NotFoundError(absl::StrCat(path, ": cannot be opened (--data names its folder)"));
  }
  const auto damaged = [&] { return absl::DataLossError(absl::StrCat(path, ": not as expected")); };
  std::vector<uint8_t> header(4 + 4 * dimensions);
  if (gzread(file.get(), header.data(), header.size()) != static_cast<int>(header.size()) ||
      header[2] != 8 || header[3] != dimensions) {
    return damaged();
  }
  std::vector<int64_t> shape;
  for (size_t i = 4; i < header.size(); i += 4) {
    shape.push_back(int64_t{header[i]} << 24 | header[i + 1] << 16 | header[i + 2] << 8 |
                    header[i + 3]);
  }
  torch::Tensor tensor = torch::empty(shape, torch::kByte);
  if (gzread(file.get(), tensor.data_ptr(), tensor.numel()) != tensor.numel()) return damaged();
  return tensor;
}

}  // namespace

torch::Tensor Dataset::Inputs(const torch::Tensor& indices, torch::Dtype dtype) const {
  return images.index_select(0, indices).to(dtype).div_(255).sub_(kMean).div_(kDeviation);
}

absl::StatusOr<Dataset> LoadFashionMnist(const std::string& directory, const std::string& part) {
  auto images = ReadIdx(absl::StrCat(directory, "/", part, "-images-idx3-ubyte.gz"), 3);
  if (!images.ok()) return images.status();
  auto labels = ReadIdx(absl::StrCat(directory, "/", part, "-labels-idx1-ubyte.gz"), 1);
  if (!labels.ok()) return labels.status();
  return Dataset{images->unsqueeze(1), labels->to(torch::kLong)};
}

}  // namespace syncnorm::examples

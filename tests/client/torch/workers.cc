#include "tests/client/torch/workers.h"

#include <gtest/gtest.h>
#include <torch/torch.h>

#include <algorithm>
#include <exception>

#include "absl/strings/str_cat.h"

namespace syncnorm::testing {

void RunWorkers(InProcessGroup& group, const Body& body) {
  std::vector<std::string> failures(group.world_size());
  group.Run([&](int rank, Reducer* member) {
    try {
      body(rank, member);
    } catch (const std::exception& error) {
      failures[rank] = error.what();
    }
  });
  for (size_t rank = 0; rank < failures.size(); ++rank) {
    EXPECT_EQ(failures[rank], "") << "rank " << rank;
  }
}

void RunWorkers(int world, const Body& body) {
  InProcessGroup group(world);
  RunWorkers(group, body);
}

void SumGradients(const std::vector<torch::Tensor>& parameters, double scale, int64_t step,
                  Reducer* group) {
  std::vector<torch::Tensor> flat;
  for (const torch::Tensor& parameter : parameters) {
    flat.push_back(parameter.grad().detach().to(torch::kDouble).flatten());
  }
  const torch::Tensor local = torch::cat(flat) * scale;
  Moments moments = Moments::Sums(1, local.numel(), Precision::kF64);
  std::copy_n(local.data_ptr<double>(), local.numel(), moments.values.begin());
  ReduceKey key;
  key.layer = "gradients";
  key.step = step;
  auto sums = group->ReduceNow(key, moments);
  ASSERT_TRUE(sums.ok()) << sums.status();
  torch::Tensor global =
      torch::from_blob(sums->values.data(), {local.numel()}, torch::kDouble).clone();
  int64_t offset = 0;
  for (torch::Tensor parameter : parameters) {
    torch::Tensor& gradient = parameter.mutable_grad();
    gradient.copy_(global.narrow(0, offset, gradient.numel()).view(gradient.sizes()));
    offset += gradient.numel();
  }
}

void ExpectClose(const torch::Tensor& a, const torch::Tensor& b, const std::string& what,
                 double rtol, double atol) {
  ASSERT_EQ(a.sizes(), b.sizes()) << what;
  const torch::Tensor x = a.detach().to(torch::kDouble), y = b.detach().to(torch::kDouble);
  // Not (error <= bound), so that a NaN fails.
  const torch::Tensor wrong = (x - y).abs().le(atol + rtol * y.abs()).logical_not();
  EXPECT_FALSE(wrong.any().item<bool>())
      << what << ": largest difference " << (x - y).abs().max().item<double>() << "\nis\n"
      << a << "\nshould be\n"
      << b;
}

void ExpectClose(const std::vector<torch::Tensor>& a, const std::vector<torch::Tensor>& b,
                 const std::string& what, double rtol, double atol) {
  ASSERT_EQ(a.size(), b.size()) << what;
  for (size_t i = 0; i < a.size(); ++i)
    ExpectClose(a[i], b[i], absl::StrCat(what, " ", i), rtol, atol);
}

}  // namespace syncnorm::testing

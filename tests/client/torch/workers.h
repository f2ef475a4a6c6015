// Workers as threads of one process, and what the tests of the adapter share:
// the gradients' sum over a group, and comparisons with the bounds that the
// peers' own tests use.
#pragma once

#include <syncnorm/reducer.h>
#include <torch/types.h>

#include <functional>
#include <string>
#include <vector>

#include "tests/support/in_process_group.h"

namespace syncnorm::testing {

using Body = std::function<void(int rank, Reducer* group)>;

// Runs body(rank, group) on a thread for every member of `group`, and returns when all have
// ended; an exception of one of them fails the test with its text.
void RunWorkers(InProcessGroup& group, const Body& body);
// The same, in a group of its own.
void RunWorkers(int world, const Body& body);

// The sum over the group of `scale` times every parameter's gradient, stored into .grad.
void SumGradients(const std::vector<torch::Tensor>& parameters, double scale, int64_t step,
                  Reducer* group);

// PyTorch's assertEqual for float32.
constexpr double kRtol = 1.3e-6, kAtol = 1e-5;

// Fails, naming `what`, unless shapes are equal and |a - b| <= atol + rtol |b|.
void ExpectClose(const torch::Tensor& a, const torch::Tensor& b, const std::string& what,
                 double rtol = kRtol, double atol = kAtol);
// The same for every pair.
void ExpectClose(const std::vector<torch::Tensor>& a, const std::vector<torch::Tensor>& b,
                 const std::string& what, double rtol = kRtol, double atol = kAtol);

}  // namespace syncnorm::testing

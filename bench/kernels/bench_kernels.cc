// bench_kernels: the kernels beside what the memory allows and beside PyTorch,
// in one run.  See README.md.
//
//   bench_kernels [--json FILE] [--repetitions N] [--only TEXT]
#include <malloc.h>

#include <cstdio>
#include <cstdlib>
#include <cstring>
#include <fstream>
#include <string>
#include <vector>

#include "bench/kernels/cases.h"
#include "bench/kernels/pytorch.h"
#include "bench/kernels/report.h"

namespace syncnorm::bench {
namespace {

struct Options {
  std::string json;
  std::string only;  // cases whose title contains it
  int repetitions = 30;
};

const BatchNormCase kBatchNorm[] = {
    {{32, 64, 56, 56}, DType::kF32, false},  {{32, 64, 56, 56}, DType::kF32, true},
    {{32, 64, 56, 56}, DType::kF16, false},  {{32, 64, 56, 56}, DType::kF16, true},
    {{32, 64, 56, 56}, DType::kBF16, false}, {{32, 64, 56, 56}, DType::kBF16, true},
    {{32, 64, 56, 56}, DType::kF64, false},  {{32, 64, 56, 56}, DType::kF64, true},
    {{32, 256, 14, 14}, DType::kF32, false}, {{32, 256, 14, 14}, DType::kF32, true},
    {{32, 512, 7, 7}, DType::kF32, false},   {{32, 512, 7, 7}, DType::kF32, true},
    {{64, 3, 64, 64}, DType::kF32, true},
};

const PowerNormCase kPowerNorm[] = {
    {4096, 512, 1, DType::kF32},
    {4096, 512, 8, DType::kF32},
    {4096, 512, 1, DType::kBF16},
};

template <class Case>
void Run(const Case& c, const Options& options, nlohmann::json* results) {
  if (c.Title().find(options.only) == std::string::npos) return;
  std::vector<Variant> variants = VariantsOf(c);
  Measure(options.repetitions, &variants);
  Report(c.Title(), variants, results);
}

Options Parse(int argc, char** argv) {
  Options options;
  for (int i = 1; i < argc; i += 2) {
    const bool has_value = i + 1 < argc;
    if (has_value && std::strcmp(argv[i], "--json") == 0) {
      options.json = argv[i + 1];
    } else if (has_value && std::strcmp(argv[i], "--only") == 0) {
      options.only = argv[i + 1];
    } else if (has_value && std::strcmp(argv[i], "--repetitions") == 0 &&
               std::atoi(argv[i + 1]) > 0) {
      options.repetitions = std::atoi(argv[i + 1]);
    } else {
      std::fprintf(stderr, "usage: %s [--json FILE] [--repetitions N] [--only TEXT]\n", argv[0]);
      std::exit(2);
    }
  }
  return options;
}

int Main(int argc, char** argv) {
  const Options options = Parse(argc, argv);
  // PyTorch allocates its results anew in every call.  The heap keeps the memory,
  // so that it is not measured against page faults.
  mallopt(M_MMAP_THRESHOLD, 1 << 30);
  mallopt(M_TRIM_THRESHOLD, 1 << 30);

  const std::string pytorch = PyTorchVersion();
  std::printf("backend %s, PyTorch %s, one thread, medians of %d\n",
              std::string(kernels::Cpu().name()).c_str(),
              pytorch.empty() ? "not built in" : pytorch.c_str(), options.repetitions);
  nlohmann::json results = nlohmann::json::array();
  for (const BatchNormCase& c : kBatchNorm) Run(c, options, &results);
  for (const PowerNormCase& c : kPowerNorm) Run(c, options, &results);
  if (!options.json.empty()) {
    std::ofstream file(options.json);
    file << results.dump(2) << "\n";
    if (!file.flush()) {
      std::fprintf(stderr, "bench_kernels: cannot write %s\n", options.json.c_str());
      return 1;
    }
  }
  return 0;
}

}  // namespace
}  // namespace syncnorm::bench

int main(int argc, char** argv) { return syncnorm::bench::Main(argc, argv); }

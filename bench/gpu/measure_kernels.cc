// bench_gpu_kernels: measures the kernels of one case after the other (protocol.h).  bench_gpu.py
// runs it.
#include "bench/gpu/kernel_cases.h"
#include "bench/gpu/serve.h"

int main() { return syncnorm::bench::gpu::Serve(syncnorm::bench::gpu::MeasureKernels); }

"""An estimate of the time of a layer's call, from what a device is said to be able to do.

  time = sum over its kernels of max(bytes / bandwidth, instructions / rate) + kernels x START

It is what is left when nothing goes wrong: no kernel reaches the bandwidth of the data sheet, a
copy reaches some 90 % of it.  A tensor that stays in the second-level cache between two kernels
can beat it.
"""
import dataclasses

import traffic

# Seconds from one kernel of a stream to the next, beyond what its bytes take.  An assumption: a
# gap of 0.9 us (NVIDIA, "Getting Started with CUDA Graphs", 2019: 3.8 us for each kernel of 2.9 us
# in a stream, on a V100), and 2 us for the first loads to arrive and the last block to end.
START_S = 2.9e-6


@dataclasses.dataclass(frozen=True)
class Device:
    name: str
    bandwidth: float  # bytes/s
    f32_rate: float  # instructions/s: half of the data sheet's operations, which count an fma as two
    f64_rate: float
    cache: float  # second level, bytes
    source: str


DEVICES = (
    Device("H100 SXM", 3.35e12, 67e12 / 2, 34e12 / 2, 50e6,
           "NVIDIA H100 data sheet: 3.35 TB/s, 67 TFLOPS f32, 34 TFLOPS f64; H100 white paper: 50 MB"),
    Device("T4", 320e9, 8.1e12 / 2, 8.1e12 / 32 / 2, 4e6,
           "NVIDIA T4 data sheet: 320 GB/s, 8.1 TFLOPS f32; Turing white paper: f64 at 1/32 of it, 4 MB"),
)


@dataclasses.dataclass(frozen=True)
class Estimate:
    memory_s: float
    compute_s: float
    work_s: float  # the larger of the two, kernel by kernel
    start_s: float

    @property
    def total_s(self):
        return self.work_s + self.start_s


def estimate(device, call, elements, dtype):
    memory = compute = work = 0.0
    rate = device.f64_rate if dtype == "f64" else device.f32_rate
    for name in call.operations:
        operation = traffic.OPERATIONS[name]
        bytes_s = operation.passes * elements * traffic.BYTES[dtype] / device.bandwidth
        instructions_s = operation.instructions * elements / rate
        memory += bytes_s
        compute += instructions_s
        work += max(bytes_s, instructions_s)
    return Estimate(memory, compute, work, call.kernels * START_S)

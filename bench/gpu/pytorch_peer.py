#!/usr/bin/env python3
"""PyTorch's batch norm on the GPU, as a measuring program (protocol.h).

usage: pytorch_peer.py [--device cuda|cpu]     cpu: for tests; times by the clock

Variants: the kernels of SyncBatchNorm (torch.batch_norm_*), what stands between them left out; and
native_batch_norm in training, forward and backward.  Two processes' SyncBatchNorm:
pytorch_sync_peer.py.
"""
import argparse
import json
import sys
import time

WARM_UPS = 3


def say(message):
    print(json.dumps(message), flush=True)


def cuda_times(torch, run, repetitions, flush):
    events = []
    for r in range(-WARM_UPS, repetitions):
        flush.zero_()
        begin, end = torch.cuda.Event(enable_timing=True), torch.cuda.Event(enable_timing=True)
        begin.record()
        run()
        end.record()
        if r >= 0:
            events.append((begin, end))
    torch.cuda.synchronize()
    return [begin.elapsed_time(end) * 1e3 for begin, end in events]


def cpu_times(run, repetitions):
    times = []
    for r in range(-WARM_UPS, repetitions):
        begin = time.perf_counter()
        run()
        if r >= 0:
            times.append((time.perf_counter() - begin) * 1e6)
    return times


def variants(torch, case, device):
    """[(name, passes, function)] of a batch norm case."""
    dtype = {"f32": torch.float32, "f64": torch.float64, "f16": torch.float16, "bf16": torch.bfloat16}[case["dtype"]]
    shape = (case["n"], case["channels"], case["height"], case["width"])
    layout = torch.channels_last if case["channels_last"] else torch.contiguous_format
    x = torch.randn(shape, dtype=torch.float32, device=device).to(dtype).contiguous(memory_format=layout)
    dy = torch.randn(shape, dtype=torch.float32, device=device).to(dtype).contiguous(memory_format=layout)
    # Parameters of half-precision layers are float, as under autocast.
    parameter = torch.float64 if dtype == torch.float64 else torch.float32
    weight = torch.ones(case["channels"], dtype=parameter, device=device)
    bias = torch.zeros_like(weight)
    running_mean, running_var = torch.zeros_like(weight), torch.ones_like(weight)

    def forward():
        return torch.native_batch_norm(x, weight, bias, running_mean, running_var, True, 0.1, 1e-5)

    _, mean, invstd = forward()

    def backward():
        return torch.ops.aten.native_batch_norm_backward(dy, x, weight, running_mean, running_var, mean, invstd,
                                                         True, 1e-5, [True, True, True])

    found = [("torch.native_batch_norm", 3, forward), ("torch.native_batch_norm_backward", 5, backward)]
    if device == "cpu":
        return found  # SyncBatchNorm's kernels are for CUDA only
    count = torch.full((1,), x.numel() // case["channels"], dtype=torch.int32, device=device)
    sum_dy, sum_dy_xmu, _, _ = torch.batch_norm_backward_reduce(dy, x, mean, invstd, weight, True, True, True)
    return found + [
        ("torch.batch_norm_stats", 1, lambda: torch.batch_norm_stats(x, 1e-5)),
        ("torch.batch_norm_elemt", 2, lambda: torch.batch_norm_elemt(x, weight, bias, mean, invstd, 1e-5)),
        ("torch.batch_norm_backward_reduce", 2,
         lambda: torch.batch_norm_backward_reduce(dy, x, mean, invstd, weight, True, True, True)),
        ("torch.batch_norm_backward_elemt", 3,
         lambda: torch.batch_norm_backward_elemt(dy, x, mean, invstd, weight, sum_dy, sum_dy_xmu, count)),
    ]


def answer(torch, case, device, flush):
    if case["norm"] != "BatchNorm":
        return {"skipped": "it has no PowerNorm"}
    results = []
    try:
        for name, passes, run in variants(torch, case, device):
            times = cpu_times(run, case["repetitions"]) if device == "cpu" else \
                cuda_times(torch, run, case["repetitions"], flush)
            results.append({"variant": name, "passes": passes, "times_us": times})
    except (RuntimeError, TypeError, AttributeError) as error:  # a dtype or an operation that it does not have
        return {"skipped": str(error).splitlines()[0]}
    return {"results": results}


def main():
    parser = argparse.ArgumentParser(description="PyTorch's batch norm, measured")
    parser.add_argument("--device", choices=("cuda", "cpu"), default="cuda")
    device = parser.parse_args().device
    try:
        import torch
    except ImportError as error:
        say({"no_device": f"this Python has no torch ({error})"})
        return 77
    flush = None
    if device == "cuda":
        if not torch.cuda.is_available():
            say({"no_device": f"torch {torch.__version__} sees no CUDA device"})
            return 77
        # Twice the second-level cache; where this torch does not tell it, more than any has.
        cache = getattr(torch.cuda.get_device_properties(0), "L2_cache_size", 128 << 20)
        flush = torch.empty(2 * cache, dtype=torch.int8, device="cuda")
    say({"version": torch.__version__, "simulated": False})
    with torch.no_grad():
        for line in sys.stdin:
            say(answer(torch, json.loads(line), device, flush))
    return 0


if __name__ == "__main__":
    sys.exit(main())

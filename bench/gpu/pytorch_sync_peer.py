#!/usr/bin/env python3
"""PyTorch's SyncBatchNorm with two processes, as a measuring program (protocol.h).

usage: pytorch_sync_peer.py [--device cuda|cpu] [--rank RANK --port PORT]

Rank 0 is the program; it starts rank 1.  With two GPUs each has one, and they talk by NCCL; with one they
share it, as our two workers do, and talk by Gloo, since NCCL wants a device for each process.  A
step is as in layer_cases.h: forwards of so many layers, then as many backwards; times are of one layer.
--device cpu, for tests: BatchNorm2d, since SyncBatchNorm is for CUDA only, timed by the clock.
"""
import argparse
import datetime
import json
import socket
import subprocess
import sys
import time

from pytorch_peer import WARM_UPS, say

LAYERS = 8  # as kLayers of layer_cases.h
MOST_AHEAD = 4  # as kMostAhead of device.h
TIMEOUT = datetime.timedelta(seconds=120)  # for the other process, which imports torch, too


def free_port():
    with socket.socket() as listener:
        listener.bind(("127.0.0.1", 0))
        return listener.getsockname()[1]


class Clock:
    """The CPU's; CUDA's events otherwise."""

    def __init__(self, torch, cuda):
        self._torch, self._cuda = torch, cuda

    def mark(self):
        if not self._cuda:
            return time.perf_counter()
        event = self._torch.cuda.Event(enable_timing=True)
        event.record()
        return event

    def us_between(self, begin, end):
        return begin.elapsed_time(end) * 1e3 if self._cuda else (end - begin) * 1e6

    def wait(self):
        if self._cuda:
            self._torch.cuda.synchronize()


def measure(torch, case, device, flush):
    """{direction: times in us} of one layer."""
    dtype = {"f32": torch.float32, "f64": torch.float64, "f16": torch.float16, "bf16": torch.bfloat16}[case["dtype"]]
    cuda = device != "cpu"
    shape = (case["n"], case["channels"], case["height"], case["width"])
    layout = torch.channels_last if case["channels_last"] else torch.contiguous_format
    x = torch.randn(shape, device=device).to(dtype).contiguous(memory_format=layout).requires_grad_()
    dy = torch.randn(shape, device=device).to(dtype).contiguous(memory_format=layout)
    kind = torch.nn.SyncBatchNorm if cuda else torch.nn.BatchNorm2d
    parameter = torch.float64 if dtype == torch.float64 else torch.float32
    layers = [kind(case["channels"], device=device, dtype=parameter) for _ in range(LAYERS)]
    clock = Clock(torch, cuda)
    marks = []
    for r in range(case["repetitions"] + WARM_UPS):
        row = []
        if flush is not None:
            flush.zero_()
        row.append(clock.mark())
        outputs = [layer(x) for layer in layers]
        row.append(clock.mark())
        if flush is not None:
            flush.zero_()
        row.append(clock.mark())
        for layer, y in zip(reversed(layers), reversed(outputs)):
            torch.autograd.grad(y, [x, layer.weight, layer.bias], dy)
        row.append(clock.mark())
        marks.append(row)
        if r % MOST_AHEAD == MOST_AHEAD - 1:
            clock.wait()
    clock.wait()
    return {direction: [clock.us_between(row[at], row[at + 1]) / LAYERS for row in marks[WARM_UPS:]]
            for direction, at in (("forward", 0), ("backward", 2))}


def answer(torch, case, device, flush):
    if case["norm"] != "BatchNorm":
        return {"skipped": "it has no PowerNorm"}
    try:
        times = measure(torch, case, device, flush)
    except (RuntimeError, TypeError, ValueError) as error:
        return {"skipped": str(error).splitlines()[0]}
    name = "torch.BatchNorm2d" if device == "cpu" else "torch.SyncBatchNorm"
    return {"results": [{"variant": f"{name}.{direction}", "passes": 0, "times_us": times[direction]}
                        for direction in times]}


def join(torch, options):
    """Both processes: (device, group for requests)."""
    backend, device = "gloo", "cpu"
    if options.device == "cuda":
        alone = torch.cuda.device_count() >= 2
        backend, device = ("nccl", f"cuda:{options.rank}") if alone else ("gloo", "cuda:0")
        torch.cuda.set_device(device)
    torch.distributed.init_process_group(backend, init_method=f"tcp://127.0.0.1:{options.port}", world_size=2,
                                         rank=options.rank, timeout=TIMEOUT)
    return backend, device, torch.distributed.new_group(backend="gloo", timeout=TIMEOUT)


def flush_of(torch, device):
    if device == "cpu":
        return None
    cache = getattr(torch.cuda.get_device_properties(device), "L2_cache_size", 128 << 20)
    return torch.empty(2 * cache, dtype=torch.int8, device=device)


def follow(torch, device, group, flush):
    """Rank 1: does what rank 0 says, until it says None."""
    while True:
        request = [None]
        torch.distributed.broadcast_object_list(request, src=0, group=group)
        if request[0] is None:
            return
        answer(torch, request[0], device, flush)


def main():
    parser = argparse.ArgumentParser(description="PyTorch's SyncBatchNorm, measured")
    parser.add_argument("--device", choices=("cuda", "cpu"), default="cuda")
    parser.add_argument("--rank", type=int, default=0)
    parser.add_argument("--port", type=int)
    options = parser.parse_args()
    try:
        import torch
        import torch.distributed
    except ImportError as error:
        say({"no_device": f"this Python has no torch ({error})"})
        return 77
    if options.device == "cuda" and not torch.cuda.is_available():
        say({"no_device": f"torch {torch.__version__} sees no CUDA device"})
        return 77
    other = None
    if options.rank == 0:
        options.port = free_port()
        other = subprocess.Popen([sys.executable, __file__, "--device", options.device, "--rank", "1", "--port",
                                  str(options.port)], stdin=subprocess.DEVNULL, stdout=subprocess.DEVNULL)
    try:
        backend, device, group = join(torch, options)
        flush = flush_of(torch, device)
        if options.rank == 1:
            follow(torch, device, group, flush)
            return 0
        say({"version": f"{torch.__version__}, two processes over {backend}", "simulated": False})
        for line in sys.stdin:
            case = json.loads(line)
            torch.distributed.broadcast_object_list([case], src=0, group=group)
            say(answer(torch, case, device, flush))
        torch.distributed.broadcast_object_list([None], src=0, group=group)
        other.wait()
        return 0
    except RuntimeError as error:
        say({"error": str(error).splitlines()[0]})
        return 1
    finally:
        if other and other.poll() is None:
            other.kill()
            other.wait()


if __name__ == "__main__":
    sys.exit(main())

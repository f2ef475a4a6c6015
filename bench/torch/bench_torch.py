#!/usr/bin/env python3
"""What a synchronised batch norm costs in a PyTorch program, per layer: forward and backward.

Lanes, in the same processes, in random order within each repetition:
  torch       torch.nn.BatchNorm2d: nothing is exchanged, the floor
  alone       syncnorm.torch.SyncBatchNorm in a group of one: the local path
  syncnorm    syncnorm.torch.SyncBatchNorm
  all_reduce  a synchronised batch norm over torch.distributed (Gloo): two all-reduces a layer

Each lane is a stack of layers, forward and then backward, timed by rank 0.  Before anything is
timed every lane's output and gradient are compared with one batch norm of the whole batch in
float64; if one is wrong there are no numbers, and the exit status is 1.

usage: bench_torch.py [--workers 2,4] [--shapes 4x64x14x14,...] [--repetitions N] [--json FILE]
"""
import argparse
import json
import multiprocessing
import os
import random
import statistics
import sys
import tempfile
import time

import torch
import torch.distributed as dist
from torch import nn

import syncnorm.torch

LANES = ["torch", "alone", "syncnorm", "all_reduce"]
BOUND = 2e-5  # of outputs and gradients, float32, relative to the largest


class AllReduceFunction(torch.autograd.Function):
    """Count, sums and sums of squares; then the two sums of the gradient."""

    @staticmethod
    def forward(ctx, x, weight, bias, eps):
        dims = [d for d in range(x.dim()) if d != 1]
        count = x.new_tensor([x.numel() / x.shape[1]])
        sums = torch.cat([x.sum(dims), (x * x).sum(dims), count])
        dist.all_reduce(sums)
        n = sums[-1]
        mean, square = sums[:-1].reshape(2, -1) / n
        invstd = (square - mean * mean + eps).rsqrt()
        shape = [1, -1] + [1] * (x.dim() - 2)
        xhat = (x - mean.reshape(shape)) * invstd.reshape(shape)
        ctx.save_for_backward(xhat, weight, invstd, n)
        return xhat * weight.reshape(shape) + bias.reshape(shape)

    @staticmethod
    def backward(ctx, dy):
        xhat, weight, invstd, n = ctx.saved_tensors
        dims = [d for d in range(dy.dim()) if d != 1]
        shape = [1, -1] + [1] * (dy.dim() - 2)
        sum_dy, sum_dy_xhat = dy.sum(dims), (dy * xhat).sum(dims)
        sums = torch.cat([sum_dy, sum_dy_xhat])
        dist.all_reduce(sums)
        mean_dy, mean_dy_xhat = sums.reshape(2, -1) / n
        dx = (weight * invstd).reshape(shape) * (
            dy - mean_dy.reshape(shape) - xhat * mean_dy_xhat.reshape(shape))
        return dx, sum_dy_xhat, sum_dy, None


class AllReduceNorm(nn.BatchNorm2d):
    def forward(self, x):
        return AllReduceFunction.apply(x, self.weight, self.bias, self.eps)


def make(lane, channels):
    return {"torch": nn.BatchNorm2d, "all_reduce": AllReduceNorm, "syncnorm": syncnorm.torch.SyncBatchNorm,
            "alone": syncnorm.torch.SyncBatchNorm}[lane](channels)


def wrong(layer, lane, shape, rank, world_size):
    """By how much the lane is beyond the bound, or None."""
    generator = torch.Generator().manual_seed(9)
    whole = torch.randn(world_size * shape[0], *shape[1:], generator=generator)
    dy = torch.randn(whole.shape, generator=generator)
    mine = slice(rank * shape[0], (rank + 1) * shape[0])
    exact_x = (whole if lane in ("syncnorm", "all_reduce") else whole[mine]).double().requires_grad_()
    exact_y = nn.functional.batch_norm(exact_x, None, None, training=True)
    exact_y.backward((dy if lane in ("syncnorm", "all_reduce") else dy[mine]).double())
    x = whole[mine].clone().requires_grad_()
    y = layer(x)
    y.backward(dy[mine])
    part = mine if lane in ("syncnorm", "all_reduce") else slice(None)
    for got, want in ((y, exact_y[part]), (x.grad, exact_x.grad[part])):
        error = ((got - want).abs().max() / want.abs().max()).item()
        if not error <= BOUND:
            return error
    return None


def repeat(layers, shape, rounds):
    """Microseconds a layer, of a forward and a backward through the stack."""
    x = torch.randn(shape, requires_grad=True)
    began = time.perf_counter()
    for _ in range(rounds):
        y = x
        for layer in layers:
            y = layer(y)
        y.backward(x.detach())
    return 1e6 * (time.perf_counter() - began) / (rounds * len(layers))


def work(rank, world_size, folder, options, results):
    torch.set_num_threads(1)
    dist.init_process_group("gloo", init_method=f"file://{folder}/store", rank=rank,
                            world_size=world_size)
    alone = syncnorm.connect("127.0.0.1:0", rank=0, world_size=1, group=f"alone-{rank}")
    syncnorm.init()
    order = random.Random(options.seed)
    for shape in options.shapes:
        stacks = {lane: [make(lane, shape[1]) for _ in range(options.layers)] for lane in LANES}
        for layer in stacks["alone"]:
            layer.group = alone
        for lane, layers in stacks.items():
            error = wrong(layers[0], lane, shape, rank, world_size)
            if error is not None:
                sys.exit(f"lane {lane}: an output or a gradient is off by {error:.1e}: no numbers")
            repeat(layers, shape, 3)
        times = {lane: [] for lane in LANES}
        for _ in range(options.repetitions):
            lanes = order.sample(LANES, len(LANES))
            for lane in lanes:
                dist.barrier()
                times[lane].append(repeat(stacks[lane], shape, options.rounds))
        if rank == 0:
            results.put((world_size, shape, times))
    syncnorm.shutdown()


def run(world_size, options):
    context = multiprocessing.get_context("fork")
    results = context.SimpleQueue()
    with tempfile.TemporaryDirectory() as folder:
        processes = [context.Process(target=work, args=(r, world_size, folder, options, results))
                     for r in range(world_size)]
        try:
            for process in processes:
                process.start()
            for process in processes:
                process.join()
                if process.exitcode != 0:
                    sys.exit(f"worker of {world_size} failed")
        finally:
            for process in processes:
                process.kill()
                process.join()
    return [results.get() for _ in options.shapes]


def rows(results):
    for world_size, shape, times in results:
        for lane in LANES:
            ratios = [t / floor for t, floor in zip(times[lane], times["torch"])]
            yield {"workers": world_size, "shape": "x".join(map(str, shape)), "lane": lane,
                   "us_per_layer": statistics.median(times[lane]), "us_min": min(times[lane]),
                   "us_max": max(times[lane]), "ratio_to_torch": statistics.median(ratios),
                   "verified": True}


def positive(text):
    """A number of command lines: argparse names the option and what was given."""
    if not text.isdigit() or int(text) < 1:
        raise argparse.ArgumentTypeError(f"'{text}' is not a number above 0")
    return int(text)


def main():
    parser = argparse.ArgumentParser(description=__doc__,
                                     formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--workers", default="2,4")
    parser.add_argument("--shapes", default="4x64x14x14,4x256x14x14,4x1024x7x7")
    parser.add_argument("--layers", type=positive, default=20)
    parser.add_argument("--rounds", type=positive, default=5, help="steps of one repetition")
    parser.add_argument("--repetitions", type=positive, default=9)
    parser.add_argument("--seed", type=int, default=1)
    parser.add_argument("--json")
    options = parser.parse_args()
    options.shapes = [tuple(map(int, shape.split("x"))) for shape in options.shapes.split(",")]
    os.environ.setdefault("GLOO_SOCKET_IFNAME", "lo")
    torch.set_num_threads(1)
    results = [result for size in map(int, options.workers.split(","))
               for result in run(size, options)]
    table = list(rows(results))
    print(f"torch {torch.__version__}, {options.layers} layers, seed {options.seed}; forward and "
          "backward of one layer, rank 0")
    print(f"{'workers':>7}  {'shape':14} {'lane':11} {'us':>8}  {'(min..max)':17} {'ratio':>6}")
    for row in table:
        spread = f"({row['us_min']:.0f}..{row['us_max']:.0f})"
        print(f"{row['workers']:>7}  {row['shape']:14} {row['lane']:11} {row['us_per_layer']:>8.0f}  "
              f"{spread:17} {row['ratio_to_torch']:>6.2f}")
    if options.json:
        with open(options.json, "w", encoding="utf-8") as f:
            json.dump(table, f, indent=0)
    return 0


if __name__ == "__main__":
    sys.exit(main())

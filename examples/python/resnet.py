#!/usr/bin/env python3
"""A small ResNet-18 on Fashion-MNIST under DistributedDataParallel, with tiny batches: 4 processes
that see 2 images a step each.

  local   each normalises by the statistics of its own two images
  sync    syncnorm: by those of all eight
  whole   one process with all eight

Prints a table and draws OUT/resnet.png.  "sync" and "whole" must agree (in float64, so that what is
left of a difference is not the chaos of float32 training): exit status 1 if not.

usage: resnet.py [--out DIR] [--steps N] ...
One run of it elsewhere: torchrun --nproc_per_node=4 resnet.py --norm=sync
"""
import argparse
import gzip
import os
import sys
import time

import numpy
import torch
import torch.distributed as dist
from torch import nn
from torch.nn.parallel import DistributedDataParallel

import runs

DATA = "/usr/share/datasets/fashion-mnist"
# Of the parameters after the last step, relative to the largest of their tensor.  Measured: 1e-11
# after 200 steps; a mistake in the statistics shows at 1e-3 in one step.
BOUND = 1e-7


class Block(nn.Module):
    def __init__(self, inputs, outputs, stride):
        super().__init__()
        self.conv1 = nn.Conv2d(inputs, outputs, 3, stride, 1, bias=False)
        self.bn1 = nn.BatchNorm2d(outputs)
        self.conv2 = nn.Conv2d(outputs, outputs, 3, 1, 1, bias=False)
        self.bn2 = nn.BatchNorm2d(outputs)
        self.shortcut = nn.Identity()
        if stride != 1 or inputs != outputs:
            self.shortcut = nn.Sequential(nn.Conv2d(inputs, outputs, 1, stride, bias=False),
                                          nn.BatchNorm2d(outputs))

    def forward(self, x):
        y = torch.relu(self.bn1(self.conv1(x)))
        return torch.relu(self.bn2(self.conv2(y)) + self.shortcut(x))


class ResNet(nn.Module):
    """ResNet-18's eight blocks, narrow, for images of 28 x 28; 20 batch norms."""

    def __init__(self, width):
        super().__init__()
        layers = [nn.Conv2d(1, width, 3, 1, 1, bias=False), nn.BatchNorm2d(width), nn.ReLU()]
        channels = width
        for stage in range(4):
            for block in range(2):
                outputs = width << stage
                layers.append(Block(channels, outputs, 2 if stage > 0 and block == 0 else 1))
                channels = outputs
        self.body = nn.Sequential(*layers)
        self.head = nn.Linear(channels, 10)

    def forward(self, x):
        return self.head(self.body(x).mean((2, 3)))


def load(part):
    """Images, standardised, and labels."""
    with gzip.open(os.path.join(DATA, f"{part}-images-idx3-ubyte.gz")) as f:
        images = numpy.frombuffer(f.read(), numpy.uint8, offset=16).reshape(-1, 1, 28, 28)
    with gzip.open(os.path.join(DATA, f"{part}-labels-idx1-ubyte.gz")) as f:
        labels = numpy.frombuffer(f.read(), numpy.uint8, offset=8)
    return ((torch.from_numpy(images.copy()).double() / 255 - 0.286) / 0.353,
            torch.from_numpy(labels.astype(numpy.int64)))


def work(options):
    """One worker of one run."""
    import syncnorm.torch

    torch.set_num_threads(1)
    dist.init_process_group("gloo")
    rank, world_size = dist.get_rank(), dist.get_world_size()
    torch.manual_seed(options.seed)
    model = ResNet(options.width).double()
    if options.norm == "sync":
        syncnorm.init()
        model = syncnorm.torch.convert_sync_batchnorm(model)
    trained = DistributedDataParallel(model) if world_size > 1 else model
    optimiser = torch.optim.SGD(model.parameters(), options.lr, momentum=0.9)
    images, labels = load("train")
    order = torch.Generator().manual_seed(options.seed)
    local = options.batch // world_size
    losses = []
    began = time.monotonic()
    for _ in range(options.steps):
        batch = torch.randint(len(labels), (options.batch,), generator=order)
        mine = batch[rank * local:(rank + 1) * local]
        optimiser.zero_grad()
        loss = nn.functional.cross_entropy(trained(images[mine]), labels[mine])
        loss.backward()
        optimiser.step()
        losses.append(loss.item())
    seconds = time.monotonic() - began
    losses = runs.mean_over_workers(losses)
    if rank == 0:
        model.eval()
        images, labels = load("t10k")
        with torch.no_grad():
            correct = sum((model(images[i:i + 250]).argmax(1) == labels[i:i + 250]).sum().item()
                          for i in range(0, options.test_images, 250))
        runs.result({"losses": losses, "accuracy": correct / options.test_images,
                     "seconds": seconds,
                     "parameters": [p.detach().flatten().tolist() for p in model.parameters()]})
    dist.barrier()
    syncnorm.shutdown()
    dist.destroy_process_group()


def difference(run, other):
    """The largest, relative to the largest of its tensor."""
    worst = 0.0
    for mine, theirs in zip(run["parameters"], other["parameters"]):
        mine, theirs = (torch.tensor(p, dtype=torch.float64) for p in (mine, theirs))
        worst = max(worst, ((mine - theirs).abs().max() / theirs.abs().max()).item())
    return worst


def draw(results, path):
    import matplotlib

    matplotlib.use("Agg")
    import matplotlib.pyplot as plt

    # Colours that colour-blind readers tell apart (Okabe and Ito); "sync" lies on "whole".
    styles = {"whole": dict(color="#56B4E9", linewidth=5, alpha=0.8),
              "sync": dict(color="#000000", linewidth=1.4, linestyle="--"),
              "local": dict(color="#D55E00", linewidth=1.8, linestyle="-.")}
    figure, axes = plt.subplots(figsize=(7, 4.5), dpi=130)
    for name, style in styles.items():
        axes.plot(*runs.smoothed(results[name]["losses"], max(1, len(results[name]["losses"]) // 30)),
                  label=f"{name}: {100 * results[name]['accuracy']:.0f} % of test images right",
                  **style)
    axes.set_xlabel("step")
    axes.set_ylabel("cross entropy of the global batch")
    axes.set_title("ResNet-18-like, Fashion-MNIST, 4 processes x 2 images (whole: 1 x 8)", fontsize=10)
    axes.grid(alpha=0.3)
    axes.legend()
    figure.tight_layout()
    figure.savefig(path)
    print(path)


def main():
    parser = argparse.ArgumentParser(description=__doc__,
                                     formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--out", default=".")
    parser.add_argument("--workers", type=runs.positive, default=4)
    parser.add_argument("--batch", type=runs.positive, default=8, help="images a step, of all workers")
    parser.add_argument("--steps", type=runs.positive, default=200)
    parser.add_argument("--width", type=runs.positive, default=8)
    parser.add_argument("--lr", type=float, default=0.01)
    parser.add_argument("--seed", type=int, default=1)
    parser.add_argument("--test-images", type=runs.positive, default=2000)
    parser.add_argument("--norm", choices=("local", "sync"), help="of one worker; set by this script")
    options = parser.parse_args()
    if runs.is_worker():
        return work(options)
    if not os.path.isdir(DATA):
        print(f"SKIPPED: no data in {DATA} (Debian: dataset-fashion-mnist)")
        return 77
    results = {}
    given = [f"--{name}={getattr(options, name.replace('-', '_'))}" for name in (
        "batch", "steps", "width", "lr", "seed", "test-images")]
    for name, world_size, norm in (("local", options.workers, "local"),
                                   ("sync", options.workers, "sync"), ("whole", 1, "local")):
        print(f"{name}: {world_size} x {options.batch // world_size} images, {options.steps} steps",
              flush=True)
        results[name] = runs.launch(os.path.abspath(__file__), world_size, [*given, f"--norm={norm}"])
    runs.table(
        ["run", "test accuracy", "ms a step", "largest parameter difference to one process"],
        [[name, f"{100 * run['accuracy']:.1f} %", f"{1e3 * run['seconds'] / options.steps:.1f}",
          f"{difference(run, results['whole']):.1e}" if name != "whole" else ""]
         for name, run in results.items()])
    os.makedirs(options.out, exist_ok=True)
    draw(results, os.path.join(options.out, "resnet.png"))
    if difference(results["sync"], results["whole"]) > BOUND:
        print(f"sync and whole differ by more than {BOUND}")
        return 1
    return 0


if __name__ == "__main__":
    sys.exit(main())

#!/usr/bin/env python3
"""A small character Transformer on quotations (Debian's fortunes-min), under
DistributedDataParallel, with three norms:

  layer   LayerNorm
  local   PowerNorm, each process by its own statistics
  sync    PowerNorm by the statistics of all processes: syncnorm

with 2 and with 4 processes.  Quotations have different lengths, so there is padding.  Prints a
table, with how long the synchronised norms stood still for the network, in warm-up and after it,
and draws OUT/chars.png.

usage: chars.py [--out DIR] [--steps N] ...
One run of it elsewhere: torchrun --nproc_per_node=4 chars.py --norm=sync
"""
import argparse
import math
import os
import sys
import time

import torch
import torch.distributed as dist
from torch import nn
from torch.nn.parallel import DistributedDataParallel

import runs
from syncnorm.torch import SyncPowerNorm

DATA = "/usr/share/games/fortunes"
FILES = ("fortunes", "literature", "riddles")


class Norm(nn.Module):
    """Of (B, T, C), with padding (B, T)."""

    def __init__(self, kind, width, warmup):
        super().__init__()
        self.norm = nn.LayerNorm(width) if kind == "layer" else SyncPowerNorm(
            width, warmup_iters=warmup, group_num=4, semantics="paper")

    def forward(self, x, padding):
        if isinstance(self.norm, nn.LayerNorm):
            return self.norm(x)
        return self.norm(x.transpose(0, 1), padding).transpose(0, 1)


class Layer(nn.Module):
    def __init__(self, norm, width, heads):
        super().__init__()
        self.attention = nn.MultiheadAttention(width, heads, batch_first=True)
        self.mlp = nn.Sequential(nn.Linear(width, 4 * width), nn.GELU(), nn.Linear(4 * width, width))
        self.norm1, self.norm2 = norm(), norm()

    def forward(self, x, padding, future):
        y = self.norm1(x, padding)
        x = x + self.attention(y, y, y, attn_mask=future, key_padding_mask=padding,
                               need_weights=False)[0]
        return x + self.mlp(self.norm2(x, padding))


class Transformer(nn.Module):
    def __init__(self, characters, norm, width=48, heads=4, layers=2, length=64):
        super().__init__()
        self.characters = nn.Embedding(characters, width)
        self.positions = nn.Parameter(torch.randn(length, width) * 0.02)
        self.layers = nn.ModuleList(Layer(norm, width, heads) for _ in range(layers))
        self.norm = norm()
        self.head = nn.Linear(width, characters)

    def forward(self, text, padding):
        x = self.characters(text) * math.sqrt(self.positions.shape[1]) + self.positions[:text.shape[1]]
        future = torch.ones(text.shape[1], text.shape[1], dtype=torch.bool).triu(1)
        for layer in self.layers:
            x = layer(x, padding, future)
        return self.head(self.norm(x, padding))


class Quotations:
    """Pieces of at most length + 1 characters, padded."""

    def __init__(self, length):
        text = []
        for name in FILES:
            with open(os.path.join(DATA, name), encoding="utf-8") as f:
                text += [q for q in f.read().split("\n%\n") if len(q) > 8]
        self.alphabet = ["", *sorted(set("".join(text)))]
        index = {character: i for i, character in enumerate(self.alphabet)}
        self.length = length
        numbers = [torch.tensor([index[c] for c in q]) for q in text]
        self.train = [q for i, q in enumerate(numbers) if i % 10]
        self.test = [q for i, q in enumerate(numbers) if i % 10 == 0]

    def batch(self, quotations, size, generator):
        """Input, target (-1: none) and padding, each (size, length)."""
        pieces = torch.zeros(size, self.length + 1, dtype=torch.long)
        for row in range(size):
            quotation = quotations[torch.randint(len(quotations), (1,), generator=generator).item()]
            most = max(1, len(quotation) - self.length)
            begin = torch.randint(most, (1,), generator=generator).item()
            piece = quotation[begin:begin + self.length + 1]
            pieces[row, :len(piece)] = piece
        padding = pieces[:, :-1] == 0
        padding[:, 0] = False  # attention needs one
        return pieces[:, :-1], pieces[:, 1:].masked_fill(pieces[:, 1:] == 0, -1), padding


def work(options):
    """One worker of one run."""
    import syncnorm

    torch.set_num_threads(1)
    dist.init_process_group("gloo")
    rank, world_size = dist.get_rank(), dist.get_world_size()
    if options.norm == "sync":
        syncnorm.init()
    data = Quotations(options.length)
    torch.manual_seed(options.seed)
    model = Transformer(len(data.alphabet), lambda: Norm(options.norm, 48, options.warmup),
                        length=options.length)
    # Statistics are each process's own matter, or syncnorm's: never rank 0's for all.
    trained = DistributedDataParallel(model, broadcast_buffers=False)
    optimiser = torch.optim.Adam(model.parameters(), options.lr)
    generator = torch.Generator().manual_seed(1000 * options.seed + rank)
    norms = [m for m in model.modules() if isinstance(m, SyncPowerNorm)]
    losses, waits, waited, began = [], [0], [0.0], time.monotonic()
    for step in range(options.steps):
        text, target, padding = data.batch(data.train, options.batch // world_size, generator)
        optimiser.zero_grad()
        loss = nn.functional.cross_entropy(trained(text, padding).flatten(0, 1), target.flatten(),
                                           ignore_index=-1)
        loss.backward()
        nn.utils.clip_grad_norm_(model.parameters(), 1.0)
        optimiser.step()
        losses.append(loss.item())
        if step + 1 in (options.warmup, options.steps):
            waits.append(sum(norm.blocking_waits for norm in norms))
            waited.append(sum(norm.waited_seconds for norm in norms))
    seconds = time.monotonic() - began
    model.eval()
    test = torch.Generator().manual_seed(7)
    with torch.no_grad():
        score = sum(nn.functional.cross_entropy(
            model(text, padding).flatten(0, 1), target.flatten(), ignore_index=-1).item()
            for text, target, padding in (data.batch(data.test, 16, test) for _ in range(8))) / 8
    losses = runs.mean_over_workers(losses)
    runs.result({"losses": losses, "test": score, "seconds": seconds, "waits": waits,
                 "waited": waited, "norms": len(norms)})
    syncnorm.shutdown()
    dist.destroy_process_group()


def draw(results, path):
    import matplotlib

    matplotlib.use("Agg")
    import matplotlib.pyplot as plt

    # Local and synchronised lie close to each other: one is a broad line below the other.
    styles = {"local": dict(color="#E69F00", linewidth=4, alpha=0.8),
              "sync": dict(color="#000000", linewidth=1.3),
              "layer": dict(color="#0072B2", linewidth=1.6, linestyle=":")}
    sizes = sorted({size for _, size in results})
    figure, panels = plt.subplots(1, len(sizes), figsize=(5.5 * len(sizes), 4.5), dpi=130,
                                  sharey=True, squeeze=False)
    for axes, size in zip(panels[0], sizes):
        for norm, style in styles.items():
            losses = results[norm, size]["losses"]
            axes.plot(*runs.smoothed(losses, max(1, len(losses) // 40)), label=norm, **style)
        axes.set_ylim(top=losses[len(losses) // 10])  # not the fall of the first steps
        axes.set_title(f"{size} processes", fontsize=10)
        axes.set_xlabel("step")
        axes.grid(alpha=0.3)
        axes.legend()
    panels[0][0].set_ylabel("cross entropy a character")
    figure.suptitle("Characters of quotations: LayerNorm, PowerNorm local and synchronised", fontsize=11)
    figure.tight_layout()
    figure.savefig(path)
    print(path)


def main():
    parser = argparse.ArgumentParser(description=__doc__,
                                     formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--out", default=".")
    parser.add_argument("--workers", default="2,4", help="numbers of processes")
    parser.add_argument("--batch", type=runs.positive, default=16, help="quotations a step, of all workers")
    parser.add_argument("--steps", type=runs.positive, default=240)
    parser.add_argument("--warmup", type=int, default=60, help="warmup_iters of PowerNorm")
    parser.add_argument("--length", type=runs.positive, default=64)
    parser.add_argument("--lr", type=float, default=3e-3)
    parser.add_argument("--seed", type=int, default=1)
    parser.add_argument("--norm", choices=("layer", "local", "sync"),
                        help="of one worker; set by this script")
    options = parser.parse_args()
    if runs.is_worker():
        return work(options)
    if not os.path.isdir(DATA):
        print(f"SKIPPED: no text in {DATA} (Debian: fortunes-min)")
        return 77
    results = {}
    given = [f"--{name}={getattr(options, name)}" for name in (
        "batch", "steps", "warmup", "length", "lr", "seed")]
    for size in map(int, options.workers.split(",")):
        for norm in ("layer", "local", "sync"):
            print(f"{norm}: {size} x {options.batch // size} quotations, {options.steps} steps",
                  flush=True)
            results[norm, size] = runs.launch(os.path.abspath(__file__), size,
                                              [*given, f"--norm={norm}"])
    rows = []
    for (norm, size), run in results.items():
        _, warm, all_of_them = run["waits"]
        rows.append([norm, size, f"{run['test']:.3f}", f"{1e3 * run['seconds'] / options.steps:.1f}",
                     f"{warm} ({1e3 * run['waited'][1]:.0f} ms)",
                     f"{all_of_them - warm} ({1e3 * (run['waited'][2] - run['waited'][1]):.0f} ms)"])
    runs.table(["norm", "processes", "test loss", "ms a step", "waits in warm-up", "waits after it"],
               rows)
    os.makedirs(options.out, exist_ok=True)
    draw(results, os.path.join(options.out, "chars.png"))
    return 0


if __name__ == "__main__":
    sys.exit(main())

#!/usr/bin/env python3
"""Runs rounds over real sockets for long, and looks whether memory and descriptors stay where they
are.

usage: soak.py BUILD [--rounds N]

The long form:  tests/e2e/soak.py build/release --rounds 1000000

Resident memory of the coordinator and of each worker is sampled once a second, or oftener in a
short run; after a warm-up (the first half: the allocator's arenas, and gRPC's pools, take a few hundred
thousand rounds to find their size) a straight line is laid through the samples.
"""
import argparse
import sys
import time

try:
    import numpy as np
    import harness
except ImportError as e:
    print(f"SKIP: {e} (Debian: python3-numpy)")
    sys.exit(77)

LAYERS = 50  # 100 rounds a step
# What a leak of one byte a round would show in a million.  Below it is the allocator's noise:
# a thread's arena that grows once by a page or two.
ALLOWED_KIB_PER_MILLION = 1024
# And in a short run, in which noise divided by few rounds looks like much.
ALLOWED_KIB = 512


def sample(processes, samples, done):
    for process in processes:
        samples[process.name].append((done, process.rss_kib(), process.descriptors()))


def steps_done(worker):
    """From the lines that it has said since the last look."""
    while not worker.queue.empty():
        _, line = worker.queue.get()
        if line is None:
            worker.queue.put((0, None))
            break
        worker.lines.append(line)
    line = worker.line("step ")
    del worker.lines[:-10]
    return int(line.split()[1]) if line else 0


def judge(name, samples, rounds):
    """A line of the report; fails if memory or descriptors grow."""
    x, rss, descriptors = (np.array(column, dtype=float) for column in zip(*samples))
    fifths = [rss[(x >= rounds * i / 5) & (x < rounds * (i + 1) / 5)] for i in range(5)]
    kept = x >= rounds / 2
    assert kept.sum() >= 5, f"{name}: {kept.sum()} samples are too few"
    x, rss, descriptors = x[kept], rss[kept], descriptors[kept]
    slope = np.polyfit(x, rss, 1)[0]  # KiB a round
    growth = slope * (x[-1] - x[0])
    means = " ".join(f"{fifth.mean() / 1024:.2f}" for fifth in fifths if fifth.size)
    print(f"{name}: RSS {means} MiB (means of fifths), {slope * 1e6:+.0f} KiB a million rounds "
          f"in the second half; descriptors {descriptors.min():.0f} to {descriptors.max():.0f}; "
          f"{kept.sum()} samples")
    allowed = max(ALLOWED_KIB, ALLOWED_KIB_PER_MILLION * (x[-1] - x[0]) / 1e6)
    assert growth <= allowed, f"{name} grew by {growth:.0f} KiB, allowed are {allowed:.0f}"
    assert descriptors[-1] <= descriptors[0], f"{name} holds more descriptors than before"


def main():
    parser = argparse.ArgumentParser(description=__doc__,
                                     formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("build")
    parser.add_argument("--rounds", type=int, default=20_000)
    parser.add_argument("--workers", type=int, default=2)
    parser.add_argument("--window", type=int, default=16)
    options = parser.parse_args()
    steps = -(-options.rounds // (2 * LAYERS))
    with harness.World(harness.Programs(options.build)) as world:
        coordinator = world.coordinator()
        workers = [world.worker(rank, options.workers, "--progress", "--history=", steps=steps,
                                layers=LAYERS, channels=8, window=options.window)
                   for rank in range(options.workers)]
        processes = [coordinator, *workers]
        samples = {p.name: [] for p in processes}
        workers[0].wait_line("step 0")
        start = time.monotonic()
        pause = min(1.0, options.rounds / 1e6)
        while all(w.running() for w in workers):
            time.sleep(pause)
            done = steps_done(workers[0]) * 2 * LAYERS
            try:
                sample(processes, samples, done)
            except (OSError, StopIteration):
                break  # a worker has ended meanwhile
        for worker in workers:
            assert worker.wait() == 0, str(worker)
        harness.digests(workers)
        seconds = time.monotonic() - start
        print(f"{steps * 2 * LAYERS} rounds of {options.workers} workers in {seconds:.1f} s")
        for name, values in samples.items():
            judge(name, values, steps * 2 * LAYERS)
    return 0


if __name__ == "__main__":
    sys.exit(main())

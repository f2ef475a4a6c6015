#!/usr/bin/env python3
"""Kills the coordinator at random times of a training run, starts it again on the same address,
and holds the end of the run against an undisturbed one, bit for bit.

usage: kills.py BUILD [--trainer chaos|fashion_mnist] [--kills N] [--seed S] ...

  chaos          chaos workers, synchronous and with several rounds under way; histories are checked
  fashion_mnist  the example, whose saved parameters are compared bit for bit

The long form:  tests/e2e/kills.py build/release --kills 200
                tests/e2e/kills.py build/release --kills 200 --trainer fashion_mnist
Exit status 77: skipped, says what is missing.
"""
import argparse
import os
import random
import subprocess
import sys
import time

try:
    import harness
except ImportError as e:
    print(f"SKIP: {e} (Debian: python3-numpy)")
    sys.exit(77)

DATA = "/usr/share/datasets/fashion-mnist"


class Killer:
    """Kills at random times, `kills` times, while `workers` run; says when and how it went."""

    def __init__(self, world, kills, rng, pause):
        self.world, self.kills, self.rng, self.pause = world, kills, rng, pause
        self.done = 0

    def run(self, coordinator, workers):
        while self.done < self.kills and all(w.running() for w in workers):
            time.sleep(self.rng.uniform(0, self.pause))
            coordinator, _ = self.world.restart(coordinator)
            self.done += 1


def chaos(options, programs):
    rng = random.Random(options.seed)
    named = {"layers": 4, "channels": 32, "seed": options.seed, "round_timeout": "20s"}
    # A step is 8 rounds with a millisecond between two.
    steps = options.steps or max(50, options.kills * 12)
    windows = {"each": lambda r: {"window": (0, 5, 16)[r % 3]}}
    expected = harness.undisturbed(programs, options.workers, steps=steps, **named)
    with harness.World(programs) as world:
        coordinator = world.coordinator()
        workers = world.workers(options.workers, steps=steps, compute="1ms", progress=True,
                                **windows, **named)
        workers[0].wait_line("step 1")
        start = time.monotonic()
        killer = Killer(world, options.kills, rng, options.pause)
        killer.run(coordinator, workers)
        for worker in workers:
            assert worker.wait(120) == 0, str(worker)
        seconds = time.monotonic() - start
        assert killer.done == options.kills, \
            f"the run was over after {killer.done} kills: give it more --steps"
        got = harness.digests(workers)
        assert got == expected, f"{got}, undisturbed {expected}"
        refused = [f for w in workers for f in harness.failures(w)]
        assert not refused, f"calls failed: {refused[0]}"
        codes = world.check_histories()
        print(f"{killer.done} kills in {seconds:.1f} s; {dict(codes)}; every result is that of the "
              f"undisturbed run ({got})")


def fashion_mnist(options, programs):
    if not os.path.exists(programs.trainer):
        raise harness.Skipped("the example is not built: it needs LibTorch")
    if not os.path.isdir(DATA):
        raise harness.Skipped(f"no folder {DATA} (Debian: dataset-fashion-mnist)")
    rng = random.Random(options.seed)
    # 14 to 20 steps a second; what a kill costs comes on top.
    steps = options.steps or max(40, options.kills * 5)

    def train(world, tag):
        return [world.add(harness.Process(
            f"{tag}{rank}", [programs.trainer, "--mode=sync", f"--steps={steps}", "--batch=8",
                             "--lr=0.01", "--seed=1", "--dtype=float64", "--eval_every=10",
                             "--test_images=16", "--final_test_images=16", "--threads=1",
                             f"--rank={rank}", f"--world={options.workers}",
                             f"--address={world.address}",
                             f"--save={os.path.join(world.folder, f'{tag}{rank}.pt')}"],
            world.folder, env={"OMP_NUM_THREADS": "1"})) for rank in range(options.workers)]

    with harness.World(programs) as world:
        coordinator = world.coordinator()
        for worker in train(world, "undisturbed"):
            assert worker.wait(600) == 0, str(worker)
        workers = train(world, "killed")
        workers[0].wait_line("step ", timeout=60)
        start = time.monotonic()
        killer = Killer(world, options.kills, rng, options.pause)
        killer.run(coordinator, workers)
        for worker in workers:
            assert worker.wait(600) == 0, str(worker)
        assert killer.done == options.kills, \
            f"the run was over after {killer.done} kills: give it more --steps"
        for rank in range(options.workers):
            files = [os.path.join(world.folder, f"{tag}{rank}.pt")
                     for tag in ("undisturbed", "killed")]
            text = subprocess.run([programs.trainer, "--compare=" + ",".join(files)],
                                  capture_output=True, text=True, check=True).stdout
            assert float(text.split()[3]) == 0.0, f"rank {rank}: {text}"
        print(f"{killer.done} kills in {time.monotonic() - start:.1f} s of {steps} steps; "
              f"all parameters are those of the undisturbed run, bit for bit")


def main():
    parser = argparse.ArgumentParser(description=__doc__,
                                     formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("build")
    parser.add_argument("--trainer", choices=("chaos", "fashion_mnist"), default="chaos")
    parser.add_argument("--kills", type=int, default=20)
    parser.add_argument("--workers", type=int, default=3)
    parser.add_argument("--steps", type=int, default=0, help="0: enough for the kills")
    parser.add_argument("--pause", type=float, default=0.2, help="s between two kills, at most")
    parser.add_argument("--seed", type=int, default=random.SystemRandom().randrange(1 << 32))
    options = parser.parse_args()
    print(f"again: kills.py {' '.join(sys.argv[1:])} --seed {options.seed}", flush=True)
    run = chaos if options.trainer == "chaos" else fashion_mnist
    try:
        run(options, harness.Programs(options.build))
    except harness.Skipped as why:
        print(f"SKIP: {why}")
        return 77
    return 0


if __name__ == "__main__":
    sys.exit(main())

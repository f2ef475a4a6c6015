#!/usr/bin/env python3
"""The example trainer in a group that shrinks: a worker is killed, another one is told to stop, both
are started again while the others train, and the end is that of one process with whole batches.

usage: members_come_and_go.py BUILD [--steps N]

Exit status 77: skipped, says what is missing.
"""
import argparse
import os
import subprocess
import sys

try:
    import harness
except ImportError as e:
    print(f"SKIP: {e} (Debian: python3-numpy)")
    sys.exit(77)

DATA = "/usr/share/datasets/fashion-mnist"
WORKERS = 3
BATCH = 6
# The demo's bound; measured up to 1e-12.  A slice that is missing in one step shows at 1e-3.
BOUND = 1e-9


class Run:
    def __init__(self, world, trainer, steps):
        self.world, self.trainer, self.steps = world, trainer, steps

    def path(self, name):
        return os.path.join(self.world.folder, name)

    def start(self, name, *flags):
        common = [f"--steps={self.steps}", f"--batch={BATCH}", "--lr=0.01", "--dtype=float64",
                  "--eval_every=0", "--test_images=10", "--final_test_images=10"]
        return self.world.add(harness.Process(
            name, [self.trainer, *common, *flags], self.world.folder,
            env={"OMP_NUM_THREADS": "1", "SYNCNORM_ON_LOSS": "shrink"}))

    def worker(self, rank, again=""):
        # Late on purpose, so that those who come again find the others at work on any machine.
        return self.start(f"rank{rank}{again}", f"--rank={rank}", f"--world={WORKERS}",
                          f"--address={self.world.address}", "--slow_rank=0", "--slow=30ms",
                          f"--save={self.path('rank{rank}.pt')}")

    def comes_back(self, rank, others):
        """Its process, once it has been let in."""
        again = self.worker(rank, again="again")
        line = again.wait_line(f"rank {rank} joined before step ", timeout=60)
        step = int(line.split("step ")[1].split(":")[0])
        assert 1 < step <= self.steps, line
        assert line.endswith("members 0,1,2"), line
        for other in others:
            assert other.wait_line(f"rank {other.name[4]} before step {step}:") \
                .endswith("members 0,1,2"), str(other)
        return again

    def differences(self, *files):
        text = subprocess.run([self.trainer, "--compare=" + ",".join(map(self.path, files))],
                              capture_output=True, text=True, check=True).stdout
        return [float(line.split()[3]) for line in text.splitlines()]


def run(programs, steps):
    if not os.path.exists(programs.trainer):
        raise harness.Skipped("the example is not built: it needs LibTorch")
    if not os.path.isdir(DATA):
        raise harness.Skipped(f"no folder {DATA} (Debian: dataset-fashion-mnist)")
    with harness.World(programs) as world:
        world.coordinator()
        this = Run(world, programs.trainer, steps)
        first, second, third = (this.worker(rank) for rank in range(WORKERS))
        first.wait_line("step 10 ", timeout=60)
        third.kill()
        assert first.wait_line("rank 0 before step ").endswith("members 0,1"), str(first)
        third = this.comes_back(2, (first, second))
        second.terminate()
        assert second.wait(30) == 128 + 15, str(second)
        second = this.comes_back(1, (first, third))
        for worker in (first, second, third):
            assert worker.wait(120) == 0, str(worker)
        assert this.start("whole", "--mode=whole", f"--save={this.path('whole.pt')}").wait(120) == 0
        replicas = this.differences("rank1.pt", "rank2.pt", "rank0.pt")
        assert replicas == [0, 0], f"the ranks differ: {replicas}"
        (difference,) = this.differences("rank0.pt", "whole.pt")
        assert difference <= BOUND, f"{difference:.2e}"
        print(f"{steps} steps, two workers away for a while: {difference:.1e} from one process")


def main():
    parser = argparse.ArgumentParser(description=__doc__,
                                     formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("build")
    parser.add_argument("--steps", type=int, default=250)
    options = parser.parse_args()
    try:
        run(harness.Programs(options.build), options.steps)
    except harness.Skipped as why:
        print(f"SKIP: {why}")
        return 77
    return 0


if __name__ == "__main__":
    sys.exit(main())

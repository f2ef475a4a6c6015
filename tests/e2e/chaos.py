#!/usr/bin/env python3
"""A chaos run: faults at random on real processes, and their histories held against the promise.

usage: chaos.py BUILD [--seconds T] [--seed S] [--policy fail|shrink]

Workers are killed and started again, stopped and continued; the coordinator is killed and started
again on its address; proxies between them reset, hold back and delay.  Afterwards, with all of
that over, every worker must get on.  The seed decides which faults come in which order and after
which pause; what they meet is up to the machine.
"""
import argparse
import collections
import random
import sys
import time

try:
    import harness
except ImportError as e:
    print(f"SKIP: {e} (Debian: python3-numpy)")
    sys.exit(77)

ROUND_TIMEOUT = 1.0  # s: scaled down, so that a run meets it often
# Likewise: a rank that is started again while others resume, say, is waited for no longer.
COORDINATOR_FLAGS = ("--join_timeout=20s", "--resume_timeout=10s")


class Chaos:
    def __init__(self, world, rng, options):
        self.world, self.rng, self.options = world, rng, options
        self.counts = collections.Counter()
        self.coordinator = world.coordinator(*COORDINATOR_FLAGS)
        self.proxies = [world.proxy(rng.randrange(1 << 30)) for _ in range(options.workers)]
        self.workers = [self.start(rank) for rank in range(options.workers)]

    def start(self, rank):
        return self.world.worker(
            rank, self.options.workers, "--progress", address=self.proxies[rank].address,
            steps=1_000_000, layers=3, compute="1ms", window=(0, 4)[rank % 2], rejoin="60s",
            host=f"h{rank // 2}", round_timeout=f"{ROUND_TIMEOUT:g}s", seed=self.options.seed,
            on_loss=self.options.policy)

    # Faults.  Each leaves behind it what was there before.

    def worker_killed(self):
        rank = self.rng.randrange(len(self.workers))
        self.workers[rank].kill()
        time.sleep(self.rng.choice((0, 0.05, 0.4)))
        self.workers[rank] = self.start(rank)

    def worker_stopped(self):
        worker = self.rng.choice(self.workers)
        if not worker.running():
            return
        start = worker.stop()
        time.sleep(self.rng.choice((0.05, 0.3, 1.5 * ROUND_TIMEOUT)))
        self.world.paused(worker, start, worker.resume())

    def coordinator_killed(self):
        self.coordinator.kill()
        time.sleep(self.rng.choice((0, 0, 0.2)))
        self.coordinator, _ = self.world.restart(self.coordinator, *COORDINATOR_FLAGS)

    def coordinator_stopped(self):
        self.coordinator.stop()
        time.sleep(self.rng.choice((0.02, 0.2)))
        self.coordinator.resume()

    def connection_reset(self):
        self.rng.choice(self.proxies).do("reset")

    def answers_lost(self):
        proxy = self.rng.choice(self.proxies)
        proxy.do("drop down")
        time.sleep(self.rng.uniform(0, 0.02))
        proxy.do("reset")
        proxy.do("release")

    def packets_held(self):
        proxy = self.rng.choice(self.proxies)
        proxy.do("hold " + self.rng.choice(("up", "down", "both")))
        time.sleep(self.rng.choice((0.01, 0.1, 1.2 * ROUND_TIMEOUT)))
        proxy.do("release")

    def connection_delayed(self):
        proxy = self.rng.choice(self.proxies)
        proxy.do(f"delay {self.rng.randrange(1, 20)}")
        time.sleep(0.1)
        proxy.do("delay 0")

    FAULTS = ((worker_killed, 2), (worker_stopped, 2), (coordinator_killed, 3),
              (coordinator_stopped, 1), (connection_reset, 3), (answers_lost, 2),
              (packets_held, 2), (connection_delayed, 1))

    def run(self):
        faults, weights = zip(*self.FAULTS)
        end = time.monotonic() + self.options.seconds
        while time.monotonic() < end:
            time.sleep(self.rng.uniform(0, 0.3))
            fault = self.rng.choices(faults, weights)[0]
            self.counts[fault.__name__] += 1
            fault(self)
            for worker in self.workers:
                assert worker.running(), f"gave up: {worker}"

    def calm(self):
        """Every worker does further steps now that nothing disturbs it."""
        for worker in self.workers:
            self.catch_up(worker)
            for _ in range(3):
                worker.wait_line("step ", timeout=60)

    @staticmethod
    def catch_up(worker):
        """Forgets the lines of the past."""
        while not worker.queue.empty():
            worker.wait_line("", timeout=1)


def main():
    parser = argparse.ArgumentParser(description=__doc__,
                                     formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("build")
    parser.add_argument("--seconds", type=float, default=20)
    parser.add_argument("--workers", type=int, default=4)
    parser.add_argument("--policy", choices=("fail", "shrink"), default="fail")
    parser.add_argument("--slack", type=float, default=250,
                        help="ms that a busy machine may take beyond the promised 100")
    parser.add_argument("--seed", type=int, default=random.SystemRandom().randrange(1 << 32))
    options = parser.parse_args()
    print(f"again: chaos.py {' '.join(sys.argv[1:])} --seed {options.seed}", flush=True)
    with harness.World(harness.Programs(options.build)) as world:
        chaos = Chaos(world, random.Random(options.seed), options)
        for worker in chaos.workers:
            worker.wait_line("joined ")
        chaos.run()
        chaos.calm()
        for worker in chaos.workers:
            worker.kill()
        codes = world.check_histories(slack_ms=options.slack)
        print("faults: " + ", ".join(f"{n} {name}" for name, n in chaos.counts.most_common()))
        print("calls: " + ", ".join(f"{n} {code}" for code, n in codes.most_common()) +
              "; no violation")
    return 0


if __name__ == "__main__":
    sys.exit(main())

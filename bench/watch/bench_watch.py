#!/usr/bin/env python3
"""What it costs a coordinator to be watched, at full load.

One coordinator, and workers that reduce as fast as they can, all the time.  Stretches follow one
another, in random order within a repetition:

  alone       nobody asks anything
  watched     Prometheus scrapes every 5 s (three times as often as usual), and one person has the
              status page open, which asks for two answers every 2 s
  crowd       ten times that

Of each stretch: CPU time of the whole coordinator process, user and system, per complete round, and
the ratio to the "alone" of the same repetition; and what of it was not the thread that folds, which
is the admin port's (the folding thread only copies: 0.1 ms an answer).  All results of the rounds are
verified by the workers.

On two cores the ratio is noise of 10 % and more, as the rounds' CPU time depends on who shares a core
with whom; whoever asks is on this machine, too.  The shares do not depend on that.

usage: bench_watch.py BUILD [--workers W] [--channels C] [--layers L] [--seconds S]
                            [--repetitions N] [--json FILE]
"""
import argparse
import json
import os
import random
import statistics
import subprocess
import sys
import tempfile
import threading
import time
import urllib.request

STRETCHES = {"alone": 0, "watched": 1, "crowd": 10}
SCRAPE_S = 5
PAGE_S = 2
# More than anybody waits for; a worker keeps 8 bytes of each.
MANY_ROUNDS = 20_000_000


def positive(text):
    value = float(text) if "." in text else int(text)
    if value <= 0:
        raise argparse.ArgumentTypeError(f"{text} is not above 0")
    return value


class Coordinator:
    def __init__(self, build, folder):
        port_file = os.path.join(folder, "port")
        self.log = open(os.path.join(folder, "coordinator.log"), "w+", encoding="utf-8")
        self.process = subprocess.Popen(
            [os.path.join(build, "server/syncnorm-coordinator"), "--listen=127.0.0.1:0",
             "--admin_listen=127.0.0.1:0", "--port_file=" + port_file],
            stdout=subprocess.PIPE, stderr=self.log, text=True)
        self.admin = None
        for line in self.process.stdout:
            if line.startswith("status page on "):
                self.admin = line.split()[-1].rsplit("/", 1)[0]
                break
        if self.admin is None:
            self.log.seek(0)
            raise SystemExit("bench_watch: the coordinator did not start: " + self.log.read())
        with open(port_file, encoding="utf-8") as f:
            self.address = "127.0.0.1:" + f.read().strip()

    def get(self, path):
        with urllib.request.urlopen(self.admin + path, timeout=20) as answer:
            return answer.read()

    def rounds(self):
        return json.loads(self.get("/statusz.json"))["status"]["rounds_completed"]

    def cpu_s(self):
        """(of the process since its start, of the threads but the busiest one), by the scheduler."""
        threads = []
        tasks = f"/proc/{self.process.pid}/task"
        for task in os.listdir(tasks):
            with open(os.path.join(tasks, task, "schedstat"), encoding="utf-8") as f:
                threads.append(int(f.read().split()[0]) / 1e9)
        return sum(threads), sum(threads) - max(threads)

    def close(self):
        self.process.terminate()
        self.process.wait(30)
        self.log.close()


class Watchers:
    """`number` of people with the page open, and as many Prometheuses."""

    def __init__(self, coordinator, number):
        self.coordinator = coordinator
        self.stop = threading.Event()
        self.failed = []
        self.threads = []
        for i in range(number):
            # Spread evenly, as they would be.
            self.start(["/metrics"], SCRAPE_S, SCRAPE_S * i / number)
            self.start(["/statusz.json", "/statusz.json?group=bench&timeline=1"], PAGE_S,
                       PAGE_S * i / number)

    def start(self, paths, every_s, first_s):
        def ask():
            wait = first_s
            while not self.stop.wait(wait):
                try:
                    for path in paths:
                        self.coordinator.get(path)
                except OSError as error:
                    self.failed.append(str(error))
                    return
                wait = every_s
        self.threads.append(threading.Thread(target=ask, daemon=True))
        self.threads[-1].start()

    def end(self):
        self.stop.set()
        for thread in self.threads:
            thread.join()
        if self.failed:
            raise SystemExit("bench_watch: the admin port did not answer: " + self.failed[0])


def start_workers(build, coordinator, options, folder):
    workers = []
    for rank in range(options.workers):
        role = {"role": "worker", "lane": "syncnorm", "workers": options.workers,
                "channels": options.channels, "warmup_rounds": 10, "rounds": MANY_ROUNDS,
                "rank": rank, "own_address": "127.0.0.1",
                "coordinator_address": coordinator.address, "dir": folder}
        workers.append(subprocess.Popen(
            [os.path.join(build, "bench/latency/bench_latency"), "--role=" + json.dumps(role)],
            stdout=subprocess.DEVNULL, stderr=subprocess.PIPE, text=True))
    return workers


def stretch(coordinator, number, seconds):
    """CPU seconds of the coordinator per round, share of its other threads, rounds per second."""
    rounds, (cpu, others) = coordinator.rounds(), coordinator.cpu_s()
    started = time.monotonic()
    watchers = Watchers(coordinator, number)
    time.sleep(seconds)
    watchers.end()
    cpu, others = (now - was for now, was in zip(coordinator.cpu_s(), (cpu, others)))
    took = time.monotonic() - started
    rounds = coordinator.rounds() - rounds
    return cpu / rounds, others / cpu, rounds / took


def main():
    parser = argparse.ArgumentParser(description=__doc__,
                                     formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("build")
    parser.add_argument("--workers", type=positive, default=2)
    parser.add_argument("--channels", type=positive, default=256)
    parser.add_argument("--seconds", type=positive, default=5, help="of a stretch")
    parser.add_argument("--repetitions", type=positive, default=12)
    parser.add_argument("--seed", type=int, default=None)
    parser.add_argument("--json", help="also write the results to this file")
    options = parser.parse_args()
    seed = options.seed if options.seed is not None else random.randrange(2**31)
    order = random.Random(seed)
    print(f"{options.workers} workers, {options.channels} channels, {options.repetitions} x "
          f"{options.seconds} s of each; seed {seed}")

    samples = {name: [] for name in STRETCHES}
    with tempfile.TemporaryDirectory() as folder:
        coordinator = Coordinator(options.build, folder)
        workers = start_workers(options.build, coordinator, options, folder)
        try:
            while coordinator.rounds() < 1000:
                if any(worker.poll() is not None for worker in workers):
                    raise SystemExit("bench_watch: a worker ended: " + workers[0].stderr.read())
                time.sleep(0.1)
            for _ in range(options.repetitions):
                names = list(STRETCHES)
                order.shuffle(names)
                for name in names:
                    samples[name].append(
                        stretch(coordinator, STRETCHES[name], options.seconds))
            if any(worker.poll() is not None for worker in workers):
                raise SystemExit("bench_watch: a worker ended before the end")
        finally:
            for worker in workers:
                worker.kill()
                worker.wait()
            coordinator.close()

    rows = []
    for name, taken in samples.items():
        ratios = [one[0] / alone[0] for one, alone in zip(taken, samples["alone"])]
        rows.append({"bench": "watch", "stretch": name, "workers": options.workers,
                     "channels": options.channels,
                     "cpu_us_per_round": statistics.median(one[0] for one in taken) * 1e6,
                     "rounds_per_s": statistics.median(one[2] for one in taken),
                     "admin_port_share": statistics.median(one[1] for one in taken),
                     "cpu_ratio_to_alone": statistics.median(ratios),
                     "cpu_ratio_min": min(ratios), "cpu_ratio_max": max(ratios)})
    print(f"{'':10} {'CPU us/round':>13} {'rounds/s':>10} {'admin port':>11} {'ratio to alone':>15}")
    for row in rows:
        print(f"{row['stretch']:10} {row['cpu_us_per_round']:13.2f} {row['rounds_per_s']:10.0f} "
              f"{row['admin_port_share']:11.2%} {row['cpu_ratio_to_alone']:15.4f}  ({row['cpu_ratio_min']:.3f}.."
              f"{row['cpu_ratio_max']:.3f})")
    if options.json:
        with open(options.json, "w", encoding="utf-8") as f:
            f.write("[\n" + ",\n".join(json.dumps(row) for row in rows) + "\n]\n")
    return 0


if __name__ == "__main__":
    sys.exit(main())

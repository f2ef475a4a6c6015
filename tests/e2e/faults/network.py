"""Rows 11 to 18: the network cuts, loses, delays, repeats, resets.

A host for the coordinator, number 0, and one for each worker; row 14 has a proxy instead.
"""
import time

import harness
from netlab import Netlab


class Cluster:
    """Three workers and a coordinator on hosts of their own."""

    def __init__(self, world, **named):
        self.world, self.named = world, named
        self.net = Netlab(4)

    def __enter__(self):
        net = self.net.__enter__()
        self.world.coordinator("--insecure", address=f"{net.address(0)}:0", prefix=net.on(0))
        return self

    def __exit__(self, *arguments):
        for process in self.world.processes:
            process.end()
        self.net.__exit__(*arguments)

    def workers(self, **named):
        return self.world.workers(
            3, each=lambda r: {"prefix": self.net.on(r + 1), "host": f"h{r + 1}"},
            progress=True, **named)


def only_latency(world, steps, commands, at=None, **named):
    """What the network does, from the start or from step `at`, costs time, and not a bit of a
    result.  Returns the p99 of a call."""
    hosts = ["h1", "h2", "h3"]
    with Cluster(world) as cluster:
        expected = on_loopback(world.programs, hosts, steps, **named)
        if at is None:
            cluster.net.set(*commands)
        workers = cluster.workers(steps=steps, round_timeout="60s", **named)
        if at is not None:
            workers[0].wait_line(f"step {at}")
            cluster.net.set(*commands)
        for worker in workers:
            assert worker.wait(100) == 0, str(worker)
        assert harness.digests(workers) == expected
        world.check_histories()
        p99 = percentile([t for w in workers for t in latencies(w)], 99)
        print(f"{', '.join(commands)}: p99 of a round {p99 / 1000:.1f} ms")
        return p99


def on_loopback(programs, hosts, steps, **named):
    with harness.World(programs) as w:
        w.coordinator()
        workers = w.workers(3, each=lambda r: {"host": hosts[r]}, steps=steps, **named)
        for worker in workers:
            assert worker.wait() == 0, str(worker)
        return harness.digests(workers)


def latencies(worker):
    history = harness.read_history(worker)
    calls = {e["id"]: e["t"] for e in history if e["e"] == "call"}
    return [e["t"] - calls[e["id"]] for e in history if e["e"] == "return"]


def percentile(values, percent):
    values = sorted(values)
    return values[min(len(values) - 1, len(values) * percent // 100)]


def cut_and_heal(world, cut, heal):
    """Worker 2 is cut off for longer than a round may take: it and the others are told, by name;
    healed, all come together again in a new epoch and finish."""
    with Cluster(world) as cluster:
        workers = cluster.workers(steps=12, round_timeout="1s", rejoin="30s")
        workers[0].wait_line("step 5")
        cluster.net.set(cut)
        for survivor in workers[:2]:
            line = survivor.wait_line("failed ")
            for part in ("DEADLINE_EXCEEDED", "rank 2 (host h3", "layer"):
                assert part in line, line
        alone = workers[2].wait_line("failed ")
        assert cluster.world.address in alone, alone
        cluster.net.set(heal)
        for worker in workers:
            assert worker.wait(60) == 0, str(worker)
        world.check_histories()


def fault_11_partition_in_both_directions(world):
    cut_and_heal(world, "cut 3", "heal 3")


def fault_12_partition_in_one_direction(world):
    cut_and_heal(world, "oneway 3", "heal 3")


def fault_12_only_replies_are_lost_for_a_moment(world):
    with Cluster(world) as cluster:
        expected = on_loopback(world.programs, ["h1", "h2", "h3"], 12)
        workers = cluster.workers(steps=12)
        workers[0].wait_line("step 5")
        cluster.net.set("oneway 0")
        time.sleep(0.5)
        cluster.net.set("heal 0")
        for worker in workers:
            assert worker.wait(60) == 0, str(worker)
        assert harness.digests(workers) == expected
        world.check_histories()


def fault_13_a_host_vanishes(world):
    """No FIN, no RST: the coordinator asks, and gets no answer.  Its pings go out every 10 s and
    are given 20 s (server/channel.cc); TCP would take 15 minutes."""
    with Cluster(world) as cluster:
        workers = cluster.workers(steps=10_000, round_timeout="100s")
        workers[0].wait_line("step 5")
        cluster.net.set("cut 3")
        workers[2].kill()
        vanished = harness.micros()
        for survivor in workers[:2]:
            assert survivor.wait(60) == 1
            failure = harness.failures(survivor)[0]
            assert failure["code"] == "ABORTED" and failure["ranks"] == [2], failure
            assert "host h3" in failure["text"], failure
            assert failure["t"] - vanished < 35_000_000, failure
        world.check_histories()


def fault_14_reset_storms(world):
    expected = harness.undisturbed(world.programs, 3, steps=60)
    world.coordinator("--reconnect_grace=5s")  # a busy machine is no reason to lose a member here
    proxies = [world.proxy(seed) for seed in range(3)]
    workers = world.workers(3, each=lambda r: {"address": proxies[r].address, "window": 2 * r},
                            steps=60, progress=True)
    workers[0].wait_line("step 2")
    for proxy in proxies:
        proxy.do("storm 0.01")
    for worker in workers:
        assert worker.wait(60) == 0, str(worker)
    assert harness.digests(workers) == expected
    resets = sum(int(p.do("accepted")) - 1 for p in proxies)
    print(f"{resets} connections were reset")
    assert resets > 5
    world.check_histories()


def fault_15_packets_are_lost(world):
    for loss, steps in ((1, 12), (5, 8), (20, 4)):
        with harness.World(world.programs) as w:
            only_latency(w, steps, [f"loss {loss}"], at=1, compute="3ms")


def fault_16_delay_and_jitter(world):
    for delay_us, steps in ((1_000, 12), (20_000, 5), (200_000, 2)):
        with harness.World(world.programs) as w:
            p99 = only_latency(w, steps, [f"delay {delay_us}", f"jitter {delay_us / 2}"],
                               layers=2)
            assert p99 >= 2 * delay_us, "the delay was there"


def fault_17_packets_are_repeated(world):
    only_latency(world, 20, ["dup 30"], at=2, compute="1ms")


def fault_18_one_megabit(world):
    """Three workers send 12 KiB a round, and get as much: 0.1 s of the coordinator's line, twice."""
    p99 = only_latency(world, 3, ["rate 1"], channels=1024, layers=2)
    assert p99 >= 100_000, "the line was as slow as that"

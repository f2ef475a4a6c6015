"""Rows 6 to 10: the coordinator dies, stands still, or goes down in good order."""
import signal
import time

import harness


def fault_06_coordinator_killed_mid_round_and_restarted(world):
    expected = harness.undisturbed(world.programs, 3, steps=40)
    for window in (0, 4):
        coordinator = world.coordinator()
        workers = world.workers(3, steps=40, window=window, progress=True)
        for step in (5, 17, 30):
            workers[step % 3].wait_line(f"step {step}")
            coordinator, _ = world.restart(coordinator)
        for worker in workers:
            assert worker.wait() == 0, str(worker)
        assert harness.digests(workers) == expected, "bit for bit as if nothing had been"
        assert all(not harness.failures(w) for w in workers), "the callers saw latency only"
        coordinator.kill()
    world.check_histories()


def fault_07_coordinator_killed_when_some_members_have_the_result(world):
    expected = harness.undisturbed(world.programs, 3, steps=20)
    # Of each three answers of a round the first, the second and the third is the last.
    for answers in (31, 32, 33):
        coordinator = world.coordinator(failpoint=f"server.after_k_results:{answers}")
        workers = world.workers(3, steps=20)
        assert coordinator.wait() == -9
        coordinator, _ = world.restart(coordinator)
        for worker in workers:
            assert worker.wait() == 0, str(worker)
        assert harness.digests(workers) == expected
        coordinator.kill()
    world.check_histories()


def fault_07_only_one_member_has_the_result(world):
    """The same without luck: rank 1's answers are held back on the way until the coordinator is
    dead."""
    expected = harness.undisturbed(world.programs, 2, steps=20)
    coordinator = world.coordinator()
    proxy = world.proxy()
    workers = world.workers(2, each=lambda r: {"address": proxy.address} if r == 1 else {},
                            steps=20, progress=True)
    workers[0].wait_line("step 5")
    proxy.do("drop down")
    # Rank 0 goes on by the one round whose answer rank 1 lacks, and waits for it.
    harness.wait_for(lambda: ahead(workers) == 1, "rank 0 to be one round ahead")
    coordinator.kill()
    proxy.do("reset")
    proxy.do("release")
    coordinator = world.coordinator(address=world.address)
    for worker in workers:
        assert worker.wait() == 0, str(worker)
    assert harness.digests(workers) == expected
    world.check_histories()


def ahead(workers):
    """By how many answered rounds rank 0 is ahead of rank 1."""
    answered = [sum(e["e"] == "return" for e in harness.read_history(w)) for w in workers]
    return answered[0] - answered[1]


def fault_08_coordinator_never_returns(world):
    coordinator = world.coordinator()
    workers = world.workers(2, steps=10_000, progress=True, round_timeout="1s",
                            each=lambda r: {"window": 3 * r})
    workers[0].wait_line("step 3")
    killed = coordinator.kill()
    for worker in workers:
        assert worker.wait() == 1
        told = harness.failures(worker)
        assert told and {f["code"] for f in told} == {"UNAVAILABLE"}, told
        late = max(f["t"] for f in told) - killed
        assert late <= 1_000_000 + 100_000 + 50_000, f"{late / 1000} ms after the kill"
        for part in (world.address, "attempts", "refused"):
            assert part in told[0]["text"], f"no '{part}' in: {told[0]['text']}"
    world.check_histories()


def fault_09_coordinator_stopped(world):
    expected = harness.undisturbed(world.programs, 2, steps=20)
    coordinator = world.coordinator()
    workers = world.workers(2, steps=20, progress=True)
    workers[0].wait_line("step 5")
    coordinator.stop()
    time.sleep(0.5)
    coordinator.resume()
    for worker in workers:
        assert worker.wait() == 0, str(worker)
    assert harness.digests(workers) == expected
    # For longer than a round may take: every call ends by its own deadline.
    workers = world.workers(2, steps=10_000, progress=True, round_timeout="1s")
    workers[0].wait_line("step 5")
    coordinator.stop()
    for worker in workers:
        assert worker.wait() == 1
        failure = harness.failures(worker)[0]
        assert failure["code"] in ("DEADLINE_EXCEEDED", "UNAVAILABLE"), failure
        assert world.address in failure["text"], failure
    coordinator.resume()
    # And it serves as before.
    workers = world.workers(2, steps=20)
    for worker in workers:
        assert worker.wait() == 0, str(worker)
    world.check_histories()


def fault_10_coordinator_drains_mid_step(world):
    # And is started again, as by an update: nobody notices.
    expected = harness.undisturbed(world.programs, 2, steps=20)
    coordinator = world.coordinator()
    workers = world.workers(2, steps=20, progress=True)
    workers[0].wait_line("step 5")
    coordinator.process.send_signal(signal.SIGTERM)
    assert coordinator.wait() == 0
    coordinator = world.coordinator(address=world.address)
    for worker in workers:
        assert worker.wait() == 0, str(worker)
    assert harness.digests(workers) == expected
    # And stays away.
    workers = world.workers(2, steps=10_000, progress=True, round_timeout="1s")
    workers[0].wait_line("step 5")
    coordinator.process.send_signal(signal.SIGTERM)
    assert coordinator.wait() == 0
    for worker in workers:
        assert worker.wait() == 1
        failure = harness.failures(worker)[0]
        assert failure["code"] == "UNAVAILABLE", failure
        assert world.address in failure["text"], failure
    world.check_histories()

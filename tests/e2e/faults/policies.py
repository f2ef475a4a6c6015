"""Rows 1, 4, 26 and 27 under the policies that a group can choose: shrink, finish, and what
becomes of values that are not finite."""
import math

import harness
from faults.protocol import failure, wire, wire_workers
from faults.workers import PROMISED_US, TRIES


def fault_01_worker_killed_in_a_group_that_shrinks(world):
    world.coordinator()
    late = []
    for _ in range(TRIES):
        workers = world.workers(3, each=lambda r: {"hang_at": 2} if r == 2 else {}, progress=True,
                                steps=6, on_loss="shrink")
        for worker in workers[:2]:
            worker.wait_line("step 2")
        # The others are in the round of step 2's boundary, or wait for it in the first of the step.
        killed = workers[2].kill()
        for survivor in workers[:2]:
            assert survivor.wait() == 0, str(survivor)
            assert not harness.failures(survivor), "the rounds complete with those that are left"
            assert survivor.line("epoch ").endswith("members 0,1"), str(survivor)
        harness.digests(workers[:2])
        late.append(max(first_return_after(s, killed) for s in workers[:2]) - killed)
        if late[-1] <= PROMISED_US:
            break
    print(f"from the kill to the last survivor's result: {[t / 1000 for t in late]} ms")
    assert min(late) <= PROMISED_US, late
    world.check_histories()


def first_return_after(worker, time):
    return min(e["t"] for e in harness.read_history(worker) if e["e"] == "return" and e["t"] > time)


def fault_01_worker_comes_back_to_a_group_that_shrank(world):
    world.coordinator()
    workers = world.workers(3, progress=True, steps=10_000, compute="1ms", on_loss="shrink")
    workers[0].wait_line("step 5")
    workers[2].kill()
    workers[0].wait_line("epoch ")
    again = world.worker(2, 3, progress=True, steps=10_000, compute="1ms", on_loss="shrink")
    step = int(again.wait_line("joined epoch").split()[-1])
    assert step > 5, "it goes on where the others are"
    assert workers[0].wait_line("epoch ").endswith("members 0,1,2")
    for worker in (*workers[:2], again):
        worker.wait_line(f"step {step + 10}")
        assert worker is again or not harness.failures(worker)
        worker.kill()
    world.check_histories()


def fault_04_worker_stopped_in_a_group_that_shrinks(world):
    """Its rounds end by the deadline, for all; it comes to itself and goes on with them."""
    world.coordinator()
    workers = world.workers(3, "--go_on", progress=True, steps=30, compute="1ms",
                            round_timeout="500ms", on_loss="shrink")
    workers[0].wait_line("step 5")
    start = workers[2].stop()
    line = workers[0].wait_line("failed ")
    for part in ("DEADLINE_EXCEEDED", "rank 2"):
        assert part in line, line
    world.paused(workers[2], start, workers[2].resume())
    for worker in workers[:2]:
        assert worker.wait(60) == 0, str(worker)
    world.check_histories()


def fault_26_a_rank_that_ran_out_of_data_says_so(world):
    world.coordinator()
    workers = world.workers(3, each=lambda r: {"steps": (20, 10, 14)[r]}, on_loss="finish")
    for worker in workers:
        assert worker.wait() == 0, str(worker)
        assert not harness.failures(worker)
    longest = [e for e in harness.read_history(workers[0]) if e["e"] == "return"]
    assert len(longest) == 20 * 8, "all of its rounds, the last of them alone"
    world.check_histories()


def fault_27_values_that_are_not_finite(world):
    world.coordinator()

    def contribute(policy):
        workers = wire_workers(world, 2, group=f"policy{policy}", non_finite=policy)
        workers[0].send(1, layer="bn3", step=17, count=2, f64=[1.0, 2.0, 0.5, 0.5])
        workers[1].send(1, layer="bn3", step=17, count=3, f64=[1.0, math.nan, 0.5, 0.5])
        return workers

    told = {failure(w).text for w in contribute(0)}
    assert len(told) == 1, told
    text = told.pop()
    for part in ("rank 1", "bn3", "step 17", "forward", "nan", "channel 1"):
        assert part in text.lower(), f"no '{part}' in: {text}"
    propagated = [w.receive_bytes() for w in contribute(1)]
    assert propagated[0] == propagated[1], "the same bytes for all"
    values = wire.pb.CoordinatorMessage.FromString(propagated[0]).result.f64
    assert math.isnan(values[1]) and values[0] == 1.0, values
    dropped = [w.receive().result for w in contribute(2)]
    for result in dropped:
        assert result.count == 2 and list(result.f64) == [1.0, 2.0, 0.5, 0.5], result

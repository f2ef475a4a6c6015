"""Rows 44 to 47: workers that claim what is not theirs, or never come."""
import harness


def refused(worker, *parts):
    """A worker that was not admitted, and was told all of `parts`."""
    assert worker.wait() == 1, str(worker)
    line = worker.line("failed ")
    for part in parts:
        assert part in line, f"no '{part}' in: {line}"


def fault_44_a_rank_is_claimed_while_its_holder_lives(world):
    world.coordinator()
    workers = world.workers(2, steps=20, progress=True, compute="2ms")
    workers[1].wait_line("step 1")
    second = world.worker(1, 2)
    refused(second, "ALREADY_EXISTS", "rank 1", f"pid {second.pid}", f"pid {workers[1].pid}",
            "the epoch goes on")
    for worker in workers:
        assert worker.wait() == 0, str(worker)
    harness.digests(workers)
    world.check_histories()


def fault_45_members_disagree_on_the_world_size(world):
    world.coordinator()
    first = world.worker(0, 2)
    second = world.worker(1, 3)
    for worker in (first, second):
        refused(worker, "ABORTED", "world_size", " 2", " 3", "rank 0", "rank 1")
    outside = world.worker(5, 3)
    refused(outside, "INVALID_ARGUMENT", "rank", "5", "3")


def fault_46_two_jobs_of_one_name(world):
    world.coordinator()
    workers = world.workers(2, steps=20, progress=True, compute="2ms", job="a")
    workers[0].wait_line("step 1")
    refused(world.worker(1, 2, job="b"), "ALREADY_EXISTS", 'job "a"', 'job "b"', "rank 1")
    for worker in workers:
        assert worker.wait() == 0, str(worker)
    world.check_histories()


def fault_47_some_workers_never_join(world):
    world.coordinator()
    start = harness.micros()
    workers = [world.worker(r, 4, connect_timeout="1s") for r in (0, 2)]
    for worker in workers:
        refused(worker, "DEADLINE_EXCEEDED", "ranks 1,3", "did not join", "present: ranks 0,2")
    assert harness.micros() - start >= 1_000_000

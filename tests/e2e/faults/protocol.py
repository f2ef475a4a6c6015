"""Rows 19 to 26: contributions that come twice, late, early, or differ.

Where a right client cannot do the wrong, the wire is spoken by wire_from_python's worker.
"""
import shutil
import tempfile

import harness

try:
    import wire_from_python as wire
except SystemExit:
    wire = None


def wire_workers(world, count, **fields):
    """Members that speak the wire themselves."""
    if wire is None:
        raise harness.Skipped("no grpcio for Python (Debian: python3-grpcio)")
    if shutil.which("protoc") is None:
        raise harness.Skipped("no protoc (Debian: protobuf-compiler)")
    if wire.pb is None:
        wire.PROTO_DIR = world.programs.proto
        wire.pb = wire.make_stubs(tempfile.mkdtemp(dir=world.folder))
    workers = [wire.Worker(world.address, rank=r, world_size=count, **fields) for r in range(count)]
    for worker in workers:
        worker.joined()
    return workers


def failure(worker):
    message = worker.receive()
    assert message.HasField("failure"), message
    return message.failure


def fault_19_push_repeated_after_a_lost_answer(world):
    expected = harness.undisturbed(world.programs, 2, steps=40)
    # A connection that is made between the reset and the release loses its greeting, too, and gRPC
    # gives it 5 s.
    world.coordinator("--reconnect_grace=20s")
    proxy = world.proxy()
    workers = world.workers(2, each=lambda r: {"address": proxy.address} if r == 1 else {},
                            steps=40, progress=True)
    for step in (5, 15, 25):
        workers[1].wait_line(f"step {step}")
        proxy.do("drop down")  # the push arrives, its answer does not
        proxy.do("reset")
        proxy.do("release")
    for worker in workers:
        assert worker.wait() == 0, str(worker)
    assert harness.digests(workers) == expected, "counted once"
    assert int(proxy.do("accepted")) > 3, "it did connect again"
    world.check_histories()


def fault_20_push_repeated_with_other_bytes(world):
    world.coordinator()
    workers = wire_workers(world, 2)
    workers[1].send(1, count=2, f64=[1.0, 0.5])
    workers[1].send(1, count=2, f64=[1.0, 0.75])
    workers[0].send(1, count=2, f64=[1.0, 0.5])
    # Read when the first was answered, as the header of server/service.h tells: it changes nothing.
    assert {w.receive().result.f64[1] for w in workers} == {1.0}
    told = failure(workers[1])
    assert told.code == wire.pb.CODE_ABORTED and list(told.ranks) == [1], told
    for part in ("rank 1", "round 1", "again with other contents"):
        assert part in told.text, told.text


def fault_21_push_for_an_old_round(world):
    world.coordinator("--kept_rounds=2")
    workers = wire_workers(world, 2)
    answers = []
    for round in range(1, 6):
        for w in workers:
            w.send(round, step=round, count=1, f64=[float(round), 0.0])
        answers.append([w.receive_bytes() for w in workers])
    workers[1].send(5, step=5, count=1, f64=[5.0, 0.0])
    assert workers[1].receive_bytes() == answers[4][1], "kept: the same answer"
    workers[1].send(1, step=1, count=1, f64=[1.0, 0.0])
    old = failure(workers[1])
    assert old.code == wire.pb.CODE_FAILED_PRECONDITION, old
    for part in ("rank 1", "round 1 < oldest kept 4"):
        assert part in old.text, old.text
    for w in workers:  # the group goes on
        w.send(6, step=6, count=1, f64=[6.0, 0.0])
    assert [w.receive().result.count for w in workers] == [2, 2]


def fault_22_push_for_a_future_round(world):
    world.coordinator()
    workers = wire_workers(world, 2)
    for w in workers:
        w.send(1, count=1, f64=[1.0, 0.0])
    for w in workers:
        assert w.receive().result.count == 2
    workers[1].send(4, step=4, count=1, f64=[1.0, 0.0])
    told = failure(workers[0])
    assert told.code == wire.pb.CODE_ABORTED and list(told.ranks) == [1], told
    for part in ("desync", "rank 1", "round 4", "bn1", "next is 2"):
        assert part in told.text, told.text


def mismatch(world, flag, *parts):
    """Rank 2's program is wrong from step 3 on: all are told, alike, at once."""
    world.coordinator()
    workers = world.workers(3, each=lambda r: {flag: 3} if r == 2 else {}, window=2)
    texts = set()
    for worker in workers:
        assert worker.wait() == 1
        first = harness.failures(worker)[0]
        assert first["code"] == "ABORTED", first
        texts.add(first["text"])
    assert len(texts) == 1, texts
    text = texts.pop()
    for part in ("rank 2", "step 3", "last common round", *parts):
        assert part in text, f"no '{part}' in: {text}"
    world.check_histories()


def fault_23_channel_counts_differ(world):
    mismatch(world, "widen_at", "channels=32", "channels=16", "layer0")


def fault_24_layer_orders_differ(world):
    mismatch(world, "swap_at", "layer0", "layer1")


def fault_25_kinds_differ(world):
    world.coordinator()
    workers = wire_workers(world, 2)
    workers[0].send(1, kind=1, count=1, f64=[1.0, 0.0])
    workers[1].send(1, kind=2, count=1, f64=[1.0, 0.0])
    texts = {failure(w).text for w in workers}
    assert len(texts) == 1, texts
    text = texts.pop()
    for part in ("rank 0", "rank 1", "kind=mean_m2", "kind=sums"):
        assert part in text, text
    for w, dtype in zip(workers, (1, 2)):
        w.send(2, dtype=dtype, count=1, f64=[1.0, 0.0])
    text = failure(workers[0]).text
    for part in ("dtype=f32", "dtype=f64"):
        assert part in text, text


def fault_26_a_rank_skips_a_layer(world):
    mismatch(world, "skip_at", "layer0", "layer1", "skipped layer0")


def fault_26_a_rank_runs_out_of_data(world):
    world.coordinator()
    workers = world.workers(2, each=lambda r: {"steps": 20 if r == 0 else 10})
    assert workers[1].wait() == 0, "it did all of its steps, and left"
    assert workers[0].wait() == 1
    first = harness.failures(workers[0])[0]
    for part in ("rank 1", "left", "layer", "step"):
        assert part in first["text"], first
    world.check_histories()

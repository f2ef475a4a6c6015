#!/usr/bin/env python3
"""The wire, used from another language with nothing but the .proto.

Generates stubs from syncnorm.proto, starts a real coordinator process and
speaks to it with Python's grpcio: joins, rounds of both kinds, an empty slice,
repeats, a mismatch, a missing member, a leave.  Expected values come from
numpy on the whole batch, never from syncnorm.

usage: wire_from_python.py COORDINATOR PROTO_DIR
Exit status 77: skipped (says which module or program is missing).
"""
import importlib
import os
import queue
import shutil
import subprocess
import sys
import tempfile
import threading
import time
import unittest

try:
    import grpc
    import numpy as np
except ImportError as e:
    print(f"SKIP: {e} (Debian: python3-grpcio python3-numpy)")
    sys.exit(77)

COORDINATOR, PROTO_DIR = None, None
pb = None


def make_stubs(folder):
    """Messages only: the one method is called by its path, as any client could."""
    subprocess.run(
        ["protoc", "-I", PROTO_DIR, "--python_out", folder, "syncnorm/v1/syncnorm.proto"],
        check=True)
    sys.path.insert(0, folder)
    return importlib.import_module("syncnorm.v1.syncnorm_pb2")


class Worker:
    """One member: a stream, and the queue that feeds it."""

    def __init__(self, address, **join):
        self.channel = grpc.insecure_channel(
            address, options=[("grpc.use_local_subchannel_pool", 1), ("grpc.enable_http_proxy", 0)])
        self.outbox = queue.Queue()
        call = self.channel.stream_stream(
            "/syncnorm.v1.Coordinator/Synchronize",
            request_serializer=lambda m: m.SerializeToString(),
            response_deserializer=lambda b: b)  # raw bytes: they are compared
        self.answers = call(iter(self.outbox.get, None), timeout=30)
        fields = dict(protocol_major=1, group="py", host="h", incarnation=os.urandom(16),
                      join_timeout_us=5_000_000, round_timeout_us=5_000_000)
        self.rank = join["rank"]
        self.outbox.put(pb.WorkerMessage(join=pb.Join(**{**fields, **join})))

    def receive_bytes(self):
        return next(self.answers)

    def receive(self):
        return pb.CoordinatorMessage.FromString(self.receive_bytes())

    def joined(self):
        message = self.receive()
        assert message.HasField("joined"), message
        self.epoch = message.joined.epoch
        self.limits = message.joined.limits
        return message.joined

    def send(self, round, layer="bn1", direction=1, step=1, kind=1, precision=2, dtype=2, rows=2,
             channels=None, count=0, f64=(), f32=()):
        channels = (len(f64) + len(f32)) // rows if channels is None else channels
        key = pb.RoundKey(epoch=self.epoch, round=round, layer=layer, direction=direction, step=step)
        self.outbox.put(pb.WorkerMessage(contribution=pb.Contribution(
            key=key, kind=kind, precision=precision, dtype=dtype, rows=rows, channels=channels,
            count=count, f64=f64, f32=f32)))

    def leave(self):
        self.outbox.put(pb.WorkerMessage(leave=pb.Leave(reason="done")))
        self.outbox.put(None)

    def close(self):
        self.outbox.put(None)
        self.answers.cancel()
        self.channel.close()


def mean_m2(x):
    """(n, mean, M2) of the rows of x; zeros for none."""
    if len(x) == 0:
        return 0, np.zeros(x.shape[1]), np.zeros(x.shape[1])
    mean = x.mean(0)
    return len(x), mean, ((x - mean) ** 2).sum(0)


class WireTest(unittest.TestCase):
    def setUp(self):
        self.folder = tempfile.mkdtemp()
        port_file = os.path.join(self.folder, "port")
        self.process = subprocess.Popen(
            [COORDINATOR, "--listen=127.0.0.1:0", f"--port_file={port_file}"],
            stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
        deadline = time.monotonic() + 10
        while not os.path.exists(port_file):
            self.assertIsNone(self.process.poll(), "the coordinator ended at its start")
            self.assertLess(time.monotonic(), deadline, "no port file after 10 s")
            time.sleep(0.01)
        with open(port_file) as f:
            self.address = "127.0.0.1:" + f.read().strip()
        self.workers = []

    def tearDown(self):
        for worker in self.workers:
            worker.close()
        self.process.terminate()
        self.assertEqual(self.process.wait(timeout=20), 0, "SIGTERM drains and exits with 0")
        shutil.rmtree(self.folder)

    def join(self, world, **fields):
        self.workers = [Worker(self.address, rank=r, world_size=world, **fields)
                        for r in range(world)]
        for worker in self.workers:
            joined = worker.joined()
            self.assertEqual(joined.world_size, world)
            self.assertEqual(len(joined.hosts), world)
        self.assertEqual(len({w.epoch for w in self.workers}), 1)
        return self.workers

    def test_mean_and_m2_of_uneven_slices_one_of_them_empty(self):
        rng = np.random.default_rng(1)
        x = rng.normal(100, 3, (37, 5))
        slices = [x[:20], x[20:20], x[20:]]
        workers = self.join(3)
        for worker, part in zip(workers, slices):
            n, mean, m2 = mean_m2(part)
            worker.send(1, count=n, f64=[*mean, *m2])
        answers = [w.receive_bytes() for w in workers]
        self.assertEqual(len(set(answers)), 1, "every member gets the same bytes")
        result = pb.CoordinatorMessage.FromString(answers[0]).result
        self.assertEqual(result.count, 37)
        self.assertEqual((result.key.layer, result.key.round, result.key.step), ("bn1", 1, 1))
        np.testing.assert_allclose(result.f64[:5], x.mean(0), rtol=1e-14)
        np.testing.assert_allclose(result.f64[5:], x.var(0) * 37, rtol=1e-12)

    def test_sums_in_float32_and_many_rounds_in_flight(self):
        workers = self.join(2)
        for round in range(1, 101):
            for worker in workers:
                worker.send(round, layer=f"layer{round}", direction=2, kind=2, precision=1, dtype=1,
                            rows=3, count=4, f32=[round * (worker.rank + 1)] * 6)
        for worker in workers:
            for round in range(1, 101):
                result = worker.receive().result
                self.assertEqual((result.key.round, result.count), (round, 8))
                self.assertEqual(list(result.f32), [3.0 * round] * 6)

    def test_a_repeat_gets_the_same_bytes_and_counts_once(self):
        workers = self.join(2)
        for worker in workers:
            worker.send(1, count=2, f64=[1.0, 0.5])
        first = [w.receive_bytes() for w in workers]
        workers[1].send(1, count=2, f64=[1.0, 0.5])
        self.assertEqual(workers[1].receive_bytes(), first[1])
        self.assertEqual(pb.CoordinatorMessage.FromString(first[0]).result.count, 4)

    def test_a_mismatch_names_both_ranks_both_values_layer_and_step(self):
        workers = self.join(2)
        workers[0].send(1, step=17, count=1, f64=[0.0] * 128)
        workers[1].send(1, step=17, count=1, f64=[0.0] * 256)
        texts = {w.receive().failure.text for w in workers}
        self.assertEqual(len(texts), 1)
        text = texts.pop()
        for part in ("rank 0", "rank 1", "64", "128", "bn1", "step 17", "py"):
            self.assertIn(part, text)
        for worker in workers:  # the group goes on
            worker.send(2, step=18, count=1, f64=[0.0] * 4)
        self.assertEqual([w.receive().result.count for w in workers], [2, 2])

    def test_a_deadline_names_the_missing_ranks(self):
        workers = self.join(3, round_timeout_us=200_000)
        start = time.monotonic()
        workers[1].send(1, count=1, f64=[0.0, 0.0])
        failure = workers[1].receive().failure
        self.assertLess(time.monotonic() - start, 5)
        self.assertEqual(failure.code, pb.CODE_DEADLINE_EXCEEDED)
        self.assertEqual(list(failure.ranks), [0, 2])

    def test_a_lost_member_is_named_to_the_others(self):
        workers = self.join(2)
        workers[0].send(1, count=1, f64=[0.0, 0.0])
        workers[1].close()
        failure = workers[0].receive().failure
        self.assertEqual(failure.code, pb.CODE_ABORTED)
        self.assertIn("rank 1", failure.text)

    def test_another_major_version_is_refused(self):
        worker = Worker(self.address, rank=0, world_size=1, protocol_major=2)
        self.workers = [worker]
        failure = worker.receive().failure
        self.assertEqual(failure.code, pb.CODE_UNIMPLEMENTED)
        self.assertIn("2", failure.text)

    def test_members_leave_and_the_name_is_free_again(self):
        first = self.join(2)
        for worker in first:
            worker.leave()
        for worker in first:
            self.assertEqual(list(worker.answers), [])
        second = self.join(2)
        self.assertGreater(second[0].epoch, first[0].epoch)


class GoldenTest(unittest.TestCase):
    """The golden bytes, read by protobuf's own Python, mean what they say."""

    def test_the_contribution(self):
        folder = os.path.join(os.path.dirname(__file__), "..", "proto", "golden")
        with open(os.path.join(folder, "contribution_mean_m2_f32.hex")) as f:
            message = pb.WorkerMessage.FromString(bytes.fromhex(f.read()))
        c = message.contribution
        self.assertEqual((c.key.epoch, c.key.round, c.key.layer, c.key.direction, c.key.step),
                         (7, 41, "conv1.bn", pb.DIRECTION_FORWARD, 17))
        self.assertEqual((c.kind, c.precision, c.dtype, c.rows, c.channels, c.count),
                         (pb.MOMENT_KIND_MEAN_M2, pb.PRECISION_F32, pb.DTYPE_F32, 2, 3, 4096))
        self.assertEqual(list(c.f64), [1.0000000001, -2.5, 1e4])
        self.assertEqual(list(c.f32), [0.5, 2.25, 4096.0])


if __name__ == "__main__":
    COORDINATOR, PROTO_DIR = sys.argv[1:3]
    if shutil.which("protoc") is None:
        print("SKIP: protoc is not installed (Debian: protobuf-compiler)")
        sys.exit(77)
    stubs = tempfile.mkdtemp()
    try:
        pb = make_stubs(stubs)
        program = unittest.main(argv=sys.argv[:1] + sys.argv[3:], exit=False, verbosity=2)
    finally:
        shutil.rmtree(stubs)
    sys.exit(not program.result.wasSuccessful())

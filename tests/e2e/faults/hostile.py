"""Rows 33 to 39 and 60: strangers on the port, and workers that are no good neighbours.

In each row a group's rounds go on meanwhile and come to the result of an undisturbed run; and
when the strangers have gone, or were sent away, the coordinator's descriptors and memory are
back where they were.  Figures are printed.
"""
import contextlib
import os
import random
import socket
import struct
import threading
import time

import harness
from faults.protocol import failure, wire, wire_workers

# What a coordinator may keep of strangers that have gone: memory that the allocator does not give
# back.  The strangers of a row sent, or would have had kept for them, several times as much.
KEPT_KIB = 16 << 10


class Bystanders:
    """A group whose rounds run while something happens, and what the coordinator holds."""

    def __init__(self, world, *flags, steps=400):
        self.world = world
        self.expected = harness.undisturbed(world.programs, 2, steps=steps)
        self.coordinator = world.coordinator(*flags)
        host, _, port = world.address.rpartition(":")
        self.target = (host, int(port))
        # What gRPC makes once, for its first streams, is no leak.
        for worker in world.workers(2, steps=5, group="first"):
            assert worker.wait() == 0, str(worker)
        self.workers = world.workers(2, steps=steps, progress=True, compute="2ms")
        for worker in self.workers:
            worker.wait_line("step 5")
        self.descriptors = self.coordinator.descriptors()
        self.memory = self.coordinator.rss_kib()
        self.steps = steps

    def connect(self):
        s = socket.create_connection(self.target, timeout=harness.WAIT)
        return s

    def finish(self, what, kept_kib=KEPT_KIB):
        """The rounds have gone on, and nothing is left of the strangers."""
        coordinator = self.coordinator
        assert coordinator.running(), str(coordinator)
        harness.wait_for(lambda: coordinator.descriptors() <= self.descriptors,
                         f"{coordinator.descriptors()} descriptors to be {self.descriptors} again")
        for worker in self.workers:
            assert worker.wait(120) == 0, str(worker)
        assert harness.digests(self.workers) == self.expected
        self.world.check_histories()
        grown = coordinator.rss_kib() - self.memory
        print(f"{what}: {self.descriptors} descriptors before and after; "
              f"{self.memory} KiB, {grown:+d} KiB after")
        assert grown < kept_kib, f"{grown} KiB more than before"
        late = self.world.workers(2, steps=5, group="late")
        for worker in late:
            assert worker.wait() == 0, str(worker)


def closed(s, timeout=harness.WAIT):
    """Waits until the coordinator has closed the connection; what it said before."""
    s.settimeout(timeout)
    said = b""
    with contextlib.suppress(ConnectionError):
        while True:
            piece = s.recv(1 << 16)
            if not piece:
                break
            said += piece
    s.close()
    return said


def frame(kind, flags, stream, payload):
    """A frame of HTTP/2."""
    return struct.pack(">I", len(payload))[1:] + struct.pack(">BBI", kind, flags, stream) + payload


PREFACE = b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n" + frame(4, 0, 0, b"")


def fault_60_garbage_on_the_port(world):
    b = Bystanders(world, "--handshake_timeout=1s", "--idle_timeout=1s")
    seed = int(os.environ.get("SYNCNORM_TEST_SEED", random.SystemRandom().randrange(1 << 32)))
    print(f"seed {seed}")
    chance = random.Random(seed)
    hello = bytes.fromhex("160301020001000001fc0303") + chance.randbytes(40)  # half of one
    kinds = {
        "random bytes": lambda: chance.randbytes(chance.randrange(1, 4096)),
        "HTTP/1.1": lambda: b"GET / HTTP/1.1\r\nHost: x\r\n\r\n",
        "half a TLS hello": lambda: hello,
        "HTTP/2, then garbage": lambda: PREFACE + chance.randbytes(chance.randrange(1, 4096)),
        "HTTP/2 frames that make no sense": lambda: PREFACE + b"".join(
            frame(chance.randrange(12), chance.randrange(256), chance.randrange(8),
                  chance.randbytes(chance.randrange(64))) for _ in range(20)),
    }
    for name, make in kinds.items():
        start = time.monotonic()
        strangers = [b.connect() for _ in range(40)]
        for s in strangers:
            with contextlib.suppress(ConnectionError):
                s.sendall(make())
        for s in strangers:
            closed(s)
        print(f"{name}: 40 of 40 closed by the coordinator within {time.monotonic() - start:.2f} s")
    # Bytes that are no message, in streams that gRPC takes.
    for _ in range(40):
        worker = wire_workers_alone(b, garbage=chance.randbytes(chance.randrange(1, 256)))
        told = failure(worker)
        assert told.code == wire.pb.CODE_INVALID_ARGUMENT, told
        worker.close()
    b.finish("garbage")


def wire_workers_alone(b, garbage=None, metadata=None, join=None):
    """A stream that says only that."""
    wire_ready(b.world)
    address = f"{b.target[0]}:{b.target[1]}"
    channel = wire.grpc.insecure_channel(
        address, options=[("grpc.use_local_subchannel_pool", 1), ("grpc.enable_http_proxy", 0)])
    worker = wire.Worker.__new__(wire.Worker)
    worker.channel = channel
    worker.outbox = wire.queue.Queue()
    call = channel.stream_stream("/syncnorm.v1.Coordinator/Synchronize",
                                 request_serializer=lambda m: m,
                                 response_deserializer=lambda m: m)
    worker.answers = call(iter(worker.outbox.get, None), timeout=30, metadata=metadata)
    if garbage is not None:
        worker.outbox.put(garbage)
    if join is not None:
        fields = dict(protocol_major=1, host="h", incarnation=os.urandom(16))
        message = wire.pb.WorkerMessage(join=wire.pb.Join(**{**fields, **join}))
        worker.outbox.put(message.SerializeToString())
    return worker


def wire_ready(world):
    if wire is None or wire.pb is None:
        wire_workers(world, 0)


def ends(worker):
    """The status with which the stream ends."""
    try:
        while True:
            worker.receive_bytes()
    except StopIteration:
        return None
    except wire.grpc.RpcError as e:
        return e.code()


def fault_33_flood_of_connections(world):
    b = Bystanders(world, "--handshake_timeout=1s", "--idle_timeout=1s")
    memory = []
    for _ in range(3):
        flood(b, 5000)
        memory.append(b.coordinator.rss_kib())
    assert all(w.running() for w in b.workers), "the rounds ended before the flood"
    # What the allocator keeps is there after the first wave; a leak grows with each.
    print(f"KiB after each wave: {memory}")
    assert memory[2] - memory[1] < 8 << 10, memory
    b.finish("flood of connections", kept_kib=128 << 10)


def flood(b, connections):
    """As fast as they can be opened, 500 to 1,000 of them at once; and all are gone again."""
    most = 0
    held = []
    start = time.monotonic()
    for _ in range(connections):
        held.append(b.connect())
        if len(held) >= 1000:
            most = max(most, b.coordinator.descriptors())
            for s in held[:500]:
                s.close()
            del held[:500]
    took = time.monotonic() - start
    for s in held:
        s.close()
    harness.wait_for(lambda: b.coordinator.descriptors() <= b.descriptors, "the flood to end")
    print(f"{connections} connections in {took:.1f} s, at most {most} descriptors")


def fault_34_flood_of_joins(world):
    """Workers that may join do so without end: groups that never form, in new streams."""
    b = Bystanders(world, "--max_groups=32", "--max_streams=64", "--join_timeout=2s")
    wire_ready(world)
    codes = {}
    workers = []
    for i in range(300):
        worker = wire_workers_alone(b, join=dict(group=f"flood{i}", rank=0, world_size=64))
        workers.append(worker)
    for worker in workers:
        told = failure(worker)
        codes[told.code] = codes.get(told.code, 0) + 1
        worker.close()
    print(f"300 joins: {codes}")
    exhausted = codes.pop(wire.pb.CODE_RESOURCE_EXHAUSTED)
    assert exhausted >= 300 - 64, exhausted
    assert set(codes) == {wire.pb.CODE_DEADLINE_EXCEEDED}, codes
    b.finish("flood of joins", kept_kib=96 << 10)


def fault_35_huge_messages_and_metadata(world):
    b = Bystanders(world)
    wire_ready(world)
    exhausted = wire.grpc.StatusCode.RESOURCE_EXHAUSTED
    huge = wire_workers_alone(b, garbage=bytes(65 << 20))
    assert ends(huge) == exhausted
    huge.close()
    # Beyond the coordinator's 8 KiB; gRPC's own client would send it.
    many = wire_workers_alone(b, join=dict(group="metadata", rank=0, world_size=1),
                              metadata=[(f"x{i}", "y" * 1000) for i in range(20)])
    status = ends(many)
    print(f"20,000 bytes of metadata: {status}")
    assert status == exhausted, status
    many.close()
    b.finish("huge messages", kept_kib=96 << 10)


def fault_36_a_small_message_that_claims_two_billion_channels(world):
    b = Bystanders(world)
    worker = wire_workers(world, 1, group="claims")[0]
    worker.send(1, count=1, kind=2, rows=1, channels=(1 << 31), f64=[1.0])
    told = failure(worker)
    assert told.code == wire.pb.CODE_INVALID_ARGUMENT, told
    for part in ("2147483648", "got 1"):
        assert part in told.text, told.text
    worker.close()
    b.finish("2^31 channels")


def fault_37_idle_connections(world):
    count = 2000
    b = Bystanders(world, "--handshake_timeout=2s", "--idle_timeout=2s", steps=1200)
    start = time.monotonic()
    silent = [b.connect() for _ in range(count // 2)]
    greeted = [b.connect() for _ in range(count // 2)]
    for s in greeted:
        s.sendall(PREFACE + frame(4, 1, 0, b""))  # a connection in good order, without a stream
    opened = time.monotonic() - start
    harness.wait_for(lambda: b.coordinator.descriptors() >= b.descriptors + count,
                     f"{count} connections to be accepted")
    held = b.coordinator.rss_kib() - b.memory
    late = world.workers(2, steps=5, group="meanwhile")
    begin = time.monotonic()
    for worker in late:
        assert worker.wait() == 0, str(worker)
    print(f"{count} idle connections opened in {opened:.2f} s hold {held} KiB, "
          f"{held / count:.1f} each; a new group of 2 took {time.monotonic() - begin:.2f} s meanwhile")
    for s in silent + greeted:
        closed(s)
    print(f"all closed by the coordinator {time.monotonic() - start:.2f} s after the first came")
    b.finish("idle connections", kept_kib=count * 64)


def fault_38_streams_that_say_nothing(world):
    b = Bystanders(world, "--handshake_timeout=1s", "--idle_timeout=1s", "--hello_timeout=1s")
    start = time.monotonic()
    silent = b.connect()  # not even a byte
    closed(silent)
    took = time.monotonic() - start
    print(f"a connection without a byte was closed after {took:.2f} s")
    assert 0.5 < took < 5, took
    drip = b.connect()
    thread = threading.Thread(target=slowly, args=(drip,))
    thread.start()
    closed(drip)
    thread.join()
    stream = wire_workers_alone(b)
    told = failure(stream)
    assert told.code == wire.pb.CODE_UNAVAILABLE and "no Join" in told.text, told
    assert ends(stream) is None, "closed"
    stream.close()
    b.finish("silent streams")


def slowly(s):
    """The preface of HTTP/2, a byte every 0.2 s, until somebody has enough of it."""
    with contextlib.suppress(OSError):
        for byte in PREFACE:
            s.sendall(bytes([byte]))
            time.sleep(0.2)


def fault_39_slow_reader(world):
    """A member that contributes and does not read: cut off, named, and bounded in memory."""
    b = Bystanders(world, "--max_queued_bytes=1048576", "--max_queued_messages=64",
                   "--max_handover_bytes=1048576", steps=800)
    members = wire_workers(world, 2, group="slow")
    reader, slow = members
    values = [1.0] * (1 << 16)  # 512 KiB
    slow_rounds = 200  # 100 MiB of results
    for round in range(1, slow_rounds + 1):
        slow.send(round, step=round, count=1, kind=2, rows=1, f64=values)
    told = None
    for round in range(1, slow_rounds + 1):
        reader.send(round, step=round, count=1, kind=2, rows=1, f64=values)
        message = reader.receive()
        if message.HasField("failure"):
            told = message.failure
            break
    grown = b.coordinator.rss_kib() - b.memory
    print(f"results of {round} rounds of 512 KiB; the coordinator grew by {grown} KiB")
    assert told is not None, "it was never cut off"
    for part in ("rank 1", "does not read"):
        assert part in told.text, told.text
    for member in members:
        member.close()
    b.finish("slow reader", kept_kib=64 << 10)

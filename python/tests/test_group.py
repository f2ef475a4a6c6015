"""Groups: what init reads, what errors tell, how it ends."""
import copy
import os
import pickle
import signal
import socket
import subprocess
import sys
import threading
import time

import pytest
import torch

import syncnorm
from workers import run


def free_port():
    with socket.socket() as s:
        s.bind(("127.0.0.1", 0))
        return s.getsockname()[1]


@pytest.mark.parametrize("rank_variable,size_variable", [
    ("RANK", "WORLD_SIZE"), ("SLURM_PROCID", "SLURM_NTASKS"),
    ("OMPI_COMM_WORLD_RANK", "OMPI_COMM_WORLD_SIZE"), ("SYNCNORM_RANK", "SYNCNORM_WORLD_SIZE")])
@pytest.mark.parametrize("port_variable", ["MASTER_PORT", "SYNCNORM_PORT"])
def test_init_reads_the_launchers_environment(rank_variable, size_variable, port_variable):
    port = free_port()

    def body(worker):
        os.environ.update({
            rank_variable: str(worker.rank), size_variable: str(worker.world_size),
            "MASTER_ADDR": "127.0.0.1",
            port_variable: str(port - 1 if port_variable == "MASTER_PORT" else port)})
        group = syncnorm.init(connect_timeout=30)
        assert group.address == f"127.0.0.1:{port}"
        return group.rank, group.world_size, group.sum("a", [worker.rank + 1.0])

    assert run(2, body, init=False) == [(0, 2, [3.0]), (1, 2, [3.0])]


@pytest.mark.skipif(torch.__version__ < "2" and sys.version_info >= (3, 11),
                    reason="torchrun of torch 1.13 cannot start a program under Python 3.11")
def test_torchrun_tells_everything(tmp_path):
    program = tmp_path / "program.py"
    program.write_text("import syncnorm\n"
                       "group = syncnorm.init()\n"
                       # One write: the two processes share a pipe.
                       "import os\n"
                       "total = group.sum('a', [1.0 + group.rank])\n"
                       "os.write(1, f'sum {group.rank} {total}\\n'.encode())\n")
    done = subprocess.run(
        [sys.executable, "-m", "torch.distributed.run", "--nproc_per_node=2",
         "--master_addr=127.0.0.1", f"--master_port={free_port()}", str(program)],
        capture_output=True, text=True, timeout=60)
    assert done.returncode == 0, done.stderr
    assert "sum 0 [3.0]" in done.stdout and "sum 1 [3.0]" in done.stdout


def test_with_torch_distributed_the_address_is_agreed_upon_through_its_store():
    def body(worker):
        group = syncnorm.init(connect_timeout=30)  # nothing told: rank, size, address
        again = syncnorm.connect(group="other")
        assert again.address != group.address
        return group.rank, group.sum("a", [1.0]), again.sum("a", [2.0])

    assert run(2, body, ddp=True, init=False) == [(0, [2.0], [4.0]), (1, [2.0], [4.0])]


def test_what_nothing_told_is_named():
    with pytest.raises(syncnorm.SyncnormError, match="SLURM_NTASKS") as error:
        syncnorm.init(rank=0)
    assert error.value.code == "NOT_FOUND"
    with pytest.raises(syncnorm.SyncnormError, match="MASTER_ADDR and SYNCNORM_PORT"):
        syncnorm.init(rank=0, world_size=2)
    for option in ({"on_loss": "sulk"}, {"non_finite": "sulk"}, {"coordinator": "sulk"}):
        with pytest.raises(syncnorm.SyncnormError, match="sulk") as error:
            syncnorm.init("127.0.0.1:1", rank=0, world_size=2, **option)
        assert error.value.code == "INVALID_ARGUMENT"


def test_a_port_that_others_reach_needs_certificates_or_insecure():
    with pytest.raises(syncnorm.SyncnormError, match="needs TLS"):
        syncnorm.init("0.0.0.0:0", rank=0, world_size=1)

    def body(worker):
        return worker.init(address="0.0.0.0:0", insecure=True).sum("a", [1.0])

    assert run(1, body, init=False) == [[1.0]]


def test_a_failed_round_tells_who_and_where():
    def body(worker):
        name = "layer4.bn" if worker.rank == 1 else "layer3.bn"
        with pytest.raises(syncnorm.SyncnormError) as caught:
            worker.group.sum(name, [1.0], step=17)
        error = pickle.loads(pickle.dumps(caught.value))
        assert str(error) == str(caught.value)
        return (error.code, error.group, error.epoch > 0, error.round, error.step,
                "layer3.bn" in error.message and "layer4.bn" in error.message, error.ranks)

    first, second = run(2, body)
    assert first == second
    assert first[1:6] == ("world", True, 1, 17, True) and first[6]


def test_a_peer_that_does_not_come_is_named():
    def body(worker):
        with pytest.raises(syncnorm.SyncnormError) as error:
            worker.init(world_size=2, connect_timeout=0.3)
        return error.value.code, error.value.ranks, error.value.rank

    assert run(1, body, init=False) == [("DEADLINE_EXCEEDED", (1,), 1)]


def test_groups_of_some_of_the_ranks():
    def body(worker):
        even = syncnorm.new_group([2, 0])
        again = syncnorm.new_group([0, 2])
        all_of_them = syncnorm.new_group(range(3), name="all")
        sums = [None if g is None else g.sum("a", [10.0 ** worker.rank]) for g in (even, again)]
        with pytest.raises(syncnorm.SyncnormError, match="expected different ranks below 3"):
            syncnorm.new_group([0, 3])
        return sums, all_of_them.sum("a", [1.0]), None if even is None else (even.rank, again.name)

    results = run(3, body)
    assert results[0] == ([[101.0], [101.0]], [3.0], (0, "world/0.2:2"))
    assert results[1] == ([None, None], [3.0], None)
    assert results[2] == ([[101.0], [101.0]], [3.0], (1, "world/0.2:2"))


def test_after_shutdown_init_makes_a_new_group():
    def body(worker):
        with pytest.raises(syncnorm.SyncnormError, match="shutdown"):
            worker.init()
        old = worker.group
        syncnorm.shutdown()
        assert not old.connected and syncnorm.default_group() is None
        with pytest.raises(syncnorm.SyncnormError, match="has left"):
            old.sum("a", [1.0])
        return worker.init().sum("a", [1.0])

    assert run(2, body) == [[2.0], [2.0]]


def test_a_group_is_not_pickled_or_copied():
    def body(worker):
        for attempt in (pickle.dumps, copy.deepcopy, copy.copy):
            with pytest.raises(TypeError, match="belongs to its process"):
                attempt(worker.group)

    run(1, body)


def test_other_threads_run_while_one_waits():
    """Were the GIL not released, rank 0's wait would keep its other thread from sending."""
    def body(worker):
        if worker.rank == 1:
            with open(f"{worker.folder}/fifo", "rb") as fifo:
                assert fifo.read() == b"go"
        else:
            def send():
                with open(f"{worker.folder}/fifo", "wb") as fifo:
                    fifo.write(b"go")

            threading.Timer(0.05, send).start()
        return worker.group.sum("a", [1.0])

    def with_fifo(worker):
        if worker.rank == 0:
            os.mkfifo(f"{worker.folder}/fifo")
        worker.init()
        return body(worker)

    assert run(2, with_fifo, init=False) == [[2.0], [2.0]]


def test_a_forked_child_is_told_so():
    def body(worker):
        read, write = os.pipe()
        if os.fork() == 0:
            try:
                worker.group.sum("a", [1.0])
            except syncnorm.SyncnormError as error:
                os.write(write, f"{error.code} {error.message}".encode())
            os._exit(0)
        os.close(write)
        os.wait()
        told = os.read(read, 1000).decode()
        assert told.startswith("FAILED_PRECONDITION") and "create it after fork" in told, told
        return worker.group.sum("a", [1.0])

    assert run(2, body) == [[2.0], [2.0]]


WAITING = {
    # For a peer that never joins.
    "join": "syncnorm.init('127.0.0.1:0', rank=0, world_size=2)",
    # For a coordinator that never answers.
    "connection": "syncnorm.init('127.0.0.1:1', rank=1, world_size=2)",
    # For a peer that never contributes.
    "round": "syncnorm.init('unix:{path}', rank=0, world_size=2).sum('a', [1.0])",
}


@pytest.mark.parametrize("wait", WAITING)
def test_control_c_ends_a_wait_within_100_ms(wait, tmp_path):
    path = tmp_path / "coordinator"
    program = (
        "import sys, time, syncnorm\n"
        "print('ready', flush=True)\n"
        f"try: {WAITING[wait].format(path=path)}\n"
        "except KeyboardInterrupt: print(time.monotonic(), flush=True)\n")
    peer = ("import sys, syncnorm\n"
            f"syncnorm.init('unix:{path}', rank=1, world_size=2)\n"
            "print('joined', flush=True)\n"
            "sys.stdin.read()\n")
    took = []
    for _ in range(3):  # on a busy machine one may come late
        others = []
        process = subprocess.Popen([sys.executable, "-c", program], stdout=subprocess.PIPE, text=True)
        try:
            assert process.stdout.readline() == "ready\n"
            if wait == "round":
                others.append(subprocess.Popen([sys.executable, "-c", peer], stdin=subprocess.PIPE,
                                               stdout=subprocess.PIPE, stderr=subprocess.DEVNULL))
                assert others[0].stdout.readline() == b"joined\n"
            until_it_waits(process.pid)
            sent = time.monotonic()
            process.send_signal(signal.SIGINT)
            took.append(float(process.stdout.readline()) - sent)
            # And the program ends without the round.  (Its coordinator serves the peer until that
            # leaves.)
            for other in others:
                other.kill()
            process.wait(timeout=3)
        finally:
            for each in (process, *others):
                each.kill()
                each.communicate()
        if took[-1] < 0.1:
            break
    assert min(took) < 0.1, took


def until_it_waits(pid):
    """Until the main thread has been in one system call for 60 ms: a wait in slices of 50 ms is one
    that begins again."""
    def state():
        with open(f"/proc/{pid}/task/{pid}/stat", encoding="utf-8") as f:
            fields = f.read().rsplit(")", 1)[1].split()
        return fields[0], fields[11], fields[12]  # state, user time, system time

    deadline = time.monotonic() + 20
    quiet = 0
    while quiet < 3:
        before = state()
        time.sleep(0.02)
        quiet = quiet + 1 if before[0] == "S" and state()[1:] == before[1:] else 0
        assert time.monotonic() < deadline, "the process does not wait"

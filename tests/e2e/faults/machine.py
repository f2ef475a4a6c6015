"""Rows 49 to 58: the machine's clock, disk, descriptors, memory, forks, proxies, signals, names."""
import contextlib
import glob
import os
import resource
import shutil
import signal
import socket
import subprocess
import time

import harness
from faults.protocol import failure, wire, wire_workers
from name_server import NameServer


def finish(world, workers, expected):
    for worker in workers:
        assert worker.wait() == 0, str(worker)
    assert harness.digests(workers) == expected
    world.check_histories()


def fault_49_wall_clocks_are_apart_and_jump(world):
    libraries = glob.glob("/usr/lib/*/faketime/libfaketimeMT.so.1")
    if not libraries:
        raise harness.Skipped("no libfaketime (Debian: libfaketime)")

    def skewed(name, offset):
        path = os.path.join(world.folder, name)
        with open(path, "w") as f:
            f.write(offset)
        return path, {"LD_PRELOAD": libraries[0], "FAKETIME_TIMESTAMP_FILE": path,
                      "FAKETIME_NO_CACHE": "1", "DONT_FAKE_MONOTONIC": "1",
                      "FAKETIME_DONT_FAKE_MONOTONIC": "1"}

    expected = harness.undisturbed(world.programs, 2, steps=60)
    clock, env = skewed("coordinator.clock", "+400d")
    coordinator = world.coordinator(env=env)
    workers = world.workers(2, steps=60, progress=True, compute="1ms",
                            each=lambda r: {"env": skewed(f"{r}.clock", f"-{100 * (r + 1)}d")[1]})
    for step, offset in ((10, "-3000d"), (20, "+3000d")):
        workers[0].wait_line(f"step {step}")
        with open(clock, "w") as f:
            f.write(offset)
    finish(world, workers, expected)
    # Its log shows that the clock was another: the faking worked.
    assert coordinator.errors() and not coordinator.errors().startswith(time.strftime("%Y-%m-%d")), \
        coordinator.errors()


def fault_50_disk_full_under_the_log(world):
    expected = harness.undisturbed(world.programs, 2, steps=20)
    with open("/dev/full", "w") as full:
        coordinator = world.coordinator("--log_level=debug", stderr=full)
    for _ in range(3):  # lines to lose
        refused = world.worker(1, 2, connect_timeout="100ms")
        assert refused.wait() == 1
    workers = world.workers(2, steps=20)
    finish(world, workers, expected)
    coordinator.terminate()
    assert coordinator.wait() == 0


def fault_51_descriptors_exhausted(world):
    expected = harness.undisturbed(world.programs, 2, steps=60)
    limit = 64
    coordinator = world.coordinator(
        preexec_fn=lambda: resource.setrlimit(resource.RLIMIT_NOFILE, (limit, limit)))
    host, _, port = world.address.rpartition(":")
    workers = world.workers(2, steps=60, progress=True, compute="1ms")
    workers[0].wait_line("step 5")
    crowd = []
    for _ in range(2 * limit):  # the kernel's backlog takes what the process cannot
        s = socket.socket()
        s.setblocking(False)
        s.connect_ex((host, int(port)))
        crowd.append(s)
    harness.wait_for(lambda: coordinator.descriptors() >= limit - 2, "its descriptors to run out")
    assert workers[0].running() or workers[0].process.returncode == 0
    finish(world, workers, expected)
    for s in crowd:
        s.close()
    # Whether it takes new ones again is up to gRPC: that of Debian 12 (1.51.1) closes its listener for
    # good (CVE-2023-4785).  Those who are there go on, which was shown; the others get an answer.
    late = world.worker(0, 1, connect_timeout="2s", steps=60)
    recovered = late.wait() == 0
    print(f"new connections after the crowd had gone: {'yes' if recovered else 'none'}")
    assert recovered or "UNAVAILABLE" in late.line("failed "), str(late)


def fault_52_memory_is_bounded(world):
    expected = harness.undisturbed(world.programs, 2, steps=20)
    space = 1 << 30  # beyond it an allocation fails, and so the process
    coordinator = world.coordinator(
        "--max_open_bytes=8388608", "--max_kept_bytes=4194304",
        preexec_fn=lambda: resource.setrlimit(resource.RLIMIT_AS, (space, space)))
    # The worst order of arrival: nothing can be folded as long as rank 0 is missing.
    members = 17
    workers = wire_workers(world, members, group="greedy")
    values = [1.0] * (1 << 17)  # 1 MiB
    for worker in workers[1:]:
        worker.send(1, count=1, kind=2, rows=1, f64=values)
    told = failure(workers[1])
    assert told.code == wire.pb.CODE_RESOURCE_EXHAUSTED, told
    assert "bytes" in told.text and "layer bn1" in told.text, told.text
    # For that round only, and nobody else suffers.
    for worker in workers:
        worker.send(1 if worker.rank == 0 else 2, count=1, f64=[1.0, 0.0])
    assert failure(workers[0]).code == wire.pb.CODE_RESOURCE_EXHAUSTED
    workers[0].send(2, count=1, f64=[1.0, 0.0])
    for worker in workers:
        answer = worker.receive()
        while answer.HasField("failure"):  # round 1's, to those that have not read it yet
            answer = worker.receive()
        assert answer.result.count == members
    finish(world, world.workers(2, steps=20), expected)
    assert coordinator.running()


def fault_53_forks_while_rounds_run(world):
    """In the long form of tests/client/group_fork_test.cc: a thousand."""
    run_gtest(world, "GroupForkTest.ForksWhileRoundsRunDoNoHarm", SYNCNORM_TEST_FORKS="1000")


def fault_54_forks_that_run_another_program(world):
    run_gtest(world, "GroupForkTest.AProgramThatIsRunMeanwhileInheritsNoSocket",
              SYNCNORM_TEST_FORKS="200")


def run_gtest(world, name, **env):
    program = os.path.join(world.programs.build, "tests", "client", "client_group_fork_test")
    ran = subprocess.run([program, f"--gtest_filter={name}"], env={**os.environ, **env},
                         capture_output=True, text=True, timeout=110)
    if "[  SKIPPED ]" in ran.stdout:
        raise harness.Skipped("AddressSanitizer and fork")
    assert ran.returncode == 0 and "[  PASSED  ] 1 test" in ran.stdout, ran.stdout[-2000:]


def fault_55_proxy_in_the_environment(world):
    expected = harness.undisturbed(world.programs, 2, steps=10)
    nowhere = f"http://127.0.0.1:{harness.free_port()}"
    env = {name: nowhere for name in ("http_proxy", "https_proxy", "grpc_proxy")}
    env.update(no_proxy="", no_grpc_proxy="")
    world.coordinator(env=env)
    finish(world, world.workers(2, steps=10, env=env), expected)


def fault_56_sigpipe_is_left_as_it_was(world):
    coordinator = world.coordinator()
    workers = world.workers(2, steps=10_000, progress=True, round_timeout="1s")
    workers[0].wait_line("step 5")
    coordinator.kill()
    for worker in workers:
        assert worker.wait() == 1, f"{worker}: not by signal {signal.SIGPIPE}"
        assert worker.line("sigpipe ") == "sigpipe default", str(worker)


def with_own(path, target):
    """What a command begins with for which the file `target` is the one at `path`."""
    if os.geteuid() != 0 or shutil.which("unshare") is None:
        raise harness.Skipped(f"needs root and unshare, for a {target} of its own")
    return ["unshare", "-m", "sh", "-c", f'mount --bind {path} {target} && exec "$@"', "-"]


def fault_58_the_coordinator_gets_another_address(world):
    """A name server of one file: /etc/hosts, in a mount namespace of this test's own."""
    hosts = os.path.join(world.folder, "hosts")
    own_hosts = with_own(hosts, "/etc/hosts")

    def resolve(ip):
        with open(hosts, "w") as f:
            f.write(f"127.0.0.1 localhost\n{ip} coordinator.test\n")

    resolve("127.0.0.1")
    expected = harness.undisturbed(world.programs, 2, steps=20)
    coordinator = world.coordinator()
    port = world.address.rpartition(":")[2]
    workers = world.workers(2, steps=20, progress=True, prefix=own_hosts,
                            address=f"coordinator.test:{port}")
    workers[0].wait_line("step 5")
    coordinator.kill()
    resolve("127.0.0.2")
    world.coordinator(address=f"127.0.0.2:{port}")
    finish(world, workers, expected)


def fault_58_an_answer_of_the_name_server_is_lost(world):
    """As where containers are: the name server is started again with the coordinator, and does not
    hear any more who asked in between."""
    resolv = os.path.join(world.folder, "resolv.conf")
    own_resolver = with_own(resolv, "/etc/resolv.conf")
    try:
        names = NameServer("coordinator.test", "127.0.0.1")
    except OSError as error:
        raise harness.Skipped(f"no name server at 127.0.0.153:53: {error}") from error
    with contextlib.closing(names):
        with open(resolv, "w") as f:
            f.write(f"nameserver {names.address}\n")
        expected = harness.undisturbed(world.programs, 2, steps=20)
        coordinator = world.coordinator()
        port = world.address.rpartition(":")[2]
        workers = world.workers(2, steps=20, progress=True, prefix=own_resolver,
                                address=f"coordinator.test:{port}")
        workers[0].wait_line("step 5")
        names.deaf = True
        coordinator.kill()
        harness.wait_for(lambda: len(names.unheard) >= 2, "both workers to ask in vain")
        names.ip = "127.0.0.2"
        names.deaf = False
        world.coordinator(address=f"127.0.0.2:{port}")
        finish(world, workers, expected)

"""Real processes for tests: a coordinator, workers, a proxy between them; started, awaited, killed,
stopped, and always ended; and their histories checked.

Nothing here waits by the clock where there is something to wait for: a line of output, the end of
a process, a state in /proc.  Every wait has a limit, and says what did not come.
"""
import json
import os
import queue
import shutil
import signal
import socket
import subprocess
import sys
import tempfile
import threading
import time

import check_history

HERE = os.path.dirname(os.path.abspath(__file__))
WAIT = 30.0  # s for anything that should come at once: beyond it something hangs


class Skipped(Exception):
    """Says what is missing."""


def micros():
    """CLOCK_MONOTONIC, as in the histories."""
    return time.monotonic_ns() // 1000


class Programs:
    """Where the build has put what is tested."""

    def __init__(self, build):
        self.build = build
        self.coordinator = os.path.join(build, "server", "syncnorm-coordinator")
        self.failpoint_coordinator = os.path.join(build, "tests", "e2e",
                                                  "syncnorm-coordinator-failpoints")
        self.worker = os.path.join(build, "tests", "e2e", "chaos_worker")
        self.failpoint_worker = self.worker + "-failpoints"
        self.trainer = os.path.join(build, "examples", "syncnorm-train-fashion-mnist")


class Process:
    """A program whose output is awaited line by line, by a thread that reads it."""

    def __init__(self, name, command, folder, env=None, **options):
        self.name = name
        self.log = os.path.join(folder, f"{name}.err")
        environment = {k: v for k, v in os.environ.items() if not k.startswith("SYNCNORM_")}
        environment.update(PYTHONDONTWRITEBYTECODE="1", **(env or {}))
        with open(self.log, "ab") as log:
            stderr = options.pop("stderr", log)
            self.process = subprocess.Popen(
                command, stdout=subprocess.PIPE, stderr=stderr, stdin=subprocess.PIPE,
                env=environment, text=True, bufsize=1, **options)
        self.pid = self.process.pid
        self.lines = []
        self.seen = 0  # lines that a wait has gone past
        self.queue = queue.Queue()
        self.reader = threading.Thread(target=self._read, daemon=True)
        self.reader.start()

    def _read(self):
        for line in self.process.stdout:
            self.queue.put((micros(), line.rstrip("\n")))
        self.queue.put((micros(), None))

    def wait_line(self, *starts, timeout=WAIT):
        """The next line that starts with one of `starts`."""
        deadline = time.monotonic() + timeout
        while True:
            while self.seen < len(self.lines):
                line = self.lines[self.seen]
                self.seen += 1
                if line.startswith(starts):
                    return line
            try:
                _, line = self.queue.get(timeout=max(0.01, deadline - time.monotonic()))
            except queue.Empty:
                raise AssertionError(f"{self}: no line {starts} within {timeout:g} s") from None
            if line is None:
                self.queue.put((micros(), None))
                raise AssertionError(f"{self}: ended without a line {starts}")
            self.lines.append(line)

    def wait(self, timeout=WAIT):
        """Its exit status; all lines are there then."""
        try:
            status = self.process.wait(timeout)
        except subprocess.TimeoutExpired:
            raise AssertionError(f"{self}: still runs after {timeout:g} s") from None
        self.reader.join(WAIT)
        while not self.queue.empty():
            _, line = self.queue.get()
            if line is not None:
                self.lines.append(line)
        return status

    def running(self):
        return self.process.poll() is None

    def line(self, start):
        """The last line that starts so, of those that are there; None if none."""
        found = [line for line in self.lines if line.startswith(start)]
        return found[-1] if found else None

    def kill(self):
        """kill -9, at the time that is returned."""
        self.process.kill()
        at = micros()
        self.process.wait()
        return at

    def terminate(self):
        self.process.terminate()

    def stop(self):
        """SIGSTOP; returns when it has stopped."""
        self.process.send_signal(signal.SIGSTOP)
        wait_for(lambda: self.state() == "T", f"{self} to stop")
        return micros()

    def resume(self):
        self.process.send_signal(signal.SIGCONT)
        return micros()

    def state(self):
        with open(f"/proc/{self.pid}/stat") as f:
            return f.read().rpartition(") ")[2][0]

    def rss_kib(self):
        with open(f"/proc/{self.pid}/status") as f:
            return next(int(line.split()[1]) for line in f if line.startswith("VmRSS"))

    def descriptors(self):
        return len(os.listdir(f"/proc/{self.pid}/fd"))

    def cpu_seconds(self):
        with open(f"/proc/{self.pid}/stat") as f:
            fields = f.read().rpartition(") ")[2].split()
        return (int(fields[11]) + int(fields[12])) / os.sysconf("SC_CLK_TCK")

    def errors(self):
        with open(self.log, encoding="utf-8", errors="replace") as f:
            return f.read()

    def end(self):
        if self.running():
            self.process.kill()
            self.process.wait()
        self.process.stdin.close()
        self.reader.join(WAIT)
        self.process.stdout.close()

    def __str__(self):
        tail = self.lines[-3:]
        log = self.errors().splitlines()[-3:]
        return f"{self.name} (pid {self.pid}; said {tail}; log ends {log})"


class Proxy(Process):
    def __init__(self, name, target, folder, seed=1):
        super().__init__(name, [sys.executable, os.path.join(HERE, "fault_proxy.py"), target,
                                f"--seed={seed}"], folder)
        self.address = self.wait_line("listening on ").split()[-1]

    def do(self, command):
        """Sends a command; its value, if it has one."""
        self.process.stdin.write(command + "\n")
        self.process.stdin.flush()
        answer = self.wait_line("ok", "error")
        assert answer.startswith("ok"), f"{command}: {answer}"
        return answer[3:] or None


class World:
    """The processes of one test, in a folder of their own."""

    def __init__(self, programs):
        self.programs = programs
        self.folder = tempfile.mkdtemp(prefix="syncnorm_e2e_")
        self.processes = []
        self.histories = []
        self.pauses = os.path.join(self.folder, "pauses.jsonl")
        self.address = None

    def close(self, failed=False):
        for process in self.processes:
            process.end()
        if failed and os.environ.get("SYNCNORM_KEEP_LOGS"):
            print(f"logs and histories are kept in {self.folder}")
        else:
            shutil.rmtree(self.folder, ignore_errors=True)

    def __enter__(self):
        return self

    def __exit__(self, kind, *_):
        if kind is not None:
            self.tell()
        self.close(failed=kind is not None)

    def tell(self):
        """What a failed test wants to see."""
        for process in self.processes:
            state = "runs" if process.running() else f"ended with {process.process.returncode}"
            print(f"--- {process.name} (pid {process.pid}) {state}")
            for line in process.lines[-8:] + process.errors().splitlines()[-8:]:
                print(f"    {line}")

    def add(self, process):
        self.processes.append(process)
        return process

    def coordinator(self, *flags, address=None, failpoint=None, name="coordinator", program=None,
                    **options):
        """Starts one that listens; at `address`, or on a port of its own."""
        program = program or (self.programs.failpoint_coordinator if failpoint
                              else self.programs.coordinator)
        env = options.pop("env", {})
        if failpoint:
            env = dict(env, SYNCNORM_FAILPOINT=failpoint)
        prefix = options.pop("prefix", [])
        process = self.add(Process(name, [*prefix, program,
                                          f"--listen={address or '127.0.0.1:0'}", *flags],
                                   self.folder, env=env, **options))
        self.address = process.wait_line("listening on ").split()[-1]
        return process

    def restart(self, coordinator, *flags, **options):
        """kill -9, if it still runs, and again on the same address.  Returns the new one and the
        time of the kill.  The old one is forgotten; its log goes on in that of the new one."""
        at = coordinator.kill() if coordinator.running() else micros()
        coordinator.end()
        self.processes.remove(coordinator)
        return self.coordinator(*flags, address=self.address, **options), at

    def proxy(self, seed=1):
        return self.add(Proxy(f"proxy{len(self.processes)}", self.address, self.folder, seed))

    def worker(self, rank, world, *flags, address=None, failpoint=None, prefix=(), env=None, **named):
        number = len(self.histories)
        history = os.path.join(self.folder, f"worker{number}.jsonl")
        self.histories.append(history)
        program = self.programs.failpoint_worker if failpoint else self.programs.worker
        env = dict(env or {})
        if failpoint:
            env["SYNCNORM_FAILPOINT"] = failpoint
        options = {"steps": 5, "round_timeout": "10s", **named}
        command = [*prefix, program, f"--address={address or self.address}", f"--rank={rank}",
                   f"--world={world}", f"--history={history}", *flags,
                   *(f"--{k}={v}" for k, v in options.items())]
        process = Process(f"worker{number}.rank{rank}", command, self.folder, env=env)
        process.rank, process.history = rank, history
        return self.add(process)

    def workers(self, world, *flags, each=lambda rank: {}, **named):
        return [self.worker(rank, world, *flags, **{**named, **each(rank)})
                for rank in range(world)]

    def paused(self, process, start, end):
        with open(self.pauses, "a") as f:
            f.write(json.dumps({"e": "paused", "pid": process.pid, "from": start, "to": end}) +
                    "\n")

    def check_histories(self, slack_ms=0):
        """Fails if they break the promise; how many calls ended how."""
        # A worker that was killed at once may have none.
        paths = [path for path in (*self.histories, self.pauses) if os.path.exists(path)]
        violations, codes = check_history.check_files(paths, slack_ms * 1000)
        assert not violations, "\n".join(violations[:10])
        return codes


def read_history(process):
    with open(process.history, encoding="utf-8") as f:
        return check_history.parse(f.read())


def failures(process):
    """The returns of a worker's history that are not OK, in order."""
    return [line for line in read_history(process)
            if line["e"] == "return" and line["code"] != "OK"]


def ended(process):
    """The failure of its membership."""
    return next((line for line in read_history(process) if line["e"] == "ended"), None)


def wait_for(condition, what, timeout=WAIT):
    deadline = time.monotonic() + timeout
    while not condition():
        assert time.monotonic() < deadline, f"waited {timeout:g} s for {what}"
        time.sleep(0.002)


def free_port():
    """A port that nothing listens on now."""
    with socket.socket() as s:
        s.bind(("127.0.0.1", 0))
        return s.getsockname()[1]


def digests(workers):
    """The digests that workers printed at their end, which must be one."""
    found = {w.line("digest ") for w in workers}
    assert None not in found, f"no digest: {[str(w) for w in workers if not w.line('digest ')]}"
    assert len(found) == 1, f"digests differ: {found}"
    return found.pop()


def undisturbed(programs, world, **named):
    """The digest of a run in which nothing happens."""
    with World(programs) as w:
        w.coordinator()
        workers = w.workers(world, **named)
        for worker in workers:
            assert worker.wait(120) == 0, str(worker)
        return digests(workers)

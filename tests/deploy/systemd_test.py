#!/usr/bin/env python3
"""The systemd unit: systemd takes it, it is as closed as it says, and the coordinator can live in it.

usage: systemd_test.py COORDINATOR CTL
"""
import os
import re
import shutil
import signal
import subprocess
import sys
import tempfile
import unittest
import urllib.request

import support

sys.path.insert(0, os.path.join(support.ROOT, "tests", "e2e"))
import harness  # noqa: E402

COORDINATOR, CTL = sys.argv.pop(1), sys.argv.pop(1)
if shutil.which("systemd-analyze") is None:
    support.skip("no systemd-analyze: Debian's systemd")
if shutil.which("strace") is None:
    support.skip("no strace: Debian's strace")
support.need_program(COORDINATOR)
support.need_program(CTL)
FOLDER = os.path.join(support.ROOT, "deploy", "systemd")
NAME = "syncnorm-coordinator.service"
UNIT = support.read(FOLDER, NAME)


def settings():
    """[(key, value)] of the unit."""
    return [tuple(line.split("=", 1)) for line in UNIT.splitlines() if "=" in line and line[0] not in "#["]


def setting(key):
    return [value for name, value in settings() if name == key]


def in_scratch(unit, scratch):
    """The unit in a folder of its own, with a program that is there."""
    path = os.path.join(scratch, NAME)
    with open(path, "w", encoding="utf-8") as file:
        file.write(unit.replace("/usr/bin/syncnorm-coordinator", shutil.which("true")))
    return path


def verify(unit):
    with tempfile.TemporaryDirectory() as scratch:
        done = subprocess.run(["systemd-analyze", "verify", "--man=no", in_scratch(unit, scratch)],
                              capture_output=True, text=True, check=False, timeout=60)
        return done.returncode, [line for line in (done.stdout + done.stderr).splitlines() if NAME in line]


def expand(*groups):
    """The system calls of these groups, those of the groups within them too."""
    text = subprocess.run(["systemd-analyze", "syscall-filter", *groups], capture_output=True, text=True,
                          check=True).stdout
    names = {line.strip() for line in text.splitlines() if line.startswith(" ") and "#" not in line}
    inner = {name for name in names if name.startswith("@")}
    return (names - inner) | (expand(*inner) if inner else set())


def allowed_calls():
    calls = set()
    for line in setting("SystemCallFilter"):
        if line.startswith("~"):
            calls -= expand(*line[1:].split())
        else:
            calls |= expand(*line.split())
    return calls


class UnitTest(unittest.TestCase):
    def test_systemd_takes_it_without_a_word(self):
        self.assertEqual(verify(UNIT), (0, []))

    def test_systemd_would_have_said_a_word(self):
        self.assertNotEqual(verify(UNIT.replace("ProtectHome=yes", "ProtectHomes=yes"))[1], [])

    def test_it_is_exposed_to_little(self):
        with tempfile.TemporaryDirectory() as scratch:
            text = subprocess.run(["systemd-analyze", "security", "--offline=true", "--no-pager",
                                   in_scratch(UNIT, scratch)], capture_output=True, text=True, check=True).stdout
        # 1.2 with systemd 252; 9.6 is a unit that says nothing.  Later versions look at more.
        exposure = float(re.search(r"exposure level for \S+: ([0-9.]+)", text).group(1))
        self.assertLessEqual(exposure, 2.0, text)

    def test_its_user_is_the_one_that_sysusers_makes(self):
        made, = re.findall(r"^u (\S+)", support.read(FOLDER, "syncnorm.sysusers"), flags=re.MULTILINE)
        self.assertEqual(setting("User") + setting("Group"), [made, made])
        done = subprocess.run(["systemd-sysusers", "--dry-run", os.path.join(FOLDER, "syncnorm.sysusers")],
                              capture_output=True, text=True, check=False)
        self.assertEqual(done.returncode, 0, done.stderr)

    def test_there_is_time_to_drain_and_room_for_every_worker(self):
        flags = support.flags_of(COORDINATOR)
        drain = int(re.match(r"(\d+)s$", flags["drain_grace"]).group(1))
        self.assertGreaterEqual(int(setting("TimeoutStopSec")[0]), drain + 10)
        self.assertGreaterEqual(int(setting("LimitNOFILE")[0]), int(flags["max_streams"]) * 2)

    def test_its_example_writes_only_where_it_may(self):
        folder, = re.findall(r"^dump_dir: (\S+)", support.read(FOLDER, "coordinator.yaml"), flags=re.MULTILINE)
        self.assertEqual(folder, "/var/lib/" + setting("StateDirectory")[0])


class SystemCallsTest(unittest.TestCase):
    """systemd itself is not running where tests are: the calls that the coordinator makes are
    written down by strace, and held against what the unit forbids."""

    def test_the_unit_lets_a_coordinator_do_what_it_does_in_its_life(self):
        with tempfile.TemporaryDirectory() as scratch:
            support.make_certificates(scratch)
            calls = os.path.join(scratch, "calls")
            strace = harness.Process(
                "coordinator", ["strace", "-f", "-qqq", "-o", calls, COORDINATOR, "--listen=localhost:0",
                                "--admin_listen=127.0.0.1:0", f"--tls_dir={scratch}", f"--dump_dir={scratch}", "--reload_interval=10ms"], scratch)
            try:
                address = strace.wait_line("listening on ").split()[-1]
                # One that connects, asks and goes.
                asked = subprocess.run(
                    [CTL, "status", f"--address={address}", f"--tls_ca={scratch}/ca.crt",
                     f"--tls_cert={scratch}/tls.crt", f"--tls_key={scratch}/tls.key"],
                    capture_output=True, text=True, check=False, timeout=60)
                self.assertEqual(asked.returncode, 0, asked.stderr)
                page = strace.wait_line("status page on ").split()[-1]
                for path in ("statusz", "metrics", "healthz"):
                    with urllib.request.urlopen(page.replace("statusz", path), timeout=60) as answer:
                        self.assertEqual(answer.status, 200)
                # strace keeps signals to itself; the coordinator is its child.
                with open(f"/proc/{strace.pid}/task/{strace.pid}/children", encoding="utf-8") as file:
                    coordinator = int(file.read())
                # What ExecReload sends does not end it.
                os.kill(coordinator, {"-HUP": signal.SIGHUP}[setting("ExecReload")[0].split()[1]])
                os.kill(coordinator, signal.SIGUSR1)  # a report, into dump_dir
                harness.wait_for(lambda: os.path.exists(os.path.join(scratch, "syncnorm-report-1.json")), "a report")
                os.kill(coordinator, signal.SIGTERM)
                self.assertEqual(strace.wait(), 0, support.read(strace.log))
            finally:
                strace.kill()
                strace.process.stdin.close()
                strace.reader.join()
                strace.process.stdout.close()
            text = support.read(calls)
        made = {match.group(1) for match in re.finditer(r"^\d+ +(\w+)\(", text, flags=re.MULTILINE)}
        self.assertLess({"socket", "accept4", "clone3", "openat"}, made)
        # execve: systemd's own, of the program.
        self.assertEqual(made - allowed_calls() - {"execve"}, set())
        # RestrictAddressFamilies, MemoryDenyWriteExecute.
        families = set(re.findall(r" socket\((AF_\w+)", text))
        self.assertLessEqual(families, set(setting("RestrictAddressFamilies")[0].split()))
        self.assertTrue(families)
        self.assertNotIn("PROT_WRITE|PROT_EXEC", text)

    def test_the_filter_forbids_something(self):
        self.assertFalse({"mount", "ptrace", "setuid", "bpf", "sched_setscheduler"} & allowed_calls())


if __name__ == "__main__":
    unittest.main(verbosity=2)

"""The compose demo's stack, through Docker Compose v2 or podman-compose: built, started, looked at,
ended.  deploy/demo shows it to people; tests/deploy breaks it."""
import json
import os
import re
import shlex
import shutil
import subprocess
import time

HERE = os.path.dirname(os.path.abspath(__file__))
TOP = os.path.dirname(os.path.dirname(HERE))
COMPOSE_FILE = os.path.join(TOP, "deploy", "compose.yaml")
RANKS = range(4)
TRAINERS = [f"trainer-{rank}" for rank in RANKS]
STANDING = ["coordinator", "prometheus"]


class Failed(Exception):
    """Ends the demo with a sentence."""


def _runs(*command):
    return shutil.which(command[0]) is not None and subprocess.run(
        command, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL, check=False).returncode == 0


def find_engine():
    """(engine, compose): two commands.  Docker's daemon may be away although its client is here."""
    if _runs("docker", "compose", "version") and _runs("docker", "info"):
        return ["docker"], ["docker", "compose"]
    if _runs("podman", "--version") and shutil.which("podman-compose"):
        return ["podman"], ["podman-compose"]
    raise Failed("this needs Docker with Compose v2 (docker compose version, docker info), or "
                 "podman and podman-compose; neither is at hand")


def project_version():
    with open(os.path.join(TOP, "CMakeLists.txt"), encoding="utf-8") as f:
        return re.search(r"project\(syncnorm VERSION ([0-9.]+)", f.read()).group(1)


def revision():
    """Of the sources, as far as they know it; "-dirty": they have been changed since."""
    got = subprocess.run(["git", "-C", TOP, "describe", "--always", "--dirty", "--abbrev=12",
                          "--exclude=*"], capture_output=True, text=True, check=False)
    return got.stdout.strip() if got.returncode == 0 else "unknown"


class Stack:
    """`variables`: of compose.yaml, e.g. SYNCNORM_DEMO_STEPS.  `log`: a file for what the tools
    say, which is much."""

    def __init__(self, log, variables=None):
        self.engine, compose = find_engine()
        self.compose = [*compose, "-p", "syncnorm", "-f", COMPOSE_FILE]
        self.log = log
        # Docker's format, because OCI's has no health check.
        self.environment = dict(os.environ, BUILDAH_FORMAT="docker",
                                SYNCNORM_VERSION=project_version(), SYNCNORM_REVISION=revision())
        self.environment.update(variables or {})

    def _run(self, command, check=True, errors=False):
        """Returns the standard output, and errors if told so; all of it goes to the log, too."""
        started = time.monotonic()
        got = subprocess.run(command, env=self.environment, cwd=TOP, stdin=subprocess.DEVNULL,
                             capture_output=True, text=True, errors="replace", check=False)
        with open(self.log, "a", encoding="utf-8") as log:
            log.write(f"\n$ {' '.join(command)}  # {time.monotonic() - started:.1f} s\n"
                      f"{got.stdout}{got.stderr}")
        if check and got.returncode != 0:
            lines = (got.stdout + got.stderr).strip().splitlines()
            raise Failed(f"{' '.join(command)} ended with status {got.returncode} "
                         f"(all of it: {self.log}):\n" + "\n".join(lines[-8:]))
        return got.stdout + (got.stderr if errors else "")

    def image(self, name):
        return f"localhost/syncnorm-{name}:{self.environment['SYNCNORM_VERSION']}"

    def build(self, ccache=None):
        """`ccache`: a folder of the compiler's cache to build with, where the engine can lend it:
        podman; with Docker each builder keeps its own."""
        lend = []
        if ccache and self.engine == ["podman"]:
            lend = [f"--podman-build-args=--volume={shlex.quote(ccache)}:/lent-ccache"]
        self._run([*self.compose, *lend, "build"])
        for name in ("coordinator", "trainer", "prometheus"):  # podman-compose 1.0 hides failures
            self._run([*self.engine, "image", "inspect", self.image(name)])

    def up(self):
        """Certificates first: podman-compose 1.0 does not wait for what others depend on."""
        self._start("certs")
        self.wait("certs")
        if self.state("certs")["ExitCode"] != 0:
            raise Failed(f"no certificates: {self.logs('certs').strip()}")
        self._start(*STANDING, *TRAINERS)

    def _start(self, *services):
        """podman-compose 1.0 goes on when a container cannot be started, and ends with status 0."""
        said = self._run([*self.compose, "up", "-d", "--no-build", *services], errors=True)
        for service in services:
            if self.state(service, check=False).get("Status", "missing") in ("missing", "created"):
                usual = ("no such volume", "the container name")  # it looks, then makes
                errors = [line for line in said.splitlines() if line.startswith("Error") and
                          not any(text in line for text in usual)]
                raise Failed(f"{service} did not start (all of it: {self.log}):\n"
                             + "\n".join(errors[-8:]))

    def train_again(self, **variables):
        """The trainers alone, from the start, beside what runs; with these variables."""
        self.environment.update(variables)
        for name in TRAINERS:
            self.call("rm", "-f", f"syncnorm-{name}")
        self._start(*TRAINERS)

    def down(self):
        """Ends all and forgets it; images stay."""
        self._run([*self.compose, "down", "-v", "-t", "15"])

    def run(self, service, *command):
        """A service's own command, or another one, once; what it says."""
        return self._run([*self.compose, "run", "--rm", "--no-deps", "-T", service, *command])

    # The rest is of single containers; both engines speak alike here.

    def call(self, *arguments, check=True):
        return self._run([*self.engine, *arguments], check)

    def inspect(self, service, check=True):
        found = json.loads(self.call("inspect", f"syncnorm-{service}", check=check) or "[]")
        return found[0] if found else {}

    def state(self, service, check=True):
        return self.inspect(service, check).get("State", {})

    def wait(self, service):
        self.call("wait", f"syncnorm-{service}")

    def logs(self, service, tail=None):
        """Standard output and error, which engines may keep apart."""
        command = [*self.engine, "logs", *(["--tail", str(tail)] if tail else []),
                   f"syncnorm-{service}"]
        return subprocess.run(command, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True,
                              errors="replace", check=False).stdout

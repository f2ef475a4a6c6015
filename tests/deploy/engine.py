"""What the tests with containers share: an engine, or the reason why there is none; and tests that
are sentences, run in order."""
import os
import subprocess
import sys
import time

HERE = os.path.dirname(os.path.abspath(__file__))
TOP = os.path.dirname(os.path.dirname(HERE))
sys.path[:0] = [os.path.join(TOP, "deploy", "docker")]

import stack  # noqa: E402

DEMO = os.path.join(TOP, "deploy", "demo")


def _skip(why):
    print(f"SKIP: {why}")
    sys.exit(77)


def require():
    """Goes on with an engine at hand: runs this program again in a shell that sourced the setup."""
    if os.environ.get("SYNCNORM_CONTAINERS_READY") == "1":
        return
    setup = os.environ.get("SYNCNORM_CONTAINERS", "")
    if not setup or not os.path.exists(setup):
        _skip("SYNCNORM_CONTAINERS names no script that makes containers work "
              f"(it is {setup!r}); ./dev test looks for ../shared/containers/setup")
    if os.geteuid() != 0:
        _skip("containers need root here")
    os.environ["SYNCNORM_CONTAINERS_READY"] = "1"
    os.execvp("bash", ["bash", "-c", 'source "$SYNCNORM_CONTAINERS" && exec "$@"', "bash",
                       sys.executable, *sys.argv])


def make_stack(name, **variables):
    folder = os.path.join(TOP, "out", "deploy-test")
    os.makedirs(folder, exist_ok=True)
    log = os.path.join(folder, f"{name}.log")
    open(log, "w", encoding="utf-8").close()
    return stack.Stack(log, variables)


class start:
    """A program that runs; ended with the block that it is used in."""

    def __init__(self, *command, **environment):
        self.process = subprocess.Popen(command, env=dict(os.environ, **environment),
                                        stdin=subprocess.DEVNULL, stdout=subprocess.PIPE,
                                        stderr=subprocess.STDOUT, text=True, errors="replace")

    def __enter__(self):
        return self

    def __exit__(self, *_):
        self.process.kill()
        self.process.wait()

    def over(self):
        return self.process.poll() is not None

    def wait(self):
        """(status, everything it said), without what podman logs about itself."""
        text, _ = self.process.communicate()
        said = [line for line in text.splitlines(True) if not line.startswith('time="')]
        return self.process.returncode, "".join(said)


def run(*command, **environment):
    with start(*command, **environment) as program:
        return program.wait()


def await_that(condition, what, seconds=60):
    """The condition's value, once it is true.  Engines cannot be waited for otherwise."""
    deadline = time.monotonic() + seconds
    while True:
        value = condition()
        if value:
            return value
        assert time.monotonic() < deadline, f"not within {seconds} s: {what()}"
        time.sleep(0.2)


def main(tests, context):
    """Runs the tests in order, each with `context`, or those that the command line names; the
    names are the sentences."""
    tests = [test for test in tests if test.__name__ in sys.argv[1:] or len(sys.argv) == 1]
    for test in tests:
        start = time.monotonic()
        print(f"{test.__name__.replace('_', ' ')} ...", flush=True)
        test(context)
        print(f"  ok, {time.monotonic() - start:.1f} s", flush=True)
    print(f"{len(tests)} passed")

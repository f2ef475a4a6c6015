"""The demo's processes: started with a log each, watched, shown, and always ended."""
import os
import signal
import subprocess
import sys
import time


class Failed(Exception):
    """Ends the demo with a sentence."""


def find_program(build, name):
    for folder, _, files in os.walk(build):
        path = os.path.join(folder, name)
        if name in files and os.access(path, os.X_OK):
            return path
    raise Failed(f"no {name} in {build}: build first")


class Processes:
    def __init__(self, folder):
        self.folder = folder
        self.running = {}
        # A terminal gets one line a run, which moves; a file gets a line at every change of tens.
        self.terminal = sys.stdout.isatty()
        # SIGTERM ends this script the way ^C does, through its `finally`.
        signal.signal(signal.SIGTERM, self._terminate)

    @staticmethod
    def _terminate(*_):
        raise KeyboardInterrupt

    def log(self, name):
        return os.path.join(self.folder, f"{name}.log")

    def start(self, name, command):
        environment = dict(os.environ, OMP_NUM_THREADS="1")
        with open(self.log(name), "w", encoding="utf-8") as log:
            self.running[name] = subprocess.Popen(command, stdout=log, stderr=subprocess.STDOUT,
                                                  stdin=subprocess.DEVNULL, env=environment)

    def check(self):
        """Raises if a process has failed; of several, the one that did not just follow."""
        failed = [n for n, p in self.running.items() if p.poll() not in (None, 0)]
        if failed:
            name = failed[0]
            with open(self.log(name), encoding="utf-8", errors="replace") as log:
                tail = "".join(log.readlines()[-5:]).strip()
            raise Failed(f"{name} ended with status {self.running[name].returncode}; its log "
                         f"({self.log(name)}) ends:\n{tail}")

    def wait(self, names, show):
        """Until all of `names` have ended well; shows the progress of `show` meanwhile."""
        shown = None
        while any(self.running[name].poll() is None for name in names):
            time.sleep(0.1)
            self.check()
            shown = self._show(show, shown)
        self.check()
        self._show(show, shown)
        if self.terminal:
            print()

    def _show(self, name, shown):
        line = self.last_line(name, "step ", required=False)
        if line is None or line == shown:
            return shown
        text = f"{name.split('.')[0]:6} {line}"
        if self.terminal:
            print(f"\r\x1b[K{text}", end="", flush=True)
        elif "accuracy" in line:
            print(text, flush=True)
        return line

    def last_line(self, name, start, required=True):
        with open(self.log(name), encoding="utf-8", errors="replace") as log:
            lines = [line.strip() for line in log if line.startswith(start) and
                     line.endswith("\n")]
        if lines:
            return lines[-1]
        if required:
            raise Failed(f"{name} said nothing of '{start.strip()}'; see {self.log(name)}")
        return None

    def stop(self, name):
        """Ends one process in order; it must end well."""
        process = self.running.pop(name)
        process.terminate()
        try:
            status = process.wait(timeout=15)
        except subprocess.TimeoutExpired:
            process.kill()
            process.wait()
            raise Failed(f"{name} did not end within 15 s of SIGTERM") from None
        if status != 0:
            raise Failed(f"{name} ended with status {status}; see {self.log(name)}")

    def stop_all(self):
        for process in self.running.values():
            if process.poll() is None:
                process.terminate()
        deadline = time.monotonic() + 5
        for process in self.running.values():
            try:
                process.wait(timeout=max(0.0, deadline - time.monotonic()))
            except subprocess.TimeoutExpired:
                process.kill()
                process.wait()
        self.running.clear()

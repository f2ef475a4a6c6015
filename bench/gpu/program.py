"""The measuring programs as bench_gpu.py sees them: protocol.h says what goes over their pipes."""
import json
import subprocess


class NoDevice(Exception):
    """There is nothing to measure on; says why."""


class Failed(Exception):
    """A program ended, or answered what it may not; says what."""


class Program:
    """A measuring program; `greeting` is what it said of its device.

    Raises NoDevice or Failed when it is started and when it is asked.
    """

    def __init__(self, command):
        self.name = command[0].rsplit("/", 1)[-1] if len(command) == 1 else " ".join(command[-2:])
        try:
            self._process = subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True)
        except OSError as error:
            raise Failed(f"{self.name} cannot be started: {error.strerror}") from error
        self.greeting = self._read()
        if "no_device" in self.greeting:
            self.close()
            raise NoDevice(self.greeting["no_device"])

    def ask(self, request):
        """The answer to one request: {"results"}, {"wrong"} or {"skipped"}."""
        try:
            self._process.stdin.write(json.dumps(request) + "\n")
            self._process.stdin.flush()
        except BrokenPipeError:
            pass  # what it has left to say, or its exit status, says why
        answer = self._read()
        if "error" in answer:
            raise Failed(f"{self.name}: {answer['error']}")
        return answer

    def close(self):
        try:
            self._process.stdin.close()
        except BrokenPipeError:
            pass  # it has ended before it read what was asked last
        self._process.stdout.close()
        self._process.wait()

    def _read(self):
        line = self._process.stdout.readline()
        if not line:
            raise Failed(f"{self.name} ended with status {self._process.wait()} and without an answer")
        try:
            answer = json.loads(line)
        except ValueError as error:
            raise Failed(f"{self.name} said what is no JSON: {line.strip()}") from error
        if "error" in answer:
            raise Failed(f"{self.name}: {answer['error']}")
        return answer

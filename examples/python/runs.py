"""What the examples share: starting the processes of a run as torchrun would, and its results.

A script calls ``launch`` in the process that was started by hand, and ``result`` in those that this
started. The runs of torchrun itself, on several machines, say, need neither: ``main`` is then
called with what torchrun tells.
"""
import argparse
import json
import os
import socket
import subprocess
import sys
import tempfile

import torch


def positive(text):
    """A number of command lines: argparse names the option and what was given."""
    if not text.isdigit() or int(text) < 1:
        raise argparse.ArgumentTypeError(f"'{text}' is not a number above 0")
    return int(text)


def free_port():
    with socket.socket() as s:
        s.bind(("127.0.0.1", 0))
        return s.getsockname()[1]


def is_worker():
    return "RANK" in os.environ


def launch(script, world_size, arguments):
    """Runs world_size processes of the script; what rank 0 handed to ``result``.

    Exits with a process's error output if one fails; the others are then ended.
    """
    with tempfile.TemporaryDirectory() as folder:
        path = os.path.join(folder, "result")
        port = free_port()
        processes = []
        try:
            for rank in range(world_size):
                environment = {
                    **os.environ, "RANK": str(rank), "WORLD_SIZE": str(world_size),
                    "LOCAL_RANK": str(rank), "MASTER_ADDR": "127.0.0.1", "MASTER_PORT": str(port),
                    "EXAMPLE_RESULT": path, "OMP_NUM_THREADS": "1"}
                environment.setdefault("GLOO_SOCKET_IFNAME", "lo")
                processes.append(subprocess.Popen([sys.executable, script, *arguments],
                                                  env=environment))
            if any([process.wait() for process in processes]):
                sys.exit(f"{os.path.basename(script)}: a worker of {' '.join(arguments)} failed")
        finally:
            for process in processes:
                process.kill()
                process.wait()
        with open(path, encoding="utf-8") as f:
            return json.load(f)


def result(values):
    """Of rank 0, to the process that launched it; printed under torchrun."""
    if os.environ.get("RANK") != "0":
        return
    path = os.environ.get("EXAMPLE_RESULT")
    if path is None:
        print(json.dumps(values))
        return
    with open(path, "w", encoding="utf-8") as f:
        json.dump(values, f)


# Gloo's threads may be the last to let go of what was reduced.  In torch 1.13 they want the GIL for
# that, and a process group that is destroyed meanwhile waits for them with the GIL held, for ever.
_kept = []


def mean_over_workers(losses):
    """Each step's mean over the workers."""
    _kept.append(torch.tensor(losses, dtype=torch.float64))
    torch.distributed.all_reduce(_kept[-1])
    return (_kept[-1] / torch.distributed.get_world_size()).tolist()


def smoothed(values, over):
    """Means of `over` values, and the step of the last of each."""
    steps = range(over, len(values) + 1, over)
    return list(steps), [sum(values[s - over:s]) / over for s in steps]


def table(header, rows):
    widths = [max(len(str(row[i])) for row in [header, *rows]) for i in range(len(header))]
    for row in (header, ["-" * w for w in widths], *rows):
        print("  ".join(str(cell).ljust(width) for cell, width in zip(row, widths)).rstrip())

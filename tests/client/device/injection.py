#!/usr/bin/env python3
"""Lets calls of CUDA's API fail under a training program (injection_main.cc), one at a time.

usage: injection.py [--every] PROGRAM

Counts the calls of a run without failures, by the simulator's own log, and then lets the first,
the middle and the last call of each function fail; with --every each call (some minutes).  Each
run must end in time, by itself, with the right numbers or with a status that says what happened.

Needs the simulator: PROGRAM is run as it is, in the environment that tools/cuda-run makes.  Exit
status 77, skipped, on a real device.
"""

import argparse
import collections
import concurrent.futures
import os
import re
import subprocess
import sys

# The program's own, by which it sets itself up.
OWN = {"cudaMallocAsync", "cudaMemcpy", "cudaStreamCreate", "cudaStreamCreateWithFlags"}
# Whose failure changes nothing: cleaning up, and what has another way.
HARMLESS = {"cudaFree", "cudaFreeHost", "cudaEventDestroy", "cudaGetDevice", "cudaSetDevice",
            "cudaGetLastError", "cudaPeekAtLastError", "cudaThreadExchangeStreamCaptureMode",
            "cudaGetDriverEntryPoint", "cudaGetDriverEntryPointByVersion"}
# A run takes half a second; a member that is left alone waits 0.4 s for each of 8 rounds at most.
LIMIT_S = 60
# Most of that is waiting.
PARALLEL = 6


def run(program, waiting, **variables):
    """(exit status or None where the time was over, stdout, stderr)"""
    environment = dict(os.environ, **variables)
    try:
        done = subprocess.run([program, waiting], env=environment, capture_output=True, text=True,
                              timeout=LIMIT_S, check=False)
    except subprocess.TimeoutExpired:
        return None, "", ""
    return done.returncode, done.stdout, done.stderr


def main():
    parser = argparse.ArgumentParser()
    parser.add_argument("--every", action="store_true")
    parser.add_argument("program")
    arguments = parser.parse_args()
    bad = 0
    for waiting in ("memory", "host"):
        status, out, err = run(arguments.program, waiting, CUDASIM_VERBOSE="1")
        calls = collections.Counter(re.findall(r"^cudasim: (cu\w+) -> ", err, re.MULTILINE))
        if not calls:
            print("skipped: needs the simulator of a device, which can fail on demand")
            return 77
        if status != 0 or out.count(" 4 steps, OK") != 2:
            print(f"without a failure: {status}\n{out}")
            return 1
        plan = []
        for api, count in sorted(calls.items()):
            if api in OWN:
                continue
            which = range(1, count + 1) if arguments.every else {1, (count + 1) // 2, count}
            plan += [(api, n) for n in sorted(which)]
        told = collections.Counter()
        with concurrent.futures.ThreadPoolExecutor(PARALLEL) as pool:
            runs = [(api, n, pool.submit(run, arguments.program, waiting,
                                         CUDASIM_FAIL=f"{api}:{n}")) for api, n in plan]
        for api, n, future in runs:
            status, out, err = future.result()
            told[api] += " says" in out
            if status != 0:
                bad += 1
                what = "no end" if status is None else f"exit status {status}"
                print(f"{waiting}: call {n} of {api} failed: {what}\n{out}{err[-2000:]}")
        for api in sorted({api for api, _ in plan} - HARMLESS):
            if told[api] == 0:
                bad += 1
                print(f"{waiting}: no failure of {api} was told")
        print(f"{waiting}: {len(plan)} failures of {len(told)} functions, "
              f"{sum(told.values())} told")
    return 1 if bad else 0


if __name__ == "__main__":
    sys.exit(main())

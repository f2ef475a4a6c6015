#!/usr/bin/env python3
"""What a GPU does of its bandwidth with each kernel, and what a round costs there.  README.md.

usage: bench_gpu.py BUILD [--json FILE] [--repetitions N] [--sets resnet50,few,transformer]
                    [--dtypes f32,bf16] [--only TEXT] [--parts kernels,layers] [--python PROGRAM]

BUILD is where the measuring programs were built.  PyTorch is measured with PROGRAM (default: python3),
if its torch has CUDA.  On a simulated device everything runs and is verified, with the set `tiny`,
and every number that depends on speed is left blank.

Exit status: 0 all was verified; 1 a result was wrong, or a program failed; 2 usage; 77 there is no
device, or the programs are not built (no CUDA compiler), and nothing was measured.
"""
import argparse
import json
import os
import sys

sys.dont_write_bytecode = True
HERE = os.path.dirname(os.path.abspath(__file__))
sys.path.insert(0, HERE)
import report  # noqa: E402
import shapes  # noqa: E402
import traffic  # noqa: E402
from program import Failed, NoDevice, Program  # noqa: E402

NOTHING_MEASURED = 77
REAL_SETS = ("resnet50", "few", "transformer")
PARTS = {"kernels": "bench_gpu_kernels", "layers": "bench_gpu_layers"}
# A Transformer's groups: one, and one of 64 channels each as PowerNorm's authors have for 8 heads.
POWER_GROUPS = (1, 8)


def names(allowed):
    def parse(text):
        chosen = text.split(",")
        for name in chosen:
            if name not in allowed:
                raise argparse.ArgumentTypeError(f"'{name}' is none of {', '.join(allowed)}")
        return chosen
    return parse


def positive(text):
    if not text.isdigit() or int(text) < 1:
        raise argparse.ArgumentTypeError(f"'{text}' is not a number above 0")
    return int(text)


def parse(arguments):
    parser = argparse.ArgumentParser(prog="bench gpu", description="Kernels and layers on a GPU")
    parser.add_argument("build")
    parser.add_argument("--json")
    parser.add_argument("--repetitions", type=positive)
    parser.add_argument("--sets", type=names(REAL_SETS + ("tiny",)))
    parser.add_argument("--dtypes", type=names(tuple(traffic.BYTES)), default=["f32", "bf16"])
    parser.add_argument("--only", default="", help="cases whose title contains this")
    parser.add_argument("--parts", type=names(tuple(PARTS)), default=list(PARTS))
    parser.add_argument("--python", default="python3", help="whose torch is the peer")
    return parser.parse_args(arguments)


def cases(sets, dtypes, only):
    found = []
    for shape in shapes.load():
        if shape.set not in sets:
            continue
        for dtype in dtypes:
            if shape.norm == "PowerNorm":
                found += [report.Case(shape, dtype, True, groups) for groups in POWER_GROUPS]
            else:
                found += [report.Case(shape, dtype, last) for last in (False, True)]
    return [case for case in found if only in case.title]


PEERS = {"kernels": ("PyTorch", "pytorch_peer.py"),
         "layers": ("PyTorch's SyncBatchNorm", "pytorch_sync_peer.py")}


def start_peers(options, peers, say):
    """Adds to `peers` the programs of PyTorch that there are, and says which and why not."""
    for part in options.parts:
        name, script = PEERS[part]
        try:
            peers.append((name, Program([options.python, os.path.join(HERE, script)])))
            say(f"{name}: {peers[-1][1].greeting['version']}")
        except (NoDevice, Failed) as error:
            say(f"{name}: not measured: {error}")


def describe(greeting, options, repetitions):
    where = (f"{greeting['device']}, compute capability {greeting['compute_capability']}, "
             f"{greeting['multiprocessors']} multiprocessors, cache {greeting['cache_bytes'] / 1e6:.0f} MB; "
             f"driver for CUDA {greeting['cuda_driver'] // 1000}.{greeting['cuda_driver'] % 1000 // 10}, runtime "
             f"{greeting['cuda_runtime'] // 1000}.{greeting['cuda_runtime'] % 1000 // 10}")
    if greeting["simulated"]:
        return where + "\nnot measured: simulated device; every number that depends on speed is left blank"
    return where + f"\nmedians of {repetitions}, the cache flushed before each; floor: device copies of as many bytes"


def measure(programs, peers, chosen, repetitions, simulated, device, say):
    """Measures and prints each case; returns the JSON objects.  Raises Failed at a wrong result."""
    objects = []
    for case in chosen:
        results, notes = [], []
        for program in programs:
            answer = program.ask(case.request(repetitions))
            if "wrong" in answer:
                raise Failed(f"{case.title}: WRONG, so there are no numbers of it: {answer['wrong']}")
            if "skipped" in answer:
                notes.append(f"  skipped: {answer['skipped']}")
                continue
            results += answer["results"]
        for name, peer in peers if results else []:
            answer = peer.ask(case.request(repetitions))
            if "skipped" in answer:
                notes.append(f"  {name}: {answer['skipped']}")
            else:
                results += answer["results"]
        if results:
            lines = report.lines_of(case, results, simulated)
            say(report.table(case, lines))
            objects += report.objects(case, lines, device)
        else:
            say(case.title)
        for note in notes:
            say(note)
        say("")
    return objects


def run(options, say):
    programs, peers = [], []
    try:
        for part in options.parts:
            path = os.path.join(options.build, "bench/gpu", PARTS[part])
            if not os.access(path, os.X_OK):
                say(f"bench gpu: nothing was measured: {path} is not built; it needs a CUDA compiler (nvcc)")
                return NOTHING_MEASURED
            programs.append(Program([path]))
        greeting = programs[0].greeting
        simulated = greeting["simulated"]
        repetitions = options.repetitions or (2 if simulated else 30)
        chosen = cases(options.sets or (("tiny",) if simulated else REAL_SETS), options.dtypes, options.only)
        if not chosen:
            say(f"bench gpu: no case has '{options.only}' in its title")
            return 2
        say(describe(greeting, options, repetitions))
        if simulated:
            say("PyTorch: not measured beside a simulated device")
        else:
            start_peers(options, peers, say)
        say("")
        objects = measure(programs, peers, chosen, repetitions, simulated, greeting["device"], say)
    except NoDevice as error:
        say(f"bench gpu: nothing was measured: no CUDA device ({error})")
        return NOTHING_MEASURED
    except Failed as error:
        say(f"bench gpu: {error}")
        return 1
    finally:
        for program in programs + [peer for _, peer in peers]:
            program.close()
    if options.json:
        with open(options.json, "w", encoding="utf-8") as f:
            json.dump(objects, f, indent=2)
            f.write("\n")
    say(f"{len(chosen)} cases, all verified" + (", none measured: simulated device" if simulated else ""))
    return 0


if __name__ == "__main__":
    sys.exit(run(parse(sys.argv[1:]), lambda text: print(text, flush=True)))

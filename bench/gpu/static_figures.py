#!/usr/bin/env python3
"""Figures of the CUDA kernels that need no device: registers, spills, widths of loads, bytes, launches,
and a roofline estimate.

usage: static_figures.py [--nvcc NVCC] [--architectures 75,80,90,120] [--write | --check]

  (neither)  prints everything; compiles the architectures that are named
  --write    writes figures.md, for all architectures that the product is built for
  --check    compiles and holds figures.md against it: the kernels that it names, no spills and, with the
             nvcc that it was written with, registers

Exit status: 0; 1 a kernel spills or does not access 16 bytes at a time, or figures.md is wrong; 2 usage; 77 there is no nvcc.
"""
import argparse
import os
import shutil
import sys

sys.dont_write_bytecode = True
HERE = os.path.dirname(os.path.abspath(__file__))
ROOT = os.path.dirname(os.path.dirname(HERE))
sys.path.insert(0, HERE)
import shapes  # noqa: E402
from static import compiler, tables  # noqa: E402

FIGURES = os.path.join(HERE, "figures.md")
SHOWN = ("75", "80", "90", "120")
# As cmake/SyncnormCuda.cmake has them: machine code of each generation, and PTX of the last.
PRODUCT = ("75", "80", "86", "89", "90", "100", "120")
PRODUCT_PTX = ("120",)


def spills(build):
    """One line for every kernel and architecture with spills."""
    return [f"{i.file}: {i.name} spills on sm_{a}: {f.spill_stores} bytes stored, {f.spill_loads} loaded"
            for i in build.instantiations for a, f in sorted(i.figures.items()) if f.spills]


def narrow(build):
    """One line for every kernel of tensors that does not read, or write, 16 bytes at a time."""
    found = []
    for i in build.instantiations:
        size = tables.element_bytes(i.name)
        if size is None:
            continue
        if 16 not in i.ptx.loads:
            found.append(f"{i.file}: {i.name} has no load of 16 bytes in its loops")
        # GroupScale writes r only, a number a token and group; sums write nothing in their loops.
        if i.ptx.stores and not i.name.startswith("GroupScale") and 16 not in i.ptx.stores:
            found.append(f"{i.file}: {i.name} has no store of 16 bytes in its loops")
    return found


def check(build, recorded, nvcc_version):
    """What is wrong with figures.md, whose text is `recorded`."""
    written_with, _, kernels = tables.read(recorded)
    wrong = []
    now = {f"{i.file}: {i.name}": i for i in build.instantiations}
    for name in sorted(set(now) ^ set(kernels)):
        wrong.append(f"figures.md {'names' if name in kernels else 'lacks'} {name}, which is "
                     f"{'no kernel' if name in kernels else 'one'}")
    for name in sorted(set(now) & set(kernels)):
        registers, claimed = kernels[name]
        if claimed:
            wrong.append(f"figures.md says that {name} spills")
        for architecture, figures in now[name].figures.items():
            said = registers.get(architecture)
            if written_with == nvcc_version and said is not None and said != figures.registers:
                wrong.append(f"figures.md: {name} has {said} registers on sm_{architecture}; it has "
                             f"{figures.registers}")
    return wrong


def document(build, architectures, nvcc_version, sizes):
    text = tables.HEAD + tables.kernels_section(build, architectures, nvcc_version)
    text += tables.traffic_section() + tables.roofline_section(shapes.load())
    return text + (tables.sizes_section(sizes) if sizes else "")


def report(lines, what):
    for line in lines:
        print(line, file=sys.stderr)
    if lines:
        print(f"static_figures: {len(lines)} {what}", file=sys.stderr)
    return 1 if lines else 0


def main():
    parser = argparse.ArgumentParser(description="Static figures of the CUDA kernels")
    parser.add_argument("--nvcc", default=os.environ.get("CUDACXX") or shutil.which("nvcc") or
                        "/usr/local/cuda/bin/nvcc")
    parser.add_argument("--architectures", default=",".join(SHOWN))
    parser.add_argument("--jobs", type=int, default=0)
    what = parser.add_mutually_exclusive_group()
    what.add_argument("--write", action="store_true")
    what.add_argument("--check", action="store_true")
    options = parser.parse_args()
    architectures = options.architectures.split(",")
    for architecture in architectures:
        if architecture not in PRODUCT:
            parser.error(f"--architectures: sm_{architecture} is none of {', '.join(PRODUCT)}")
    if not os.access(options.nvcc, os.X_OK):
        print(f"static_figures: there is no nvcc ({options.nvcc}); nothing was compiled")
        return 77
    version = compiler.version(options.nvcc)
    if options.check:
        build = compiler.build(options.nvcc, ROOT, architectures, jobs=options.jobs)
        with open(FIGURES, encoding="utf-8") as f:
            wrong = spills(build) + narrow(build) + check(build, f.read(), version)
        print(f"{len(build.instantiations)} kernels, sm_{', sm_'.join(architectures)}, nvcc {version}")
        return report(wrong, "findings; ./dev bench gpu-static --write renews figures.md")
    if not options.write:
        build = compiler.build(options.nvcc, ROOT, architectures, jobs=options.jobs)
        print(document(build, architectures, version, []))
        return report(spills(build) + narrow(build), "findings")
    build = compiler.build(options.nvcc, ROOT, PRODUCT, PRODUCT_PTX, options.jobs)
    tests = compiler.build(options.nvcc, ROOT, (), ("75",), options.jobs)
    sizes = [("the product", ", ".join(PRODUCT) + "; PTX 120", build.bytes, build.cpu_s),
             ("tests (preset release)", "PTX 75", tests.bytes, tests.cpu_s)]
    with open(FIGURES, "w", encoding="utf-8") as f:
        f.write(document(build, list(SHOWN), version, sizes))
    print(f"wrote {FIGURES}")
    return report(spills(build) + narrow(build), "findings")


if __name__ == "__main__":
    sys.exit(main())

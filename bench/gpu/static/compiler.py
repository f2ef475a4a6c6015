"""Compiles the kernels and reads what ptxas says of them."""
import concurrent.futures
import dataclasses
import glob
import os
import re
import resource
import subprocess
import tempfile

from static import ptx

COMPILING = re.compile(r"Compiling entry function '(\w+)' for 'sm_(\w+)'")
SPILLS = re.compile(r"(\d+) bytes stack frame, (\d+) bytes spill stores, (\d+) bytes spill loads")
USED = re.compile(r"Used (\d+) registers")
SHARED = re.compile(r"(\d+) bytes smem")


@dataclasses.dataclass
class Figures:
    """Of one kernel for one architecture."""
    registers: int = 0
    shared: int = 0
    stack: int = 0
    spill_stores: int = 0
    spill_loads: int = 0

    @property
    def spills(self):
        return self.spill_stores + self.spill_loads


@dataclasses.dataclass
class Instantiation:
    """A kernel as it was instantiated: its name, its file, and figures by architecture."""
    file: str
    name: str
    ptx: ptx.Kernel
    figures: dict = dataclasses.field(default_factory=dict)


@dataclasses.dataclass
class Build:
    instantiations: list
    bytes: int  # of all fat binaries
    cpu_s: float  # user and system


def parse_ptxas(text):
    """{(mangled name, architecture): Figures} of the output of ptxas -v."""
    result, now = {}, None
    for line in text.splitlines():
        if match := COMPILING.search(line):
            now = result.setdefault((match[1], match[2]), Figures())
        elif now is None:
            continue
        elif match := SPILLS.search(line):
            # Functions that were not inlined have lines of their own, which count, too.
            now.stack += int(match[1])
            now.spill_stores += int(match[2])
            now.spill_loads += int(match[3])
        elif match := USED.search(line):
            now.registers = int(match[1])
            shared = SHARED.search(line)
            now.shared = int(shared[1]) if shared else 0
    return result


def short_name(demangled):
    """ReduceRuns<f32, MeanM2Op> of a demangled signature with its namespaces and arguments."""
    name = demangled.replace("(anonymous namespace)::", "").replace("syncnorm::kernels::cuda::", "")
    name = re.sub(r"^void ", "", name)
    depth = 0
    for at, letter in enumerate(name):
        depth += {"<": 1, ">": -1}.get(letter, 0)
        if letter == "(" and depth == 0:
            name = name[:at]
            break
    name = re.sub(r"\(bool\)([01])|\b(true|false)\b",
                  lambda m: "masked" if "1" in m[0] or m[0] == "true" else "all", name)
    for old, new in (("double", "f64"), ("float", "f32"), ("BF16", "bf16"), ("F16", "f16"),
                     ("unsigned char", "byte")):
        name = re.sub(rf"\b{old}\b", new, name)
    return name


def demangle(names):
    out = subprocess.run(["c++filt"], input="\n".join(names), capture_output=True, text=True, check=True)
    return dict(zip(names, out.stdout.splitlines()))


def sources(root):
    return sorted(os.path.relpath(path, root) for path in glob.glob(os.path.join(root, "kernels/cuda/*.cu")))


def version(nvcc):
    out = subprocess.run([nvcc, "--version"], capture_output=True, text=True, check=True).stdout
    return re.search(r"V([\d.]+)", out)[1]


def flags(real, virtual):
    out = []
    for architecture in real:
        out += ["-gencode", f"arch=compute_{architecture},code=sm_{architecture}"]
    for architecture in virtual:
        out += ["-gencode", f"arch=compute_{architecture},code=compute_{architecture}"]
    return out


def architecture_of(path):
    """75 of name.compute_75.ptx; nvcc leaves it out where there is one only."""
    match = re.search(r"compute_(\d+)\w*\.ptx$", path)
    return int(match[1]) if match else 0


def compile_one(nvcc, root, source, folder, real, virtual):
    name = os.path.splitext(os.path.basename(source))[0]
    output = os.path.join(folder, name + ".fatbin")
    # -keep writes the PTX beside; names are of the source, so each has a folder of its own.
    kept = os.path.join(folder, name)
    os.mkdir(kept)
    command = [nvcc, "-std=c++20", "-I.", "-Ikernels/include", "-fatbin", "-keep", "-keep-dir", kept, "-Xptxas",
               "-v", *flags(real, virtual), "-o", output, source]
    run = subprocess.run(command, cwd=root, capture_output=True, text=True)
    if run.returncode != 0:
        raise RuntimeError(f"{source}: nvcc failed:\n{run.stdout}{run.stderr}")
    # Of the oldest architecture: loads and stores are the same in all.
    paths = glob.glob(os.path.join(kept, "*.ptx"))
    with open(min(paths, key=architecture_of), encoding="utf-8") as f:
        text = f.read()
    return source, os.path.getsize(output), run.stdout + run.stderr, text


def build(nvcc, root, real, virtual=(), jobs=0, files=None):
    """Compiles every kernel for these architectures ("75"), and `virtual` to PTX that is kept."""
    before = resource.getrusage(resource.RUSAGE_CHILDREN)
    found, total = {}, 0
    with tempfile.TemporaryDirectory() as folder:
        with concurrent.futures.ThreadPoolExecutor(jobs or os.cpu_count()) as pool:
            results = list(pool.map(lambda source: compile_one(nvcc, root, source, folder, real, virtual),
                                    files or sources(root)))
    for source, size, said, text in results:
        total += size
        for kernel in ptx.kernels(text):
            found[kernel.name] = Instantiation(os.path.basename(source), "", kernel)
        for (mangled, architecture), figures in parse_ptxas(said).items():
            found[mangled].figures[architecture] = figures
    names = demangle(list(found))
    for mangled, instantiation in found.items():
        instantiation.name = short_name(names[mangled])
    after = resource.getrusage(resource.RUSAGE_CHILDREN)
    cpu = after.ru_utime + after.ru_stime - before.ru_utime - before.ru_stime
    ordered = sorted(found.values(), key=lambda i: (i.file, i.name))
    return Build(ordered, total, cpu)

"""figures.md: what the static figures are printed as, and read back from."""
import re

import traffic
from static import occupancy, roofline

HEAD = """# Static figures of the CUDA kernels

Written by `./dev bench gpu-static --write`; nothing here was measured on a device. A test holds it against the sources
(`bench.gpu_static`).
"""

# Kernels without a limit of their own are launched with at most this many threads
# (kernels/cuda/values.cuh and fold_power.cu).
FOLD_THREADS = 512


def table(columns, rows):
    lines = ["| " + " | ".join(columns) + " |", "|" + "---|" * len(columns)]
    return "\n".join(lines + ["| " + " | ".join(map(str, row)) + " |" for row in rows]) + "\n"


def accesses(counts):
    return ", ".join(f"{bytes} x {counts[bytes]}" for bytes in sorted(counts, reverse=True)) or "-"


def element_bytes(name):
    """Bytes of the elements of a kernel of tensors, whose name says the dtype; None for others."""
    match = re.search(r"^(?:ReduceRuns|ReduceColumns|MapKernel|GroupScaleKernel|PowerGradKernel)<.*?"
                      r"\b(f32|f64|f16|bf16)\b", name)
    return traffic.BYTES[match[1]] if match else None


def threads_of(instantiation):
    return instantiation.ptx.max_threads or FOLD_THREADS


def blocks_cell(instantiation, architecture):
    figures = instantiation.figures[architecture]
    o = occupancy.of(architecture, figures.registers, figures.shared, threads_of(instantiation))
    return str(o.blocks)


def kernel_rows(build, architectures):
    rows = []
    for i in build.instantiations:
        figures = [i.figures[a] for a in architectures]
        rows.append((f"`{i.name}`", i.file,
                     " ".join(str(f.registers) for f in figures),
                     max(f.spills for f in i.figures.values()),
                     max(f.shared for f in figures), threads_of(i),
                     " ".join(blocks_cell(i, a) for a in architectures),
                     accesses(i.ptx.loads), accesses(i.ptx.stores)))
    return rows


COLUMNS = ("kernel", "file", "registers", "spills", "shared", "threads", "blocks", "loads in loops",
           "stores in loops")


def kernels_section(build, architectures, nvcc):
    example = next(i for i in build.instantiations if i.name == "ReduceRuns<f32, MeanM2Op>")
    lines = [f"""
## Kernels

nvcc {nvcc}; registers and blocks: of sm_{", sm_".join(architectures)}, in this order.

* **spills**: bytes that a thread stores and loads again because registers do not suffice, the most over all architectures
  that were compiled. None may.
* **shared**: bytes of a block. **threads**: of a block (folds: the most that are launched).
* **blocks**: that a multiprocessor has room for at once, for example `{example.name}`:
"""]
    for architecture in architectures:
        f = example.figures[architecture]
        lines.append(f"  * sm_{architecture}: "
                     f"{occupancy.explain(architecture, f.registers, f.shared, threads_of(example))}")
    lines.append("""* **loads, stores in loops**: bytes of one instruction x instructions, in PTX, over all paths. 16 is the path of
  aligned tensors; the dtype's size that of the first and last windows of a run and of tensors that are not aligned; 1 a mask's;
  8, in kernels of other dtypes than f64, a per-channel number in double. The kernels without loops are left out of this.
""")
    return "\n".join(lines) + "\n" + table(COLUMNS, kernel_rows(build, architectures))


def traffic_section():
    operations = [(f"`{name}`", o.reads, o.writes, o.instructions, o.why)
                  for name, o in traffic.OPERATIONS.items()]
    calls = []
    for norm, layer_calls in traffic.LAYER_CALLS.items():
        for call in layer_calls:
            calls.append((norm, call.name, call.kernels, call.copies, call.waits,
                          f"{call.passes} / {call.minimum_passes}", call.why_minimum,
                          ", ".join(call.operations + call.folds)))
    return """
## Bytes and launches

A pass is one reading or writing of the whole tensor: times 4 bytes an element for f32, 8 for f64, 2 for f16 and bf16. Every
operation reads its inputs once and writes its output once, so that what it moves is the least that the operation can move.

""" + table(("operation", "passes read", "passes written", "instructions per element", "which"), operations) + """
Calls of a layer. The least is that of any implementation; where more is moved, a fused kernel could save the difference. A mask
adds one kernel to a forward, and to a backward of PowerNorm with a mask one `PowerGradSums`. The copies are of
32 bytes and 16 a channel, in PowerNorm's forward 8 a channel.

""" + table(("norm", "call", "kernels", "copies", "stream waits", "passes / least", "why", "kernels in detail"),
            calls)


def microseconds(seconds):
    us = seconds * 1e6
    return f"{us:.0f}" if us >= 100 else f"{us:.1f}"


def roofline_rows(shapes, dtype, directions):
    rows, totals = [], {}
    for shape in shapes:
        if shape.set == "tiny":
            continue
        mb = shape.elements * traffic.BYTES[dtype] / 1e6
        row = [shape.set, shape.name, str(shape), f"{mb:.3g}"]
        for device in roofline.DEVICES:
            for direction in directions:
                call = next(c for c in traffic.LAYER_CALLS[shape.norm] if c.name == direction)
                e = roofline.estimate(device, call, shape.elements, dtype)
                bound = "c" if e.compute_s > e.memory_s else ""
                fits = "*" if mb * 1e6 < device.cache else ""
                row.append(f"{microseconds(e.total_s)}{bound}{fits}")
                key = (shape.set, device.name, direction)
                totals[key] = totals.get(key, 0) + shape.layers * e.total_s
        rows.append(row)
    total = ["resnet50", "all 53 layers", "", ""]
    for device in roofline.DEVICES:
        for direction in directions:
            total.append(microseconds(totals[("resnet50", device.name, direction)]))
    rows.append(total)
    return rows


def roofline_section(shapes):
    directions = ("forward, local", "backward, local")
    columns = ["network", "shape", "tensor", "MB"]
    for device in roofline.DEVICES:
        columns += [f"{device.name} {direction.split(',')[0]} us" for direction in directions]
    example = next(s for s in shapes if s.name == "stage 1, 256")
    call = traffic.LAYER_CALLS["BatchNorm"][0]
    text = f"""
## Roofline

An estimate, not a measurement. For every kernel the larger of bytes / bandwidth and instructions / rate, and for every
kernel {roofline.START_S * 1e6:.1f} us until the next one has begun to work. That last number is an assumption: a gap of 0.9 us (NVIDIA, "Getting Started
with CUDA Graphs", 2019: 3.8 us for each kernel of 2.9 us in a stream) and 2 us for the first loads to arrive and the last block to end.

"""
    for device in roofline.DEVICES:
        text += f"* {device.name}: {device.source}.\n"
    text += f"\nFor example the forward of ResNet-50's {example}, f32:\n\n"
    for device in roofline.DEVICES:
        e = roofline.estimate(device, call, example.elements, "f32")
        text += (f"* {device.name}: {call.passes} passes x {example.elements} elements x 4 bytes / "
                 f"{device.bandwidth / 1e9:.0f} GB/s = {microseconds(e.memory_s)} us; instructions "
                 f"{sum(traffic.OPERATIONS[o].instructions for o in call.operations)} x {example.elements} / "
                 f"{device.f32_rate / 1e12:.3g}e12 = {microseconds(e.compute_s)} us; {call.kernels} kernels x "
                 f"{roofline.START_S * 1e6:.1f} = {microseconds(e.start_s)} us; together {microseconds(e.total_s)} us.\n")
    text += """
c: bound by computing. \\*: the tensor fits into the second-level cache, so that later passes can be faster than this.
A synchronised call takes the same and the round, which is a matter of the network and not of the device (docs/performance.md).
"""
    for dtype in ("f32", "f16", "f64"):
        note = " (and bf16)" if dtype == "f16" else ""
        text += f"\n{dtype}{note}:\n\n" + table(columns, roofline_rows(shapes, dtype, directions))
    return text


def sizes_section(sizes):
    """sizes: [(what, architectures, bytes, cpu seconds)]."""
    rows = [(what, architectures, f"{size / 1e6:.2f}", f"{cpu:.0f}") for what, architectures, size, cpu in sizes]
    return """
## Size and time of the build

All kernels: fat binaries, and CPU time of nvcc on one x86-64 machine (ccache pays it once).

""" + table(("build", "architectures", "MB", "CPU seconds"), rows)


RECORDED_NVCC = re.compile(r"^nvcc ([\d.]+);.*?of sm_([\w, ]+), in this order", re.M)


def read(text):
    """What figures.md says: (nvcc, architectures, {"file: kernel": (registers by architecture, spills)})."""
    recorded = RECORDED_NVCC.search(text)
    if not recorded:
        raise ValueError("figures.md does not say which nvcc and architectures it is of")
    architectures = [a.strip().removeprefix("sm_") for a in recorded[2].split(",")]
    kernels = {}
    for line in text.splitlines():
        cells = [cell.strip() for cell in line.strip("|").split("|")]
        if len(cells) == len(COLUMNS) and cells[1].endswith(".cu"):
            registers = dict(zip(architectures, map(int, cells[2].split())))
            kernels[cells[1] + ": " + cells[0].strip("`")] = (registers, int(cells[3]))
    return recorded[1], architectures, kernels

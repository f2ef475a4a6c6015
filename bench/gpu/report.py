"""From times to what is printed.

A line is one variant of one case.  On a simulated device everything that depends on speed is None
in it: "-" in the table, null in the JSON.
"""
import dataclasses
import statistics

import traffic


@dataclasses.dataclass(frozen=True)
class Case:
    """A shape with a dtype and a layout."""
    shape: object  # shapes.Shape
    dtype: str
    channels_last: bool
    groups: int = 1

    @property
    def title(self):
        layout = f"{self.groups} group" + ("s" if self.groups > 1 else "")
        if self.shape.norm == "BatchNorm":
            layout = "channels last" if self.channels_last else "contiguous"
        return f"{self.shape.norm} {self.dtype} {self.shape} {layout}: {self.shape.name}"

    @property
    def bytes(self):
        return self.shape.elements * traffic.BYTES[self.dtype]

    def request(self, repetitions):
        return {"norm": self.shape.norm, "dtype": self.dtype, "channels_last": self.channels_last,
                "n": self.shape.n, "channels": self.shape.channels, "height": self.shape.height,
                "width": self.shape.width, "groups": self.groups, "repetitions": repetitions}

    def params(self):
        return {"norm": self.shape.norm, "shape": str(self.shape), "name": self.shape.name,
                "dtype": self.dtype, "layout": "channels_last" if self.channels_last else "contiguous",
                "groups": self.groups}


@dataclasses.dataclass
class Line:
    variant: str
    passes: float  # 0: its bytes say nothing
    p50_us: float = None
    min_us: float = None
    max_us: float = None
    gb_per_s: float = None
    floor_us: float = None  # of a copy that moves as many bytes
    peer: str = ""
    peer_us: float = None
    rounds: int = None  # of a lane with a group
    stream_waits: int = None

    @property
    def of_floor(self):
        """1: as fast as the copy."""
        return self.floor_us / self.p50_us if self.floor_us and self.p50_us else None

    @property
    def times_peer(self):
        return self.peer_us / self.p50_us if self.peer_us and self.p50_us else None


# Our operations, and those of PyTorch's SyncBatchNorm that do the same.
PEERS = {
    "MeanM2": "torch.batch_norm_stats",
    "Affine": "torch.batch_norm_elemt",
    "GradSums": "torch.batch_norm_backward_reduce",
    "Grad": "torch.batch_norm_backward_elemt",
    "local/forward": "torch.native_batch_norm",
    "local/backward": "torch.native_batch_norm_backward",
    "two workers, synchronised/forward": "torch.SyncBatchNorm.forward",
    "two workers, synchronised/backward": "torch.SyncBatchNorm.backward",
}


def rounds_of(by_name):
    """What the rounds cost: two workers with them, less the same two without."""
    lines = []
    for direction in ("forward", "backward"):
        without = by_name.get(f"two workers, local/{direction}")
        with_them = by_name.get(f"two workers, synchronised/{direction}")
        if without and with_them:
            line = Line(f"cost of the round/{direction}", 0)
            if with_them.p50_us is not None:
                line.p50_us = with_them.p50_us - without.p50_us
            lines.append(line)
    return lines


def lines_of(case, results, simulated):
    """The lines of a case: [{"variant", "passes", "times_us"}] of one or more programs."""
    lines = []
    for result in results:
        line = Line(result["variant"], result["passes"], rounds=result.get("rounds"))
        times = result["times_us"]
        if not times or min(times) <= 0:
            raise ValueError(f"{case.title}: {line.variant} has no times, or one that is not above 0: {times}")
        if not simulated:
            line.p50_us, line.min_us, line.max_us = statistics.median(times), min(times), max(times)
            line.stream_waits = result.get("stream_waits")
            if line.passes:
                line.gb_per_s = line.passes * case.bytes / line.p50_us / 1e3
        lines.append(line)
    by_name = {line.variant: line for line in lines}
    lines += rounds_of(by_name)
    for line in lines:
        floor = by_name.get(f"copy_{line.passes:g}")
        if floor and floor is not line:
            line.floor_us = floor.p50_us
        peer = by_name.get(PEERS.get(line.variant, ""))
        if peer:
            line.peer, line.peer_us = peer.variant, peer.p50_us
    return lines


def cell(value, form):
    return "-" if value is None else format(value, form)


def table(case, lines):
    rows = [case.title, f"  {'variant':<34} {'p50 us':>9} {'(min..max)':>17} {'GB/s':>7} {'of copy':>8} {'x PyTorch':>10}"]
    for line in lines:
        spread = "-" if line.min_us is None else f"({line.min_us:.1f}..{line.max_us:.1f})"
        of_floor = "-" if line.of_floor is None else f"{100 * line.of_floor:.0f} %"
        rows.append(f"  {line.variant:<34} {cell(line.p50_us, '.1f'):>9} {spread:>17} "
                    f"{cell(line.gb_per_s, '.0f'):>7} {of_floor:>8} {cell(line.times_peer, '.2f'):>10}")
    return "\n".join(rows)


def objects(case, lines, device):
    """For --json: one object a line."""
    return [{"bench": "gpu", "variant": line.variant, "params": case.params() | {"device": device},
             "verified": True, "p50_us": line.p50_us, "min_us": line.min_us, "max_us": line.max_us,
             "gb_per_s": line.gb_per_s, "floor_us": line.floor_us,
             "ratio_to_floor": 1 / line.of_floor if line.of_floor else None,
             "ratio_to_pytorch": 1 / line.times_peer if line.times_peer else None,
             "rounds": line.rounds, "stream_waits": line.stream_waits} for line in lines]

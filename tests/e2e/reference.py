"""What chaos workers send and must get, in numpy: tests/e2e/workload.h and the canonical fold
(server/aggregator.h, docs/numerics.md), bit for bit.  reference_test.py holds them together.

All arithmetic is float64, one operation at a time in the order of the C++ code, so that
equality is equality of bytes.
"""
import numpy as np

MASK = (1 << 64) - 1
GOLDEN = 0x9E3779B97F4A7C15
FORWARD, BACKWARD = 1, 2


def mix(x):
    """The finaliser of splitmix64, on ints or arrays of uint64."""
    if isinstance(x, int):
        x = ((x ^ (x >> 30)) * 0xBF58476D1CE4E5B9) & MASK
        x = ((x ^ (x >> 27)) * 0x94D049BB133111EB) & MASK
        return x ^ (x >> 31)
    x = (x ^ (x >> np.uint64(30))) * np.uint64(0xBF58476D1CE4E5B9)
    x = (x ^ (x >> np.uint64(27))) * np.uint64(0x94D049BB133111EB)
    return x ^ (x >> np.uint64(31))


class Moments:
    """kind "mean_m2" or "sums"; values: float64, (rows, channels)."""

    def __init__(self, kind, f32, count, values):
        self.kind, self.f32, self.count, self.values = kind, f32, count, values

    def digest(self):
        values = np.ascontiguousarray(self.values).reshape(-1)
        places = np.arange(1, values.size + 1, dtype=np.uint64) * np.uint64(GOLDEN)
        mixed = mix(values.view(np.uint64) + places)
        return "%016x" % (mix((self.count + GOLDEN) & MASK) ^ int(np.bitwise_xor.reduce(mixed)))

    def rounded(self):
        """As it travels."""
        if not self.f32:
            return self
        values = self.values.copy()
        first = 1 if self.kind == "mean_m2" else 0  # means travel in float64
        values[first:] = values[first:].astype(np.float32)
        return Moments(self.kind, self.f32, self.count, values)


def contribution(seed, channels, rank, layer, direction, step):
    state = mix((seed + GOLDEN) & MASK)
    for part in (rank, layer, step, direction):
        state = mix((state + part + GOLDEN) & MASK)
    f32 = layer % 2 == 1
    empty = state % 16 == 0
    count = 0 if empty else 1 + (state >> 4) % 1000
    places = np.arange(1, 2 * channels + 1, dtype=np.uint64) * np.uint64(GOLDEN)
    uniform = (mix(np.uint64(state) + places) >> np.uint64(11)).astype(np.float64) * 2.0**-53
    uniform = uniform.reshape(2, channels)
    if empty:
        values = np.zeros((2, channels))
    elif direction == FORWARD:
        values = np.stack([(uniform[0] - 0.5) * 16, uniform[1] * 1024])
    else:
        values = (uniform - 0.5) * 1024
    kind = "mean_m2" if direction == FORWARD else "sums"
    return Moments(kind, f32, count, values).rounded()


def fold_two(part, total):
    if part.kind == "sums":
        return Moments("sums", total.f32, total.count + part.count, total.values + part.values)
    if part.count == 0:
        return total
    if total.count == 0:
        return part
    have, come = float(total.count), float(part.count)
    share = come / (have + come)
    delta = part.values[0] - total.values[0]
    mean = total.values[0] + delta * share
    m2 = total.values[1] + (part.values[1] + delta * delta * (have * share))
    return Moments("mean_m2", total.f32, total.count + part.count, np.stack([mean, m2]))


def fold(parts, hosts):
    """parts: {rank: Moments}; hosts: [host of each rank].  The members of each host in rank order,
    then the hosts in the order of their lowest ranks."""
    by_host = {}
    for rank in sorted(parts):
        host = hosts[rank]
        by_host[host] = fold_two(parts[rank], by_host[host]) if host in by_host else parts[rank]
    total = None
    for partial in by_host.values():  # in the order of insertion
        total = partial if total is None else fold_two(partial, total)
    return total.rounded()

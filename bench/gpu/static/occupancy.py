"""How many blocks of a kernel a multiprocessor has room for.

Limits of each architecture: CUDA C++ Programming Guide 13.0, "Technical Specifications per Compute
Capability".  Registers are given to a warp in units of 256, and to warps in groups of 4 (one
for each scheduler); since 8.0 every block also takes 1 KiB of shared memory for the system.
"""
import dataclasses

REGISTERS = 65536
REGISTER_UNIT = 256
SCHEDULERS = 4


@dataclasses.dataclass(frozen=True)
class Multiprocessor:
    threads: int
    blocks: int
    shared: int
    shared_reserved: int


MULTIPROCESSORS = {
    "75": Multiprocessor(1024, 16, 64 * 1024, 0),
    "80": Multiprocessor(2048, 32, 164 * 1024, 1024),
    "86": Multiprocessor(1536, 16, 100 * 1024, 1024),
    "89": Multiprocessor(1536, 24, 100 * 1024, 1024),
    "90": Multiprocessor(2048, 32, 228 * 1024, 1024),
    "100": Multiprocessor(2048, 32, 228 * 1024, 1024),
    "120": Multiprocessor(1536, 24, 100 * 1024, 1024),
}


@dataclasses.dataclass(frozen=True)
class Occupancy:
    """Blocks by each limit; the least of them is what there is room for."""
    by_registers: int
    by_threads: int
    by_shared: int
    by_blocks: int
    threads: int  # of a block

    @property
    def blocks(self):
        return min(self.by_registers, self.by_threads, self.by_shared, self.by_blocks)

    def warps(self):
        return self.blocks * self.threads // 32


def of(architecture, registers, shared, threads):
    limits = MULTIPROCESSORS[architecture]
    warps = -(-threads // 32)
    unit = -(-registers * 32 // REGISTER_UNIT) * REGISTER_UNIT
    room = REGISTERS // unit // SCHEDULERS * SCHEDULERS if unit else limits.threads // 32
    taken = shared + limits.shared_reserved
    return Occupancy(by_registers=room // warps,
                     by_threads=limits.threads // threads,
                     by_shared=limits.shared // taken if taken else limits.blocks,
                     by_blocks=limits.blocks,
                     threads=threads)


def explain(architecture, registers, shared, threads):
    """The arithmetic, in words."""
    limits = MULTIPROCESSORS[architecture]
    o = of(architecture, registers, shared, threads)
    warps = -(-threads // 32)
    unit = -(-registers * 32 // REGISTER_UNIT) * REGISTER_UNIT
    return (f"registers: {registers} x 32 = {registers * 32}, in units of {REGISTER_UNIT}: {unit} a warp; "
            f"{REGISTERS} / {unit} = {REGISTERS // unit} warps, in fours: "
            f"{REGISTERS // unit // SCHEDULERS * SCHEDULERS}, / {warps} = {o.by_registers} blocks; "
            f"threads: {limits.threads} / {threads} = {o.by_threads}; "
            f"shared: {limits.shared} / ({shared} + {limits.shared_reserved}) = {o.by_shared}; "
            f"blocks: {o.by_blocks}; the least: {o.blocks}, {o.warps()} of {limits.threads // 32} warps")

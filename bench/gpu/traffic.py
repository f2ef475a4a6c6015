"""What each operation moves and computes, and what a layer's call is made of.

A pass is one reading or writing of a whole tensor.  Per-channel numbers (tens of KiB) and masks (one
byte a position) are left out of passes and written down here:

  per channel   at most 4 doubles read or written by a map, 4 doubles x splits by a sum
  r             PowerNorm's factor, 4 bytes (f64: 8) a token and group, read by all but GroupScale
"""
import dataclasses

BYTES = {"f32": 4, "f64": 8, "f16": 2, "bf16": 2}


@dataclasses.dataclass(frozen=True)
class Operation:
    reads: int
    writes: int
    # Floating-point instructions per element: fused multiply-add is one, so are conversions from half
    # precision (counted for all dtypes).  Addresses and comparisons are not counted.
    instructions: int
    why: str  # of the instructions

    @property
    def passes(self):
        return self.reads + self.writes


OPERATIONS = {
    "MeanM2": Operation(1, 0, 5, "convert; x - origin; add; - mean; fma"),
    "Affine": Operation(1, 1, 4, "convert; x - center; fma; convert back"),
    "GradSums": Operation(2, 0, 6, "convert both; add dy; x - center; multiply; add"),
    "Grad": Operation(2, 1, 6, "convert both; x - center; fma; fma; convert back"),
    "GroupScale": Operation(1, 0, 3, "convert; square; add"),
    "PowerSums": Operation(1, 0, 4, "convert; x * r; square; add"),
    "PowerApply": Operation(1, 1, 4, "convert; x * r; fma; convert back"),
    "PowerGradSums": Operation(2, 0, 8, "convert both; x * r; three terms: multiply, multiply, add, add, add"),
    # A group that is larger than a team keeps in registers is read once more, from the cache.
    "PowerGrad": Operation(2, 1, 12, "convert x, dy, a and b; x * r; multiply, fma; multiply, add; multiply, fma; "
                           "convert back"),
}


@dataclasses.dataclass(frozen=True)
class LayerCall:
    """A call of a layer: its operations on tensors, and the kernels that fold numbers per channel."""
    name: str
    operations: tuple
    folds: tuple  # kernels over channels only
    minimum_passes: int
    why_minimum: str
    copies: int = 0  # cudaMemcpyAsync of moments
    waits: int = 0  # of the stream, for the result of a round

    @property
    def passes(self):
        return sum(OPERATIONS[o].passes for o in self.operations)

    @property
    def kernels(self):
        return len(self.operations) + len(self.folds)


_STATISTICS_FIRST = "no y before the statistics of all x"
_ONE_PASS = "running statistics normalise: x could be read once"
LAYER_CALLS = {
    "BatchNorm": (
        LayerCall("forward, local", ("MeanM2", "Affine"), ("Fold",), 3, _STATISTICS_FIRST),
        LayerCall("forward, synchronised", ("MeanM2", "Affine"), ("Fold",), 3, _STATISTICS_FIRST, 1, 1),
        LayerCall("forward, eval", ("Affine",), ("Eval",), 2, "x, y"),
        LayerCall("backward, local", ("GradSums", "Grad"), ("FoldGrad",), 5, "no dx before the sums of all dy"),
        LayerCall("backward, synchronised", ("GradSums", "Grad"), ("FoldGrad",), 5,
                  "no dx before the sums of all dy", 1, 1),
    ),
    "PowerNorm": (
        LayerCall("forward, local", ("GroupScale", "PowerSums", "PowerApply"), ("Begin", "ApplyForward"), 3,
                  "the group scaling of a token fits into a block"),
        LayerCall("forward, synchronised, warm-up", ("GroupScale", "PowerSums", "PowerApply"),
                  ("Begin", "ApplyForward"), 3, "as local", 1, 1),
        LayerCall("forward, synchronised, after it", ("GroupScale", "PowerSums", "PowerApply"),
                  ("Begin", "ApplyForward"), 2, _ONE_PASS, 1, 0),
        LayerCall("forward, eval", ("GroupScale", "PowerApply"), ("Begin",), 2, _ONE_PASS),
        LayerCall("backward, local", ("PowerGradSums", "PowerGrad"), ("Message", "FoldGrad"), 3,
                  "reference semantics correct by the last steps' statistics"),
        LayerCall("backward, synchronised", ("PowerGradSums", "PowerGrad"), ("Message", "FoldGrad"), 3,
                  "as local", 1, 0),
    ),
}

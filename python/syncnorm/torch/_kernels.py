"""The kernels (kernels/kernels.h) as torch operations, on whatever device the tensors are.

For devices that the client has no kernels of.  Per-channel numbers come and go as memoryviews of
float64; sums are float64 where the device has it, and no sum is of x^2 where it could be of (x -
mean)^2.
"""
import torch

# Devices whose tensors the client's own kernels read.
CLIENT_DEVICES = {"cpu"}
WITHOUT_FLOAT64 = {"mps"}


def client_reads(x):
    return x.device.type in CLIENT_DEVICES


def kernels_for(x, **call):
    """None where the client's own kernels read the tensor."""
    return None if client_reads(x) else TorchKernels(x, **call)


class TorchKernels:
    """Of one call.

    Args:
        x, y, dy, dx: what the call reads and writes; those that it has not are None.
        channel_dim: 1 for (N, C, S...), -1 for (T, B, C) and (B, C).
        valid: bool, broadcastable to x; None: no mask was given.
    """

    def __init__(self, x, *, y=None, dy=None, dx=None, channel_dim=1, valid=None):
        self.x, self.y, self.dy, self.dx = x, y, dy, dx
        self.channel_dim = channel_dim % x.dim()
        self.valid = valid
        self.dtype = torch.float64 if x.dtype == torch.float64 else torch.float32
        self.sum_dtype = torch.float32 if x.device.type in WITHOUT_FLOAT64 else torch.float64
        self.groups, self.r = 1, None  # of the group scaling; r is (..., groups, 1)

    # ---- Numbers of channels -------------------------------------------------------------------

    def _in(self, numbers):
        """As a tensor that broadcasts to x, in two parts whose sum is exact."""
        exact = torch.frombuffer(numbers, dtype=torch.float64)
        shape = [1] * self.x.dim()
        shape[self.channel_dim] = -1
        high = exact.to(self.dtype)
        low = (exact - high.double()).to(self.dtype)
        return high.reshape(shape).to(self.x.device), low.reshape(shape).to(self.x.device)

    def _number(self, numbers):
        return self._in(numbers)[0]

    @staticmethod
    def _out(result, numbers):
        torch.frombuffer(numbers, dtype=torch.float64).copy_(result)

    def _sum(self, values):
        dims = [d for d in range(values.dim()) if d != self.channel_dim]
        return values.sum(dim=dims, dtype=self.sum_dtype) if values.numel() else (
            torch.zeros(values.shape[self.channel_dim], dtype=self.sum_dtype))

    # ---- Positions -----------------------------------------------------------------------------

    def _count(self, masked):
        if masked:
            return int(self.valid.sum())
        return self.x.numel() // self.x.shape[self.channel_dim]

    def _masked(self, values, masked):
        """Zeros where nothing counts, whatever is there."""
        return torch.where(self.valid, values, torch.zeros_like(values)) if masked else values

    def _centred(self, masked, center):
        high, low = self._in(center)
        return self._masked((self.x.to(self.dtype) - high) - low, masked)

    # ---- Batch norm ----------------------------------------------------------------------------

    def mean_m2(self, masked, mean, m2):
        count = self._count(masked)
        if count == 0:
            return 0
        rough = self._sum(self._masked(self.x.to(self.dtype), masked)) / count
        self._out(rough.cpu().double(), mean)
        centred = self._centred(masked, mean)
        rest = self._sum(centred) / count  # what the first mean was off by
        squares = self._sum(centred * centred) - count * rest * rest
        self._out(torch.frombuffer(mean, dtype=torch.float64) + rest.cpu().double(), mean)
        self._out(squares.clamp_min(0).cpu().double(), m2)
        return count

    def affine(self, masked, center, scale, shift):
        y = self._centred(masked, center) * self._number(scale) + self._number(shift)
        self.y.copy_(self._masked(y, masked))

    def grad_sums(self, masked, center, sum_dy, sum_dy_xc):
        dy = self._masked(self.dy.to(self.dtype), masked)
        self._out(self._sum(dy).cpu().double(), sum_dy)
        self._out(self._sum(dy * self._centred(masked, center)).cpu().double(), sum_dy_xc)

    def grad(self, masked, center, a, b, d):
        dx = (self._number(a) * self.dy.to(self.dtype)
              + self._number(b) * self._centred(masked, center) + self._number(d))
        self.dx.copy_(self._masked(dx, masked))

    # ---- PowerNorm -----------------------------------------------------------------------------

    def _grouped(self, values):
        return values.reshape(*values.shape[:-1], self.groups, values.shape[-1] // self.groups)

    def group_scale(self, groups, eps):
        self.groups = groups
        x = self._grouped(self.x.to(self.dtype))
        self.r = torch.rsqrt((x * x).mean(dim=-1, keepdim=True) + eps)

    def _scaled(self):
        x = self.x.to(self.dtype)
        return (self._grouped(x) * self.r).reshape(x.shape)

    def power_sums(self, masked, sum_x2):
        xs = self._masked(self._scaled(), masked)
        self._out(self._sum(xs * xs).cpu().double(), sum_x2)
        return self._count(masked)

    def power_apply(self, scale, shift):
        self.y.copy_(self._scaled() * self._number(scale) + self._number(shift))

    def power_grad_sums(self, masked, sum_dy, sum_dy_xs, sum_xs2):
        xs = self._masked(self._scaled(), masked)
        dy = self._masked(self.dy.to(self.dtype), masked)
        for result, numbers in ((dy, sum_dy), (dy * xs, sum_dy_xs), (xs * xs, sum_xs2)):
            self._out(self._sum(result).cpu().double(), numbers)
        return self._count(masked)

    def power_grad(self, masked, a, b):
        x = self._grouped(self.x.to(self.dtype))
        d = self._grouped(self._masked(
            self._number(a) * self.dy.to(self.dtype) + self._number(b) * self._scaled(), masked))
        dx = self.r * d - x * self.r ** 3 * (x * d).mean(dim=-1, keepdim=True)
        self.dx.copy_(dx.reshape(self.x.shape))

"""CUDA tensors: the layers that enqueue their work on the current stream and never wait on the CPU
(docs/gpu.md).

They work on the module's tensors themselves: nothing is brought to them or taken from them, and what
they read and write is ordered by the stream, as PyTorch's own operations are.  So memory that
PyTorch's allocator takes back is safe: whoever gets it next uses it behind them on the stream.

    place_for(x, tensors)      where a norm with these tensors runs: a torch.device, or None: not here
    cuda_path()                which path CUDA tensors take, and why
    StreamBatchNorm, StreamPowerNorm    a C++ norm, and the tensors that it was given
"""
import functools
import importlib.util

import torch

from .. import _core
from ._tensors import DTYPES, optional_view, view

# Devices whose tensors these layers read.
DEVICES = {"cuda"}
STATISTICS = (torch.float32, torch.float64)


# ---- What of torch.cuda is used ----------------------------------------------------------------

def current_stream(place):
    """The handle of the stream on which PyTorch enqueues its operations now."""
    return torch.cuda.current_stream(place).cuda_stream


def synchronise(place):
    torch.cuda.synchronize(place)


def index_of(place):
    return place.index


# ---- The binding -------------------------------------------------------------------------------

@functools.lru_cache(maxsize=None)
def _load():
    """The module _cuda, or why there is none.  Loaded with the first CUDA tensor, when PyTorch has
    loaded its CUDA runtime."""
    if torch.version.hip is not None:
        return "this PyTorch is one for ROCm"
    if importlib.util.find_spec("syncnorm._cuda") is None:
        return "this build of syncnorm is one without CUDA"
    try:
        from .. import _cuda
    except ImportError as error:
        return f"syncnorm._cuda cannot be loaded: {error}"
    return _cuda


def binding():
    """The module _cuda, if it is there."""
    loaded = _load()
    return None if isinstance(loaded, str) else loaded


@functools.lru_cache(maxsize=None)
def _why_not(place):
    """Why a device's tensors do not come here; "" if they do."""
    if isinstance(_load(), str):
        return _load()
    try:
        binding().check_device(index_of(place))
    except RuntimeError as error:
        return str(error)
    return ""


def cuda_path():
    """Which path CUDA tensors take in this process.

    Returns: "streams": the layers that never wait on the CPU; or "operations: " and why it is torch
        operations, after each of which the CPU waits.
    """
    why = _load() if isinstance(_load(), str) else ""
    if not why and not torch.cuda.is_available():
        why = "PyTorch finds no CUDA device"
    why = why or _why_not(torch.device("cuda", torch.cuda.current_device()))
    return f"operations: {why}" if why else "streams"


def place_for(x, tensors):
    """The device on whose streams a norm of x runs whose own tensors are these; None: on none.

    Args:
        tensors: dicts of "parameters", "statistics" and "counters"; what there is not is None.
    """
    if x.device.type not in DEVICES or _why_not(x.device):
        return None
    for kind, dtypes in (("parameters", DTYPES), ("statistics", STATISTICS),
                         ("counters", (torch.int64,))):
        for tensor in tensors[kind]:
            if tensor is not None and not (tensor.device == x.device and tensor.dtype in dtypes
                                           and tensor.is_contiguous()):
                return None
    return x.device


# ---- The C++ norms -----------------------------------------------------------------------------

def _identity(tensor):
    return None if tensor is None else (tensor.data_ptr(), tensor.dtype)


def _address(tensor):
    return None if tensor is None else tensor.data_ptr()


class _StreamNorm:
    """A C++ norm of a place.

    The memory that it was given is kept alive here: work on it may be under way when the module
    has others already.
    """

    def __init__(self, place, tensors, make):
        self.place = place
        self._hold(tensors)
        synchronise(place)  # it reads some of them on the default stream
        self.core = make(index_of(place), self._views())

    def _hold(self, tensors):
        weight, bias = tensors["parameters"]
        self._held = [weight, bias, *tensors["statistics"], *tensors["counters"]]
        self._held = [None if t is None else t.detach() for t in self._held]
        self._identities = [_identity(t) for t in self._held]

    def _views(self):
        """As the binding takes them."""
        return [*map(optional_view, self._held[:4]), _address(self._held[4])]

    def _changed(self, tensors):
        """The indices of those that are others than what it was given."""
        new = (*tensors["parameters"], *tensors["statistics"], *tensors["counters"])
        return [i for i, t in enumerate(new) if _identity(t) != self._identities[i]]

    def give_weight(self, weight):
        """That of the forward whose backward comes: a hook for saved tensors may have moved it."""
        if weight is None or _identity(weight) == self._identities[0]:
            return
        self._held[0] = weight.detach()
        self._identities[0] = _identity(weight)
        self._set_parameters()

    def stream(self):
        return current_stream(self.place)

    def check(self):
        """Raises what failed on the device, as far as is known."""
        self.core.check()


class StreamBatchNorm(_StreamNorm):
    def give(self, tensors):
        if self._changed(tensors):
            self._hold(tensors)
            self.core.set_tensors(*self._views())

    def _set_parameters(self):
        self.core.set_tensors(*self._views())

    def save(self):
        return self.core.save()

    def load(self, state, tensors):
        """Goes on as the one that was saved did, but with the values of `tensors`."""
        self.give({kind: tuple(t if t is None else t.detach().clone() for t in some)
                   for kind, some in tensors.items()})
        synchronise(self.place)
        self.core.load_state(state)
        self.give(tensors)

    def set_eps_and_momentum(self, eps, momentum):
        self.core.set_eps_and_momentum(eps, momentum)


class StreamPowerNorm(_StreamNorm):
    blocking_waits = 0  # the CPU never waits
    waited = 0.0

    def _hold(self, tensors):
        super()._hold(tensors)
        self._version = _version(tensors["counters"][0])

    def give(self, tensors):
        changed = self._changed(tensors)
        # iters is read by the host, too: it waits where somebody wrote to it.
        written = _version(tensors["counters"][0]) != self._version
        if not changed and not written:
            return
        if not written and set(changed) <= {0, 1}:
            self._hold(tensors)
            self._set_parameters()
            return
        # What is under way belongs to the old tensors.
        self.core.drain(self.stream())
        self._hold(tensors)
        synchronise(self.place)
        self.core.set_tensors(*self._views())

    def _set_parameters(self):
        self.core.set_parameters(*self._views()[:2])

    def drain(self):
        """Returns when the buffers have everything.  Raises what failed until then."""
        self.core.drain(self.stream())
        synchronise(self.place)
        self.core.check()


def _version(tensor):
    return None if tensor.is_inference() else tensor._version


# ---- Calls (_autograd.py) ----------------------------------------------------------------------

def _mask_on(place, mask):
    """A mask's view on the device, or None; whether it is of bytes; and what must live meanwhile."""
    if mask is None:
        return None, True, None
    byte_mask = mask.dtype in (torch.bool, torch.uint8)
    mask = mask.detach().to(place, None if byte_mask else torch.float32).contiguous()
    # Of a mask only the address and the shape are looked at.
    return _core.View(mask.data_ptr(), _core.DType.F32, mask.shape, mask.stride()), byte_mask, mask


class BatchNormCall:
    """One forward, and its backward."""

    def __init__(self, layer, norm, training, mask):
        self.layer = layer
        self._norm = norm
        self._training = training
        self._mask = mask

    def forward(self, x, y, keep):
        mask, byte_mask, alive = _mask_on(self._norm.place, self._mask)
        self._context = self._norm.core.forward(
            view(x), view(y), mask, byte_mask, self._training, keep, _core.recomputing(),
            self._norm.stream())
        del alive  # the stream has its use of it before it is anybody else's
        self._mask = None  # the context has what the backward needs of it

    def backward(self, x, dy, dx, d_weight, d_bias, weight):
        self._norm.give_weight(weight)
        self._context.backward(view(x), view(dy), optional_view(dx), optional_view(d_weight),
                               optional_view(d_bias), self._norm.stream())


class PowerNormCall:
    """One forward, and its backward.

    Args:
        grad_scale: returns the loss scale that gradients carry.
    """

    def __init__(self, layer, norm, training, pad_mask, grad_scale):
        self.layer = layer
        self._norm = norm
        self._training = training
        self._pad_mask = pad_mask
        self._grad_scale = grad_scale

    def forward(self, x, y, keep):
        mask = None
        if self._pad_mask is not None:
            mask = self._pad_mask.to(self._norm.place).contiguous()
        self._context = self._norm.core.forward(
            view(x), view(y), _address(mask), self._training, keep, _core.recomputing(),
            self._norm.stream())
        self._pad_mask = None

    def backward(self, x, dy, dx, d_weight, d_bias, weight):
        self._norm.give_weight(weight)
        self._context.backward(view(x), view(dy), optional_view(dx), optional_view(d_weight),
                               optional_view(d_bias), self._grad_scale(), self._norm.stream())

"""syncnorm.torch on CUDA streams, where PyTorch has no CUDA.

CPU tensors stand in for CUDA tensors: each call of the real binding gets copies of them in the
memory of a real or simulated device, and what it wrote is copied back when its stream has come to
an end.  All of syncnorm.torch above that runs as it does with CUDA tensors.  What this leaves out:
torch.cuda itself (which stream is the current one, synchronize), and a CPU that runs ahead of the
device.

With SYNCNORM_TEST_STREAMS=1 (conftest.py) every test runs so, in a process of its own: CUDA does
not survive a fork, and tests fork workers.  A norm that takes another path then fails the test.
"""
import contextlib
import os
import pickle
import traceback
import types
import weakref

import pytest

from syncnorm import _core, _group

ACTIVE = False
_place_for = None
SIZES = {_core.DType.F32: 4, _core.DType.F64: 8, _core.DType.F16: 2, _core.DType.BF16: 2}


class _Process:
    """What belongs to one process."""

    def __init__(self):
        import cudart

        self.pid = os.getpid()
        self.runtime = cudart.Runtime()
        self.stream = self.runtime.stream()


def on_streams():
    """Whether install() was called."""
    return ACTIVE


_process = None


def process():
    global _process
    if _process is None or _process.pid != os.getpid():
        _process = _Process()
    return _process


def size_of(view, item=None):
    elements = 1
    for n in view.shape:
        elements *= n
    return elements * (item or SIZES[view.dtype])


class Copy:
    """Memory of the device with what `size` bytes at the host's `address` are."""

    def __init__(self, address, size):
        self.host, self.size = address, size
        self.device = process().runtime.malloc(size)
        self.to_device()

    def to_device(self):
        process().runtime.copy(self.device, self.host, self.size, 1)

    def to_host(self):
        process().runtime.copy(self.host, self.device, self.size, 2)

    def __del__(self):
        if self.device and process is not None and _process.pid == os.getpid():
            _process.runtime.free(self.device)


class Copies:
    """Of one call's arguments."""

    def __init__(self):
        self.all = []

    def view(self, view, item=None):
        if view is None:
            return None
        copy = Copy(view.address, size_of(view, item))
        self.all.append(copy)
        return _core.View(copy.device, view.dtype, view.shape, view.strides)

    def address(self, address, size):
        if address is None:
            return None
        self.all.append(Copy(address, size))
        return self.all[-1].device

    def to_device(self):
        for copy in self.all:
            copy.to_device()

    def to_host(self):
        for copy in self.all:
            copy.to_host()


_norms = weakref.WeakSet()


def around_boundary(function):
    """The group saves and loads states on the device."""
    def call(*arguments, **options):
        for norm in _norms:
            norm.tensors.to_device()
        try:
            return function(*arguments, **options)
        finally:
            for norm in _norms:
                norm.tensors.to_host()

    return call


class Norm:
    """A norm of _cuda.  Its tensors have copies as long as it has them."""

    def __init__(self, name, *arguments):
        import syncnorm._cuda

        *options, weight, bias, first, second, counter, group = arguments
        self.tensors = Copies()
        self.real = getattr(syncnorm._cuda, type(self).__name__)(
            name, *options, *self._copies([weight, bias, first, second, counter]), group)
        self.tensors.to_host()  # it may have been handed a state
        _norms.add(self)

    def _copies(self, views):
        return [*map(self.tensors.view, views[:4]), self.tensors.address(views[4], 8)]

    def set_tensors(self, *views):
        self.tensors = Copies()
        self.real.set_tensors(*self._copies(views))

    def run(self, call):
        self.tensors.to_device()
        try:
            return call()
        finally:
            process().runtime.synchronise(process().stream)
            self.tensors.to_host()

    def forward(self, x, y, mask, *rest):
        copies = Copies()
        x, out = copies.view(x), copies.view(y)
        mask = self.mask_copy(copies, x, mask, rest)
        context = self.run(lambda: self.real.forward(x, out, mask, *rest))
        copies.all[1].to_host()
        return None if context is None else Context(self, context)

    def __getattr__(self, name):
        def call(*arguments):
            return self.run(lambda: getattr(self.real, name)(*arguments))

        return call


class BatchNorm(Norm):
    @staticmethod
    def mask_copy(copies, x, mask, rest):
        return copies.view(mask, 1 if rest[0] else 4)


class PowerNorm(Norm):
    @staticmethod
    def mask_copy(copies, x, mask, rest):
        tokens = 1
        for n in x.shape[:-1]:
            tokens *= n
        return copies.address(mask, tokens)

    def set_parameters(self, *views):
        for old, view in zip(self.tensors.all, views):
            old.host = view.address
        self.real.set_parameters(*[_core.View(old.device, view.dtype, view.shape, view.strides)
                                   for old, view in zip(self.tensors.all, views)])


class Context:
    def __init__(self, norm, real):
        self.norm, self.real = norm, real

    def backward(self, x, dy, dx, d_weight, d_bias, *rest):
        copies = Copies()
        views = [copies.view(v) for v in (x, dy, dx, d_weight, d_bias)]
        self.norm.run(lambda: self.real.backward(*views, *rest))
        for copy in copies.all[2:]:
            copy.to_host()


def install():
    """From here on in this process and those that are forked of it."""
    import syncnorm._cuda  # not yet its device
    import torch  # noqa: F401
    from syncnorm.torch import _streams

    global ACTIVE, _place_for
    ACTIVE = True
    _place_for = _streams.place_for

    def place_or_fail(x, tensors):
        place = _place_for(x, tensors)
        assert place is not None, "a norm that does not run on streams"
        return place

    _streams.DEVICES = {"cpu"}
    _streams._why_not = lambda place: ""
    _streams.place_for = place_or_fail
    _streams.current_stream = lambda place: process().stream
    _streams.synchronise = lambda place: process().runtime.synchronise(process().stream)
    _streams.index_of = lambda place: 0
    for name in ("at_boundary", "finish"):
        setattr(_group.Group, name, around_boundary(getattr(_group.Group, name)))
    module = types.SimpleNamespace(BatchNorm=BatchNorm, PowerNorm=PowerNorm,
                                   Reducer=syncnorm._cuda.Reducer)
    _streams.binding = lambda: module


@contextlib.contextmanager
def on_cpu():
    """CPU tensors are CPU tensors."""
    from syncnorm.torch import _streams

    before = _streams.DEVICES, _streams.place_for
    _streams.DEVICES, _streams.place_for = set(), _place_for
    try:
        yield
    finally:
        _streams.DEVICES, _streams.place_for = before


def run_forked(function, arguments):
    """function(**arguments) in a child."""
    read, write = os.pipe()
    child = os.fork()
    if child == 0:
        result = ("ended", "")
        try:
            function(**arguments)
            result = ("passed", "")
        except pytest.skip.Exception as skip:
            result = ("skipped", str(skip))
        except BaseException:  # whatever it is, the parent tells it
            result = ("failed", traceback.format_exc())
        finally:
            with os.fdopen(write, "wb") as pipe:
                pipe.write(pickle.dumps(result))
            os._exit(0)
    os.close(write)
    with os.fdopen(read, "rb") as pipe:
        sent = pipe.read()
    os.waitpid(child, 0)
    outcome, text = pickle.loads(sent) if sent else ("failed", "the process ended without a word")
    if outcome == "skipped":
        pytest.skip(text)
    assert outcome == "passed", text

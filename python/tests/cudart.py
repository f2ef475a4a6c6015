"""Device memory and streams for tests, by the CUDA runtime that syncnorm._cuda has loaded: a
device's, or its simulator's."""
import ctypes
import re

import numpy as np

from syncnorm._core import DType, View

TO_DEVICE, TO_HOST = 1, 2


def _library():
    import syncnorm._cuda  # noqa: F401: loads it

    with open("/proc/self/maps", encoding="utf-8") as maps:
        found = re.search(r"/\S*libcudart\S*", maps.read())
    return ctypes.CDLL(found.group())


class Runtime:
    """Of one process, and its device 0.  Memory that is freed is freed when nothing uses it."""

    def __init__(self):
        self._library = _library()
        self._held = []  # functions that streams may yet call

    def call(self, name, *arguments):
        status = getattr(self._library, name)(*arguments)
        if status != 0:
            self._library.cudaGetErrorName.restype = ctypes.c_char_p
            raise RuntimeError(f"{name}: {self._library.cudaGetErrorName(status).decode()}")

    def malloc(self, size):
        """The address of `size` bytes; 0 for none, as torch has it."""
        if size == 0:
            return 0
        pointer = ctypes.c_void_p()
        self.call("cudaMalloc", ctypes.byref(pointer), ctypes.c_size_t(size))
        return pointer.value

    def free(self, address):
        self.call("cudaFree", ctypes.c_void_p(address))

    def copy(self, to, source, size, kind):
        if size:
            self.call("cudaMemcpy", ctypes.c_void_p(to), ctypes.c_void_p(source),
                      ctypes.c_size_t(size), kind)

    def stream(self):
        """A new stream's handle."""
        handle = ctypes.c_void_p()
        self.call("cudaStreamCreate", ctypes.byref(handle))
        return handle.value

    def synchronise(self, stream):
        self.call("cudaStreamSynchronize", ctypes.c_void_p(stream))

    def hold(self, stream, event):
        """What is enqueued on the stream from here on waits for a threading.Event."""
        function = ctypes.CFUNCTYPE(None, ctypes.c_void_p)(lambda _: event.wait() and None)
        self._held.append(function)
        self.call("cudaLaunchHostFunc", ctypes.c_void_p(stream), function, None)


class Array:
    """A numpy array's values in device memory.

    Args:
        dtype: of syncnorm._core.DType; None: of the values'.  BF16 is rounded here, as numpy has none.
    """

    def __init__(self, runtime, values, dtype=None):
        self._runtime = runtime
        self.dtype = dtype or {"f8": DType.F64, "f4": DType.F32, "f2": DType.F16}.get(values.dtype.str[1:])
        self._host = np.ascontiguousarray(to_bf16(values) if self.dtype == DType.BF16 else values)
        self.shape = values.shape
        self.address = runtime.malloc(self._host.nbytes)
        runtime.copy(self.address, self._host.ctypes.data, self._host.nbytes, TO_DEVICE)

    def view(self, strides=None):
        if strides is None:
            strides = [int(np.prod(self.shape[i + 1:])) for i in range(len(self.shape))]
        return View(self.address, self.dtype or DType.F32, self.shape, strides)

    def numpy(self):
        """After the stream's end."""
        self._runtime.copy(self._host.ctypes.data, self.address, self._host.nbytes, TO_HOST)
        return from_bf16(self._host) if self.dtype == DType.BF16 else self._host.copy()


def to_bf16(values):
    bits = np.asarray(values, np.float32).view(np.uint32)
    return ((bits + 0x7fff + ((bits >> 16) & 1)) >> 16).astype(np.uint16)


def from_bf16(bits):
    return (bits.astype(np.uint32) << 16).view(np.float32)

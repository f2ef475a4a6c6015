"""syncnorm._cuda without PyTorch: device memory by the CUDA runtime, a device or its simulator, and
results beside the formulas in float64 (docs/numerics.md), written down once more here."""
import os
import subprocess
import sys
import threading

import numpy as np
import pytest

import syncnorm
import syncnorm._core
from cudart import Array, Runtime
from syncnorm import SyncnormError
from syncnorm._core import DType
from workers import run

pytest.importorskip("syncnorm._cuda", reason="built without CUDA")
import syncnorm._cuda  # noqa: E402


def why_no_device():
    """Asked in another process: this one forks workers, and CUDA does not survive that."""
    program = "import syncnorm._cuda; syncnorm._cuda.check_device(0)"
    done = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, timeout=60,
                          check=False)
    return done.stderr.strip().rpartition("\n")[2]


reason = why_no_device()
pytestmark = pytest.mark.skipif(bool(reason), reason=reason or "there is one")

C = 3
KINDS = [(np.float64, None, 1e-12), (np.float32, None, 2e-6), (np.float16, None, 2e-3),
         (np.float32, DType.BF16, 2e-2)]


# ---- The formulas ------------------------------------------------------------------------------

def batch_norm(x, dy, mask, weight, bias, eps=1e-5):
    """y, dx, d_weight, d_bias, mean and unbiased variance of the whole batch; x is (N, C, L), mask
    (N, L)."""
    counts = mask[:, None, :].astype(float)
    n = mask.sum()

    def over(values):
        return (np.where(counts > 0, values, 0)).sum((0, 2), keepdims=True)

    mean = over(x) / n
    var = over((x - mean) ** 2) / n
    inv = 1 / np.sqrt(var + eps)
    z = (x - mean) * inv
    w, b = weight[None, :, None], bias[None, :, None]
    dx = w * inv * (dy - over(dy) / n - z * over(dy * z) / n)
    return (np.where(counts > 0, z * w + b, 0), np.where(counts > 0, dx, 0), over(dy * z).ravel(),
            over(dy).ravel(), mean.ravel(), (var * n / (n - 1)).ravel())


def batch_norm_data(sizes, masked):
    random = np.random.default_rng(3)
    batch = sum(sizes)
    x = 2 * random.standard_normal((batch, C, 4)) + 3
    dy = random.standard_normal((batch, C, 4))
    mask = random.random((batch, 4)) < (0.6 if masked else 2)
    return x, dy, mask


# ---- A layer -----------------------------------------------------------------------------------

class Layer:
    """A _cuda.BatchNorm with device memory of its own."""

    def __init__(self, name, group=None, channels=C, **options):
        self.runtime = Runtime()
        self.stream = self.runtime.stream()
        self.weight = Array(self.runtime, np.linspace(0.5, 2, channels))
        self.bias = Array(self.runtime, np.linspace(-1, 1, channels))
        self.mean = Array(self.runtime, np.zeros(channels))
        self.var = Array(self.runtime, np.ones(channels))
        self.tracked = self.runtime.malloc(8)
        zero = np.zeros(1, np.int64)
        self.runtime.copy(self.tracked, zero.ctypes.data, 8, 1)
        options = {"eps": 1e-5, "momentum": 0.1, "affine": True, "track_running_stats": True,
                   "kept_forwards": 8, **options}
        self.reducer = None if group is None else group._device_reducer(syncnorm._cuda)
        self.norm = syncnorm._cuda.BatchNorm(
            name, channels, device=0, weight=self.weight.view(), bias=self.bias.view(),
            running_mean=self.mean.view(), running_var=self.var.view(),
            num_batches_tracked=self.tracked, group=self.reducer, **options)

    def like(self, x):
        values = np.zeros(x.shape, np.float32) if x.dtype == DType.BF16 else np.zeros_like(x._host)
        return Array(self.runtime, values, x.dtype)

    def forward(self, x, mask=None, training=True, keep=True, recomputing=False, y=None):
        """Enqueued; x is an Array.  The output and the context."""
        y = y or self.like(x)
        context = self.norm.forward(x=x.view(), y=y.view(), mask=mask and mask.view(),
                                    byte_mask=True, training=training, keep=keep,
                                    recomputing=recomputing, stream=self.stream)
        return y, context

    def gradients(self, x):
        return self.like(x), Array(self.runtime, np.zeros(C)), Array(self.runtime, np.zeros(C))

    def backward(self, context, x, dy, gradients=None):
        dx, d_weight, d_bias = gradients or self.gradients(x)
        context.backward(x=x.view(), dy=dy.view(), dx=dx.view(), d_weight=d_weight.view(),
                         d_bias=d_bias.view(), stream=self.stream)
        return dx, d_weight, d_bias

    def synchronise(self):
        self.runtime.synchronise(self.stream)


def mask_array(runtime, mask):
    return Array(runtime, np.ascontiguousarray(mask, np.uint8))


@pytest.mark.parametrize("dtype,as_type,tolerance", KINDS)
@pytest.mark.parametrize("masked", [False, True])
@pytest.mark.parametrize("sizes", [(5,), (3, 5), (0, 4)])
def test_batch_norm_is_that_of_the_whole_batch(dtype, as_type, tolerance, masked, sizes):
    x, dy, mask = batch_norm_data(sizes, masked)
    x, dy = x.astype(dtype), dy.astype(dtype)
    spoilt = np.where(mask[:, None, :], x, np.nan).astype(dtype)  # what is masked out may be anything

    def body(worker):
        mine = slice(sum(sizes[:worker.rank]), sum(sizes[:worker.rank + 1]))
        layer = Layer("bn", worker.group)
        arrays = [Array(layer.runtime, a[mine], as_type) for a in (spoilt, dy)]
        counts = mask_array(layer.runtime, mask[mine]) if masked else None
        y, context = layer.forward(arrays[0], counts)
        results = layer.backward(context, *arrays)
        layer.synchronise()
        layer.norm.check()
        tracked = np.zeros(1, np.int64)
        layer.runtime.copy(tracked.ctypes.data, layer.tracked, 8, 2)
        return [a.numpy().astype(float) for a in (y, *results, layer.mean, layer.var)], tracked[0]

    results = run(len(sizes), body)
    want = batch_norm(x.astype(float), dy.astype(float), mask, np.linspace(0.5, 2, C),
                      np.linspace(-1, 1, C))
    close = dict(rtol=tolerance, atol=4 * tolerance)
    for index in (0, 1):
        np.testing.assert_allclose(np.concatenate([r[index] for r, _ in results]), want[index], **close)
    for index in (2, 3):
        np.testing.assert_allclose(sum(r[index] for r, _ in results), want[index], rtol=tolerance,
                                   atol=20 * tolerance)
    for r, tracked in results:
        np.testing.assert_allclose(r[4], 0.1 * want[4], rtol=max(tolerance, 1e-6))
        np.testing.assert_allclose(r[5], 0.9 + 0.1 * want[5], rtol=max(tolerance, 1e-6))
        assert tracked == 1


@pytest.mark.parametrize("padded", [False, True])
def test_power_norm_is_that_of_the_whole_batch_in_a_group_of_a_device_and_a_cpu(padded):
    """The forward statistic in warm-up, and a member on the CPU that takes part in the same rounds."""
    random = np.random.default_rng(4)
    x = random.standard_normal((5, 8, 4))  # (T, B, C), two groups of channels
    padding = random.random((8, 5)) < (0.4 if padded else -1)
    weight, bias = np.linspace(0.5, 2, 4), np.linspace(-1, 1, 4)
    options = dict(eps=1e-5, alpha_fwd=0.9, alpha_bkw=0.9, affine=True, warmup_iters=10, groups=2,
                   group_eps=1e-5, semantics="paper", masked_backward=None, schedule="deferred",
                   kept_forwards=8)

    def on_device(worker):
        mine = slice(0, 3)
        runtime = Runtime()
        stream = runtime.stream()
        tensors = [Array(runtime, v) for v in (weight, bias, np.ones(4), np.zeros(4))]
        iters = Array(runtime, np.zeros(1))  # eight zero bytes
        norm = syncnorm._cuda.PowerNorm(
            "pn", 4, *options.values(), 0, *[t.view() for t in tensors], iters.address,
            worker.group._device_reducer(syncnorm._cuda))
        given, y = Array(runtime, x[:, mine]), Array(runtime, np.zeros((5, 3, 4)))
        pad = mask_array(runtime, padding[mine])
        norm.forward(given.view(), y.view(), pad.address, True, False, False, stream)
        norm.drain(stream)
        runtime.synchronise(stream)
        norm.check()
        return y.numpy(), tensors[2].numpy()

    def on_cpu(worker):
        mine = np.ascontiguousarray(x[:, 3:])
        y = np.zeros_like(mine)
        phi, ema = np.ones(4), np.zeros(4)

        def view(a):
            return syncnorm._core.View(a.ctypes.data, DType.F64, a.shape,
                                       [s // 8 for s in a.strides])

        norm = syncnorm._core.PowerNorm("pn", 4, *options.values(), worker.group._core)
        norm.load(view(weight), view(bias), view(phi), view(ema), 0)
        pad = np.ascontiguousarray(padding[3:], np.uint8)
        norm.forward(view(mine), view(y), pad.ctypes.data, view(weight), view(bias), True, False, None)
        norm.drain()
        norm.store(None, None, view(phi), view(ema))
        return y, phi

    (first, phi), (second, other) = run(2, lambda w: on_device(w) if w.rank == 0 else on_cpu(w))
    grouped = x.reshape(5, 8, 2, 2)
    xs = (grouped / np.sqrt((grouped ** 2).mean(-1, keepdims=True) + 1e-5)).reshape(x.shape)
    v = (xs ** 2)[~padding.T].mean(0)
    np.testing.assert_allclose(np.concatenate([first, second], 1), weight * xs / np.sqrt(v + 1e-5) + bias,
                               rtol=1e-12)
    np.testing.assert_allclose(phi, 0.9 + 0.1 * v, rtol=1e-12)
    assert np.array_equal(phi, other)


# ---- What a stream is for ----------------------------------------------------------------------

def test_calls_return_before_the_other_member_has_done_anything():
    """Rank 1 only begins a step when rank 0 has enqueued it.  Not the first one: memory is asked for
    there, which makes the device wait."""
    x, dy, _ = batch_norm_data((3, 5), False)
    read, write = os.pipe()

    def body(worker):
        mine = slice(0, 3) if worker.rank == 0 else slice(3, 8)
        layer = Layer("bn", worker.group, kept_forwards=0)
        x_mine, dy_mine = (Array(layer.runtime, a[mine]) for a in (x, dy))
        y, gradients = layer.like(x_mine), layer.gradients(x_mine)
        for step in range(3):
            if step > 0 and worker.rank == 1:
                assert os.read(read, 1) == b"!"
            _, context = layer.forward(x_mine, y=y)
            layer.backward(context, x_mine, dy_mine, gradients)
            del context
            if step > 0 and worker.rank == 0:
                assert not worker.group._device.wait_for_results(0.01)
                os.write(write, b"!")
            layer.synchronise()
            assert worker.group._device.wait_for_results(1.0)
        assert worker.group._device.rounds == 6
        return y.numpy(), gradients[0].numpy()

    (first, first_dx), (second, second_dx) = run(2, body)
    want = batch_norm(x, dy, np.ones((8, 4), bool), np.linspace(0.5, 2, C), np.linspace(-1, 1, C))
    np.testing.assert_allclose(np.concatenate([first, second]), want[0], rtol=1e-12, atol=1e-12)
    np.testing.assert_allclose(np.concatenate([first_dx, second_dx]), want[1], rtol=1e-10, atol=1e-12)


def test_rounds_of_the_cpu_keep_their_place_among_those_of_streams():
    """The device of rank 0 is kept from its work until its next round, one of the CPU, would have
    overtaken the layer's.  Rank 1 makes both on the CPU, in their order."""
    def body(worker):
        if worker.rank == 1:
            layer = syncnorm._core.BatchNorm("bn", C, 1e-5, 0.1, False, False, 0, worker.group._core)
            x = np.zeros((2, C, 4))
            view = syncnorm._core.View(x.ctypes.data, DType.F64, x.shape, [12, 4, 1])
            for _ in range(2):
                layer.forward(view, view, None, True, True, False, None)
            return worker.group.sum("sum", [1.0])
        layer = Layer("bn", worker.group, affine=False, track_running_stats=False, kept_forwards=0)
        x = Array(layer.runtime, np.zeros((2, C, 4)))
        y = layer.like(x)
        layer.forward(x, y=y, keep=False)  # asks for memory, which waits for the device
        layer.synchronise()
        go_on, sums = threading.Event(), []
        layer.runtime.hold(layer.stream, go_on)
        layer.forward(x, y=y, keep=False)
        summing = threading.Thread(target=lambda: sums.append(worker.group.sum("sum", [1.0])))
        summing.start()
        summing.join(0.2)
        assert not sums
        go_on.set()
        summing.join()
        layer.synchronise()
        layer.norm.check()
        return sums[0]

    assert run(2, body) == [[2.0], [2.0]]


def test_leaving_waits_for_the_rounds_under_way():
    def body(worker):
        layer = Layer("bn", worker.group)
        x = Array(layer.runtime, np.full((2, C, 4), float(worker.rank)))
        y, _ = layer.forward(x)
        syncnorm.shutdown()
        layer.synchronise()
        layer.norm.check()
        return y.numpy()[0, :, 0]

    ys = run(2, body)
    np.testing.assert_allclose(ys[0], np.linspace(-1, 1, C) - np.linspace(0.5, 2, C), rtol=1e-4)
    np.testing.assert_allclose(ys[1], np.linspace(-1, 1, C) + np.linspace(0.5, 2, C), rtol=1e-4)


def test_the_default_stream_does_as_well():
    """PyTorch's, unless a program asks for another."""
    x, dy, mask = batch_norm_data((3, 5), False)

    def body(worker):
        mine = slice(0, 3) if worker.rank == 0 else slice(3, 8)
        layer = Layer("bn", worker.group)
        layer.stream = 0
        arrays = [Array(layer.runtime, a[mine]) for a in (x, dy)]
        for _ in range(3):
            y, context = layer.forward(arrays[0])
            dx, *_ = layer.backward(context, *arrays)
        layer.synchronise()
        layer.norm.check()
        return y.numpy(), dx.numpy()

    results = run(2, body)
    want = batch_norm(x, dy, mask, np.linspace(0.5, 2, C), np.linspace(-1, 1, C))
    for index in (0, 1):
        np.testing.assert_allclose(np.concatenate([r[index] for r in results]), want[index],
                                   rtol=1e-10, atol=1e-12)


def test_a_recomputed_forward_gives_the_same_and_has_no_round():
    def body(worker):
        layer = Layer("bn", worker.group)
        x = Array(layer.runtime, np.full((2, C, 4), float(worker.rank)))
        y, _ = layer.forward(x)
        again, _ = layer.forward(x, recomputing=True)
        layer.synchronise()
        assert worker.group._device.rounds == 1
        return np.array_equal(y.numpy(), again.numpy())

    assert run(2, body) == [True, True]


# ---- Errors ------------------------------------------------------------------------------------

def test_a_failed_round_is_told_by_the_next_call_and_its_results_are_nan():
    def body(worker):
        layer = Layer("bn", worker.group)
        runtime = layer.runtime
        bad = Array(runtime, np.full((2, C, 4), np.nan if worker.rank else 1.0))
        y, _ = layer.forward(bad)
        layer.synchronise()
        assert np.isnan(y.numpy()).all() and (layer.mean.numpy() == 0).all()
        with pytest.raises(SyncnormError) as error:
            layer.forward(bad)
        good = Array(runtime, np.full((2, C, 4), float(worker.rank)))
        y, _ = layer.forward(good)
        layer.synchronise()
        layer.norm.check()
        return error.value.layer, error.value.ranks, bool(np.isfinite(y.numpy()).all())

    assert run(2, body) == [("bn", (1,), True)] * 2


def in_process(body):
    """In a process that is not forked of: CUDA does not survive that."""
    return run(1, body, init=False)[0]


def test_what_is_wrong_with_an_argument_is_named_at_once():
    def body(_):
        layer = Layer("bn")
        texts = []
        x = Array(layer.runtime, np.ones((2, C, 4)))
        host = np.ones((2, C, 4))
        host_view = syncnorm._core.View(host.ctypes.data, DType.F64, host.shape, [12, 4, 1])
        for call in (
                lambda: layer.forward(Array(layer.runtime, np.ones((2, 5, 4)))),
                lambda: layer.norm.forward(host_view, x.view(), None, True, True, False, False, 0),
                lambda: layer.norm.set_tensors(None, layer.bias.view(), layer.mean.view(),
                                               layer.var.view(), None),
                lambda: layer.norm.set_eps_and_momentum(1e-5, 7.0),
                lambda: Layer("bn", kept_forwards=33),
                lambda: syncnorm._cuda.check_device(70)):
            with pytest.raises(SyncnormError) as error:
                call()
            assert error.value.code == "INVALID_ARGUMENT"
            texts.append(error.value.message)
        return texts

    for text, part in zip(in_process(body), (
            "5 channels", "memory of the host", "weight is null", "momentum is 7",
            "kept_forwards is 33", "device is 70; this process has devices 0 to")):
        assert part in text


def test_a_mask_of_other_values_is_told_late():
    def body(_):
        layer = Layer("bn")
        layer.forward(Array(layer.runtime, np.ones((2, C, 4))),
                      mask_array(layer.runtime, np.array([[1, 1, 7, 1], [0, 1, 1, 1]])))
        layer.synchronise()
        with pytest.raises(SyncnormError) as error:
            layer.norm.check()
        return error.value.message

    assert "another value than 0 and 1 at position 2" in in_process(body)


def test_a_cumulative_average_needs_its_counter_and_counts():
    def body(_):
        layer = Layer("bn")
        layer.norm.set_eps_and_momentum(1e-5, None)
        for value in (1.0, 4.0):
            layer.forward(Array(layer.runtime, np.full((2, C, 4), value)))
        layer.synchronise()
        layer.norm.set_eps_and_momentum(1e-5, 0.1)
        layer.norm.set_tensors(layer.weight.view(), layer.bias.view(), layer.mean.view(),
                               layer.var.view(), None)
        with pytest.raises(SyncnormError, match="num_batches_tracked"):
            layer.norm.set_eps_and_momentum(1e-5, None)
        return layer.mean.numpy().tolist()

    assert in_process(body) == [2.5] * C


def test_the_parameters_of_a_power_norm_may_change_with_statistics_under_way():
    def body(worker):
        runtime = Runtime()
        stream = runtime.stream()
        tensors = [Array(runtime, v) for v in (np.ones(2), np.zeros(2), np.ones(2), np.zeros(2))]
        iters = Array(runtime, np.zeros(1))
        norm = syncnorm._cuda.PowerNorm(
            "pn", 2, 0.0, 0.9, 0.9, True, 0, 1, 1e-5, "paper", None, "deferred", 0, 0,
            *[t.view() for t in tensors], iters.address, worker.group._device_reducer(syncnorm._cuda))
        x, y = Array(runtime, np.ones((4, 2))), Array(runtime, np.zeros((4, 2)))
        norm.forward(x.view(), y.view(), None, True, False, False, stream)
        with pytest.raises(SyncnormError, match="statistics are under way"):
            norm.set_tensors(*[t.view() for t in tensors], iters.address)
        tripled = Array(runtime, np.full(2, 3.0))
        norm.set_parameters(tripled.view(), tensors[1].view())
        with pytest.raises(SyncnormError, match="weight is null"):
            norm.set_parameters(None, tensors[1].view())
        before = y.numpy()
        norm.forward(x.view(), y.view(), None, True, False, False, stream)
        norm.drain(stream)
        runtime.synchronise(stream)
        return before[0].tolist(), y.numpy()[0].tolist()

    for before, after in run(2, body):
        np.testing.assert_allclose(before, 1, rtol=1e-4)
        np.testing.assert_allclose(after, 3, rtol=1e-4)


# ---- The module --------------------------------------------------------------------------------

def test_nothing_but_the_modules_entry_is_visible():
    listing = subprocess.run(["nm", "-D", "--defined-only", syncnorm._cuda.__file__],
                             capture_output=True, text=True, check=True).stdout
    assert [line.split()[-1] for line in listing.splitlines()] == ["PyInit__cuda"]


def test_cuda_is_loaded_with_the_first_tensor_that_needs_it():
    program = """
import syncnorm, sys
group = syncnorm.init(rank=0, world_size=1)
with open("/proc/self/maps") as maps: before = "libcudart" in maps.read()
import syncnorm._cuda
with open("/proc/self/maps") as maps: after = "libcudart" in maps.read()
print(before, after, "syncnorm._cuda" in sys.modules)
"""
    done = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, timeout=60,
                          check=True)
    assert done.stdout == "False True True\n"


def test_without_a_device_it_is_told():
    environment = {**os.environ, "CUDASIM_DEVICE_COUNT": "0", "CUDA_VISIBLE_DEVICES": "-1"}
    program = "import syncnorm._cuda; syncnorm._cuda.check_device(0)"
    done = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, timeout=60,
                          env=environment, check=False)
    assert "UNAVAILABLE: looking for devices: CUDA says: " in done.stderr

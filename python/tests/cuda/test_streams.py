"""syncnorm.torch on streams, where it differs from the CPU: stand_in.py.  The other tests of norms
run so, too."""
import contextlib
import copy
import gc
import os
import signal
import subprocess
import sys
import threading

import pytest
import torch
from torch import nn

import syncnorm.torch
from stand_in import Copies, on_cpu, on_streams, process
from syncnorm import SyncnormError
from syncnorm.torch import SyncBatchNorm, SyncPowerNorm, _streams
from workers import run

pytestmark = pytest.mark.skipif(not on_streams(), reason="needs SYNCNORM_TEST_STREAMS=1")


def test_norms_run_on_streams_and_work_on_the_modules_memory():
    norm = SyncBatchNorm(2, momentum=1.0)
    norm(torch.tensor([[1.0, 2.0], [3.0, 6.0]]))
    assert type(norm._core_norm) is _streams.StreamBatchNorm
    assert norm.running_mean.tolist() == [2, 4] and norm.running_var.tolist() == [2, 8]
    assert norm.num_batches_tracked == 1
    assert type(_norm_after_a_step(SyncPowerNorm(2))) is _streams.StreamPowerNorm


def _norm_after_a_step(norm):
    norm(torch.ones(3, 2))
    return norm._core_norm


def test_after_its_first_call_no_norm_asks_to_wait_for_the_device(monkeypatch):
    """Optimiser steps, which write to parameters in place, included."""
    def body(worker):
        model = nn.Sequential(SyncBatchNorm(3, momentum=None), SyncPowerNorm(3, warmup_iters=2))
        optimiser = torch.optim.SGD(model.parameters(), 0.1)
        waits = []
        synchronise = _streams.synchronise
        monkeypatch.setattr(_streams, "synchronise", lambda p: (waits.append(p), synchronise(p)))
        counts = []
        for _ in range(6):
            model(torch.randn(4, 3)).pow(2).sum().backward()
            optimiser.step()
            counts.append(len(waits))
        syncnorm.torch.drain(model)
        return counts, len(waits)

    assert run(2, body) == [([2] * 6, 3)] * 2


def test_cuda_path_says_why_not():
    program = "import syncnorm.torch; print(syncnorm.torch.cuda_path())"
    done = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, timeout=60,
                          check=True)
    assert done.stdout == "operations: PyTorch finds no CUDA device\n"


def test_what_streams_do_not_read_is_told_apart():
    x = torch.ones(2, 4)
    good = {"parameters": (torch.ones(4), None), "statistics": (torch.ones(4), torch.ones(4)),
            "counters": (torch.zeros((), dtype=torch.int64),)}
    with on_cpu():
        _streams.DEVICES = {"cpu"}
        assert _streams.place_for(x, good) == x.device
        for kind, tensor in (("parameters", torch.ones(8)[::2]),
                             ("parameters", torch.ones(4, device="meta")),
                             ("statistics", torch.ones(4).half()),
                             ("counters", torch.zeros(()))):
            assert _streams.place_for(x, {**good, kind: (tensor,)}) is None
        _streams.DEVICES = {"cuda"}
        assert _streams.place_for(x, good) is None


@pytest.mark.parametrize("start_on_streams", [True, False])
def test_a_model_that_moves_goes_on_with_its_rounds(start_on_streams):
    """One member's norm moves between the devices: the step of its rounds goes on, the layer keeps
    its name, and what was written meanwhile counts."""
    def body(worker):
        torch.manual_seed(3)
        norms = [SyncBatchNorm(3, name="bn"), SyncPowerNorm(3, warmup_iters=2, name="pn")]
        for step in range(6):
            x = torch.randn(2, 5, 3)[worker.rank]
            moved = worker.rank == 1 and step in (2, 3)
            if step == 2:
                norms[0].running_mean.fill_(7.0)
                norms[1].drain()
                norms[1].running_phi.fill_(5.0)
            with on_cpu() if moved == start_on_streams else contextlib.nullcontext():
                for norm in norms:
                    norm(x)
        for norm in norms:
            syncnorm.torch.drain(norm)
            syncnorm.torch.check(norm)
        return [norm.state_dict() for norm in norms]

    first, second = run(2, body)
    for mine, others in zip(first, second):
        for name, value in mine.items():
            assert torch.equal(value, others[name]), name
    assert first[0]["num_batches_tracked"] == 6 and first[1]["iters"].item() == 6


def test_norms_of_the_cpu_and_of_streams_in_one_group():
    """Rounds have the order of the calls, also where moments are still on the device."""
    def body(worker):
        torch.manual_seed(3)
        one, two = SyncBatchNorm(3, name="a"), SyncBatchNorm(3, name="b")
        x = torch.randn(2, 4, 3)[worker.rank].requires_grad_()
        y = one(x)
        with on_cpu():
            z = two(y)
        z.pow(3).sum().backward()
        return z, x.grad

    results = run(2, body)
    torch.manual_seed(3)
    x = torch.randn(2, 4, 3).flatten(0, 1).requires_grad_()
    z = nn.BatchNorm1d(3)(nn.BatchNorm1d(3)(x))
    z.pow(3).sum().backward()
    torch.testing.assert_close(torch.cat([r[0] for r in results]), z)
    torch.testing.assert_close(torch.cat([r[1] for r in results]), x.grad, rtol=1e-4, atol=1e-5)


def test_a_load_replaces_what_is_under_way():
    def body(worker):
        torch.manual_seed(3)
        norm = SyncPowerNorm(3, warmup_iters=0, semantics="paper", dtype=torch.float64)
        loaded = copy.deepcopy(norm.state_dict())
        loaded["running_phi"].fill_(4.0)
        loaded["iters"].fill_(20)
        norm(torch.randn(5, 3, dtype=torch.float64))  # its statistic is under way
        norm.load_state_dict(loaded)
        x = torch.full((2, 3), 2.0, dtype=torch.float64)
        y = norm(x)
        norm.drain()
        return y, norm.iters.item()

    for y, iters in run(2, body):
        torch.testing.assert_close(y, torch.full_like(y, 2 / (4 + 1e-5) ** 0.5 / (4 + 1e-5) ** 0.5))
        assert iters == 21


def test_buffers_that_are_replaced_and_counters_that_are_written():
    def body(worker):
        torch.manual_seed(3)
        norm = SyncPowerNorm(3, warmup_iters=2, dtype=torch.float64)
        x = torch.randn(4, 5, 3, dtype=torch.float64)
        for step in range(3):
            norm(x[step])
        norm.running_phi = torch.full((1, 3, 1, 1), 4.0, dtype=torch.float64)  # the old one is freed
        gc.collect()
        r = (x[3].pow(2).mean(-1, keepdim=True) + 1e-5).rsqrt()
        torch.testing.assert_close(norm(x[3]), x[3] * r / (4 + 1e-5) ** 0.5)
        norm.drain()
        assert norm.iters.item() == 4
        norm.iters.zero_()  # warm-up again: the batch's own statistic
        y = norm(x[3])
        torch.testing.assert_close(y, x[3] * r / ((x[3] * r).pow(2).mean(0) + 1e-5).sqrt())
        return norm.state_dict()["iters"].item()

    assert run(2, body) == [1, 1]


def test_a_failure_is_told_once_by_the_next_call_or_check():
    def body(worker):
        norm = SyncBatchNorm(2, name="bn")
        bad = torch.full((3, 2), float("nan") if worker.rank else 1.0)
        assert norm(bad).isnan().all() and norm.running_mean.tolist() == [0, 0]
        with pytest.raises(SyncnormError, match="bn"):
            norm(bad)
        norm(bad)
        with pytest.raises(SyncnormError, match="bn"):
            syncnorm.torch.check(nn.Sequential(norm))
        syncnorm.torch.check(norm)
        return norm(torch.randn(3, 2)).isfinite().all().item()

    assert run(2, body) == [True, True]


def test_a_power_norms_drain_raises_what_failed():
    def body(worker):
        norm = SyncPowerNorm(2, warmup_iters=0, name="pn")
        norm(torch.full((3, 2), float("nan") if worker.rank else 1.0))
        with pytest.raises(SyncnormError, match="pn") as error:
            norm.eval()
        return error.value.ranks, norm.running_phi.flatten().tolist()

    assert run(2, body) == [((1,), [1.0, 1.0])] * 2


def test_the_weight_of_a_backward_is_the_one_of_its_forward():
    """Also where a hook for saved tensors keeps it somewhere else, and the module has another by
    then."""
    norms = [SyncBatchNorm(3), SyncPowerNorm(3, warmup_iters=1)]
    for norm in norms:
        for step in range(3):
            with torch.no_grad():
                norm.weight.copy_(torch.tensor([1.0, 2.0, 3.0]) * (step + 1))
            x, dy = torch.randn(4, 3, requires_grad=True), torch.randn(4, 3)
            plain = copy.deepcopy(norm)
            with torch.autograd.graph.saved_tensors_hooks(torch.clone, lambda moved: moved):
                y = norm(x)
            with torch.no_grad():
                norm.weight.fill_(-1.0)
            got = torch.autograd.grad(y, [x, norm.weight, norm.bias], dy)
            want = torch.autograd.grad(plain(x), [x, plain.weight, plain.bias], dy)
            for one, other in zip(got, want):
                assert torch.equal(one, other)


def test_the_state_that_others_take_over_is_that_of_the_modules_tensors_now():
    def body(worker):
        norm = SyncBatchNorm(2)
        with syncnorm.join(norm):
            for _ in range(3 if worker.rank == 0 else 1):
                norm(torch.randn(4, 2))
            if worker.rank == 0:
                norm.running_mean = torch.full((2,), 7.0)  # not those that the last forward had
        return norm.running_mean.tolist(), norm.num_batches_tracked.item()

    assert run(2, body, on_loss="finish") == [([7.0, 7.0], 3)] * 2


def test_a_closed_group_keeps_nothing_on_the_device():
    def body(worker):
        norm = SyncBatchNorm(2)
        norm(torch.randn(3, 2))
        assert worker.group._device is not None
        syncnorm.shutdown()
        assert worker.group._device is None
        y = norm(torch.tensor([[1.0, 1.0], [3.0, 3.0]]))  # local
        torch.testing.assert_close(y[0], torch.full((2,), -1.0), rtol=1e-4, atol=0)

    run(2, body)


def test_ctrl_c_ends_the_wait_for_rounds_under_way():
    """Of at_boundary, finish and close.  Rank 1 contributes when rank 0 was interrupted."""
    read, write = os.pipe()

    def body(worker):
        norm = SyncBatchNorm(2, name="bn")
        x = torch.full((3, 2), float(worker.rank))
        norm._norm()
        if worker.rank == 1:
            assert os.read(read, 1) == b"!"
            return norm(x).tolist()
        # As with CUDA tensors: nobody waits for the stream.
        copies = Copies()
        views = [copies.view(_streams.view(t)) for t in (x, x)]
        norm._core_norm.core.real.forward(*views, None, True, True, False, False, process().stream)
        threading.Timer(0.2, lambda: os.kill(os.getpid(), signal.SIGINT)).start()
        with pytest.raises(KeyboardInterrupt):
            worker.group._settle()
        assert not worker.group._device.wait_for_results(0.0)
        os.write(write, b"!")
        worker.group._settle()
        process().runtime.synchronise(process().stream)
        copies.to_host()
        return x.tolist()

    first, second = run(2, body)
    assert first != second and first == [[-v for v in row] for row in second]

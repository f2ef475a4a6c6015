"""CUDA tensors, where there is a GPU and a PyTorch for it: what stand_in.py leaves out.  In a process
each: workers are forked, which CUDA does not survive."""
import shutil
import subprocess

import pytest
import torch

import syncnorm.torch
from stand_in import on_streams
from syncnorm.torch import SyncBatchNorm, SyncPowerNorm
from workers import run


def gpus():
    """Without asking CUDA, in a process that forks."""
    if shutil.which("nvidia-smi") is None:
        return ""
    return subprocess.run(["nvidia-smi", "-L"], capture_output=True, text=True, check=False).stdout


pytestmark = pytest.mark.skipif(
    on_streams() or not torch.backends.cuda.is_built() or not gpus(),
    reason="needs a GPU, and a PyTorch that was built for CUDA")


def steps(norm, device, worker, shape, side_stream=False):
    """Outputs and gradients of some steps, without a wait between them."""
    torch.manual_seed(3)
    norm = norm().to(device)
    stream = torch.cuda.Stream() if side_stream else None
    results = []
    with torch.cuda.stream(stream):
        for _ in range(6):
            x, dy = (torch.randn(2, *shape)[worker.rank].to(device) for _ in range(2))
            x.requires_grad_()
            y = norm(x)
            results += [y.detach(), *torch.autograd.grad(y, [x, norm.weight, norm.bias], dy)]
            del x, y, dy  # the allocator gives their memory to the next step
    syncnorm.torch.drain(norm)
    syncnorm.torch.check(norm)
    return [r.cpu() for r in results], {k: v.cpu() for k, v in norm.state_dict().items()}


@pytest.mark.parametrize("side_stream", [False, True])
@pytest.mark.parametrize("norm,shape", [
    (lambda: SyncBatchNorm(16, name="bn"), (8, 16, 32, 32)),
    (lambda: SyncPowerNorm(16, warmup_iters=2, name="pn"), (32, 8, 16))],
    ids=["batch norm", "power norm"])
def test_a_member_on_a_gpu_gets_what_one_on_a_cpu_gets(norm, shape, side_stream):
    def body(worker):
        on_gpu = steps(norm, "cuda", worker, shape, side_stream)
        assert syncnorm.torch.cuda_path() == "streams"
        worker.group.sum("between", [1.0])
        again = steps(norm, "cpu", worker, shape)
        return on_gpu, again

    for (results, state), (expected, other) in run(2, body):
        for got, want in zip(results, expected):
            torch.testing.assert_close(got, want, rtol=1e-4, atol=1e-4)
        for name, value in state.items():
            torch.testing.assert_close(value, other[name], rtol=1e-5, atol=1e-6)

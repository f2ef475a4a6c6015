"""Other devices: the kernels as torch operations, run on the CPU beside the client's own."""
import copy

import pytest
import torch

from syncnorm.torch import SyncBatchNorm, SyncPowerNorm, _kernels


def both(monkeypatch, norm, run):
    """What run(norm) returns with the client's kernels and with torch's, from equal states."""
    twin = copy.deepcopy(norm)
    expected = run(norm)
    monkeypatch.setattr(_kernels, "CLIENT_DEVICES", set())
    got = run(twin)
    for name, value in norm.state_dict().items():
        torch.testing.assert_close(twin.state_dict()[name], value, rtol=1e-6, atol=1e-7)
    return got, expected


TYPES = [(torch.float64, 1e-12), (torch.float32, 2e-6), (torch.float16, 2e-3), (torch.bfloat16, 2e-2)]


def check(results, tolerance):
    for got, want in zip(*results):
        assert got.dtype == want.dtype and got.stride() == want.stride()
        torch.testing.assert_close(got, want, rtol=tolerance, atol=tolerance)


@pytest.mark.parametrize("dtype,tolerance", TYPES)
@pytest.mark.parametrize("shape", [(5, 3), (4, 3, 6), (2, 3, 4, 5), (0, 3, 4)])
@pytest.mark.parametrize("masked", [False, True])
@pytest.mark.parametrize("training", [True, False])
def test_batch_norm(monkeypatch, dtype, tolerance, shape, masked, training):
    torch.manual_seed(3)
    norm = SyncBatchNorm(3, dtype=torch.float64 if dtype == torch.float64 else None).train(training)
    x = (2 * torch.randn(shape) + 3).to(dtype)
    if len(shape) == 4:
        x = x.to(memory_format=torch.channels_last)
    mask = torch.rand(shape[0], *shape[2:]) < 0.6 if masked else None
    if masked:
        x = torch.where(mask.unsqueeze(1), x, torch.full_like(x, float("nan")))
    dy = torch.randn(shape).to(dtype)

    def run(norm):
        mine = x.clone().requires_grad_()
        y = norm(mine, mask)
        return y, *torch.autograd.grad(y, [mine, norm.weight, norm.bias], dy)

    check(both(monkeypatch, norm, run), tolerance)


@pytest.mark.parametrize("mean", [1e4, 1e6])
@pytest.mark.parametrize("float64", [True, False])
def test_a_mean_far_from_zero_keeps_its_variance(monkeypatch, mean, float64):
    """Also where sums are of float32, and the first mean is off."""
    if not float64:
        monkeypatch.setattr(_kernels, "WITHOUT_FLOAT64", {"cpu"})
    torch.manual_seed(3)
    x = mean + torch.randn(4096, 2)
    norm = SyncBatchNorm(2, momentum=1.0)
    monkeypatch.setattr(_kernels, "CLIENT_DEVICES", set())
    y = norm(x)
    exact = x.double()
    torch.testing.assert_close(norm.running_var.double(), exact.var(dim=0), rtol=1e-6, atol=0)
    torch.testing.assert_close(
        y.double(), (exact - exact.mean(dim=0)) / (exact.var(dim=0, unbiased=False) + 1e-5).sqrt(),
        rtol=1e-5, atol=1e-5)


@pytest.mark.parametrize("dtype,tolerance", TYPES)
@pytest.mark.parametrize("shape", [(5, 3, 8), (6, 8), (0, 3, 8)])
@pytest.mark.parametrize("semantics", ["reference", "paper"])
@pytest.mark.parametrize("groups", [1, 4])
@pytest.mark.parametrize("training", [True, False])
def test_power_norm(monkeypatch, dtype, tolerance, shape, semantics, groups, training):
    torch.manual_seed(3)
    norm = SyncPowerNorm(8, warmup_iters=2, group_num=groups, semantics=semantics)
    norm.train(training)
    xs, dys = torch.randn(4, *shape).to(dtype), torch.randn(4, *shape).to(dtype)
    padding = torch.rand(shape[-2], shape[0] if len(shape) == 3 else 1) < 0.3

    def run(norm):
        results = []
        for x, dy in zip(xs, dys):
            mine = x.clone().requires_grad_()
            y = norm(mine, padding)
            results += [y, *torch.autograd.grad(y, [mine, norm.weight, norm.bias], dy)]
        return results

    check(both(monkeypatch, norm, run), 4 * tolerance)

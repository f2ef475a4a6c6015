"""PyTorch's own tests of its SyncBatchNorm under DistributedDataParallel (test_distributed.py,
test_c10d_common.py), re-created from their descriptions on the CPU, with their tolerances.

The recipe: a base model on the whole batch beside the workers' models on their slices; five
iterations of "parameter += gradient", all parameters equal after each.
"""
import copy

import pytest
import torch
from torch import nn
from torch.nn.parallel import DistributedDataParallel

import syncnorm.torch
from workers import run

TOLERANCE = {"rtol": 1.3e-6, "atol": 1e-5}  # of PyTorch's assertEqual in float32


class BatchNormNet(nn.Module):
    """Linear, batch norm over 4 channels of 10, Linear, softmax."""

    def __init__(self, affine=True):
        super().__init__()
        self.fc1 = nn.Linear(2, 40, bias=False)
        self.bn = nn.BatchNorm1d(4, affine=affine)
        self.fc2 = nn.Linear(40, 4, bias=False)

    def forward(self, x):
        x = torch.reshape(self.fc1(x), (-1, 4, 10))
        x = torch.reshape(self.bn(x), (-1, 40))
        return torch.softmax(self.fc2(x), dim=1)


def step(model, x, target, scale=1.0):
    """parameter += gradient, of the mean squared error."""
    model.zero_grad()
    (nn.functional.mse_loss(model(x), target) * scale).backward()
    with torch.no_grad():
        for parameter in model.parameters():
            parameter += parameter.grad


def compare(worker, base, x, target, begin, end, iterations=5):
    """The recipe.  x and target are the whole batch, of which this worker has [begin, end)."""
    model = DistributedDataParallel(syncnorm.torch.convert_sync_batchnorm(copy.deepcopy(base)))
    # DDP averages: a worker's mean loss counts as much as its slice is of the batch.
    scale = worker.world_size * (end - begin) / len(x)
    for iteration in range(iterations):
        step(base, x, target)
        step(model, x[begin:end], target[begin:end], scale)
        for expected, parameter in zip(base.parameters(), model.parameters()):
            torch.testing.assert_close(parameter, expected, **TOLERANCE)
        torch.manual_seed(1337 + iteration)
        order = torch.randperm(len(x))
        x, target = x[order], target[order]
    return torch.cat([p.detach().flatten() for p in model.parameters()])


def whole_batch(size, *shape):
    torch.manual_seed(31)
    return torch.randn(size, *(shape or (2,))), torch.randn(size, *(shape or (4,)))


@pytest.mark.parametrize("world_size", [2, 3])
def test_a_network_under_ddp_equals_one_process(world_size):
    def body(worker):
        x, target = whole_batch(2 * worker.world_size)
        return compare(worker, BatchNormNet(), x, target, 2 * worker.rank, 2 * worker.rank + 2)

    results = run(world_size, seeded(body), ddp=True)
    assert all(torch.equal(r, results[0]) for r in results)


def test_without_affine():
    def body(worker):
        x, target = whole_batch(2 * worker.world_size)
        compare(worker, BatchNormNet(affine=False), x, target, 2 * worker.rank,
                2 * worker.rank + 2, iterations=2)

    run(2, seeded(body), ddp=True)


def test_two_dimensional_input():
    def body(worker):
        x, target = whole_batch(2 * worker.world_size, 2)
        compare(worker, nn.BatchNorm1d(2), x, target, 2 * worker.rank, 2 * worker.rank + 2)

    run(2, seeded(body), ddp=True)


def test_a_single_input_a_process():
    def body(worker):
        x, target = whole_batch(worker.world_size, 2)
        compare(worker, nn.BatchNorm1d(2), x, target, worker.rank, worker.rank + 1)

    run(2, seeded(body), ddp=True)


@pytest.mark.parametrize("dimensions,memory_format", [
    (2, torch.channels_last), (3, torch.channels_last_3d)])
def test_channels_last(dimensions, memory_format):
    def body(worker):
        x, target = whole_batch(2 * worker.world_size, 2, *[4] * dimensions)
        x = x.to(memory_format=memory_format)
        target = target.to(memory_format=memory_format)
        base = (nn.BatchNorm2d if dimensions == 2 else nn.BatchNorm3d)(2, momentum=0.99)
        compare(worker, base, x, target, 2 * worker.rank, 2 * worker.rank + 2)

    run(2, seeded(body), ddp=True)


@pytest.mark.parametrize("world_size,mean,var", [
    (2, [1.8181818, 1.2121212], [6.7247821, 0.4520087]),
    (3, [0.2702703, 0.3903904], [0.9273717, 0.1189202])])
def test_running_values_of_different_input_sizes(world_size, mean, var):
    def body(worker):
        size = 10 ** (worker.rank + 1)
        x = torch.empty(2, 2, size)
        x[:, 0], x[:, 1] = 0.1 ** (worker.rank - 1), 0.3 ** (worker.rank - 1)
        model = DistributedDataParallel(syncnorm.torch.SyncBatchNorm(2, momentum=0.99))
        for _ in range(100):
            model(x).mean().backward()
        torch.testing.assert_close(model.module.running_mean, torch.tensor(mean), **TOLERANCE)
        torch.testing.assert_close(model.module.running_var, torch.tensor(var), **TOLERANCE)
        assert model.module.num_batches_tracked == 100

    run(world_size, body, ddp=True)


@pytest.mark.parametrize("world_size", [2, 4])
def test_gradients_of_different_input_sizes(world_size):
    def body(worker):
        w, r = worker.world_size, worker.rank
        x, target = whole_batch(w * (w + 3) // 2)
        begin = r * (r + 3) // 2
        compare(worker, BatchNormNet(), x, target, begin, begin + r + 2)

    run(world_size, seeded(body), ddp=True)


def test_half():
    def body(worker):
        if not hasattr(torch, "compiler"):
            # torch 1.13 has no softmax and no product of half matrices on the CPU.
            model = syncnorm.torch.SyncBatchNorm(2).half()
        else:
            model = syncnorm.torch.convert_sync_batchnorm(BatchNormNet().half())
        y = DistributedDataParallel(model)(torch.randn(2, 2).half())
        assert y.dtype == torch.float16
        y.float().mean().backward()
        for parameter in model.parameters():
            assert parameter.grad.dtype == torch.float16

    run(2, seeded(body), ddp=True)


def test_evaluation_on_one_rank_only():
    """test_ddp_inference, and that evaluation sends nothing."""
    def body(worker):
        model = syncnorm.torch.SyncBatchNorm(2, track_running_stats=False)
        wrapped = DistributedDataParallel(model)
        if worker.rank == 0:
            model.eval(), wrapped.eval()
            x = torch.randn(10, 2, 4, 4)
            for _ in range(6):
                torch.testing.assert_close(wrapped(x), model(x), rtol=0, atol=0)
            expected = nn.functional.batch_norm(x, None, None, model.weight, model.bias, True)
            torch.testing.assert_close(model(x), expected)

    run(2, body, ddp=True)


@pytest.mark.parametrize("requires_grad", [True, False])
def test_only_empty_input(requires_grad):
    def body(worker):
        model = syncnorm.torch.SyncBatchNorm(2)
        wrapped = DistributedDataParallel(model)
        for batch in (0 if worker.rank == 0 else 1, 0):
            before = copy.deepcopy(model.state_dict())
            x = torch.zeros(batch, 2, 11, 13, requires_grad=requires_grad)
            y = wrapped(x)
            assert y.shape == x.shape and not y.isnan().any()
            wrapped.zero_grad()
            y.sum().backward()
            for parameter in model.parameters():
                assert parameter.grad is not None and not parameter.grad.isnan().any()
            if requires_grad:
                assert not x.grad.isnan().any()
        for name, value in model.state_dict().items():  # of the batch that was empty everywhere
            assert torch.equal(value, before[name]), name

    run(2, body, ddp=True)


def test_empty_input_of_a_network():
    def body(worker):
        model = nn.Sequential(nn.Conv2d(2, 2, 3), nn.BatchNorm2d(2), nn.Linear(28, 2))
        wrapped = DistributedDataParallel(syncnorm.torch.convert_sync_batchnorm(model))
        for batch in (0 if worker.rank == 0 else 3, 0):
            wrapped.zero_grad()
            wrapped(torch.randn(batch, 2, 30, 30)).sum().backward()
            for name, parameter in model.named_parameters():
                assert not parameter.grad.isnan().any(), name

    run(2, seeded(body), ddp=True)


def test_the_group_that_is_given_is_used():
    """test_SyncBatchNorm_process_group."""
    def body(worker):
        pair = syncnorm.new_group([0, 2])
        if worker.rank == 1:
            assert pair is None
            return None
        model = syncnorm.torch.convert_sync_batchnorm(nn.Sequential(nn.BatchNorm1d(1)), pair)
        assert model[0].group is pair
        return model(torch.full((1, 1), float(worker.rank))).item()

    low, none, high = run(3, body)
    assert none is None
    assert low == pytest.approx(-1, abs=1e-4) and high == pytest.approx(1, abs=1e-4)


def seeded(body):
    """The same parameters in all workers."""
    def with_seed(worker):
        torch.manual_seed(1)
        return body(worker)

    return with_seed

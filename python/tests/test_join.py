"""Uneven inputs: syncnorm.join."""

import os

import pytest
import torch
from torch import nn
from torch.nn.parallel import DistributedDataParallel

import syncnorm.torch
from workers import run


def network(norm):
    torch.manual_seed(3)
    return nn.Sequential(nn.Linear(2, 4), norm, nn.Tanh(), nn.Linear(4, 1))


def inputs():
    torch.manual_seed(4)
    return torch.randn(6, 3, 4, 2)  # steps, ranks, batch


LENGTHS = [3, 6, 4]


def test_workers_with_less_data_leave_the_others_to_it_under_ddp():
    def body(worker):
        torch.manual_seed(5)
        model = network(syncnorm.torch.SyncBatchNorm(4))
        alone = network(nn.BatchNorm1d(4))
        wrapped = DistributedDataParallel(model)
        x = inputs()
        optimiser = torch.optim.SGD(model.parameters(), 0.1)
        for _ in range(2):  # and again with all
            with syncnorm.join(wrapped):
                for step in range(LENGTHS[worker.rank]):
                    optimiser.zero_grad()
                    wrapped(x[step, worker.rank]).pow(2).mean().backward()
                    optimiser.step()
            assert worker.group.members == (0, 1, 2)
        # One process: the batch of those that still have data; DDP divides by all.
        optimiser = torch.optim.SGD(alone.parameters(), 0.1)
        for _ in range(2):
            for step in range(max(LENGTHS)):
                optimiser.zero_grad()
                left = [rank for rank in range(3) if step < LENGTHS[rank]]
                loss = alone(x[step, left].flatten(0, 1)).pow(2).mean() * len(left) / 3
                loss.backward()
                optimiser.step()
        for got, want in zip(model.parameters(), alone.parameters()):
            torch.testing.assert_close(got, want, rtol=1e-5, atol=1e-6)
        torch.testing.assert_close(model[1].running_var, alone[1].running_var, rtol=1e-5, atol=1e-6)

    run(3, body, ddp=True, on_loss="finish")


@pytest.mark.parametrize("norm", ["batch norm", "power norm"])
def test_without_ddp(norm):
    def body(worker):
        layer = (syncnorm.torch.SyncBatchNorm(2) if norm == "batch norm" else
                 syncnorm.torch.SyncPowerNorm(2, warmup_iters=1))
        model = nn.Sequential(layer)
        x = inputs()
        for _ in range(2):
            with syncnorm.join(model):
                for step in range(LENGTHS[worker.rank]):
                    mine = x[step, worker.rank].clone().requires_grad_()
                    model(mine).pow(2).sum().backward()
        return model.state_dict()

    first, *others = run(3, body, on_loss="finish")
    assert 12 in [value.item() for value in first.values() if value.numel() == 1]  # of rank 1
    for other in others:
        assert all(torch.equal(value, other[name]) for name, value in first.items())


def test_the_policy_is_asked_for_at_the_beginning():
    def body(worker):
        model = syncnorm.torch.SyncBatchNorm(2)
        with pytest.raises(syncnorm.SyncnormError, match='on_loss="finish"') as error:
            with syncnorm.join(model):
                raise AssertionError("not reached")
        return error.value.code, error.value.group

    assert run(2, body) == [("FAILED_PRECONDITION", "world")] * 2


def test_a_limit_is_kept_and_errors_of_the_loop_come_through():
    def body(worker):
        model = syncnorm.torch.SyncBatchNorm(2)
        if worker.rank == 0:
            with pytest.raises(syncnorm.SyncnormError, match="within 0.2 s") as error:
                with syncnorm.join(model, timeout=0.2):
                    pass
            assert error.value.code == "DEADLINE_EXCEEDED"
            with pytest.raises(KeyError):
                with syncnorm.join(model):
                    raise KeyError("mine")
            with open(f"{worker.folder}/fifo", "w"):
                pass
        else:
            with open(f"{worker.folder}/fifo"):
                pass
        with syncnorm.join(model):
            pass

    def with_fifo(worker):
        if worker.rank == 0:
            os.mkfifo(f"{worker.folder}/fifo")
        worker.init(on_loss="finish")
        body(worker)

    run(2, with_fifo, init=False)

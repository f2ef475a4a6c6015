"""Activation checkpointing: a recomputed forward gives the same bytes, has no round and moves
nothing."""
import copy

import pytest
import torch
from torch import nn
from torch.nn.parallel import DistributedDataParallel
from torch.utils.checkpoint import checkpoint, checkpoint_sequential

import syncnorm.torch
from syncnorm.torch import SyncBatchNorm, SyncPowerNorm
from workers import run


def norms(kind):
    if kind == "batch norm":
        return [SyncBatchNorm(6, dtype=torch.float64) for _ in range(2)]
    semantics = "paper" if kind == "paper" else "reference"
    return [SyncPowerNorm(6, warmup_iters=2, semantics=semantics, dtype=torch.float64)
            for _ in range(2)]


def network(kind):
    torch.manual_seed(3)
    first, second = norms(kind)
    return nn.Sequential(nn.Linear(6, 6).double(), first, nn.Tanh(), nn.Dropout(0.2),
                         nn.Linear(6, 6).double(), second, nn.Tanh())


def train(model, forward, worker, steps=5):
    torch.manual_seed(40 + worker.rank)  # inputs and dropout
    results = []
    for _ in range(steps):
        x = torch.randn(4, 6, dtype=torch.float64, requires_grad=True)
        model.zero_grad()
        y = forward(model, x)
        y.pow(2).sum().backward()
        results += [y.detach(), x.grad, *(p.grad.clone() for p in model.parameters())]
    return results


WAYS = {
    "reentrant": lambda model, x: checkpoint(model, x, use_reentrant=True),
    "not reentrant": lambda model, x: checkpoint(model, x, use_reentrant=False),
    "two segments": lambda model, x: checkpoint_sequential(model, 2, x),
    "nested": lambda model, x: checkpoint(
        lambda x: model[4:](checkpoint(model[:4], x, use_reentrant=False)), x, use_reentrant=False),
}


@pytest.mark.filterwarnings("ignore:.*use_reentrant.*")
@pytest.mark.parametrize("kind", ["batch norm", "reference", "paper"])
@pytest.mark.parametrize("way", WAYS)
def test_a_checkpoint_changes_nothing(kind, way):
    if way == "nested" and torch.__version__ < "2":
        pytest.skip("torch 1.13 cannot nest checkpoints that are not reentrant")

    def body(worker):
        plain, saving = network(kind), network(kind)
        expected = train(plain, lambda model, x: model(x), worker)
        rounds = worker.group.sum("so far", [1.0])
        got = train(saving, WAYS[way], worker)
        for one, other in zip(got, expected):
            assert torch.equal(one, other)
        for name, value in plain.state_dict().items():
            assert torch.equal(saving.state_dict()[name], value), name
        return rounds

    assert run(2, body) == [[2.0], [2.0]]


@pytest.mark.parametrize("use_reentrant", [True, False])
def test_under_ddp(use_reentrant):
    def body(worker):
        plain = network("batch norm")
        saving = copy.deepcopy(plain)
        expected = train(DistributedDataParallel(plain), lambda model, x: model(x), worker)

        class Saving(nn.Module):
            def __init__(self):
                super().__init__()
                self.inner = saving

            def forward(self, x):
                return checkpoint(self.inner, x, use_reentrant=use_reentrant)

        got = train(DistributedDataParallel(Saving()), lambda model, x: model(x), worker)
        for one, other in zip(got, expected):
            assert torch.equal(one, other)
        assert saving[1].num_batches_tracked == 5

    run(2, body, ddp=True)


def test_saved_tensors_that_are_moved_away():
    """What the backward reads is what autograd gives it, wherever that lies by then."""
    def body(worker):
        plain, moving = network("batch norm"), network("batch norm")
        expected = train(plain, lambda model, x: model(x), worker)

        def pack(tensor):
            copy = tensor.clone()
            if tensor.dim() == 2:  # the input: nobody else needs it
                tensor.data.fill_(float("nan"))
            return copy

        def forward(model, x):
            x = model[0](x)
            with torch.autograd.graph.saved_tensors_hooks(pack, lambda copy: copy):
                x = model[1](x)
            return model[2:](x)

        for one, other in zip(train(moving, forward, worker), expected):
            assert torch.equal(one, other)

    run(1, body)


def test_inputs_that_were_not_computed_alike_are_told():
    class Fickle(nn.Module):
        def __init__(self):
            super().__init__()
            self.norm, self.calls = SyncBatchNorm(6), 0

        def forward(self, x):
            self.calls += 1
            return self.norm(x * self.calls)

    x = torch.randn(4, 6, requires_grad=True)
    y = checkpoint(Fickle(), x, use_reentrant=True)
    with pytest.raises(syncnorm.SyncnormError, match="other inputs than the (last 1|training forwards)") as error:
        y.sum().backward()
    assert error.value.code == "FAILED_PRECONDITION"


def test_without_kept_forwards_a_recomputation_is_a_forward_like_any_other():
    norm = SyncBatchNorm(6, kept_forwards=0)
    checkpoint(norm, torch.randn(4, 6, requires_grad=True), use_reentrant=True).sum().backward()
    assert norm.num_batches_tracked == 2


def test_a_checkpointing_of_ones_own_says_so():
    norm = SyncBatchNorm(6)
    x = torch.randn(4, 6, requires_grad=True)
    with torch.no_grad():
        first = norm(x)
    with syncnorm.torch.recompute():
        second = norm(x)
    assert torch.equal(first, second) and second.requires_grad
    assert norm.num_batches_tracked == 1

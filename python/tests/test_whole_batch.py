"""DistributedDataParallel with syncnorm on W processes is one process with the whole batch: 50
steps of SGD in float32, parameters within 1e-5."""
import copy

import pytest
import torch
from torch import nn
from torch.nn.parallel import DistributedDataParallel

import syncnorm.torch
from models import Cnn, Sequences, Transformer
from workers import run

STEPS = 50
SLICES = {"2 equal": [4, 4], "4 equal": [2, 2, 2, 2], "3 unequal": [1, 2, 5]}


def train(model, batches, scales, learning_rate=0.05):
    """SGD with momentum on the sums of the losses times a scale; what the parameters become."""
    optimiser = torch.optim.SGD(model.parameters(), learning_rate, momentum=0.9)
    for batch, scale in zip(batches, scales):
        optimiser.zero_grad()
        *inputs, target = batch
        output = model(*inputs)
        loss = nn.functional.cross_entropy(output.reshape(-1, output.shape[-1]), target.reshape(-1),
                                           ignore_index=-1, reduction="sum")
        (loss * scale).backward()
        optimiser.step()


def images():
    x = torch.randn(STEPS, 8, 1, 8, 8)
    return Cnn(), [(x[i], torch.randint(5, (8,))) for i in range(STEPS)]


def sequences():
    x = torch.randn(STEPS, 8, 2, 12)
    return Sequences(), [(x[i], torch.randint(5, (8,))) for i in range(STEPS)]


def padded_text():
    batches = []
    for _ in range(STEPS):
        lengths = torch.randint(1, 7, (8, 1))
        padding = torch.arange(6) >= lengths
        target = torch.randint(5, (8, 6)).masked_fill(padding, -1)
        batches.append((torch.randint(11, (8, 6)), padding, target))
    return Transformer(), batches


@pytest.mark.parametrize("task", [images, sequences, padded_text], ids=lambda t: t.__name__)
@pytest.mark.parametrize("slices", SLICES)
def test_ddp_equals_one_process(task, slices):
    sizes = SLICES[slices]

    def body(worker):
        torch.manual_seed(11)
        whole, batches = task()
        model = syncnorm.torch.convert_sync_batchnorm(copy.deepcopy(whole))
        begin = sum(sizes[:worker.rank])
        mine = [tuple(part[begin:begin + sizes[worker.rank]] for part in batch) for batch in batches]
        # The mean over all targets of all workers; DDP divides by their number.
        counts = [(batch[-1] >= 0).sum().item() for batch in batches]
        train(DistributedDataParallel(model), mine, [worker.world_size / n for n in counts])
        if worker.rank > 0:
            return None
        for norm in whole.modules():
            if isinstance(norm, syncnorm.torch.SyncPowerNorm):
                norm.group = syncnorm.connect("127.0.0.1:0", rank=0, world_size=1, group="alone")
        start = copy.deepcopy(whole)
        train(whole, batches, [1 / n for n in counts])
        worst = moved = 0.0
        for got, want, old in zip(model.parameters(), whole.parameters(), start.parameters()):
            moved = max(moved, ((want - old).abs().max() / want.abs().max()).item() * (old.dim() > 1))
            worst = max(worst, ((got - want).abs().max() / want.abs().max()).item())
        return worst, moved

    worst, moved = run(len(sizes), body, ddp=True)[0]
    print(f"{task.__name__}, {slices}: differs by {worst:.1e} after moving by {moved:.1e}")
    assert worst < 1e-5
    assert moved > 0.1, "a training that does nothing shows nothing"


@pytest.mark.parametrize("broadcast_buffers", [True, False])
def test_power_norms_buffers_under_ddp(broadcast_buffers):
    """DDP overwrites buffers with rank 0's before each forward; statistics under way outlive
    that."""
    def body(worker):
        torch.manual_seed(11)
        model, batches = padded_text()
        wrapped = DistributedDataParallel(model, broadcast_buffers=broadcast_buffers)
        mine = [tuple(part[4 * worker.rank:4 * worker.rank + 4] for part in batch)
                for batch in batches[:30]]
        train(wrapped, mine, [0.1] * 30)
        return model.state_dict()

    first, second = run(2, body, ddp=True)
    assert first["norms.0.iters"].tolist() == [30]
    for name, value in first.items():
        assert torch.equal(value, second[name]), name

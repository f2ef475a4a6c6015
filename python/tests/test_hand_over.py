"""A worker that joins a running group (on_loss="shrink") goes on from the others' statistics."""
import os

import pytest
import torch

import syncnorm.torch
from workers import run

NORMS = {"batch norm": lambda: syncnorm.torch.SyncBatchNorm(3, name="norm"),
         "power norm": lambda: syncnorm.torch.SyncPowerNorm(3, warmup_iters=2, name="norm")}


@pytest.mark.parametrize("kind", NORMS)
def test_a_late_worker_takes_over_the_statistics_and_what_the_trainer_gave(kind):
    def step(norm, seed):
        torch.manual_seed(seed)
        x = torch.randn(4, 3, requires_grad=True)
        norm(x).pow(2).sum().backward()

    def body(worker):
        options = {"on_loss": "shrink"}
        if worker.rank == 1:
            if os.fork() == 0:  # a first rank 1, that is lost after three steps
                worker.init(**options)
                norm = NORMS[kind]()
                for seed in range(3):
                    step(norm, 10 + seed)
                if kind == "power norm":
                    norm.drain()
                os._exit(0)
            os.wait()
        worker.init(**options)
        norm = NORMS[kind]()
        if worker.rank == 0:
            for seed in range(4):
                step(norm, 20 + seed)
            while not worker.group.at_boundary(lambda: b"step 4").admitted:
                pass
        else:
            assert worker.group.handed_over == b"step 4"
        assert worker.group.members == (0, 1)
        for seed in range(2):
            step(norm, 30 + 10 * worker.rank + seed)
        state = norm.state_dict()
        # The coordinator is rank 0's: it goes last.
        if worker.rank == 1:
            syncnorm.shutdown()
        with open(f"{worker.folder}/left", "rb" if worker.rank == 0 else "wb") as fifo:
            if worker.rank == 0:
                fifo.read()
        return state

    def with_fifo(worker):
        if worker.rank == 0:
            os.mkfifo(f"{worker.folder}/left")
        return body(worker)

    first, second = run(2, with_fifo, init=False)
    for name, value in first.items():
        assert torch.equal(value, second[name]), name
    assert 6 in [value.item() for value in first.values() if value.numel() == 1]


def test_a_boundary_where_nobody_waits():
    def body(worker):
        boundary = worker.group.at_boundary()
        return boundary.members, boundary.admitted, boundary.epoch == worker.group.epoch

    assert run(2, body, on_loss="shrink") == [((0, 1), (), True)] * 2

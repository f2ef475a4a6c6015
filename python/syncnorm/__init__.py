"""Normalisation whose statistics are those of the whole batch, across machines, without NCCL.

    import syncnorm, syncnorm.torch

    syncnorm.init()                                        # torchrun, Slurm, OpenMPI, or arguments
    model = syncnorm.torch.convert_sync_batchnorm(model)   # every batch norm is synchronised now
    ...
    syncnorm.shutdown()

This module needs no torch; ``syncnorm.torch`` does.  All of it: docs/python.md.
"""
from ._errors import SyncnormError
from ._group import Boundary, Coordinator, Group, connect, default_group, init, new_group, shutdown

__all__ = ["Boundary", "Coordinator", "Group", "SyncnormError", "connect", "default_group", "init",
           "join", "new_group", "shutdown"]
__version__ = "0.1.0"


def join(model, *, timeout=None):
    """For data that ends earlier on some workers: see ``syncnorm.torch.join``."""
    from .torch.join import join as torch_join

    return torch_join(model, timeout=timeout)

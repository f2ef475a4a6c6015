"""Synchronised norms for PyTorch: modules, and the conversion of models.  All of it:
docs/python.md."""
from ._recompute import recompute
from .batch_norm import SyncBatchNorm
from .convert import convert_sync_batchnorm, revert_sync_batchnorm
from .join import join
from .power_norm import SyncPowerNorm, drain, set_grad_scaler

__all__ = ["SyncBatchNorm", "SyncPowerNorm", "convert_sync_batchnorm", "drain", "join",
           "recompute", "revert_sync_batchnorm", "set_grad_scaler"]

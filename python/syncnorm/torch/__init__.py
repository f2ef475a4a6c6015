"""Synchronised norms for PyTorch: modules, and the conversion of models.  All of it:
docs/python.md."""
from ._norm import check
from ._recompute import recompute
from ._streams import cuda_path
from .batch_norm import SyncBatchNorm
from .convert import convert_sync_batchnorm, revert_sync_batchnorm
from .join import join
from .power_norm import SyncPowerNorm, drain, set_grad_scaler

__all__ = ["SyncBatchNorm", "SyncPowerNorm", "check", "convert_sync_batchnorm", "cuda_path",
           "drain", "join", "recompute", "revert_sync_batchnorm", "set_grad_scaler"]

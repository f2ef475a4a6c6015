import contextlib
from typing import Any, Literal, Optional, TypeVar, Union

import torch
from torch.nn.modules.batchnorm import _BatchNorm

from .. import Group

Model = TypeVar("Model", bound=torch.nn.Module)

class SyncBatchNorm(_BatchNorm):
    group: Optional[Group]
    layer: str
    kept_forwards: int
    def __init__(self, num_features: int, eps: float = 1e-5, momentum: Optional[float] = 0.1,
                 affine: bool = True, track_running_stats: bool = True,
                 process_group: Optional[Group] = None,
                 device: Union[torch.device, str, None] = None,
                 dtype: Optional[torch.dtype] = None, *, group: Optional[Group] = None,
                 name: Optional[str] = None, kept_forwards: int = 8) -> None: ...
    def forward(self, input: torch.Tensor,
                mask: Optional[torch.Tensor] = None) -> torch.Tensor: ...
    def __call__(self, input: torch.Tensor,
                 mask: Optional[torch.Tensor] = None) -> torch.Tensor: ...

class SyncPowerNorm(torch.nn.Module):
    num_features: int
    group: Optional[Group]
    layer: str
    kept_forwards: int
    running_phi: torch.Tensor
    ema_gz: torch.Tensor
    iters: torch.Tensor
    def __init__(self, num_features: int, eps: float = 1e-5, alpha_fwd: float = 0.9,
                 alpha_bkw: float = 0.9, affine: bool = True, warmup_iters: int = 10000,
                 group_num: int = 1, *, semantics: Literal["reference", "paper"] = "reference",
                 masked_backward: Optional[bool] = None,
                 schedule: Literal["deferred", "blocking"] = "deferred",
                 group: Optional[Group] = None, name: Optional[str] = None,
                 kept_forwards: int = 8, device: Union[torch.device, str, None] = None,
                 dtype: Optional[torch.dtype] = None) -> None: ...
    def forward(self, input: torch.Tensor,
                pad_mask: Optional[torch.Tensor] = None) -> torch.Tensor: ...
    def __call__(self, input: torch.Tensor,
                 pad_mask: Optional[torch.Tensor] = None) -> torch.Tensor: ...
    def drain(self) -> None: ...
    @property
    def blocking_waits(self) -> int: ...
    @property
    def waited_seconds(self) -> float: ...

def convert_sync_batchnorm(model: Model, group: Optional[Group] = None) -> Model: ...
def revert_sync_batchnorm(model: Model) -> Model: ...
def check(model: torch.nn.Module) -> None: ...
def cuda_path() -> str: ...
def recompute() -> contextlib.AbstractContextManager[None]: ...
def drain(model: torch.nn.Module) -> None: ...
def set_grad_scaler(model: torch.nn.Module, scaler: Any) -> None: ...
def join(model: torch.nn.Module, *,
         timeout: Optional[float] = None) -> contextlib.AbstractContextManager[None]: ...

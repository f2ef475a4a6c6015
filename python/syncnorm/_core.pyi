# What the package uses of the binding; users call syncnorm and syncnorm.torch.
import enum
from typing import Any, Callable, List, Optional, Sequence, Tuple

class DType(enum.Enum):
    F32 = ...
    F64 = ...
    F16 = ...
    BF16 = ...

class View:
    address: int
    dtype: DType
    shape: List[int]
    strides: List[int]
    def __init__(self, address: int, dtype: DType, shape: Sequence[int],
                 strides: Sequence[int]) -> None: ...

class EmbeddedOptions:
    cert_file: str
    key_file: str
    client_ca_file: str
    tokens_file: str
    insecure: bool

class TlsOptions:
    ca_file: str
    cert_file: str
    key_file: str
    server_name: str

class Options:
    address: str
    group: str
    rank: int
    world_size: int
    host: str
    job: str
    tls: TlsOptions
    token: str
    token_file: str
    insecure: bool
    connect_timeout: float
    round_timeout: float
    on_loss: str
    non_finite: str
    def __init__(self, other: Options) -> None: ...

class Group:
    name: str
    rank: int
    world_size: int
    connected: bool
    epoch: int
    members: List[int]
    hosts: List[str]
    handed_over: bytes
    def at_boundary(self, state: Optional[Callable[[], bytes]]) -> Tuple[int, List[int], List[int]]: ...
    def sum(self, name: str, step: int, values: Sequence[float]) -> List[float]: ...
    def finish(self, timeout: float) -> None: ...
    def loaded(self, layer: str) -> bool: ...
    def set_state_hook(self, layer: str, before: Callable[[], None]) -> None: ...
    def direct(self) -> Any: ...
    def set_front(self, front: Any) -> None: ...
    def close(self) -> None: ...

class BatchNormContext:
    def backward(self, x: View, dy: View, dx: Optional[View], weight: Optional[View],
                 d_weight: Optional[View], d_bias: Optional[View], kernels: Any) -> None: ...

class BatchNorm:
    need_sync: bool
    def __init__(self, name: str, channels: int, eps: float, momentum: Optional[float],
                 affine: bool, track_running_stats: bool, kept_forwards: int,
                 group: Optional[Group]) -> None: ...
    def set_state_hooks(self, before_save: Callable[[], None],
                        after_load: Callable[[], None]) -> None: ...
    def set_eps_and_momentum(self, eps: float, momentum: Optional[float]) -> None: ...
    def save(self) -> bytes: ...
    def load_state(self, state: bytes) -> None: ...
    def load(self, weight: Optional[View], bias: Optional[View], running_mean: Optional[View],
             running_var: Optional[View], num_batches_tracked: int) -> None: ...
    def store(self, weight: Optional[View], bias: Optional[View], running_mean: Optional[View],
              running_var: Optional[View]) -> int: ...
    def forward(self, x: View, y: View, mask: Optional[View], byte_mask: bool, training: bool,
                keep: bool, kernels: Any) -> Optional[BatchNormContext]: ...

class PowerNormContext:
    def backward(self, x: View, dy: View, dx: Optional[View], weight: Optional[View],
                 d_weight: Optional[View], d_bias: Optional[View], grad_scale: float,
                 kernels: Any) -> None: ...

class PowerNorm:
    blocking_waits: int
    waited: float
    need_sync: bool
    def __init__(self, name: str, channels: int, eps: float, alpha_fwd: float, alpha_bkw: float,
                 affine: bool, warmup_iters: int, groups: int, group_eps: float, semantics: str,
                 masked_backward: Optional[bool], schedule: str, kept_forwards: int,
                 group: Optional[Group]) -> None: ...
    def set_state_hooks(self, before_save: Callable[[], None],
                        after_load: Callable[[], None]) -> None: ...
    def load(self, weight: Optional[View], bias: Optional[View], running_phi: View, ema_gz: View,
             iters: int) -> None: ...
    def store(self, weight: Optional[View], bias: Optional[View], running_phi: Optional[View],
              ema_gz: Optional[View]) -> int: ...
    def drain(self) -> None: ...
    def forward(self, x: View, y: View, pad_mask: Optional[int], weight: Optional[View],
                bias: Optional[View], training: bool, keep: bool,
                kernels: Any) -> Optional[PowerNormContext]: ...

class Recompute:
    def __enter__(self) -> None: ...
    def __exit__(self, *arguments: Any) -> None: ...

def recomputing() -> bool: ...
def read_environment() -> Options: ...
def connect(options: Options, embedded: Optional[EmbeddedOptions],
            on_listening: Callable[[str], None]) -> Group: ...

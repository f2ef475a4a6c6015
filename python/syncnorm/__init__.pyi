import contextlib
from typing import Any, Callable, Iterable, Literal, Optional, Sequence, Tuple, Union

__version__: str

class SyncnormError(RuntimeError):
    code: str
    message: str
    group: str
    epoch: int
    round: int
    layer: str
    direction: str
    step: int
    ranks: Tuple[int, ...]
    hosts: Tuple[str, ...]
    def __init__(self, code: str, message: str, *, group: str = "", epoch: int = 0, round: int = 0,
                 layer: str = "", direction: str = "", step: int = 0, ranks: Iterable[int] = (),
                 hosts: Iterable[str] = ()) -> None: ...
    @property
    def rank(self) -> Optional[int]: ...

class Boundary:
    epoch: int
    members: Tuple[int, ...]
    admitted: Tuple[int, ...]
    def __init__(self, epoch: int, members: Tuple[int, ...],
                 admitted: Tuple[int, ...]) -> None: ...

class Coordinator:
    cert_file: str
    key_file: str
    client_ca_file: str
    tokens_file: str
    insecure: bool
    def __init__(self, cert_file: str = "", key_file: str = "", client_ca_file: str = "",
                 tokens_file: str = "", insecure: bool = False) -> None: ...

class Group:
    address: str
    @property
    def name(self) -> str: ...
    @property
    def rank(self) -> int: ...
    @property
    def world_size(self) -> int: ...
    @property
    def connected(self) -> bool: ...
    @property
    def epoch(self) -> int: ...
    @property
    def members(self) -> Tuple[int, ...]: ...
    @property
    def hosts(self) -> Tuple[str, ...]: ...
    @property
    def handed_over(self) -> bytes: ...
    def at_boundary(self, state: Optional[Callable[[], bytes]] = None) -> Boundary: ...
    def finish(self, timeout: float) -> None: ...
    def sum(self, name: str, values: Sequence[float], step: int = 1) -> list[float]: ...
    def close(self) -> None: ...

OnLoss = Literal["fail", "shrink", "finish"]
NonFinite = Literal["fail", "propagate", "drop"]
Coordination = Union[Literal["embedded", "external"], Coordinator]

def connect(address: Optional[str] = None, *, rank: Optional[int] = None,
            world_size: Optional[int] = None, group: Optional[str] = None,
            job: Optional[str] = None, host: Optional[str] = None,
            connect_timeout: Optional[float] = None, round_timeout: Optional[float] = None,
            on_loss: Optional[OnLoss] = None, non_finite: Optional[NonFinite] = None,
            tls_ca: Optional[str] = None, tls_cert: Optional[str] = None,
            tls_key: Optional[str] = None, tls_server_name: Optional[str] = None,
            token: Optional[str] = None, token_file: Optional[str] = None, insecure: bool = False,
            coordinator: Optional[Coordination] = None) -> Group: ...
def init(address: Optional[str] = None, *, rank: Optional[int] = None,
         world_size: Optional[int] = None, group: Optional[str] = None,
         job: Optional[str] = None, host: Optional[str] = None,
         connect_timeout: Optional[float] = None, round_timeout: Optional[float] = None,
         on_loss: Optional[OnLoss] = None, non_finite: Optional[NonFinite] = None,
         tls_ca: Optional[str] = None, tls_cert: Optional[str] = None,
         tls_key: Optional[str] = None, tls_server_name: Optional[str] = None,
         token: Optional[str] = None, token_file: Optional[str] = None, insecure: bool = False,
         coordinator: Optional[Coordination] = None) -> Group: ...
def default_group() -> Optional[Group]: ...
def new_group(ranks: Iterable[int], name: Optional[str] = None, *,
              parent: Optional[Group] = None) -> Optional[Group]: ...
def shutdown() -> None: ...
def join(model: Any, *,
         timeout: Optional[float] = None) -> contextlib.AbstractContextManager[None]: ...

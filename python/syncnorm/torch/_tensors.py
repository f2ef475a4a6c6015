"""Between torch's tensors and the C++ client: types, orders in memory, and tensors of other
devices."""
import torch

from .. import _core
from .._errors import SyncnormError

DTYPES = {torch.float32: _core.DType.F32, torch.float64: _core.DType.F64,
          torch.float16: _core.DType.F16, torch.bfloat16: _core.DType.BF16}


def check_supported(tensor, layer):
    """Refuses a dtype that the client does not have."""
    if not isinstance(tensor, torch.Tensor):
        raise TypeError(f"{layer}: the input is a {type(tensor).__name__}, expected a torch.Tensor")
    if tensor.dtype not in DTYPES:
        raise SyncnormError("INVALID_ARGUMENT", f"{layer}: the input has dtype {tensor.dtype}; "
                            f"supported are {', '.join(str(d)[6:] for d in DTYPES)}", layer=layer)


def view(tensor):
    """The client's view of a tensor's memory."""
    return _core.View(tensor.data_ptr(), DTYPES[tensor.dtype], tensor.shape, tensor.stride())


def optional_view(tensor):
    return None if tensor is None else view(tensor)


def values(tensor):
    """A parameter or a statistic where the client can read all its elements in order; None for
    None."""
    if tensor is None:
        return None
    tensor = tensor.detach()
    if tensor.device.type != "cpu":
        tensor = tensor.cpu()
    if tensor.dtype not in DTYPES:
        tensor = tensor.double()
    return tensor if tensor.is_contiguous() else tensor.contiguous()


def is_channels_last(tensor):
    """Whether the memory of (N, C, S...) is row-major in (N, S..., C), and not in (N, C, S...)."""
    return (tensor.dim() > 2 and not tensor.is_contiguous()
            and tensor.movedim(1, -1).is_contiguous())


def in_order(tensor, channels_last):
    """The tensor itself if its memory is in that order, or a copy that is."""
    if not channels_last:
        return tensor.contiguous()
    return tensor.movedim(1, -1).contiguous().movedim(-1, 1)

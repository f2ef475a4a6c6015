"""SyncBatchNorm: batch normalisation over the whole group's batch."""
import torch
from torch.nn.modules.batchnorm import _BatchNorm

from .. import _core
from . import _streams
from ._autograd import apply, eager
from ._kernels import client_reads, kernels_for
from ._norm import SyncNorm, Written, host_mask
from ._tensors import check_supported, is_channels_last, optional_view, values, view


class SyncBatchNorm(SyncNorm, _BatchNorm):
    """In the place of torch.nn.SyncBatchNorm and torch.nn.BatchNorm1d/2d/3d; the same state_dict.

    Synchronises only when training, connected, and the group has more than one worker; otherwise
    the local path runs, with the same arithmetic.  Formulas and edges: docs/numerics.md.

    Every member does the same: the same modules in the same order, train() or eval(), and an input
    that needs a gradient on all members or on none.

    Args:
        num_features: channels C.
        eps: added to the variance; 0 or more.
        momentum: in [0, 1]; None: cumulative average.
        affine, track_running_stats: as torch.nn.BatchNorm2d.
        process_group: a syncnorm.Group; None: that of syncnorm.init(), or no group at all.
        device, dtype: of parameters and buffers.
        group: the same as process_group.
        name: by which all members know the layer; otherwise it is made of the order of the layers.
        kept_forwards: how many training forwards are kept for activation checkpointing; 0: a
            recomputation is a forward like any other.
    """

    def __init__(self, num_features, eps=1e-5, momentum=0.1, affine=True, track_running_stats=True,
                 process_group=None, device=None, dtype=None, *, group=None, name=None,
                 kept_forwards=8):
        super().__init__(num_features, eps, momentum, affine, track_running_stats, device=device,
                         dtype=dtype)
        self._init_sync(group if group is not None else process_group, name, kept_forwards)
        if self.running_mean is not None:
            wanted = self._statistics_dtype(self.running_mean)
            self.running_mean = self.running_mean.to(wanted)
            self.running_var = self.running_var.to(wanted)

    @eager
    def forward(self, input, mask=None):
        """Normalises.

        Args:
            input: (N, C, S...), 2 or more dimensions, contiguous or channels last (others are
                copied); float32, float64, float16 or bfloat16.  N may be 0.
            mask: (N, S...) or (N, 1, S...), bool, uint8 or floating, 0 = this position does not
                count: it is in no statistic, and the output and the gradient are 0 there.
        Returns: a tensor like input.
        Raises: ValueError: fewer than 2 dimensions; SyncnormError: INVALID_ARGUMENT for what is
            wrong with an argument, before anything is sent; otherwise the failure of the round.
        """
        check_supported(input, self.layer)
        self._check_input_dim(input)
        norm = self._norm(input)
        self._to_norm()
        norm.set_eps_and_momentum(self.eps, self.momentum)
        if self._on_streams:
            call = _streams.BatchNormCall(self.layer, norm, self.training, mask)
            return apply(call, input, self.weight, self.bias, is_channels_last(input))
        call = _Call(self, norm, mask, input)
        output = apply(call, input, self.weight, self.bias, is_channels_last(input))
        if self.training and self.track_running_stats and self.running_mean is not None:
            self._store_statistics()
        return output

    def _check_input_dim(self, input):
        if input.dim() < 2:
            raise ValueError(
                f"layer {self.layer}: expected at least 2D input (got {input.dim()}D input)")

    def _make_norm(self, group):
        return _core.BatchNorm(self.layer, self.num_features, self.eps, self.momentum,
                               self.weight is not None, self.running_mean is not None,
                               self.kept_forwards, group)

    def _make_stream_norm(self, place, reducer):
        return _streams.StreamBatchNorm(place, self._tensors(), lambda index, views: (
            _streams.binding().BatchNorm(self.layer, self.num_features, self.eps, self.momentum,
                                         self.weight is not None, self.running_mean is not None,
                                         self.kept_forwards, index, *views, reducer)))

    def _tensors(self):
        return {"parameters": (self.weight, self.bias),
                "statistics": (self.running_mean, self.running_var),
                "counters": (getattr(self, "num_batches_tracked", None),)}

    def _rounds(self):
        return self._core_norm.save()

    def _set_rounds(self, rounds):
        if self._on_streams:
            self._core_norm.load(rounds, self._tensors())
            return
        self._core_norm.set_state_hooks(lambda: None, lambda: None)  # the tensors' values stay
        self._core_norm.load_state(rounds)
        self._set_hooks()
        self._to_norm()

    def _to_norm(self):
        if self._on_streams:
            self._core_norm.give(self._tensors())
            return
        tensors = [values(t) for t in (self.weight, self.bias, self.running_mean, self.running_var)]
        tracked = getattr(self, "num_batches_tracked", None)
        self._core_norm.load(*map(optional_view, tensors), 0 if tracked is None else int(tracked))

    def _from_norm(self):
        written = Written()
        tracked = self._core_norm.store(*[written.view(None if t is None else t.detach()) for t in (
            self.weight, self.bias, self.running_mean, self.running_var)])
        written.copy_back()
        self._set_tracked(tracked)

    def _store_statistics(self):
        written = Written()
        tracked = self._core_norm.store(None, None, written.view(self.running_mean),
                                        written.view(self.running_var))
        written.copy_back()
        self._set_tracked(tracked)

    def _set_tracked(self, tracked):
        if getattr(self, "num_batches_tracked", None) is not None:
            self.num_batches_tracked.fill_(tracked)

    def _statistics_dtype(self, parameters):
        """Statistics are never kept in half precision."""
        return torch.float64 if parameters.dtype == torch.float64 else torch.float32

    def extra_repr(self):
        return f"{super().extra_repr()}, layer={self.layer!r}"


class _Call:
    """One forward, and its backward."""

    def __init__(self, module, norm, mask, x):
        self.layer = module.layer
        self._norm = norm
        self._training = module.training
        self._mask = mask
        self._valid = None
        if mask is not None and not client_reads(x):
            valid = mask.to(device=x.device).bool()
            self._valid = valid.unsqueeze(1) if valid.dim() == x.dim() - 1 else valid

    def forward(self, x, y, keep):
        mask, byte_mask = None, True
        if self._mask is not None:
            mask, byte_mask = host_mask(self._mask)
        self._context = self._norm.forward(
            view(x), view(y), None if mask is None else _mask_view(mask), byte_mask, self._training,
            keep, kernels_for(x, y=y, valid=self._valid))
        self._mask = None  # the context has what the backward needs of it

    def backward(self, x, dy, dx, d_weight, d_bias, weight):
        written = Written()
        weight = values(weight)
        self._context.backward(
            view(x), view(dy), optional_view(dx), optional_view(weight), written.view(d_weight),
            written.view(d_bias), kernels_for(x, dy=dy, dx=dx, valid=self._valid))
        written.copy_back()


def _mask_view(mask):
    # Of a mask only the address and the shape are looked at.
    return _core.View(mask.data_ptr(), _core.DType.F32, mask.shape, mask.stride())

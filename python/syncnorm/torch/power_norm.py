"""SyncPowerNorm: PowerNorm whose quadratic means are those of the whole group's batch."""
import torch

from .. import _core
from . import _streams
from ._autograd import apply, eager
from ._kernels import WITHOUT_FLOAT64, client_reads, kernels_for
from ._norm import SyncNorm, Written
from ._tensors import check_supported, optional_view, values, view


BUFFERS = ("running_phi", "ema_gz", "iters")


class SyncPowerNorm(SyncNorm, torch.nn.Module):
    """PowerNorm (arXiv 2003.07845) with the authors' arguments, buffers and state_dict.

    In the first ``warmup_iters`` training forwards a step waits for the group's statistic; after
    them nothing is waited for: statistics travel while the trainer computes.  So the buffers are
    the truth only when drained: eval(), state_dict(), copies and ``drain()`` drain.  Formulas, and
    where the authors' code and their paper differ: docs/numerics.md.

    Args:
        num_features: channels C.
        eps: added to the quadratic mean; 0 or more.
        alpha_fwd, alpha_bkw: of the running statistics; in [0, 1).
        affine: whether there are weight and bias.
        warmup_iters: training forwards that use the batch's own statistic.
        group_num: groups of channels of the scaling before the norm; divides C.
        semantics: "reference" (the authors' code) or "paper" (Algorithms 1 and 2).
        masked_backward: whether padding is left out of the backward statistics and gets no
            gradient; None: as the semantics do (reference: no, paper: yes).
        schedule: "deferred", or "blocking", which waits for each statistic and gives the same bits.
        group, name, kept_forwards, device, dtype: as SyncBatchNorm.
    """

    def __init__(self, num_features, eps=1e-5, alpha_fwd=0.9, alpha_bkw=0.9, affine=True,
                 warmup_iters=10000, group_num=1, *, semantics="reference", masked_backward=None,
                 schedule="deferred", group=None, name=None, kept_forwards=8, device=None,
                 dtype=None):
        super().__init__()
        self.num_features = num_features
        self.eps = eps
        self.alpha_fwd, self.alpha_bkw = alpha_fwd, alpha_bkw
        self.affine = affine
        self.warmup_iters = warmup_iters
        self.group_num = group_num
        self.semantics = semantics
        self.masked_backward = masked_backward
        self.schedule = schedule
        self.grad_scale = 1.0
        self._init_sync(group, name, kept_forwards)
        self._collected = None
        factory = {"device": device, "dtype": dtype}
        if affine:
            self.weight = torch.nn.Parameter(torch.ones(num_features, **factory))
            self.bias = torch.nn.Parameter(torch.zeros(num_features, **factory))
        else:
            self.register_parameter("weight", None)
            self.register_parameter("bias", None)
        shape = (1, num_features, 1, 1)
        self.register_buffer("running_phi", torch.ones(shape, device=device))
        self.register_buffer("ema_gz", torch.zeros(shape, device=device))
        self.register_buffer("iters", torch.zeros(1, dtype=torch.long, device=device))
        for buffer in ("running_phi", "ema_gz"):
            tensor = getattr(self, buffer)
            setattr(self, buffer, tensor.to(self._statistics_dtype(tensor)))

    @eager
    def forward(self, input, pad_mask=None):
        """Normalises.

        Args:
            input: (T, B, C) or (B, C); float32, float64, float16 or bfloat16.
            pad_mask: (B, T), or for (B, C) also (B); bool or uint8, true = padding.  Not looked at
                in eval().
        Returns: a tensor like input.
        Raises: SyncnormError: INVALID_ARGUMENT for what is wrong with an argument, before anything
            is sent; otherwise the failure of the round that this call collects.
        """
        check_supported(input, self.layer)
        pad_mask = self._pad_mask(pad_mask, input)
        norm = self._norm(input)
        if self._on_streams:
            norm.give(self._tensors())
            call = _streams.PowerNormCall(self.layer, norm, self.training, pad_mask,
                                          self._grad_scale)
            return apply(call, input, self.weight, self.bias, False)
        if self._changed():
            self._collect()
        return apply(_Call(self, norm, pad_mask, input), input, self.weight, self.bias, False)

    def drain(self):
        """Waits for every statistic under way and brings the buffers up to date; asks nothing of
        other members.  Raises: SyncnormError: the first failure that a statistic met."""
        self._collect()

    @property
    def blocking_waits(self):
        """How often a forward or a backward stood still for the network (drain does not count)."""
        return 0 if self._core_norm is None else self._core_norm.blocking_waits

    @property
    def waited_seconds(self):
        """How long those forwards and backwards took, their arithmetic included."""
        return 0.0 if self._core_norm is None else self._core_norm.waited

    def train(self, mode=True):
        if not mode:
            self._collect()
        return super().train(mode)

    # ---- Buffers -------------------------------------------------------------------------------

    def _save_to_state_dict(self, *args, **kwargs):
        self._collect()
        super()._save_to_state_dict(*args, **kwargs)

    def _load_from_state_dict(self, *args, **kwargs):
        if self._on_streams:
            self._collect()  # what is under way would be folded into what is loaded
        super()._load_from_state_dict(*args, **kwargs)

    def __getstate__(self):
        self._collect()
        return {**super().__getstate__(), "_collected": None}

    def _state_to_copy(self):
        self._collect()
        return {**self.__dict__, "_collected": None}

    def _apply(self, fn, *args, **kwargs):
        self._collect()
        return super()._apply(fn, *args, **kwargs)

    def _collect(self):
        if self._core_norm is None:
            return
        self._core_norm.drain()
        if not self._on_streams:
            self._exchange()

    def _exchange(self):
        """With a C++ norm that is drained: its statistics, but for those that were written here."""
        changed = self._changed()
        self._from_norm(parameters=False, but=changed)
        if changed:
            self._to_norm()

    def _before_save(self):
        self._exchange()
        self._to_norm()  # the parameters, too

    def _detach(self):
        self._collect()

    def _bits(self):
        """All that the buffers hold, by their bits, so that a NaN equals itself."""
        return {name: getattr(self, name).detach().reshape(-1).cpu().double().view(torch.int64)
                for name in BUFFERS}

    def _changed(self):
        """The buffers that somebody wrote to since they were exchanged with the C++ norm."""
        if self._collected is None:
            return set()
        return {name for name, bits in self._bits().items()
                if not torch.equal(bits, self._collected[name])}

    def _to_norm(self):
        tensors = [values(t) for t in (self.weight, self.bias, self.running_phi, self.ema_gz)]
        self._core_norm.load(*map(optional_view, tensors), int(self.iters))
        self._collected = {name: bits.clone() for name, bits in self._bits().items()}

    def _from_norm(self, parameters=True, but=()):
        written = Written()
        mine = (self.weight, self.bias) if parameters else (None, None)
        buffers = (None if name in but else getattr(self, name) for name in BUFFERS[:2])
        iters = self._core_norm.store(*[written.view(None if t is None else t.detach())
                                        for t in (*mine, *buffers)])
        written.copy_back()
        if "iters" not in but:
            self.iters.fill_(iters)
        self._collected = {name: bits.clone() for name, bits in self._bits().items()}

    def _tensors(self):
        return {"parameters": (self.weight, self.bias),
                "statistics": (self.running_phi, self.ema_gz), "counters": (self.iters,)}

    def _make_stream_norm(self, place, reducer):
        self._collected = None
        return _streams.StreamPowerNorm(place, self._tensors(), lambda index, views: (
            _streams.binding().PowerNorm(
                self.layer, self.num_features, self.eps, self.alpha_fwd, self.alpha_bkw,
                self.weight is not None, self.warmup_iters, self.group_num, 1e-5, self.semantics,
                self.masked_backward, self.schedule, self.kept_forwards, index, *views, reducer)))

    def _before_state(self):
        self._core_norm.drain()
        super()._before_state()

    def _grad_scale(self):
        return float(self.grad_scale() if callable(self.grad_scale) else self.grad_scale)

    def _make_norm(self, group):
        self._collected = None
        return _core.PowerNorm(self.layer, self.num_features, self.eps, self.alpha_fwd,
                               self.alpha_bkw, self.weight is not None, self.warmup_iters,
                               self.group_num, 1e-5, self.semantics, self.masked_backward,
                               self.schedule, self.kept_forwards, group)

    def _statistics_dtype(self, parameters):
        """float64 where the device has it, so that a run that resumes continues bit for bit."""
        return torch.float32 if parameters.device.type in WITHOUT_FLOAT64 else torch.float64

    def _pad_mask(self, mask, input):
        if mask is None or not self.training:
            return None
        if mask.dtype not in (torch.bool, torch.uint8):
            self._refuse(f"pad_mask has dtype {mask.dtype}; supported are bool and uint8")
        if input.dim() not in (2, 3):
            return mask  # the client says what is wrong with the input
        batch = input.shape[-2]
        time = input.shape[0] if input.dim() == 3 else 1
        if tuple(mask.shape) != (batch, time) and not (time == 1 and tuple(mask.shape) == (batch,)):
            self._refuse(f"pad_mask has shape {tuple(mask.shape)}, expected {(batch, time)}, that "
                         "is (B, T)")
        return mask.detach().reshape(batch, time)

    def extra_repr(self):
        return (f"{self.num_features}, eps={self.eps}, alpha_fwd={self.alpha_fwd}, "
                f"alpha_bkw={self.alpha_bkw}, affine={self.affine}, "
                f"warmup_iters={self.warmup_iters}, group_num={self.group_num}, "
                f"semantics={self.semantics!r}, layer={self.layer!r}")


class _Call:
    """One forward, and its backward."""

    def __init__(self, module, norm, pad_mask, x):
        self.layer = module.layer
        self._module = module
        self._norm = norm
        self._training = module.training
        self._pad_mask = pad_mask
        self._valid = None
        if pad_mask is not None and not client_reads(x):
            valid = ~pad_mask.to(device=x.device).bool()
            self._valid = (valid.t() if x.dim() == 3 else valid).reshape(*x.shape[:-1], 1)

    def forward(self, x, y, keep):
        padding = None if self._pad_mask is None else self._pad_mask.cpu().contiguous()
        weight, bias = values(self._module.weight), values(self._module.bias)
        self._context = self._norm.forward(
            view(x), view(y), None if padding is None else padding.data_ptr(),
            optional_view(weight), optional_view(bias), self._training, keep,
            kernels_for(x, y=y, channel_dim=-1, valid=self._valid))
        self._pad_mask = None

    def backward(self, x, dy, dx, d_weight, d_bias, weight):
        kernels = kernels_for(x, dy=dy, dx=dx, channel_dim=-1, valid=self._valid)
        if kernels is not None:
            kernels.group_scale(self._module.group_num, 1e-5)
        written = Written()
        weight = values(weight)
        self._context.backward(
            view(x), view(dy), optional_view(dx), optional_view(weight), written.view(d_weight),
            written.view(d_bias), self._module._grad_scale(), kernels)
        written.copy_back()


def drain(model):
    """``SyncPowerNorm.drain`` of every such module of the model."""
    for module in model.modules():
        if isinstance(module, SyncPowerNorm):
            module.drain()


def set_grad_scaler(model, scaler):
    """Tells every SyncPowerNorm of the model which loss scale its gradients carry.

    Args:
        scaler: what has ``get_scale()``, as torch's GradScaler; or a number; or None: 1.
    """
    scale = 1.0 if scaler is None else getattr(scaler, "get_scale", scaler)
    for module in model.modules():
        if isinstance(module, SyncPowerNorm):
            module.grad_scale = scale

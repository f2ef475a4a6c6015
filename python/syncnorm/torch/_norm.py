"""What the two modules share: the group, the layer's name, and the C++ norm behind the module.

The module's parameters and buffers are the truth; the C++ norm is handed their values and gives
them back, or, on a CUDA device, works on them where they are (_streams.py). It is made at the first
forward that needs it: a module can be built before ``init``, copied and pickled.
"""
import weakref

import torch

from .. import _group
from .._errors import SyncnormError
from . import _streams
from ._tensors import DTYPES, view


class SyncNorm:
    """Mixed into torch.nn.Module."""

    # Of each module, but never copied or pickled.
    _PROCESS_BOUND = ("_core_norm", "_core_group")

    def _init_sync(self, group, name, kept_forwards):
        if group is not None and not isinstance(group, _group.Group):
            raise TypeError(f"group is a {type(group).__name__}, expected a syncnorm.Group (from "
                            "syncnorm.init or syncnorm.new_group); torch's process groups are not "
                            "used")
        self.group = group
        self.kept_forwards = kept_forwards
        self._base_name = name or type(self).__name__
        self._exact_name = name is not None
        self.layer = self._base_name
        self._core_norm = None
        self._core_group = None

    # ---- The C++ norm --------------------------------------------------------------------------

    def _norm(self, x=None):
        """The C++ norm for a forward of x now; None: of whatever is on the module's own device."""
        group = self.group if self.group is not None else _group.default_group()
        if group is not None and group is not self._core_group and not group.connected:
            group = None
        place = self._place(x)
        if self._core_norm is not None and (group is self._core_group or not self.training):
            if place == _place_of(self._core_norm):
                return self._core_norm
            return self._move(place)
        if not self.training:
            group = None  # nothing is sent, so a copy for evaluation needs no name in the group
        self._detach()
        if group is not None:
            self.layer = self._base_name if self._exact_name else group.layer_name(self._base_name)
        self._core_norm = None  # its name is free before another one asks for it
        return self._make(group, place)

    def _make(self, group, place):
        if place is not None:
            self._core_norm = self._make_stream_norm(
                place, None if group is None else group._device_reducer(_streams.binding()))
            self._core_group = group
            if group is not None:
                group._core.set_state_hook(self.layer, _hook(self, "_before_state"))
            return self._core_norm
        norm = self._make_norm(None if group is None else group._core)
        self._core_norm, self._core_group = norm, group
        self._set_hooks()
        if group is not None and group._core.loaded(self.layer):
            self._from_norm()  # of a group that was running before this worker came
        else:
            self._to_norm()
        return norm

    def _set_hooks(self):
        self._core_norm.set_state_hooks(_hook(self, "_before_save"), _hook(self, "_from_norm"))

    def _move(self, place):
        """The C++ norm for tensors of another device: the same layer, which goes on."""
        self._detach()
        rounds = self._rounds()
        self._core_norm = None
        norm = self._make(self._core_group, place)
        self._set_rounds(rounds)
        return norm

    def _place(self, x):
        """The device on whose streams a forward of x runs; None: on none."""
        tensors = self._tensors()
        if x is None:
            own = [t for kind in tensors.values() for t in kind if t is not None]
            if not own:
                return _place_of(self._core_norm)
            x = own[0]
        return _streams.place_for(x, tensors)

    @property
    def _on_streams(self):
        return isinstance(self._core_norm, _streams._StreamNorm)

    def _tensors(self):
        """The module's "parameters" (weight, bias), "statistics" (two) and "counters" (one), in the
        order in which a C++ norm takes them; None for those that there are not."""
        raise NotImplementedError

    def _rounds(self):
        """What a layer must know, beside its tensors, to go on."""

    def _set_rounds(self, rounds):
        """The reverse."""

    def _detach(self):
        """Before another C++ norm takes the place of the one there is."""

    def _make_norm(self, group):
        raise NotImplementedError

    def _make_stream_norm(self, place, reducer):
        raise NotImplementedError

    def _to_norm(self):
        """Gives the C++ norm the values of the tensors."""
        raise NotImplementedError

    def _from_norm(self):
        """Takes them from it."""
        raise NotImplementedError

    def _before_save(self):
        """The group hands the layer's state over to a worker that joins: the C++ norm must have
        it."""
        self._to_norm()

    def _before_state(self):
        """The group saves or loads the state of a norm on streams, in the tensors that it was
        given: they must be the module's, and what was enqueued before must have been done."""
        _streams.synchronise(self._core_norm.place)
        self._core_norm.give(self._tensors())

    # ---- Copies --------------------------------------------------------------------------------

    def __getstate__(self):
        state = self.__dict__.copy()
        for name in self._PROCESS_BOUND:
            state[name] = None
        if state["group"] is not None:
            raise TypeError(
                f"layer {self.layer}: a {type(self).__name__} with a group of its own cannot be "
                "pickled, as groups belong to their process; save its state_dict(), or leave it to "
                "the default group")
        return state

    def __deepcopy__(self, memo):
        import copy

        twin = type(self).__new__(type(self))
        memo[id(self)] = twin
        shared = {"group": self.group, **{name: None for name in self._PROCESS_BOUND}}
        for name, value in self._state_to_copy().items():
            twin.__dict__[name] = shared[name] if name in shared else copy.deepcopy(value, memo)
        return twin

    def _state_to_copy(self):
        return self.__dict__

    # ---- Types ---------------------------------------------------------------------------------

    def _statistics_dtype(self, parameters):
        raise NotImplementedError

    def _apply(self, fn, *args, **kwargs):
        before = {name: b for name, b in self._buffers.items()
                  if b is not None and b.is_floating_point()}
        super()._apply(fn, *args, **kwargs)
        for name, old in before.items():
            new = self._buffers[name]
            wanted = self._statistics_dtype(new)
            if new.dtype != wanted:
                self._buffers[name] = old.to(device=new.device, dtype=wanted)
        return self

    def _refuse(self, text):
        raise SyncnormError("INVALID_ARGUMENT", f"layer {self.layer}: {text}", layer=self.layer)


def _place_of(norm):
    return norm.place if isinstance(norm, _streams._StreamNorm) else None


def check(model):
    """Raises the first failure that no call has told yet of the model's norms on CUDA streams: a
    round, a mask with another value than 0 and 1, a recomputation of nothing.  Waits for the device.

    Norms on the CPU tell at once.

    Raises: SyncnormError.
    """
    norms = [m._core_norm for m in model.modules() if isinstance(m, SyncNorm) and m._on_streams]
    for place in {norm.place for norm in norms}:
        _streams.synchronise(place)
    for norm in norms:
        norm.check()


def _hook(module, name):
    """Calls the method as long as the module lives: a graph may keep its C++ norm for longer."""
    this = weakref.ref(module)

    def call():
        alive = this()
        if alive is not None:
            getattr(alive, name)()

    return call


class Written:
    """Tensors that the client fills: themselves, or where they are not on the CPU, stand-ins."""

    def __init__(self):
        self._copies = []

    def view(self, tensor):
        if tensor is None:
            return None
        if tensor.device.type == "cpu" and tensor.is_contiguous() and tensor.dtype in DTYPES:
            return view(tensor)
        stand_in = torch.empty(tensor.shape, dtype=torch.float64)
        self._copies.append((tensor, stand_in))
        return view(stand_in)

    def copy_back(self):
        with torch.no_grad():
            for tensor, stand_in in self._copies:
                tensor.copy_(stand_in.to(tensor.dtype))


def host_mask(mask):
    """On the CPU, contiguous: bytes or float32; whether it is bytes."""
    if mask.dtype in (torch.bool, torch.uint8):
        return mask.detach().cpu().contiguous(), True
    return mask.detach().to(device="cpu", dtype=torch.float32).contiguous(), False

"""Uneven inputs: data that ends earlier on some workers."""
import contextlib

from torch.nn.parallel import DistributedDataParallel

from .. import _group
from .._errors import SyncnormError
from ._norm import SyncNorm
from .power_norm import drain

# Seconds of one wait where there is no limit: a member that is lost ends it at once.
LOOK = 60.0


@contextlib.contextmanager
def join(model, *, timeout=None):
    """Around a training loop whose number of steps differs between the workers.

        with syncnorm.join(model):
            for x, y in loader:
                ...

    A worker whose loop ends says so, and the others' statistics are from then on those of the rest.
    Returns when all loops have ended; then all are members again, and every norm of the model has
    the running statistics of the member that trained longest (the lowest rank of those).  Where the
    model is a DistributedDataParallel its own join() is entered, too.

    Args:
        model: what has synchronised norms.
        timeout: seconds to wait for the others; None: as long as they train.
    Raises: SyncnormError: FAILED_PRECONDITION: a group's on_loss is "fail", so that it has no such
        thing; DEADLINE_EXCEEDED: not all have ended after `timeout`; failures of the group.
    """
    groups = _groups(model)
    for group in groups:
        if group._options.on_loss == "fail":
            raise SyncnormError(
                "FAILED_PRECONDITION", "syncnorm.join needs on_loss=\"finish\" (or \"shrink\") in the "
                f"syncnorm.init() of all members; that of group {group.name} is \"fail\"",
                group=group.name)
    shadowed = (model.join() if isinstance(model, DistributedDataParallel)
                else contextlib.nullcontext())
    with shadowed:
        yield
        # First all of syncnorm is told, then DDP serves the others until they end, too.  A member that
        # had no data at all has layers from here on, to take the others' statistics.
        for norm in _norms(model):
            if _group_of(norm) in groups:
                norm._norm()
        drain(model)
        for group in groups:
            _finish(group, 0.0)
    for group in groups:
        while not _finish(group, LOOK if timeout is None else timeout):
            if timeout is not None:
                raise SyncnormError(
                    "DEADLINE_EXCEEDED", f"not all members of group {group.name} have ended their "
                    f"data within {timeout} s", group=group.name)


def _finish(group, seconds):
    """Whether all have finished."""
    try:
        group.finish(seconds)
    except SyncnormError as error:
        if error.code == "DEADLINE_EXCEEDED":
            return False
        raise
    return True


def _norms(model):
    return [module for module in model.modules() if isinstance(module, SyncNorm)]


def _group_of(norm):
    return norm.group if norm.group is not None else _group.default_group()


def _groups(model):
    groups = []
    for norm in _norms(model):
        group = _group_of(norm)
        if group is not None and group.connected and group.world_size > 1 and group not in groups:
            groups.append(group)
    return groups

"""Turning a model's batch norms into synchronised ones, and back."""
import torch
from torch.nn.modules.batchnorm import _BatchNorm

from .batch_norm import SyncBatchNorm

# Exactly these: what a subclass does besides would be lost without a word.
CONVERTIBLE = (torch.nn.BatchNorm1d, torch.nn.BatchNorm2d, torch.nn.BatchNorm3d,
               torch.nn.SyncBatchNorm)
# What a SyncBatchNorm has that a batch norm has not.
OWN = ("group", "kept_forwards", "layer", "reverts_to", "_base_name", "_exact_name", "_core_norm",
       "_core_group")


class BatchNorm(_BatchNorm):
    """A batch norm of 2 or more dimensions: what a SyncBatchNorm that was made as one reverts
    to."""

    def _check_input_dim(self, input):
        if input.dim() < 2:
            raise ValueError(f"expected at least 2D input (got {input.dim()}D input)")


def convert_sync_batchnorm(model, group=None):
    """Replaces every torch.nn.BatchNorm1d, 2d, 3d and SyncBatchNorm of the model by a
    SyncBatchNorm.

    Parameters, buffers, hooks and all other attributes are the same objects, so optimisers and
    references stay valid.  A layer is known by its path in the model.

    Args:
        model: a module, changed in place; or a batch norm.
        group: a syncnorm.Group; None: that of syncnorm.init(), whenever that is called.
    Returns: the model, or the norm in its place.
    Raises: TypeError, with nothing changed: it has other batch norms, whose own behaviour would be
        lost; the text names each.
    """
    _check(model)
    return _replace(model, lambda module, path: _synchronised(module, path or "norm", group))


def revert_sync_batchnorm(model):
    """The reverse: every SyncBatchNorm becomes the torch.nn class that it was made of, with the
    same parameters, buffers and hooks.  For a model that is exported, say.

    Args and returns: as convert_sync_batchnorm.
    """
    return _replace(model, _plain)


def _check(model):
    refused = []
    for path, module in model.named_modules():
        where = path or "the model"
        if isinstance(module, torch.jit.ScriptModule):
            if "BatchNorm" in module.original_name:
                refused.append(f"{where} is a scripted {module.original_name}")
        elif isinstance(module, _BatchNorm) and not isinstance(module, SyncBatchNorm):
            name = f"{type(module).__module__}.{type(module).__qualname__}"
            if type(module) not in CONVERTIBLE:
                refused.append(f"{where} is a {name}")
            elif "forward" in module.__dict__:
                refused.append(f"{where} is a {name} whose forward was replaced")
    if refused:
        raise TypeError(
            "convert_sync_batchnorm converts torch.nn.BatchNorm1d, 2d, 3d and SyncBatchNorm, and no "
            f"class derived from them, whose own behaviour would be lost; but {'; '.join(refused)}")


def _replace(model, make):
    """Puts make(module, path) in the place of each module for which it is not None."""
    made = {}
    for path, module in model.named_modules():
        new = make(module, path)
        if new is not None:
            made[module] = new
    for parent in model.modules():
        for name, child in parent._modules.items():
            if child in made:
                parent._modules[name] = made[child]
    return made.get(model, model)


def _synchronised(module, path, group):
    if isinstance(module, SyncBatchNorm):
        if group is not None:
            module.group = group
        return None
    if type(module) not in CONVERTIBLE:
        return None
    new = SyncBatchNorm.__new__(SyncBatchNorm)
    new.__dict__.update(module.__dict__)
    new.__dict__.pop("process_group", None)
    new._init_sync(group, None, kept_forwards=8)
    new.layer = new._base_name = path
    new.reverts_to = BatchNorm if type(module) is torch.nn.SyncBatchNorm else type(module)
    for name in ("running_mean", "running_var"):
        statistic = getattr(new, name)
        if statistic is not None:
            new._buffers[name] = statistic.to(new._statistics_dtype(statistic))
    return new


def _plain(module, path):
    del path
    if type(module) is not SyncBatchNorm:
        return None
    to = module.__dict__.get("reverts_to", BatchNorm)
    new = to.__new__(to)
    new.__dict__.update({k: v for k, v in module.__dict__.items() if k not in OWN})
    return new

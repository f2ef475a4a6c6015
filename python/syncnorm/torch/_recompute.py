"""Telling a recomputed forward from a first one, as activation checkpointing runs them.

    recompute()           says so, for a checkpointing of one's own
    inside_a_backward()   torch 2.0 and later tell: a checkpoint runs its segment again inside a
                          backward, and there is no other reason for a training forward there

Torch 1.13 does not tell.  There torch.utils.checkpoint is wrapped, once, when syncnorm.torch is
imported.
"""
import functools

import torch
import torch.utils.checkpoint

from .. import _core


def recompute():
    """Around a forward that repeats an earlier one with the same inputs: a context manager.

    Synchronised norms then give the same bytes as the first time, cause no round and move no
    statistic. torch.utils.checkpoint needs none.
    """
    return _core.Recompute()


if hasattr(torch._C, "_current_graph_task_id"):

    def inside_a_backward():
        return torch._C._current_graph_task_id() != -1
else:

    def inside_a_backward():
        return False

    def _wrap_checkpoint(module):
        backward = module.CheckpointFunction.backward
        without_reentrant = module._checkpoint_without_reentrant

        @functools.wraps(backward)
        def recomputing_backward(*args):
            with recompute():
                return backward(*args)

        @functools.wraps(without_reentrant)
        def recomputing_checkpoint(function, *args, **kwargs):
            ran = False

            def run(*args, **kwargs):
                nonlocal ran
                if ran:
                    with recompute():
                        return function(*args, **kwargs)
                ran = True
                return function(*args, **kwargs)

            return without_reentrant(run, *args, **kwargs)

        module.CheckpointFunction.backward = staticmethod(recomputing_backward)
        module._checkpoint_without_reentrant = recomputing_checkpoint

    _wrap_checkpoint(torch.utils.checkpoint)

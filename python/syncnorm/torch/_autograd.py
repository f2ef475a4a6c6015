"""The one autograd node behind both modules.

A *call* is one forward of a norm together with what its backward needs:

    call.forward(x, y, keep)                     fills y; keep: a backward may follow
    call.backward(x, dy, dx, d_weight, d_bias, weight)   fills those that are not None

``apply`` runs the forward and, if a gradient will be asked for, leaves a node in the graph that
owns the call.
"""
import torch

from .._errors import SyncnormError
from ._recompute import inside_a_backward, recompute
from ._tensors import in_order


def eager(function):
    """torch.compile leaves the graph here and runs the function as it is."""
    compiler = getattr(torch, "compiler", None)
    if compiler is not None and hasattr(compiler, "disable"):
        return compiler.disable(function)
    dynamo = getattr(torch, "_dynamo", None)
    return dynamo.disable(function) if dynamo is not None else function


def _run_forward(call, x, channels_last, keep):
    x = in_order(x, channels_last)
    y = torch.empty_like(x)
    if inside_a_backward():
        with recompute():
            call.forward(x, y, keep)
    else:
        call.forward(x, y, keep)
    return x, y


class _Norm(torch.autograd.Function):
    @staticmethod
    def forward(ctx, x, weight, bias, call, channels_last):
        x, y = _run_forward(call, x, channels_last, keep=True)
        # Through autograd, which refuses a backward if one of them was changed since.
        ctx.save_for_backward(x, weight)
        ctx.bias_like = None if bias is None else (bias.shape, bias.dtype, bias.device)
        ctx.call, ctx.channels_last = call, channels_last
        return y

    @staticmethod
    def backward(ctx, dy):
        x, weight = ctx.saved_tensors  # once: a checkpoint computes them here, and only once
        if not torch.is_grad_enabled():
            return (*_run_backward(ctx, dy, x, weight), None, None)
        # Somebody may ask for the gradient of the gradient, which depends on all three.
        return (*_Gradients.apply(dy, x, weight, ctx), None, None)


def _run_backward(ctx, dy, x, weight):
    dy = in_order(dy, ctx.channels_last)
    dx = d_weight = d_bias = None
    if ctx.needs_input_grad[0]:
        dx = torch.empty_like(x)
    if ctx.needs_input_grad[1]:
        d_weight = torch.empty_like(weight)
    if ctx.needs_input_grad[2]:
        shape, dtype, device = ctx.bias_like
        d_bias = torch.empty(shape, dtype=dtype, device=device)
    ctx.call.backward(x, dy, dx, d_weight, d_bias, weight)
    return dx, d_weight, d_bias


class _Gradients(torch.autograd.Function):
    """The gradients of a norm, of which there is no gradient."""

    @staticmethod
    def forward(ctx, dy, x, weight, norm):
        ctx.layer = norm.call.layer
        return _run_backward(norm, dy, x, weight)

    @staticmethod
    def backward(ctx, *_):
        raise SyncnormError("UNIMPLEMENTED", f"layer {ctx.layer}: the gradient of a gradient "
                            "(create_graph=True) is not supported by synchronised norms",
                            layer=ctx.layer)


def apply(call, x, weight, bias, channels_last):
    """The norm of x, of x's dtype and order in memory; weight and bias may be None."""
    keep = torch.is_grad_enabled() and any(
        t is not None and t.requires_grad for t in (x, weight, bias))
    if not keep:
        with torch.no_grad():
            return _run_forward(call, x, channels_last, keep=False)[1]
    return _Norm.apply(x, weight, bias, call, channels_last)

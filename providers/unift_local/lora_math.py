"""LoRA with its frozen base in one autograd function, forward and backward, in plain torch.

``y = x W' + s (x A') B'`` (Hu et al. 2021, https://arxiv.org/abs/2106.09685), where W is frozen.
Autograd over the parts keeps more activations than needed, sums the gradients of x in separate
passes over memory, and reads x once for each A. Here projections that share an input read it once,
results are added inside the matrix products, nothing is computed for W, and an MLP keeps only its
input and the two halves of its gate.

A frozen weight is given by its parts: one dense tensor, or the five of a doubly quantised NF4
weight (Dettmers et al. 2023), which is made dense once in each use and dropped at once.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any, NamedTuple, cast

import torch
from torch.nn.functional import linear, silu

Parts = Sequence[torch.Tensor]
NF4_PARTS = 5


class Projection(NamedTuple):
    """What is constant about one projection; hashable, so that compiled code can depend on it."""

    scale: float
    parts: int  # tensors that make up the frozen weight: 1 dense, 5 NF4
    bias: bool
    blocks: tuple[int, int] = (64, 256)  # weights that share a scale, scales that share a scale


def pointwise(function: Callable[..., Any]) -> Callable[..., Any]:
    """A function of elementwise steps that `fuse_pointwise` can turn into one kernel."""
    compiled: list[Callable[..., Any]] = []

    def call(*args: Any) -> Any:
        if not _FUSE_POINTWISE[0] or not args[0].is_cuda or torch.compiler.is_compiling():
            return function(*args)
        if not compiled:
            compiled.append(torch.compile(function, dynamic=True))
        return compiled[0](*args)

    return call


_FUSE_POINTWISE = [False]


def fuse_pointwise(on: bool) -> None:
    """Compile the elementwise steps on CUDA (each once, a few seconds), or run them one by one."""
    _FUSE_POINTWISE[0] = on


def dense(parts: Parts, one: Projection, shape: tuple[int, int], dtype: torch.dtype) -> Any:
    """A frozen weight, (outputs, inputs)."""
    if len(parts) == 1:
        return parts[0]
    packed, absmax, offset, absmax2, code2 = parts
    scales = torch.ops.bitsandbytes.dequantize_blockwise(
        absmax, absmax2, code2, one.blocks[1], torch.float32
    )
    return torch.ops.bitsandbytes.dequantize_4bit(
        packed, scales + offset, one.blocks[0], "nf4", shape, dtype
    )


@torch.library.custom_op("unift::add_product", mutates_args=("out",))
def _add_product(out: torch.Tensor, a: torch.Tensor, b: torch.Tensor, alpha: float) -> None:
    out.addmm_(a, b, alpha=alpha)


def add_product(out: torch.Tensor, a: torch.Tensor, b: torch.Tensor, alpha: float = 1.0) -> None:
    """``out += alpha * a @ b``, in place.

    The compiler would otherwise copy `out` first, for a form of the product that takes an addend:
    a twentieth of a step of an 8B model (benchmarks/results/training.md).
    """
    if torch.compiler.is_compiling():
        _add_product(out, a, b, alpha)
    else:
        out.addmm_(a, b, alpha=alpha)


@pointwise
def _swiglu(gate: torch.Tensor, up: torch.Tensor) -> torch.Tensor:
    return silu(gate) * up


@pointwise
def _swiglu_backward(
    grad: torch.Tensor, gate: torch.Tensor, up: torch.Tensor
) -> tuple[torch.Tensor, torch.Tensor, torch.Tensor]:
    """Gradients of gate and up, and the product itself once more."""
    activated = silu(gate)
    grad_gate = torch.ops.aten.silu_backward(grad * up, gate)
    return grad_gate, grad * activated, activated * up


class LoraProjections(torch.autograd.Function):
    """One or several projections of the same input.

    ``apply(x, projections, *tensors)``: x (..., inputs); for each projection A (rank, inputs),
    B (outputs, rank), its bias if it has one, and the parts of its weight. Returns a tuple of
    (..., outputs).
    """

    @staticmethod
    def forward(
        ctx: Any, x: torch.Tensor, projections: tuple[Projection, ...], *tensors: Any
    ) -> Any:
        flat = x.reshape(-1, x.shape[-1])
        groups = _groups(projections, tensors)
        down = _stack([a for a, *_ in groups], x.dtype)
        low = flat @ down.T
        outs: list[torch.Tensor] = []
        column = 0
        for one, (a, b, bias, parts) in zip(projections, groups, strict=True):
            weight = dense(parts, one, (b.shape[0], a.shape[1]), x.dtype)
            out = linear(flat, weight, bias)
            mine = low[:, column : column + a.shape[0]]
            add_product(out, mine, b.to(x.dtype).T, one.scale)
            outs.append(out.view(*x.shape[:-1], b.shape[0]))
            column += a.shape[0]
        ctx.projections = projections
        ctx.save_for_backward(x, low, *tensors)
        return tuple(outs)

    @staticmethod
    def backward(ctx: Any, *grads: torch.Tensor) -> Any:
        x, low, *tensors = ctx.saved_tensors
        projections: tuple[Projection, ...] = ctx.projections
        flat = x.reshape(-1, x.shape[-1])
        groups = _groups(projections, tensors)
        wants_x = ctx.needs_input_grad[0]
        grad_x: torch.Tensor | None = None
        grad_low: list[torch.Tensor] = []
        grad_b: list[torch.Tensor] = []
        column = 0
        for one, grad, (a, b, _, parts) in zip(projections, grads, groups, strict=True):
            grad = grad.reshape(-1, b.shape[0]).to(x.dtype)
            grad_low.append((grad @ b.to(x.dtype)).mul_(one.scale))
            mine = low[:, column : column + a.shape[0]]
            grad_b.append((grad.T @ mine).to(b.dtype) * one.scale)
            if wants_x:
                weight = dense(parts, one, (b.shape[0], a.shape[1]), x.dtype)
                grad_x = _accumulate(grad_x, grad, weight)
            column += a.shape[0]
        lows = torch.cat(grad_low, 1) if len(grad_low) > 1 else grad_low[0]
        grad_a = lows.T @ flat
        if grad_x is not None:
            add_product(grad_x, lows, _stack([a for a, *_ in groups], x.dtype))
            grad_x = grad_x.view(x.shape)
        return grad_x, None, *_spread(projections, groups, grad_a, grad_b)


class LoraMlp(torch.autograd.Function):
    """``down(silu(gate(x)) * up(x))`` with an adapter on each of the three.

    ``apply(x, projections, *tensors)`` as for `LoraProjections`, in the order gate, up, down.
    Saves x and what gate and up gave; their product is made again in the backward pass.
    """

    @staticmethod
    def forward(
        ctx: Any, x: torch.Tensor, projections: tuple[Projection, ...], *tensors: Any
    ) -> Any:
        flat = x.reshape(-1, x.shape[-1])
        groups = _groups(projections, tensors)
        dtype = x.dtype
        low = flat @ _stack([groups[0][0], groups[1][0]], dtype).T
        halves: list[torch.Tensor] = []
        column = 0
        for one, (a, b, bias, parts) in zip(projections[:2], groups[:2], strict=True):
            half = linear(flat, dense(parts, one, (b.shape[0], a.shape[1]), dtype), bias)
            mine = low[:, column : column + a.shape[0]]
            add_product(half, mine, b.to(dtype).T, one.scale)
            halves.append(half)
            column += a.shape[0]
        gate, up = halves
        product = _swiglu(gate, up)
        one, (a, b, bias, parts) = projections[2], groups[2]
        low_down = product @ a.to(dtype).T
        out = linear(product, dense(parts, one, (b.shape[0], a.shape[1]), dtype), bias)
        add_product(out, low_down, b.to(dtype).T, one.scale)
        ctx.projections = projections
        ctx.save_for_backward(x, gate, up, low, low_down, *tensors)
        return out.view(*x.shape[:-1], b.shape[0])

    @staticmethod
    def backward(ctx: Any, *grads: torch.Tensor) -> Any:
        x, gate, up, low, low_down, *tensors = ctx.saved_tensors
        projections: tuple[Projection, ...] = ctx.projections
        groups = _groups(projections, tensors)
        flat, dtype = x.reshape(-1, x.shape[-1]), x.dtype
        one, (a, b, _, parts) = projections[2], groups[2]
        grad = grads[0].reshape(-1, b.shape[0]).to(dtype)
        grad_low_down = (grad @ b.to(dtype)).mul_(one.scale)
        grad_b_down = (grad.T @ low_down).to(b.dtype) * one.scale
        grad_product = grad @ dense(parts, one, (b.shape[0], a.shape[1]), dtype)
        add_product(grad_product, grad_low_down, a.to(dtype))
        grad_gate, grad_up, product = _swiglu_backward(grad_product, gate, up)
        del grad_product
        grad_a_down = grad_low_down.T @ product
        del product
        wants_x = ctx.needs_input_grad[0]
        grad_x: torch.Tensor | None = None
        grad_low: list[torch.Tensor] = []
        grad_b: list[torch.Tensor] = []
        column = 0
        halves = zip(projections[:2], (grad_gate, grad_up), groups[:2], strict=True)
        for one, half, (a, b, _, parts) in halves:
            grad_low.append((half @ b.to(dtype)).mul_(one.scale))
            grad_b.append((half.T @ low[:, column : column + a.shape[0]]).to(b.dtype) * one.scale)
            if wants_x:
                weight = dense(parts, one, (b.shape[0], a.shape[1]), dtype)
                grad_x = _accumulate(grad_x, half, weight)
            column += a.shape[0]
        lows = torch.cat(grad_low, 1)
        grad_a = lows.T @ flat
        if grad_x is not None:
            add_product(grad_x, lows, _stack([groups[0][0], groups[1][0]], dtype))
            grad_x = grad_x.view(x.shape)
        spread = _spread(projections[:2], groups[:2], grad_a, grad_b)
        rest = _spread(projections[2:], groups[2:], grad_a_down, [grad_b_down])
        return grad_x, None, *spread, *rest


def _accumulate(total: torch.Tensor | None, a: torch.Tensor, b: torch.Tensor) -> torch.Tensor:
    if total is None:
        return a @ b
    add_product(total, a, b)
    return total


_Group = tuple[torch.Tensor, torch.Tensor, torch.Tensor | None, Parts]


def _groups(projections: tuple[Projection, ...], tensors: Sequence[Any]) -> list[_Group]:
    """The flat tensors of a call, by projection: A, B, bias or None, parts of the weight."""
    found: list[_Group] = []
    at = 0
    for one in projections:
        a, b = tensors[at], tensors[at + 1]
        at += 2
        bias = tensors[at] if one.bias else None
        at += one.bias
        found.append((a, b, bias, tensors[at : at + one.parts]))
        at += one.parts
    return found


def _stack(matrices: list[torch.Tensor], dtype: torch.dtype) -> torch.Tensor:
    stacked = torch.cat(matrices) if len(matrices) > 1 else matrices[0]
    return stacked.to(dtype)


def _spread(
    projections: tuple[Projection, ...],
    groups: list[_Group],
    grad_a: torch.Tensor,
    grad_b: list[torch.Tensor],
) -> list[torch.Tensor | None]:
    """Gradients in the order of the arguments: A and B get theirs, what is frozen gets None."""
    found: list[torch.Tensor | None] = []
    row = 0
    for one, (a, _, _, _), gb in zip(projections, groups, grad_b, strict=True):
        found += [grad_a[row : row + a.shape[0]].to(a.dtype), gb]
        found += [None] * (one.bias + one.parts)
        row += a.shape[0]
    return found


def project(
    x: torch.Tensor, projections: tuple[Projection, ...], tensors: Sequence[torch.Tensor]
) -> tuple[torch.Tensor, ...]:
    """`LoraProjections`, typed."""
    return cast("tuple[torch.Tensor, ...]", LoraProjections.apply(x, projections, *tensors))


def mlp(
    x: torch.Tensor, projections: tuple[Projection, ...], tensors: Sequence[torch.Tensor]
) -> torch.Tensor:
    """`LoraMlp`, typed."""
    return cast("torch.Tensor", LoraMlp.apply(x, projections, *tensors))

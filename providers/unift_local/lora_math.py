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
from torch.nn.functional import silu

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


def dense(
    parts: Parts, one: Projection, shape: tuple[int, int], dtype: torch.dtype, use: int
) -> torch.Tensor:
    """A frozen weight, (outputs, inputs).

    `use` is 0 in a forward and 1 in a backward pass: compiled code would otherwise see the same
    computation twice and keep the dense weight of every layer from one to the other.
    """
    if len(parts) == 1:
        return parts[0]
    packed, absmax, offset, absmax2, code2 = parts
    blocks, sides = list(one.blocks), list(shape)
    if torch.compiler.is_compiling():
        return _dense_op(packed, absmax, offset, absmax2, code2, blocks, sides, dtype, use)
    return _dense(packed, absmax, offset, absmax2, code2, blocks, sides, dtype)


def _dense(
    packed: torch.Tensor,
    absmax: torch.Tensor,
    offset: torch.Tensor,
    absmax2: torch.Tensor,
    code2: torch.Tensor,
    blocks: list[int],
    shape: list[int],
    dtype: torch.dtype,
) -> torch.Tensor:
    scales = torch.ops.bitsandbytes.dequantize_blockwise(
        absmax, absmax2, code2, blocks[1], torch.float32
    )
    return torch.ops.bitsandbytes.dequantize_4bit(
        packed, scales + offset, blocks[0], "nf4", shape, dtype
    )


@torch.library.custom_op("unift::dense", mutates_args=())
def _dense_op(
    packed: torch.Tensor,
    absmax: torch.Tensor,
    offset: torch.Tensor,
    absmax2: torch.Tensor,
    code2: torch.Tensor,
    blocks: list[int],
    shape: list[int],
    dtype: torch.dtype,
    use: int,
) -> torch.Tensor:
    return _dense(packed, absmax, offset, absmax2, code2, blocks, shape, dtype)


@_dense_op.register_fake
def _(
    packed: torch.Tensor,
    absmax: torch.Tensor,
    offset: torch.Tensor,
    absmax2: torch.Tensor,
    code2: torch.Tensor,
    blocks: list[int],
    shape: list[int],
    dtype: torch.dtype,
    use: int,
) -> torch.Tensor:
    return packed.new_empty(shape, dtype=dtype)


@torch.library.custom_op("unift::add_product", mutates_args=("out",))
def _add_product(out: torch.Tensor, a: torch.Tensor, b: torch.Tensor) -> None:
    out.addmm_(a, b)


def add_product(out: torch.Tensor, a: torch.Tensor, b: torch.Tensor) -> None:
    """``out += a @ b``, in place.

    The compiler would otherwise copy `out` first, for a form of the product that takes an addend:
    a twentieth of a step of an 8B model (benchmarks/results/training.md).
    """
    if torch.compiler.is_compiling():
        _add_product(out, a, b)
    else:
        out.addmm_(a, b)


@pointwise
def _swiglu(gate: torch.Tensor, up: torch.Tensor) -> torch.Tensor:
    return silu(gate) * up


_KEEP_PRODUCT = [False]


def keep_product(on: bool) -> None:
    """Whether compiled MLPs keep the product of their two halves, or make it again from them.

    Making it again costs no time that can be measured, and saves a seventh of the memory of an 8B
    model's step (benchmarks/results/training.md). A layer that is recomputed as a whole has it at
    hand anyway. Code that is not compiled always makes it again.
    """
    _KEEP_PRODUCT[0] = on


@pointwise
def _swiglu_again(gate: torch.Tensor, up: torch.Tensor) -> torch.Tensor:
    """`_swiglu` the other way round: a compiler that sees it twice keeps the first result."""
    return up * silu(gate)


@pointwise
def _swiglu_backward(
    grad: torch.Tensor, gate: torch.Tensor, up: torch.Tensor
) -> tuple[torch.Tensor, torch.Tensor]:
    """Gradients of gate and up."""
    return torch.ops.aten.silu_backward(grad * up, gate), grad * silu(gate)


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
        low = flat @ _scaled(projections, groups, x.dtype).T
        outs = _forward(flat, low, projections, groups)
        ctx.projections = projections
        ctx.save_for_backward(x, low, *tensors)
        return tuple(out.view(*x.shape[:-1], out.shape[-1]) for out in outs)

    @staticmethod
    def backward(ctx: Any, *grads: torch.Tensor) -> Any:
        x, low, *tensors = ctx.saved_tensors
        projections: tuple[Projection, ...] = ctx.projections
        groups = _groups(projections, tensors)
        flat = x.reshape(-1, x.shape[-1])
        flats = [grad.reshape(-1, grad.shape[-1]).to(x.dtype) for grad in grads]
        grad_x, spread = _backward(
            flats, flat, low, projections, groups, wants_x=ctx.needs_input_grad[0]
        )
        return None if grad_x is None else grad_x.view(x.shape), None, *spread


class LoraMlp(torch.autograd.Function):
    """``down(silu(gate(x)) * up(x))`` with an adapter on each of the three.

    ``apply(x, projections, *tensors)`` as for `LoraProjections`, in the order gate, up, down.
    Saves x and what gate and up gave; their product is made again in the backward pass, or kept by
    compiled code (`keep_product`).
    """

    @staticmethod
    def forward(
        ctx: Any, x: torch.Tensor, projections: tuple[Projection, ...], *tensors: Any
    ) -> Any:
        flat = x.reshape(-1, x.shape[-1])
        groups = _groups(projections, tensors)
        low = flat @ _scaled(projections[:2], groups[:2], x.dtype).T
        gate, up = _forward(flat, low, projections[:2], groups[:2])
        product = _swiglu(gate, up)
        low_down = product @ _scaled(projections[2:], groups[2:], x.dtype).T
        (out,) = _forward(product, low_down, projections[2:], groups[2:])
        ctx.projections = projections
        ctx.save_for_backward(x, gate, up, low, low_down, *tensors)
        return out.view(*x.shape[:-1], out.shape[-1])

    @staticmethod
    def backward(ctx: Any, *grads: torch.Tensor) -> Any:
        x, gate, up, low, low_down, *tensors = ctx.saved_tensors
        projections: tuple[Projection, ...] = ctx.projections
        groups = _groups(projections, tensors)
        flat = x.reshape(-1, x.shape[-1])
        one, (_, b, _, parts) = projections[2], groups[2]
        grad = grads[0].reshape(-1, b.shape[0]).to(x.dtype)
        low_grad = grad @ b.to(x.dtype)
        product = _swiglu(gate, up) if _KEEP_PRODUCT[0] else _swiglu_again(gate, up)
        grad_a, grad_b = low_grad.T @ product, grad.T @ low_down
        del product
        grad_product = low_grad @ _scaled(projections[2:], groups[2:], x.dtype)
        add_product(grad_product, grad, dense(parts, one, _shape(groups[2]), x.dtype, 1))
        grad_gate, grad_up = _swiglu_backward(grad_product, gate, up)
        del grad_product, gate, up
        grad_x, spread = _backward(
            [grad_gate, grad_up],
            flat,
            low,
            projections[:2],
            groups[:2],
            wants_x=ctx.needs_input_grad[0],
        )
        spread += _spread(projections[2:], groups[2:], grad_a, [grad_b])
        return None if grad_x is None else grad_x.view(x.shape), None, *spread


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


def _shape(group: _Group) -> tuple[int, int]:
    """Sides of a frozen weight, from its adapter's."""
    return group[1].shape[0], group[0].shape[1]


def _scaled(
    projections: tuple[Projection, ...], groups: list[_Group], dtype: torch.dtype
) -> torch.Tensor:
    """Every A below the other, times its scale: (ranks, inputs)."""
    scaled = [
        a if one.scale == 1 else a * one.scale
        for one, (a, *_) in zip(projections, groups, strict=True)
    ]
    return (torch.cat(scaled) if len(scaled) > 1 else scaled[0]).to(dtype)


def _forward(
    flat: torch.Tensor,
    low: torch.Tensor,
    projections: tuple[Projection, ...],
    groups: list[_Group],
) -> list[torch.Tensor]:
    """The outputs of projections of one input; `low` is that input times every scaled A.

    The adapter's part comes first, so that the large product adds to it as it writes. The other
    way round the whole output would be read and written once more.
    """
    outs: list[torch.Tensor] = []
    column = 0
    for one, group in zip(projections, groups, strict=True):
        a, b, bias, parts = group
        mine, up = low[:, column : column + a.shape[0]], b.to(flat.dtype).T
        out = mine @ up if bias is None else torch.addmm(bias.to(flat.dtype), mine, up)
        add_product(out, flat, dense(parts, one, _shape(group), flat.dtype, 0).T)
        outs.append(out)
        column += a.shape[0]
    return outs


def _backward(
    grads: list[torch.Tensor],
    flat: torch.Tensor,
    low: torch.Tensor,
    projections: tuple[Projection, ...],
    groups: list[_Group],
    *,
    wants_x: bool,
) -> tuple[torch.Tensor | None, list[torch.Tensor | None]]:
    """Gradients of the input, unless nobody wants it, and of the tensors of each projection."""
    low_grads = [grad @ b.to(flat.dtype) for grad, (_, b, _, _) in zip(grads, groups, strict=True)]
    low_grad = torch.cat(low_grads, 1) if len(low_grads) > 1 else low_grads[0]
    grad_x: torch.Tensor | None = None
    if wants_x:
        grad_x = low_grad @ _scaled(projections, groups, flat.dtype)
        for grad, one, group in zip(grads, projections, groups, strict=True):
            add_product(grad_x, grad, dense(group[3], one, _shape(group), flat.dtype, 1))
    grad_b: list[torch.Tensor] = []
    column = 0
    for grad, (a, *_) in zip(grads, groups, strict=True):
        grad_b.append(grad.T @ low[:, column : column + a.shape[0]])
        column += a.shape[0]
    return grad_x, _spread(projections, groups, low_grad.T @ flat, grad_b)


def _spread(
    projections: tuple[Projection, ...],
    groups: list[_Group],
    grad_a: torch.Tensor,
    grad_b: list[torch.Tensor],
) -> list[torch.Tensor | None]:
    """Gradients in the order of the arguments: A and B get theirs, what is frozen gets None."""
    found: list[torch.Tensor | None] = []
    row = 0
    for one, (a, b, _, _), gb in zip(projections, groups, grad_b, strict=True):
        found += [grad_a[row : row + a.shape[0]].to(a.dtype) * one.scale, gb.to(b.dtype)]
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

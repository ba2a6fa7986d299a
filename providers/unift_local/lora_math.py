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

from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from typing import Any, cast

import torch
from torch.nn.functional import silu

from unift_local.kernels import Parts, Projection, add_product, dense, pointwise

_Group = tuple[torch.Tensor, torch.Tensor, torch.Tensor | None, Parts]


@pointwise
def _swiglu(gate: torch.Tensor, up: torch.Tensor) -> torch.Tensor:
    return silu(gate) * up


@pointwise
def _swiglu_again(gate: torch.Tensor, up: torch.Tensor) -> torch.Tensor:
    """`_swiglu` the other way round: a compiler that sees it twice keeps the first result.

    Making it again costs no time that can be measured, and saves a seventh of the memory of an 8B
    model's step (benchmarks/results/training.md).
    """
    return up * silu(gate)


@pointwise
def _swiglu_backward(
    grad: torch.Tensor, gate: torch.Tensor, up: torch.Tensor
) -> tuple[torch.Tensor, torch.Tensor]:
    """Gradients of gate and up."""
    return torch.ops.aten.silu_backward(grad * up, gate), grad * silu(gate)


@pointwise
def _swiglu_into_gradients(
    grad: torch.Tensor, gate: torch.Tensor, up: torch.Tensor
) -> tuple[torch.Tensor, torch.Tensor]:
    """Gate and up become their gradients, in place."""
    to_up = grad * silu(gate)
    gate.copy_(torch.ops.aten.silu_backward(grad * up, gate))
    up.copy_(to_up)
    return gate, up


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
    Saves x and what gate and up gave; their product is made again in the backward pass.
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
        product = _swiglu_again(gate, up)
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


class LoraMlpUnread(torch.autograd.Function):
    """`LoraMlp` where a layer is computed again for the sake of its gradients.

    Nobody reads the result then, so the last product, a quarter of the layer's, is left out, and
    zeros stand for it. Saves x alone; what is wider is made in the backward pass.
    """

    @staticmethod
    def forward(
        ctx: Any, x: torch.Tensor, projections: tuple[Projection, ...], *tensors: Any
    ) -> Any:
        ctx.projections = projections
        ctx.save_for_backward(x, *tensors)
        return x.new_zeros(*x.shape[:-1], _shape(_groups(projections, tensors)[2])[0])

    @staticmethod
    def backward(ctx: Any, *grads: torch.Tensor) -> Any:
        x, *tensors = ctx.saved_tensors
        wants_x = ctx.needs_input_grad[0]
        scales = [one.scale for one in ctx.projections]
        counts = [(int(one.bias), one.parts, *one.blocks) for one in ctx.projections]
        # Its order and its memory are what counts, so a compiler may not look into it.
        function = _unread_op if torch.compiler.is_compiling() else _unread_backward
        flat = [number for one in counts for number in one]
        found = function(x, grads[0].contiguous(), tensors, scales, flat, wants_x)
        at = int(wants_x)
        spread: list[torch.Tensor | None] = []
        for bias, parts, *_ in counts:
            spread += [found[at], found[at + 1], *[None] * (bias + parts)]
            at += 2
        return found[0] if wants_x else None, None, *spread


_PIECE = 2048  # tokens; fewer would leave the matrix units of a large card short of work


def _unread_backward(
    x: torch.Tensor,
    grad: torch.Tensor,
    tensors: list[torch.Tensor],
    scales: list[float],
    counts: list[int],
    wants_x: bool,
) -> list[torch.Tensor]:
    """Gradients of x, if it is wanted, and of each A and B.

    Goes over the tokens in pieces and makes each frozen weight dense once for all of them.

    Args:
        counts: For each projection whether it has a bias, its parts, and both block sizes.
    """
    projections = tuple(
        Projection(scale, parts, bool(bias), (first, second))
        for scale, bias, parts, first, second in zip(
            scales, counts[::4], counts[1::4], counts[2::4], counts[3::4], strict=True
        )
    )
    groups: list[_Group] = [
        (*group[:3], [dense(group[3], one, _shape(group), x.dtype, 0)])
        for one, group in zip(projections, _groups(projections, tensors), strict=True)
    ]
    projections = tuple(one._replace(parts=1) for one in projections)
    flat = x.reshape(-1, x.shape[-1])
    grad = grad.reshape(-1, grad.shape[-1]).to(x.dtype)
    grad_x = torch.empty_like(flat) if wants_x else None
    total: list[torch.Tensor] = []
    count = flat.shape[0]
    each = -(-count // max(1, -(-count // _PIECE)))  # pieces of like length
    for start in range(0, count, max(1, each)):
        rows = slice(start, start + each)
        piece, found = _unread_piece(flat[rows], grad[rows], projections, groups, wants_x)
        if grad_x is not None and piece is not None:
            grad_x[rows] = piece
        total = [a.add_(b) for a, b in zip(total, found, strict=True)] if total else found
    return [*([] if grad_x is None else [grad_x.view(x.shape)]), *total]


def _unread_piece(
    flat: torch.Tensor,
    grad: torch.Tensor,
    projections: tuple[Projection, ...],
    groups: list[_Group],
    wants_x: bool,
) -> tuple[torch.Tensor | None, list[torch.Tensor]]:
    """The gradients that some tokens give: of x, unless nobody wants it, and of each A and B."""
    low = flat @ _scaled(projections[:2], groups[:2], flat.dtype).T
    gate, up = _forward(flat, low, projections[:2], groups[:2])
    _, b, _, (weight,) = groups[2]
    scaled = _scaled(projections[2:], groups[2:], flat.dtype)
    low_grad = grad @ b.to(flat.dtype)
    product = _swiglu(gate, up)
    grad_a, grad_b = low_grad.T @ product, grad.T @ (product @ scaled.T)
    torch.mm(low_grad, scaled, out=product)  # of which nothing is needed any more
    product.addmm_(grad, weight)
    _swiglu_into_gradients(product, gate, up)
    del product
    grad_x, spread = _backward([gate, up], flat, low, projections[:2], groups[:2], wants_x=wants_x)
    spread += _spread(projections[2:], groups[2:], grad_a, [grad_b])
    return grad_x, [one for one in spread if one is not None]


_unread_op = torch.library.custom_op("unift::mlp_unread_backward", mutates_args=())(
    _unread_backward
)


@_unread_op.register_fake
def _(
    x: torch.Tensor,
    grad: torch.Tensor,
    tensors: list[torch.Tensor],
    scales: list[float],
    counts: list[int],
    wants_x: bool,
) -> list[torch.Tensor]:
    found = [torch.empty_like(x)] if wants_x else []
    at = 0
    for bias, parts in zip(counts[::4], counts[1::4], strict=True):
        found += [torch.empty_like(tensors[at]), torch.empty_like(tensors[at + 1])]
        at += 2 + bias + parts
    return found


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
    """`LoraMlp`, or `LoraMlpUnread` where that is so; typed."""
    function = LoraMlpUnread if _UNREAD[0] else LoraMlp
    return cast("torch.Tensor", function.apply(x, projections, *tensors))


_UNREAD = [False]


@contextmanager
def mlp_unread() -> Iterator[None]:
    """While nobody reads what MLPs give, only their gradients."""
    _UNREAD[0] = True
    try:
        yield
    finally:
        _UNREAD[0] = False

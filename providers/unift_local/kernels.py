"""Pieces that the fused functions are made of: elementwise steps, frozen weights, products.

What compiled code may not look into is an operator of its own here.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any, NamedTuple

import torch

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
    return _dense(packed, absmax, offset, absmax2, code2, blocks, sides, dtype, use)


def _dense(
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
    scales = torch.ops.bitsandbytes.dequantize_blockwise(
        absmax, absmax2, code2, blocks[1], torch.float32
    )
    return torch.ops.bitsandbytes.dequantize_4bit(
        packed, scales + offset, blocks[0], "nf4", shape, dtype
    )


_dense_op = torch.library.custom_op("unift::dense", mutates_args=())(_dense)


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

"""Attention over several documents in one sequence, each seeing itself alone.

Registered through transformers' `AttentionInterface` under `NAME`, so any model that calls its
attention through that interface can use it. The documents come as ``cu_seq_lens_q``: int32, the
first token of each and the end of the last, as flash-attention's variable-length kernels take it.

On CUDA it is torch's own kernel (`torch.nn.attention.varlen`, torch >= 2.10): no padding, no mask,
no wheel besides torch. Elsewhere each document goes through `scaled_dot_product_attention` by
itself, which costs the sum of the squares of the lengths and not the square of their sum.
"""

from __future__ import annotations

import inspect
from typing import Any

import torch
from torch.nn.functional import scaled_dot_product_attention
from transformers import AttentionInterface

NAME = "unift_varlen"
_HEAD_DIM = 256  # flash-attention's largest


def register() -> str:
    """Make the attention known to transformers; its name, for ``attn_implementation``."""
    if not _grouped and torch.cuda.is_available():
        _grouped.append(_how_to_group())
    # No mask is registered under this name, so transformers makes none. Finding out whether one is
    # needed would make the host wait for the card in every forward pass.
    AttentionInterface.register(NAME, varlen_attention)
    return NAME


def kernel_takes(dtype: torch.dtype, head_dim: int, value_dim: int) -> bool:
    """Whether torch's kernel can: half precision, heads of one size, a multiple of 8 up to 256.

    Full tuning in fp32 and models with latent attention (values of another size) go another way.
    """
    half = dtype in (torch.bfloat16, torch.float16)
    return half and head_dim == value_dim and head_dim % 8 == 0 and head_dim <= _HEAD_DIM


def varlen_attention(
    module: Any,
    query: torch.Tensor,
    key: torch.Tensor,
    value: torch.Tensor,
    attention_mask: torch.Tensor | None,
    scaling: float | None = None,
    dropout: float = 0.0,
    cu_seq_lens_q: torch.Tensor | None = None,
    max_length_q: int | None = None,
    sliding_window: int | None = None,
    **kwargs: Any,
) -> tuple[torch.Tensor, None]:
    """Causal attention within documents.

    Args:
        query: (rows, heads, tokens, head size); key and value with as many heads or fewer.
        cu_seq_lens_q: Bounds of the documents in a single row, int32, (documents + 1,); if None,
            every row is one document.
        max_length_q: Tokens of the longest document, or more.
        sliding_window: Tokens that a token sees at most, itself included.

    Returns:
        (rows, tokens, heads, head size), and no weights.
    """
    if query.is_cuda and torch.is_autocast_enabled("cuda"):  # rotations leave it in fp32
        computing = torch.get_autocast_dtype("cuda")
        query, key, value = query.to(computing), key.to(computing), value.to(computing)
    given = query.dtype
    if not query.is_cuda:  # the backward pass of torch's kernel is five times slower in bf16
        computing = torch.promote_types(given, torch.float32)
        query, key, value = query.to(computing), key.to(computing), value.to(computing)
    if cu_seq_lens_q is None or max_length_q is None:
        out = _causal(query, key, value, scaling, sliding_window).transpose(1, 2)
    elif query.is_cuda and kernel_takes(query.dtype, query.shape[-1], value.shape[-1]):
        out = _kernel(query, key, value, cu_seq_lens_q, max_length_q, scaling, sliding_window)
    else:
        out = _one_by_one(query, key, value, cu_seq_lens_q, scaling, sliding_window)
    return out.to(given), None


def _kernel(
    query: torch.Tensor,
    key: torch.Tensor,
    value: torch.Tensor,
    bounds: torch.Tensor,
    longest: int,
    scaling: float | None,
    window: int | None,
) -> torch.Tensor:
    q, k, v = (one[0].transpose(0, 1) for one in (query, key, value))  # (tokens, heads, size)
    left = -1 if window is None else window - 1
    out = _call(_grouped[0], q, k, v, bounds, longest, scaling, left)
    return out.unsqueeze(0)


#: How the installed torch takes fewer key heads than query heads; found once, before training.
_grouped: list[str] = []


def _call(
    how: str,
    q: torch.Tensor,
    k: torch.Tensor,
    v: torch.Tensor,
    bounds: torch.Tensor,
    longest: int,
    scaling: float | None,
    left: int,
) -> torch.Tensor:
    from torch.nn.attention.varlen import varlen_attn

    extra: dict[str, Any] = {}
    if q.shape[1] != k.shape[1]:
        if how == "flag":
            extra["enable_gqa"] = True
        elif how == "repeat":
            k, v = (one.repeat_interleave(q.shape[1] // one.shape[1], 1) for one in (k, v))
    found: Any = varlen_attn(
        q, k, v, bounds, bounds, longest, longest, scale=scaling, window_size=(left, 0), **extra
    )
    return found


def _how_to_group() -> str:
    """By a flag (torch 2.12), as they are if forward and backward come out right, or repeated."""
    from torch.nn.attention.varlen import varlen_attn

    if "enable_gqa" in inspect.signature(varlen_attn).parameters:
        return "flag"
    generator = torch.Generator("cuda").manual_seed(0)
    given = [
        torch.randn(48, heads, 64, device="cuda", generator=generator).bfloat16()
        for heads in (4, 2, 2, 4)
    ]
    bounds = torch.tensor([0, 30, 48], dtype=torch.int32, device="cuda")
    found: list[list[torch.Tensor]] = []
    for how in ("native", "repeat"):
        q, k, v = (one.clone().requires_grad_() for one in given[:3])
        try:
            out = _call(how, q, k, v, bounds, 30, None, -1)
            out.backward(given[3])
        except (RuntimeError, ValueError):
            return "repeat"
        found.append([out.detach(), *(one.grad for one in (q, k, v) if one.grad is not None)])
    native, repeated = found
    same = all(
        float((a - b).float().norm() / b.float().norm()) < 2e-2
        for a, b in zip(native, repeated, strict=True)
    )
    return "native" if same else "repeat"


def _one_by_one(
    query: torch.Tensor,
    key: torch.Tensor,
    value: torch.Tensor,
    bounds: torch.Tensor,
    scaling: float | None,
    window: int | None,
) -> torch.Tensor:
    lengths = bounds.diff().tolist()
    parts = [one.split(lengths, dim=2) for one in (query, key, value)]
    outs = [_causal(q, k, v, scaling, window) for q, k, v in zip(*parts, strict=True) if q.shape[2]]
    return torch.cat(outs, dim=2).transpose(1, 2)


def _causal(
    query: torch.Tensor,
    key: torch.Tensor,
    value: torch.Tensor,
    scaling: float | None,
    window: int | None,
) -> torch.Tensor:
    """Rows of one length; torch chooses the kernel (cuDNN's on an H100)."""
    return scaled_dot_product_attention(
        query,
        key,
        value,
        attn_mask=_band(query.shape[2], window, query.device),
        is_causal=window is None or query.shape[2] <= window,
        scale=scaling,
        enable_gqa=query.shape[1] != key.shape[1],
    )


def _band(length: int, window: int | None, device: torch.device) -> torch.Tensor | None:
    """The mask of a sliding window; None while the window is wider than the document."""
    if window is None or length <= window:
        return None
    mask = torch.ones(length, length, dtype=torch.bool, device=device)
    return mask.tril().triu(1 - window)

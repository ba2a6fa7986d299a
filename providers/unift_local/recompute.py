"""Decoder layers that are computed again in the backward pass, from their input alone.

torch's own checkpointing serves any layer. It runs a layer to its end again, though the result is
there already, and keeps all that the layer's backward pass will need beside it. A layer known to
end in ``x + mlp(norm(x))`` with a fused MLP is computed again without what nobody reads
(`lora_math.LoraMlpUnread`). The first time round autograd sees nothing of such a layer, so nothing
is kept then either.
"""

from __future__ import annotations

from collections.abc import Callable
from functools import partial
from typing import Any

import torch
from torch.autograd.graph import get_gradient_edge
from torch.utils.checkpoint import checkpoint

from unift_local import lora_math
from unift_local.fused import FusedMlp
from unift_local.offload import Offload

#: Classes of transformers whose result is the residual plus that of their MLP, and no more.
_ENDS_IN_MLP = frozenset(
    {"LlamaDecoderLayer", "MistralDecoderLayer", "Qwen2DecoderLayer", "Qwen3DecoderLayer"}
)


def recomputed(
    layer: Any, forward: Callable[..., Any], keeper: Offload | None
) -> Callable[..., Any]:
    """A layer's forward function, computed again in the backward pass.

    Args:
        forward: The layer's own function, compiled or not.
        keeper: Keeps the input until then; None: it stays where it is.
    """
    lean = ends_in_fused_mlp(layer)
    learnt = [one for one in layer.parameters() if one.requires_grad]

    def again(*args: Any, **kwargs: Any) -> Any:
        if not (layer.training and torch.is_grad_enabled()):
            return forward(*args, **kwargs)
        if lean:
            hidden, *rest = args
            whole = partial(_with, forward, rest, kwargs)
            return _Again.apply(whole, keeper, hidden, *learnt)
        return checkpoint(partial(forward, **kwargs), *args, use_reentrant=False)

    return again if lean or keeper is None else keeper.around(again)


def ends_in_fused_mlp(layer: Any) -> bool:
    """Whether a layer's result is needed by no part of its own backward pass.

    Dropout would also have to fall alike both times.
    """
    return (
        type(layer).__name__ in _ENDS_IN_MLP
        and isinstance(layer.mlp, FusedMlp)
        and not getattr(layer.self_attn, "attention_dropout", 0.0)
    )


def _with(
    forward: Callable[..., Any], rest: list[Any], kwargs: dict[str, Any], hidden: torch.Tensor
) -> Any:
    return forward(hidden, *rest, **kwargs)


class _Again(torch.autograd.Function):
    """``apply(forward, keeper, hidden, *learnt)``: ``forward(hidden)``.

    `learnt` are the leaves that `forward` uses besides.
    """

    @staticmethod
    def forward(
        ctx: Any,
        forward: Callable[[torch.Tensor], torch.Tensor],
        keeper: Offload | None,
        hidden: torch.Tensor,
        *learnt: torch.Tensor,
    ) -> torch.Tensor:
        ctx.forward, ctx.keeper, ctx.learnt = forward, keeper, learnt
        if keeper is None:
            ctx.save_for_backward(hidden)
        else:
            ctx.kept = keeper.put(hidden)
        return forward(hidden)

    @staticmethod
    def backward(ctx: Any, *grads: torch.Tensor) -> Any:
        if ctx.keeper is None:
            (hidden,) = ctx.saved_tensors
        else:
            hidden, ctx.kept = ctx.keeper.get(ctx.kept), None
        wants = ctx.needs_input_grad[2]
        hidden = hidden.detach().requires_grad_(wants)
        with torch.enable_grad(), lora_math.mlp_unread():
            # The result itself goes at once; only the way back from it is wanted.
            end = get_gradient_edge(ctx.forward(hidden))
        sources = [hidden, *ctx.learnt] if wants else list(ctx.learnt)
        found = torch.autograd.grad([end], sources, list(grads), allow_unused=True)
        return (None, None, *found) if wants else (None, None, None, *found)

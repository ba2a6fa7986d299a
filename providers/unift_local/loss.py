"""The loss without the logits of all tokens: some rows at a time, and only those trained on.

A vocabulary of 128,256 words makes 0.5 GB of fp32 logits for 1,024 tokens, and autograd keeps
several copies. Here each chunk of rows goes through the head once; its gradient is taken at once
and the logits are dropped.
"""

from __future__ import annotations

from typing import Any, cast

import torch

from unift_local.kernels import pointwise

_CHUNK_BYTES = 2**28  # logits that exist at one time


class ChunkedCrossEntropy(torch.autograd.Function):
    """``apply(hidden, weight, targets)``: the sum over rows of the cross entropy.

    hidden (rows, width), weight (words, width), targets (rows,) int64. A 0-d fp32 tensor.
    """

    @staticmethod
    def forward(
        ctx: Any, hidden: torch.Tensor, weight: torch.Tensor, targets: torch.Tensor
    ) -> torch.Tensor:
        wants_hidden, wants_weight, _ = ctx.needs_input_grad
        grad_hidden = torch.empty_like(hidden) if wants_hidden else None
        grad_weight = torch.zeros_like(weight) if wants_weight else None
        total = torch.zeros((), dtype=torch.float32, device=hidden.device)
        kind = hidden.device.type
        computing = weight.dtype
        if torch.is_autocast_enabled(kind):  # full tuning keeps its weights wider
            computing = torch.get_autocast_dtype(kind)
        with torch.autocast(kind, enabled=False):
            head = weight.to(computing)
            rows = _rows(head)
            for start in range(0, hidden.shape[0], rows):
                chunk = hidden[start : start + rows].to(computing)
                wanted = targets[start : start + rows].unsqueeze(-1)
                logits = chunk @ head.T
                picked = logits.gather(-1, wanted)
                total += (_into_gradient(logits, wanted) - picked).sum()
                if grad_hidden is not None:
                    place = grad_hidden[start : start + rows]
                    if place.dtype == computing:
                        torch.mm(logits, head, out=place)
                    else:
                        place.copy_(logits @ head)
                if grad_weight is not None:
                    if grad_weight.dtype == computing:
                        grad_weight.addmm_(logits.T, chunk)
                    else:
                        grad_weight += logits.T @ chunk
                del logits  # else they would still be there beside the next ones
        ctx.save_for_backward(grad_hidden, grad_weight)
        return total

    @staticmethod
    def backward(ctx: Any, *grads: torch.Tensor) -> Any:
        grad_hidden, grad_weight = ctx.saved_tensors
        for grad in (grad_hidden, grad_weight):  # of nobody else: no second copy of either
            if grad is not None:
                grad.mul_(grads[0])
        return grad_hidden, grad_weight, None


def _rows(weight: torch.Tensor) -> int:
    """Rows a chunk: as many as fit, but whole tiles of the matrix units.

    1,024 rows of a width of 4,096 are 128 tiles of 128 x 256, one for nearly each of the 132
    units of an H100; 1,046 rows, which would fit too, are 144 and take two rounds.
    """
    rows = max(1, _CHUNK_BYTES // (weight.shape[0] * weight.element_size()))
    tile = next((one for one in (1024, 128) if rows > one), 1)
    return rows - rows % tile


@pointwise
def _into_gradient(logits: torch.Tensor, wanted: torch.Tensor) -> torch.Tensor:
    """Logits, (rows, words), become the gradient of the loss; log of the sum of exp of each row.

    In place, because logits are the largest thing that there is beside a layer's backward pass.
    """
    wide = logits.float() if logits.dtype in (torch.bfloat16, torch.float16) else logits
    log_sum = wide.logsumexp(-1, keepdim=True)
    words = torch.arange(logits.shape[-1], device=logits.device)
    logits.copy_((wide - log_sum).exp() - (words == wanted).to(wide.dtype))
    return log_sum


def chunked_cross_entropy(
    hidden: torch.Tensor, weight: torch.Tensor, targets: torch.Tensor
) -> torch.Tensor:
    """`ChunkedCrossEntropy`, typed."""
    return cast("torch.Tensor", ChunkedCrossEntropy.apply(hidden, weight, targets))


def plain_head(model: Any) -> bool:
    """Whether a model's logits are its last hidden state times its output weights, and no more.

    Some families scale or cap their logits, or have a bias; asked of the model itself, with a few
    tokens.
    """
    head = model.get_output_embeddings()
    weight = getattr(head, "weight", None)
    if weight is None or not weight.is_floating_point():
        return False
    ids = torch.arange(1, 9, device=weight.device).unsqueeze(0) % weight.shape[0]
    was_training = model.training
    model.eval()
    with torch.no_grad():
        logits = model(input_ids=ids, use_cache=False).logits
        hidden = model.base_model(input_ids=ids, use_cache=False).last_hidden_state
    model.train(was_training)
    mine = hidden.to(weight.dtype) @ weight.T
    difference = (logits.float() - mine.float()).norm() / mine.float().norm()
    return bool(difference < (1e-4 if weight.dtype == torch.float32 else 2e-2))

"""AdamW for all weights of a model that would not fit on the card with an optimiser in fp32.

Weights and gradients stay in bf16 (2 bytes each), the two moments in 8 bits with one scale a block
(Dettmers et al. 2022, https://arxiv.org/abs/2110.02861): 6 bytes a weight instead of 16. An update
of 1e-5 is too small to change a bf16 weight of 0.02 by rounding to nearest, so it is rounded up or
down at random, in proportion: right on average (Gupta et al. 2015, https://arxiv.org/abs/1502.02551).
"""

from __future__ import annotations

from typing import Any

import torch
from bitsandbytes.optim.adamw import AdamW8bit

_PIECE = 2**26  # weights that are rounded at a time


class RoundingAdamW8bit(AdamW8bit):
    """bitsandbytes' AdamW, each update computed in fp32 and rounded at random to bf16."""

    @torch.no_grad()
    def update_step(self, group: Any, p: Any, gindex: int, pindex: int) -> None:
        if p.dtype != torch.bfloat16:
            super().update_step(group, p, gindex, pindex)
            return
        weight, grad = p.data, p.grad
        p.data = weight.float()
        p.grad = grad.float()
        super().update_step(group, p, gindex, pindex)
        updated = p.data
        p.data = weight
        p.grad = grad
        round_at_random(updated, weight)


def round_at_random(values: torch.Tensor, out: torch.Tensor) -> None:
    """Write fp32 `values` to bf16 `out`: to one of the two neighbours, the nearer the likelier.

    bf16 is the upper half of fp32, so adding 16 random bits below and cutting them off does it.
    """
    source, target = values.reshape(-1), out.view(-1)
    for start in range(0, source.numel(), _PIECE):
        bits = source[start : start + _PIECE].view(torch.int32)
        noise = torch.randint(0, 2**16, bits.shape, dtype=torch.int32, device=bits.device)
        rounded = noise.add_(bits).bitwise_and_(-(2**16)).view(torch.float32)
        target[start : start + _PIECE].copy_(rounded)

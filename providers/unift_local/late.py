"""What a step measured on the card, fetched without waiting for the card.

Reading a number from the card makes the host wait until the card has done everything it was given,
and then the card waits for the host. So numbers are copied beside the computing and read a step
later: while the host waits for step n - 1, the card has all of step n to do. That wait also keeps
the host from running further ahead than that.
"""

from __future__ import annotations

from collections import deque
from dataclasses import dataclass
from typing import Any

import torch


@dataclass
class _Waiting:
    step: int
    learning_rate: float
    values: torch.Tensor  # loss and gradient norm
    copied: Any  # a CUDA event, or None: they are here


class Late:
    """Losses and gradient norms of steps, in order; on a CPU they are never late."""

    def __init__(self) -> None:
        self._waiting: deque[_Waiting] = deque()

    def put(
        self, step: int, loss: torch.Tensor, norm: torch.Tensor | float | None, rate: float
    ) -> None:
        """Begin to fetch the numbers of a step; both tensors are 0-d."""
        given = norm if isinstance(norm, torch.Tensor) else torch.full_like(loss, norm or 0.0)
        values = torch.stack([loss.detach().float(), given.detach().float()])
        copied = None
        if values.is_cuda:
            here = torch.empty(2, pin_memory=True)
            here.copy_(values, non_blocking=True)
            copied = torch.cuda.Event()
            copied.record()
            values = here
        self._waiting.append(_Waiting(step, rate, values, copied))

    def take(self, everything: bool) -> list[dict[str, float]]:
        """What is due: every step but the newest, or the newest as well."""
        found: list[dict[str, float]] = []
        while self._waiting:
            if len(self._waiting) == 1 and self._waiting[0].copied is not None and not everything:
                break
            one = self._waiting.popleft()
            if one.copied is not None:
                one.copied.synchronize()
            loss, norm = one.values.tolist()
            found.append(
                {
                    "step": one.step,
                    "loss": loss,
                    "grad_norm": norm,
                    "learning_rate": one.learning_rate,
                }
            )
        return found

"""Many answers of one model: rows of like length together, and whoever is done makes room.

Rows are taken in longest prompt first, so that a batch pads little and what needs most memory comes
first. New ones join once a quarter of the places is free: reading prompts one by one would cost a
pass of the model each.
"""

from __future__ import annotations

import time
from collections import deque
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

import torch

from unift.errors import ProviderError
from unift_local.answering import Whole
from unift_local.running import Batch

#: On a CPU more rows at a time take as much longer.
_CPU = (32, 32_768)
#: On a card a step takes about as long for 256 rows as for one, until arithmetic and not launches
#: bounds it.
_CUDA_ROWS = 256
#: Of the free memory for keys and values; a step holds one layer of them twice, and activations.
_CUDA_SHARE = 0.5


@dataclass(frozen=True)
class Limits:
    """How many rows are answered at a time, and tokens of all of them, padded, answers included."""

    rows: int
    tokens: int

    def places(self, widest: int) -> int:
        return max(1, min(self.rows, self.tokens // widest))


def limits_of(model: Any) -> Limits:
    """What the memory where a model lies has room for."""
    if model.device.type != "cuda":
        return Limits(*_CPU)
    config = model.config.get_text_config()
    heads = int(getattr(config, "num_key_value_heads", None) or config.num_attention_heads)
    width = int(
        getattr(config, "head_dim", None) or config.hidden_size // config.num_attention_heads
    )
    token = 2 * int(config.num_hidden_layers) * heads * width * model.dtype.itemsize
    free, _ = torch.cuda.mem_get_info(model.device)
    free += torch.cuda.memory_reserved(model.device) - torch.cuda.memory_allocated(model.device)
    return Limits(_CUDA_ROWS, max(1, int(_CUDA_SHARE * free / token)))


def answer_all(
    model: Any, batch: Batch, rows: Sequence[Whole], tell: Callable[[Whole], None]
) -> None:
    """Answer every row; `tell` hears of each as it is done.

    If the card has too little memory, fewer are answered at a time.

    Raises:
        ProviderError: It has too little for one.
    """
    limits = limits_of(model)
    waiting = deque(sorted(rows, key=lambda row: (-len(row.prompt), row.number)))
    running: list[Whole] = []
    batch.clear()
    try:
        while waiting or running:
            _let_in(batch, waiting, running, limits)
            began = time.perf_counter()
            try:
                batch.step(model)
            except torch.OutOfMemoryError as error:
                limits = _fewer(limits, running, error)
                batch.clear()
                torch.cuda.empty_cache()
                again = [row for row in running if not row.done]
                running = [row for row in running if row.done]
                for row in reversed(again):
                    row.restart()
                    waiting.appendleft(row)
            share = (time.perf_counter() - began) / max(1, len(running))
            for row in running:
                row.seconds += share
                if row.done:
                    tell(row)
            running = [row for row in running if not row.done]
    finally:
        batch.clear()


def _let_in(batch: Batch, waiting: deque[Whole], running: list[Whole], limits: Limits) -> None:
    if running and not batch.open:
        return
    widest = max((row.most for row in running), default=0)
    if running and len(running) > limits.places(widest) * 3 // 4:
        return
    while waiting:
        widest = max(widest, waiting[0].most)
        if running and len(running) >= limits.places(widest):
            return
        row = waiting.popleft()
        running.append(row)
        batch.join(row)


def _fewer(limits: Limits, running: Sequence[Whole], error: BaseException) -> Limits:
    if len(running) > 1:
        widest = max(row.most for row in running)
        return Limits(max(1, len(running) // 2), min(limits.tokens, widest * len(running) // 2))
    raise ProviderError(
        f"The card has too little memory for an answer to {len(running[0].prompt)} tokens.",
        code="out_of_memory",
        where="answers",
        fix="end what else uses the card, or load the base in 4 bits (train with local-qlora)",
    ) from error

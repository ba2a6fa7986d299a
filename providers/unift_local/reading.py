"""How surprised a model is by texts that it reads: their loss."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import torch

# Rows of one pass; each has scores over the whole vocabulary at every token.
_ROWS = 8


def losses(
    model: Any, tokenizer: Any, texts: Sequence[str], context: int | None
) -> list[tuple[float, int]]:
    """Per text: the sum of -log p of its tokens (nats), and how many tokens that are.

    The first token is only predicted where the tokenizer puts a beginning before it. What does not
    fit the context is read in pieces, each without those before it.
    """
    pieces: list[tuple[int, list[int]]] = []
    for number, text in enumerate(texts):
        ids: list[int] = tokenizer(text)["input_ids"]
        size = context or len(ids)
        pieces += [(number, ids[start : start + size]) for start in range(0, len(ids), size)]
    pieces = sorted((one for one in pieces if len(one[1]) > 1), key=lambda one: -len(one[1]))
    sums, counts = [0.0] * len(texts), [0] * len(texts)
    for first in range(0, len(pieces), _ROWS):
        some = pieces[first : first + _ROWS]
        width = len(some[0][1])
        padded = torch.zeros((len(some), width), dtype=torch.long)
        mask = torch.zeros_like(padded)
        for row, (_, tokens) in enumerate(some):
            padded[row, : len(tokens)] = torch.tensor(tokens)
            mask[row, : len(tokens)] = 1
        padded, mask = padded.to(model.device), mask.to(model.device)
        scores = model(input_ids=padded, attention_mask=mask, use_cache=False).logits
        for row, (number, tokens) in enumerate(some):
            own = scores[row, : len(tokens) - 1].float()
            told = torch.nn.functional.cross_entropy(
                own, padded[row, 1 : len(tokens)], reduction="sum"
            )
            sums[number] += float(told)
            counts[number] += len(tokens) - 1
    return list(zip(sums, counts, strict=True))

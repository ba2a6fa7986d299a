"""How well a model still expects general text: its loss before and after training, text by text.

The texts are this project's own: forty short ones of many kinds in `general.txt`, written for
this purpose.
"""

from __future__ import annotations

import math
from functools import cache
from importlib import resources
from typing import Any

from unift.evaluate._asking import Session
from unift.evaluate._candidates import Candidate
from unift.evaluate._statistics import ratio_difference


@cache
def general_texts() -> tuple[str, ...]:
    """The texts, always the same."""
    whole = resources.files("unift.evaluate").joinpath("general.txt").read_text("utf-8")
    return tuple(whole.strip().split("\n\n"))


def general_loss(
    session: Session, model: Candidate, base: Candidate, *, confidence: float, seed: int
) -> dict[str, Any] | None:
    """Loss of both on the texts; None where the weights of one are not here, or where the two cut
    texts into different tokens, so that losses of tokens cannot be compared.

    Returns:
        ``{"texts", "tokens", "model", "base": {"loss", "perplexity"}, "difference", "low", "high",
        "p", "worse"}``: losses in nats a token over all tokens of all texts; the difference is
        model - base with an interval over texts, so that above 0 is worse.
    """
    texts = general_texts()
    found = [session.losses(one.source, texts) for one in (base, model)]
    if found[0] is None or found[1] is None:
        return None
    before, after = found[0], found[1]
    tokens = [n for _, n in before]
    if tokens != [n for _, n in after]:
        return None
    pair = ratio_difference(
        [nats for nats, _ in after], [nats for nats, _ in before], tokens,
        confidence=confidence, seed=seed,
    )  # fmt: skip
    return {
        "texts": len(texts),
        "tokens": sum(tokens),
        "model": _told(sum(nats for nats, _ in after) / sum(tokens)),
        "base": _told(sum(nats for nats, _ in before) / sum(tokens)),
        "difference": pair.value,
        "low": pair.low,
        "high": pair.high,
        "p": pair.p,
        "worse": pair.low > 0 and pair.p < 1 - confidence,
    }


def _told(loss: float) -> dict[str, float]:
    return {"loss": loss, "perplexity": math.exp(min(loss, 700.0))}

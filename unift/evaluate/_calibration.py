"""Whether a model is as sure as it is right, where it gives log probabilities."""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import Any

from unift.evaluate._metrics import Metric
from unift.evaluate._result import Result

#: Ten bins of equal width (Guo et al. 2017, https://arxiv.org/abs/1706.04599, section 2).
BINS = 10
#: Fewer rows fill the bins with chance.
_LEAST = 30


def calibration(results: Sequence[Result], metric: Metric) -> dict[str, Any]:
    """Per candidate: how sure it was of its whole answers, and how often they were right.

    Only rows with a log probability count, and only metrics that know right from wrong.

    Returns:
        Candidate -> ``{"n", "confidence", "accuracy", "error", "brier", "bins": [{"low", "n",
        "confidence", "accuracy"}]}``. `error` is the expected calibration error over `BINS` bins of
        equal width, 0 to 1; `brier` the mean of (confidence - right) ** 2 (Brier 1950, Monthly
        Weather Review 78:1-3, for the event that the answer is right), 0 to 1, 0.25 for a coin.
        For a candidate without: ``{"n", "why"}``.
    """
    found: dict[str, Any] = {}
    for one in results:
        known = [
            (min(1.0, math.exp(reply.logprob)), float(score >= (metric.right or 1.0)))
            for reply, score in zip(one.replies, one.scores[metric.name], strict=True)
            if reply.logprob is not None
        ]
        if metric.right is None:
            why = f"{metric.title} knows no right and wrong"
        elif not known:
            why = "it gives no log probabilities"
        elif len(known) < _LEAST:
            why = f"only {len(known)} answers have a log probability; {_LEAST} are needed"
        else:
            found[one.name] = _of(known)
            continue
        found[one.name] = {"n": len(known), "why": why}
    return found


def _of(known: Sequence[tuple[float, float]]) -> dict[str, Any]:
    bins: list[dict[str, float]] = []
    for number in range(BINS):
        inside = [one for one in known if min(BINS - 1, int(one[0] * BINS)) == number]
        if inside:
            bins.append(
                {
                    "low": number / BINS,
                    "n": len(inside),
                    "confidence": sum(sure for sure, _ in inside) / len(inside),
                    "accuracy": sum(right for _, right in inside) / len(inside),
                }
            )
    n = len(known)
    return {
        "n": n,
        "confidence": sum(sure for sure, _ in known) / n,
        "accuracy": sum(right for _, right in known) / n,
        "brier": sum((sure - right) ** 2 for sure, right in known) / n,
        "error": sum(abs(b["confidence"] - b["accuracy"]) * b["n"] for b in bins) / n,
        "bins": bins,
    }

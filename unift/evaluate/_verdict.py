"""The verdict: one sentence against the strongest thing that training was meant to beat."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from math import ceil
from typing import Literal

from unift.evaluate._statistics import minimum_detectable_effect

Code = Literal["better", "no_better", "worse", "inconclusive", "not_compared"]

# A gain below 5% of the scale is seldom worth a training; an interval that still allows more than
# that is a reason for more test rows, one that does not is a reason to stop.
WORTHWHILE = 0.05


@dataclass(frozen=True)
class Comparison:
    """Candidate `a` against baseline `b` in one metric, on the same rows.

    `difference`, `low` and `high` are mean(a) - mean(b) and its confidence interval in units of the
    metric; `p` is two-sided and uncorrected, `p_adjusted` corrected (Holm) over all baselines of
    that metric; `scale` is the width of the metric's scale; `deviation` that of the row
    differences; `detectable` the true difference that so many rows show with 80% power.
    """

    a: str
    b: str
    metric: str
    difference: float
    low: float
    high: float
    p: float
    p_adjusted: float
    test: str
    n: int
    scale: float
    deviation: float
    detectable: float


@dataclass(frozen=True)
class Verdict:
    """`code` for machines, `sentence` for people. Printing it gives the sentence."""

    code: Code
    sentence: str
    against: str | None = None

    def __str__(self) -> str:
        return self.sentence


def judge(
    name: str,
    means: dict[str, float],
    comparisons: Sequence[Comparison],
    *,
    metric: str,
    title: str,
    n: int,
    confidence: float,
) -> Verdict:
    """Compare with the baseline that scored highest in the deciding metric.

    - ``better`` / ``worse``: the interval excludes zero and the corrected p-value agrees.
    - ``no_better``: neither, and a gain of `WORTHWHILE` of the scale or more is ruled out.
    - ``inconclusive``: neither, and such a gain is still possible.

    Args:
        name: The candidate under test.
        means: Candidate -> mean score in the deciding metric.
        comparisons: All comparisons; those in `metric` are looked at.
        metric: Name of the deciding metric.
        title: Its title.
        n: Rows.
        confidence: Level of the intervals.
    """
    rivals = [one for one in comparisons if one.metric == metric]
    title = title[:1].lower() + title[1:] if title[1:2].islower() else title
    subject = f"the {name} model" if name != "model" else "the model"
    if not rivals:
        score = _level(means[name], 1.0 if 0 <= means[name] <= 1 else 2.0)
        return Verdict(
            "not_compared",
            f"{subject[0].upper()}{subject[1:]} reaches {score} {title} on {n} rows; nothing to "
            "compare with.",
        )
    best = max(rivals, key=lambda one: means[one.b])
    level, strongest = _level(means[name], best.scale), best.b
    if len(rivals) > 1:
        strongest += ", the strongest alternative"
    gap = _points(abs(best.difference), best.scale)
    span = (
        f"{confidence * 100:g}% interval {_signed(best.low, best.scale)} to "
        f"{_signed(best.high, best.scale)}, {n} rows"
    )
    sure = best.p_adjusted < 1 - confidence
    if sure and best.low > 0:
        return Verdict(
            "better",
            f"Worth it: {subject} reaches {level} {title}, {gap} above {strongest} ({span}).",
            best.b,
        )
    if sure and best.high < 0:
        return Verdict(
            "worse",
            f"Not worth it: {subject} reaches {level} {title}, {gap} below {strongest} ({span}).",
            best.b,
        )
    worth = WORTHWHILE * best.scale
    change = _signed(best.difference, best.scale)
    if best.high < worth:
        return Verdict(
            "no_better",
            f"No better than {strongest}: {subject} differs by {change} in {title} ({span}); a "
            f"gain of {_points(worth, best.scale)} is ruled out.",
            best.b,
        )
    return Verdict(
        "inconclusive",
        f"Cannot tell: {subject} differs from {strongest} by {change} in {title} ({span}). "
        f"{_advice(best, worth, confidence, n)}",
        best.b,
    )


def _advice(one: Comparison, worth: float, confidence: float, n: int) -> str:
    # Without any row that differs the deviation is unknown; one differing row is the least.
    deviation = one.deviation or one.scale / n**0.5
    unit = minimum_detectable_effect(1, deviation=deviation, confidence=confidence)
    needed = ceil((unit / worth) ** 2)
    if needed > n:
        return f"To see a gain of {_points(worth, one.scale)}, test on about {_round(needed)} rows."
    return "A gain is possible but not shown; test on more rows."


def _round(number: int) -> int:
    step = 10 if number < 200 else 50 if number < 1000 else 100
    return ceil(number / step) * step


def _level(value: float, scale: float) -> str:
    return f"{value * 100:.1f}%" if scale == 1 else f"{value:.3g}"


def _points(value: float, scale: float) -> str:
    return f"{value * 100:.1f} points" if scale == 1 else f"{value:.3g}"


def _signed(value: float, scale: float) -> str:
    text = f"{value * 100:+.1f}" if scale == 1 else f"{value:+.3g}"
    return text.replace("-", "−")

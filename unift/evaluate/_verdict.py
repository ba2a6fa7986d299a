"""The verdict: one sentence against the strongest thing that training was meant to beat."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from math import ceil, log, log1p
from typing import TYPE_CHECKING, Literal

from unift.evaluate._statistics import minimum_detectable_effect, rows_needed

if TYPE_CHECKING:
    from unift.evaluate._slices import Slice

Code = Literal[
    "better", "not_worse", "no_better", "worse", "worse_in_part", "inconclusive", "not_compared"
]

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

    Against the reference of a non-inferiority question, `margin` is the loss that would matter,
    `not_worse` whether it is ruled out, `p_not_worse` the one-sided p-value of it and
    `test_not_worse` the test behind that; None elsewhere.
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
    margin: float | None = None
    not_worse: bool | None = None
    p_not_worse: float | None = None
    test_not_worse: str | None = None


@dataclass(frozen=True)
class Verdict:
    """`code` for machines, `sentence` for people. Printing it gives the sentence.

    `against` is whom it was measured against, `exceptions` the slices that got worse.
    """

    code: Code
    sentence: str
    against: str | None = None
    exceptions: tuple[str, ...] = ()

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
    phrases: Mapping[str, str] | None = None,
) -> Verdict:
    """Compare with the baseline that scored highest in the deciding metric, or with the reference.

    Where a comparison has a margin, it alone is looked at (see `_judge_margin`); else:

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
        phrases: What the sentence calls a baseline, where that is not its name.
    """
    called = phrases or {}
    rivals = [one for one in comparisons if one.metric == metric]
    title = title[:1].lower() + title[1:] if title[1:2].islower() else title
    subject = f"the {name} model" if name != "model" else "the model"
    if not rivals:
        score = _level(means[name], 1.0 if 0 <= means[name] <= 1 else 2.0)
        return Verdict(
            "not_compared",
            f"{subject[0].upper()}{subject[1:]} reaches {score} {title} on {_rows(n)}; nothing to "
            "compare with.",
        )
    reference = next((one for one in rivals if one.margin is not None), None)
    if reference is not None:
        theirs = called.get(reference.b, reference.b)
        return _judge_margin(subject, means[name], reference, theirs, title, n, confidence)
    best = max(rivals, key=lambda one: means[one.b])
    level, strongest = _level(means[name], best.scale), called.get(best.b, best.b)
    within = strongest  # where the sentence goes on behind it
    if len(rivals) > 1:
        strongest += ", the strongest alternative"
        within = f"{strongest},"
    gap = _points(abs(best.difference), best.scale)
    span = (
        f"{confidence * 100:g}% interval {_signed(best.low, best.scale)} to "
        f"{_signed(best.high, best.scale)}, {_rows(n)}"
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
    differs = f"differs from {within} by {change} in {title}"
    if best.deviation == 0 and best.difference == 0:
        differs = f"scores the same as {within} on every row in {title}"
    elif _alike(best):
        differs += ", and by as much on every row"
    return Verdict(
        "inconclusive",
        f"Cannot tell: {subject} {differs} ({span}). {_advice(best, worth, confidence, n)}",
        best.b,
    )


def _judge_margin(
    subject: str,
    mean: float,
    one: Comparison,
    theirs: str,
    title: str,
    n: int,
    confidence: float,
) -> Verdict:
    """Compare with the reference of a non-inferiority question.

    - ``better``: a loss beyond the margin is ruled out, and the model is surely better.
    - ``not_worse``: a loss beyond the margin is ruled out.
    - ``worse``: surely worse, by more than the margin or by an unknown part of it.
    - ``inconclusive``: a loss beyond the margin is possible, and so is none.
    """
    margin = one.margin or 0.0
    allowed = _points(margin, one.scale)
    figures = (
        f"difference {_signed(one.difference, one.scale)}, {confidence * 100:g}% interval "
        f"{_signed(one.low, one.scale)} to {_signed(one.high, one.scale)}, {_rows(n)}"
    )
    sure = one.p < 1 - confidence
    level = _level(mean, one.scale)
    if one.not_worse and sure and one.low > 0:
        return Verdict(
            "better",
            f"Worth it: {subject} reaches {level} {title} and is better than {theirs} ({figures}).",
            one.b,
        )
    if one.not_worse:
        return Verdict(
            "not_worse",
            f"Not worse: {subject} reaches {level} {title}, and a loss of {allowed} or more "
            f"against {theirs} is ruled out ({figures}).",
            one.b,
        )
    if sure and one.high < 0:
        much = "by more than" if one.high < -margin else "and not shown to be within"
        return Verdict(
            "worse",
            f"Worse: {subject} reaches {level} {title}, worse than {theirs} {much} the margin of "
            f"{allowed} ({figures}).",
            one.b,
        )
    deviation = one.deviation or one.scale / n**0.5
    needed = rows_needed(margin, deviation=deviation, confidence=confidence)
    advice = (
        f"To rule it out, test on about {_round(needed)} rows."
        if needed > n
        else "More rows would tell."
    )
    return Verdict(
        "inconclusive",
        f"Cannot tell: a loss of {allowed} against {theirs} in {title} is not ruled out "
        f"({figures}). {advice}",
        one.b,
    )


def with_slices(verdict: Verdict, slices: Sequence[Slice], title: str, scale: float) -> Verdict:
    """The verdict with the slices that got worse named in it.

    A model that is not shown to be better as a whole and lost a part is ``worse_in_part``.
    """
    lost = [one for one in slices if one.worse and one.difference is not None]
    if not lost:
        return verdict
    lost.sort(key=lambda one: one.difference or 0.0)
    told = ", ".join(
        f"{one.name} ({_signed(one.difference or 0.0, scale)}, {_rows(one.n)})" for one in lost[:3]
    )
    if len(lost) > 3:
        told += f" and {len(lost) - 3} more"
    names = tuple(one.name for one in lost)
    if verdict.code in ("no_better", "inconclusive"):
        sentence = (
            f"Worse in part: against {lost[0].against} it loses {title} on {told}. "
            f"Over all rows: {verdict.sentence[0].lower()}{verdict.sentence[1:]}"
        )
        return Verdict("worse_in_part", sentence, verdict.against, names)
    joint = "Most" if verdict.code == "worse" else "But worse"
    return Verdict(verdict.code, f"{verdict.sentence} {joint} on {told}.", verdict.against, names)


def _alike(one: Comparison) -> bool:
    """Every row (of two or more, none in a group) differs by the same part of the scale."""
    same = one.n > 1 and one.deviation < 1e-12 < abs(one.difference) < one.scale - 1e-12
    return same and "groups" not in one.test


def _advice(one: Comparison, worth: float, confidence: float, n: int) -> str:
    if _alike(one):
        # Where `paired_difference` rules out that rows which were not drawn undo it.
        size = abs(one.difference) / one.scale
        needed = ceil(log((1 - confidence) / 2) / -log1p(size))
        if needed > one.n:
            return (
                "So few rows may leave out some that differ the other way, and by more; if "
                f"{needed} rows do the same, it is sure."
            )
    # Without any row that differs the deviation is unknown; one differing row is the least.
    deviation = one.deviation or one.scale / n**0.5
    unit = minimum_detectable_effect(1, deviation=deviation, confidence=confidence)
    needed = ceil((unit / worth) ** 2)
    if needed > n:
        return f"To see a gain of {_points(worth, one.scale)}, test on about {_round(needed)} rows."
    return "A gain is possible but not shown; test on more rows."


def _rows(number: int) -> str:
    return "1 row" if number == 1 else f"{number} rows"


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

"""From answers to numbers: scores of each candidate, and the first one against the others."""

from __future__ import annotations

from collections.abc import Sequence
from itertools import permutations
from pathlib import Path
from typing import Any

from unift.evaluate import _classification as classification
from unift.evaluate._candidates import Candidate
from unift.evaluate._code import in_parallel
from unift.evaluate._cost import price_of, usd_per_1000
from unift.evaluate._metrics import Metric
from unift.evaluate._not_worse import not_worse
from unift.evaluate._preference import PREFERENCE
from unift.evaluate._recorded import PREFIX, Recorded, recorded, reply_text
from unift.evaluate._result import Result
from unift.evaluate._rows import Row, without_reasoning
from unift.evaluate._statistics import (
    RESAMPLES,
    holm,
    minimum_detectable_effect,
    paired_difference,
    rows_needed,
    scale,
)
from unift.evaluate._task import Task
from unift.evaluate._verdict import Comparison
from unift.provider import Reply


def score(
    candidate: Candidate,
    replies: Sequence[Reply],
    rows: Sequence[Row],
    task: Task,
    data: str | Path,
) -> Result:
    """Scores of every metric, one a row; of a golden set with several draws, means over them.

    A golden set that is asked for its own prompts is scored draw against draw, each against the
    others: that is how far the recorded model agrees with itself.
    """
    source, draws, own = candidate.source, None, False
    if isinstance(source, Recorded):
        draws = tuple(tuple(source.draws(row.prompt, row.tools)) for row in rows)
        own = str(data).startswith(PREFIX) and recorded(str(data)).digest == source.digest
        if all(len(some) == 1 for some in draws):
            draws = None
    scores: dict[str, tuple[float, ...]] = {}
    agreement: dict[str, float] = {}
    for metric in task.metrics:
        if metric is PREFERENCE:
            continue  # a pair has it, no answer by itself
        if draws is None:
            texts = [(reply_text(reply),) for reply in replies]
        else:
            texts = [tuple(map(reply_text, some)) for some in draws]
            if metric.targets is None:
                pairs = [_among(metric, some) for some in texts if len(some) > 1]
                agreement[metric.name] = sum(pairs) / len(pairs)
        if metric.targets is not None:
            scores[metric.name] = tuple(_by_row(metric, texts, rows))
            continue
        scores[metric.name] = tuple(
            _among(metric, some)
            if own and len(some) > 1
            else _mean([metric.rate(text, target) for text in some for target in row.targets])
            for some, row in zip(texts, rows, strict=True)
        )
    means = {name: _mean(values) for name, values in scores.items()}
    if task.kind == "labels" and classification.available():
        given = scored_texts(replies, rows)
        means["macro_f1"] = classification.macro_f1(given, [row.target for row in rows])
    return Result(
        candidate.name, candidate.reference, candidate.about, tuple(replies), scores, means,
        draws, agreement or None, usd_per_1000(price_of(candidate.reference), replies),
    )  # fmt: skip


def scored_texts(replies: Sequence[Reply], rows: Sequence[Row]) -> list[str]:
    """What metrics see of each answer."""
    return [
        without_reasoning(reply_text(reply), row.target)
        for reply, row in zip(replies, rows, strict=True)
    ]


def _by_row(metric: Metric, texts: Sequence[Sequence[str]], rows: Sequence[Row]) -> list[float]:
    """Scores by what the row itself says is right; such a metric may take its time."""

    def one(pair: tuple[Sequence[str], tuple[str, ...]]) -> float:
        return _mean([metric.rate(text, target) for text in pair[0] for target in pair[1]])

    targets = [metric.targets(row) if metric.targets else row.targets for row in rows]
    return in_parallel(one, list(zip(texts, targets, strict=True)))


def _among(metric: Metric, texts: Sequence[str]) -> float:
    """Mean score of each text against each of the others."""
    return _mean([metric.rate(a, b) for a, b in permutations(texts, 2)])


def _mean(values: Sequence[float]) -> float:
    return sum(values) / len(values)


def compare(
    results: Sequence[Result],
    metrics: Sequence[Metric],
    confidence: float,
    seed: int,
    *,
    groups: Sequence[str] | None = None,
    margin: float | None = None,
    reference: str | None = None,
    resamples: int = RESAMPLES,
) -> list[Comparison]:
    """The first result against each other one, in every metric; corrected (Holm) by metric."""
    own, rivals = results[0], results[1:]
    found: list[Comparison] = []
    for metric in metrics:
        key = metric.name
        pairs = [
            paired_difference(
                _against(own, rival, metric),
                rival.scores[key],
                confidence=confidence,
                seed=seed,
                groups=groups,
                resamples=resamples,
            )
            for rival in rivals
        ]
        corrected = holm([pair.p for pair in pairs])
        for rival, pair, p_adjusted in zip(rivals, pairs, corrected, strict=True):
            asked: dict[str, Any] = {}
            if margin is not None and rival.name == reference and metric is metrics[0]:
                tested = not_worse(
                    _against(own, rival, metric), rival.scores[key], pair, margin,
                    confidence=confidence, groups=groups,
                )  # fmt: skip
                asked = {
                    "margin": margin,
                    "not_worse": tested.holds,
                    "p_not_worse": tested.p,
                    "test_not_worse": tested.test,
                }
            found.append(
                Comparison(
                    a=own.name,
                    b=rival.name,
                    metric=key,
                    difference=pair.value,
                    low=pair.low,
                    high=pair.high,
                    p=pair.p,
                    p_adjusted=p_adjusted,
                    test=pair.test,
                    n=pair.n,
                    scale=scale(_against(own, rival, metric), rival.scores[key]),
                    deviation=pair.deviation,
                    detectable=minimum_detectable_effect(
                        pair.n, deviation=pair.deviation or 0.5, confidence=confidence
                    ),
                    **asked,
                )
            )
    return found


def _against(own: Result, rival: Result, metric: Metric) -> Sequence[float]:
    if metric is PREFERENCE:  # differs with the rival, and what one side lacks the other has
        return [1 - share for share in rival.scores[metric.name]]
    return own.scores[metric.name]


def non_inferiority(comparisons: Sequence[Comparison], confidence: float) -> dict[str, Any] | None:
    """The comparison with the reference, by itself; None without a margin."""
    one = next((one for one in comparisons if one.margin is not None), None)
    if one is None:
        return None
    return {
        "reference": one.b,
        "metric": one.metric,
        "margin": one.margin,
        "holds": one.not_worse,
        "difference": one.difference,
        "low": one.low,
        "high": one.high,
        "p": one.p_not_worse,
        "test": one.test_not_worse,
        "confidence": confidence,
        "rows_needed": rows_needed(
            one.margin or 1.0, deviation=one.deviation or 0.5, confidence=confidence
        ),
    }

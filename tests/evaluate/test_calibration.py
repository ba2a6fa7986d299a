"""2,000 simulated evaluations: intervals cover at their level, verdicts are seldom false.

Each goes through the public statistics and the very verdict that `unift.evaluate` gives, slices and
several baselines included. Only the answers are drawn.
"""

from __future__ import annotations

import numpy as np

from unift.evaluate import Result, not_worse, paired_difference
from unift.evaluate._metrics import ACCURACY
from unift.evaluate._rows import Row
from unift.evaluate._scoring import compare
from unift.evaluate._slices import compare_slices
from unift.evaluate._task import Task
from unift.evaluate._verdict import judge, with_slices

SIMULATIONS = 2000
# Fewer than the default, for speed; more resamples only make the interval's ends steadier.
RESAMPLES = 400
FEW = 100  # a verdict needs the exact test as well, which resamples nothing


def drawn(rng: np.random.Generator, kind: int, n: int) -> tuple[np.ndarray, np.ndarray, float]:
    """Scores of two candidates on n rows and the true difference of their means."""
    if kind == 0:  # right or wrong: 20 % won, 10 % lost
        luck = rng.random(n)
        a = np.where(luck < 0.2, 1.0, np.where(luck < 0.3, 0.0, rng.random(n) < 0.6))
        b = np.where(luck < 0.2, 0.0, np.where(luck < 0.3, 1.0, a))
        return a, b, 0.1
    if kind == 1:  # right or wrong, nothing gained: 12 % each way
        luck = rng.random(n)
        a = np.where(luck < 0.12, 1.0, np.where(luck < 0.24, 0.0, 1.0))
        b = np.where(luck < 0.12, 0.0, 1.0)
        return a, b, 0.0
    if kind == 2:  # shares, skewed
        a, b = rng.beta(5, 2, n), rng.beta(4, 2, n)
        return a, b, 5 / 7 - 4 / 6
    a = rng.integers(0, 5, n) / 4  # five steps, most rows equal
    b = np.where(rng.random(n) < 0.7, a, rng.integers(0, 5, n) / 4)
    return a, b, 0.0


def test_intervals_cover_and_differences_are_not_invented() -> None:
    rng = np.random.default_rng(5)
    covered, alarms, null = 0, 0, 0
    for number in range(SIMULATIONS):
        a, b, truth = drawn(rng, number % 4, 120)
        found = paired_difference(a, b, seed=number, resamples=RESAMPLES)
        covered += found.low <= truth <= found.high
        if truth == 0.0:
            null += 1
            alarms += found.p < 0.05
    assert 0.93 <= covered / SIMULATIONS <= 0.97, covered / SIMULATIONS
    assert alarms / null < 0.05 + 2 * (0.05 * 0.95 / null) ** 0.5, alarms / null


def test_groups_keep_the_level() -> None:
    """Rows of a group share their luck; rows taken one by one would cover far less."""
    rng = np.random.default_rng(9)
    sims, k, each = 150, 40, 6
    member = list(np.repeat(np.arange(k), each))
    covered = naive = 0
    for number in range(sims):
        shared = np.repeat(rng.normal(0, 0.2, k), each)
        a = 0.5 + shared + rng.normal(0, 0.1, k * each)
        b = np.full(k * each, 0.5)
        found = paired_difference(a, b, seed=number, resamples=RESAMPLES, groups=member)
        alone = paired_difference(a, b, seed=number, resamples=RESAMPLES)
        covered += found.low <= 0 <= found.high
        naive += alone.low <= 0 <= alone.high
    assert 0.90 <= covered / sims <= 0.99
    assert naive / sims < 0.7


def test_verdicts_are_false_in_fewer_than_5_percent() -> None:
    """Nobody is better or worse, on the whole or in any part; two baselines, two labels."""
    rng = np.random.default_rng(3)
    n, sims = 120, SIMULATIONS
    labels = ["a", "b"]
    rows = [Row(({"role": "user", "content": str(i)},), labels[i % 4 == 0], i) for i in range(n)]
    task = Task("labels", (ACCURACY,), "")
    false = 0
    for number in range(sims):
        skill = rng.random(n)  # what is hard for one is hard for all

        def answers(skill: np.ndarray = skill) -> tuple[float, ...]:
            return tuple((skill + rng.normal(0, 0.35, n) > 0.45).astype(float).tolist())

        results = [
            Result(name, name, "", (), {"accuracy": scores}, {"accuracy": sum(scores) / n})
            for name, scores in ((one, answers()) for one in ("new", "base", "few-shot"))
        ]
        comparisons = compare(results, task.metrics, 0.95, number, resamples=FEW)
        means = {one.name: one.metrics["accuracy"] for one in results}
        verdict = judge(
            "new", means, comparisons, metric="accuracy", title="Accuracy", n=n, confidence=0.95
        )
        parts = compare_slices(
            rows, task, (), results, verdict.against,
            metric=ACCURACY, confidence=0.95, seed=number, resamples=FEW,
        )  # fmt: skip
        final = with_slices(verdict, parts, "accuracy", 1.0)
        false += final.code in ("better", "worse", "worse_in_part") or bool(final.exceptions)
    assert false / sims < 0.05, false / sims


def test_a_model_that_is_worse_by_the_margin_seldom_passes() -> None:
    """At the border of the margin "not worse" is said in at most 2.5 % of the cases."""
    rng = np.random.default_rng(7)
    sims, n, margin = SIMULATIONS // 2, 200, 0.05
    passed = 0
    for number in range(sims):
        luck = rng.random(n)
        a = np.where(luck < 0.10, 0.0, 1.0)  # 10 % lost, 5 % won
        b = np.where((luck >= 0.10) & (luck < 0.15), 0.0, 1.0)
        found = paired_difference(a, b, seed=number, resamples=RESAMPLES)
        passed += not_worse(a, b, found, margin).holds
    assert passed / sims < 0.025 + 2 * (0.025 * 0.975 / sims) ** 0.5, passed / sims

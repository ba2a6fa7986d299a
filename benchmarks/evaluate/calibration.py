"""How often intervals cover the truth, and how often a verdict or a slice is named falsely.

    python calibration.py [--simulations 2000] [--parts intervals clusters verdicts slices alike]

Everything goes through the public statistics and the verdict of `unift.evaluate`; only the answers
are drawn. One core, one process.
"""

from __future__ import annotations

import argparse
from collections.abc import Callable

import numpy as np

from unift.evaluate import Result, paired_difference
from unift.evaluate._metrics import ACCURACY
from unift.evaluate._rows import Row
from unift.evaluate._scoring import compare
from unift.evaluate._slices import compare_slices
from unift.evaluate._task import Task
from unift.evaluate._verdict import judge, with_slices

Rng = np.random.Generator
Pair = tuple[np.ndarray, np.ndarray]
Draw = Callable[[Rng, int], Pair]
RESAMPLES = 500  # more only make the ends of an interval steadier


def flips(won: float, lost: float) -> Draw:
    """Right and wrong: shares of the rows that are won and lost, half of the others right."""

    def draw(rng: Rng, n: int) -> Pair:
        luck, rest = rng.random(n), (rng.random(n) < 0.5).astype(float)
        a = np.where(luck < won, 1.0, np.where(luck < won + lost, 0.0, rest))
        b = np.where(luck < won, 0.0, np.where(luck < won + lost, 1.0, rest))
        return a, b

    return draw


def mostly_right(share_a: float, share_b: float) -> Draw:
    """Shares of fields: 1.0 in most rows, anything below in the others."""

    def draw(rng: Rng, n: int) -> Pair:
        a = np.where(rng.random(n) < share_a, 1.0, rng.random(n))
        b = np.where(rng.random(n) < share_b, 1.0, rng.random(n))
        return a, b

    return draw


def overlap(rng: Rng, n: int) -> Pair:
    """Token F1: both vary, and what is hard for one is hard for the other."""
    hard = rng.beta(4, 2, n)
    a, b = hard + rng.normal(0.02, 0.1, n), hard + rng.normal(0, 0.1, n)
    return np.clip(a, 0, 1), np.clip(b, 0, 1)


SCORES: dict[str, Draw] = {
    "right or wrong, 20% won, 10% lost": flips(0.2, 0.1),
    "right or wrong, 12% each way": flips(0.12, 0.12),
    "right or wrong, 3% won, none lost": flips(0.03, 0.0),
    "right or wrong, 30% won, 2% lost": flips(0.3, 0.02),
    "shares, 95% and 90% of rows 1.0": mostly_right(0.95, 0.90),
    "shares, 98% of rows 1.0 on both sides": mostly_right(0.98, 0.98),
    "graded, both vary": overlap,
}


def intervals(sims: int) -> None:
    print("| scores | n = 30 | n = 60 | n = 120 | n = 500 |\n| --- | --- | --- | --- | --- |")
    total = covered_all = 0
    for name, draw in SCORES.items():
        rng = np.random.default_rng(11)
        a, b = draw(rng, 2_000_000)
        truth = float((a - b).mean())
        cells: list[str] = []
        for n in (30, 60, 120, 500):
            covered = 0
            for number in range(sims):
                a, b = draw(rng, n)
                found = paired_difference(a, b, seed=number, resamples=RESAMPLES)
                covered += found.low <= truth <= found.high
            cells.append(f"{covered / sims:.1%}")
            total, covered_all = total + sims, covered_all + covered
        print(f"| {name} | " + " | ".join(cells) + " |", flush=True)
    print(f"\nAll {total} together: {covered_all / total:.1%}.\n")


def clusters(sims: int) -> None:
    print("| groups of 6 rows | coverage | rows taken one by one |\n| --- | --- | --- |")
    for k in (10, 20, 40, 80):
        rng, member = np.random.default_rng(9), np.repeat(np.arange(k), 6).tolist()
        covered = naive = 0
        for number in range(sims):
            luck = np.repeat(rng.normal(0, 0.6, k), 6)  # how the group treats one candidate
            hard = rng.normal(0, 1, 6 * k)
            a, b = (hard + luck > 0).astype(float), (hard + rng.normal(0, 0.6, 6 * k) > 0)
            b = b.astype(float)
            found = paired_difference(a, b, seed=number, resamples=RESAMPLES, groups=member)
            alone = paired_difference(a, b, seed=number, resamples=RESAMPLES)
            covered += found.low <= 0 <= found.high
            naive += alone.low <= 0 <= alone.high
        print(f"| {k} | {covered / sims:.1%} | {naive / sims:.1%} |", flush=True)
    print()


def answers(
    rng: Rng, skill: np.ndarray, graded: bool, gain: np.ndarray | float = 0.0
) -> list[float]:
    """Scores of one candidate: right or wrong, or 1.0 in most rows and less in hard ones."""
    level = skill + rng.normal(0, 0.35, skill.size) + gain
    scores = np.clip(level * 2 + 0.3, 0, 1) if graded else level > 0.45
    return scores.astype(float).tolist()


def evaluated(
    rng: Rng, n: int, *, rivals: int, graded: bool, gain: float = 0.0, harm: float = 0.0
) -> tuple[str, list[str]]:
    """The code of a verdict and the slices named as worse: two labels, three lengths, two keys.

    `gain` is what the new model is better by, `harm` what it is worse by on the rarer label.
    """
    labels = ["rare" if i % 6 == 0 else "common" for i in range(n)]
    rows = [
        Row(
            ({"role": "user", "content": "a " * int(rng.integers(3, 18))},), labels[i], i,
            extra={"customer": str(rng.integers(0, 8)), "shop": str(rng.integers(0, 3))},
        )
        for i in range(n)
    ]  # fmt: skip
    skill = rng.random(n)  # what is hard for one is hard for all
    change = np.array([gain - harm * (label == "rare") for label in labels])
    drawn = {"new": answers(rng, skill, graded, change)}
    drawn |= {f"rival {i}": answers(rng, skill, graded) for i in range(rivals)}
    results = [
        Result(name, name, "", (), {"accuracy": tuple(scores)}, {"accuracy": sum(scores) / n})
        for name, scores in drawn.items()
    ]
    task, seed = Task("labels", (ACCURACY,), ""), int(rng.integers(1 << 30))
    comparisons = compare(results, task.metrics, 0.95, seed, resamples=RESAMPLES)
    means = {one.name: one.metrics["accuracy"] for one in results}
    verdict = judge(
        "new", means, comparisons, metric="accuracy", title="Accuracy", n=n, confidence=0.95
    )
    parts = compare_slices(
        rows, task, ("customer", "shop"), results, verdict.against,
        metric=ACCURACY, confidence=0.95, seed=seed, resamples=RESAMPLES,
    )  # fmt: skip
    final = with_slices(verdict, parts, "accuracy", 1.0)
    return final.code, list(final.exceptions)


def verdicts(sims: int) -> None:
    """Nobody is better or worse, as a whole or in any part."""
    print("| scores | rows | baselines | better | worse | a slice named worse | any of them |")
    print("| --- | --- | --- | --- | --- | --- | --- |")
    for graded in (False, True):
        for n in (30, 60, 120, 300):
            for rivals in (1, 4) if n < 300 else (1,):
                rng = np.random.default_rng(n + rivals)
                found = [evaluated(rng, n, rivals=rivals, graded=graded) for _ in range(sims)]
                better = sum(code == "better" for code, _ in found)
                worse = sum(code == "worse" for code, _ in found)
                named = sum(bool(parts) for _, parts in found)
                wrong = {"better", "worse", "worse_in_part"}
                false = sum(code in wrong or bool(parts) for code, parts in found)
                shares = " | ".join(f"{one / sims:.1%}" for one in (better, worse, named, false))
                name = "graded" if graded else "right or wrong"
                print(f"| {name} | {n} | {rivals} | {shares} |", flush=True)
    print()


def slices(sims: int) -> None:
    """A model that is better on the whole: which slices are named as worse?"""
    print("| rows | better by | worse on the rarer label by | that label named | another named |")
    print("| --- | --- | --- | --- | --- |")
    for n in (120, 300):
        for gain, harm in ((0.1, 0.0), (0.3, 0.0), (0.1, 0.5), (0.1, 1.0)):
            rng = np.random.default_rng(n)
            found = [
                evaluated(rng, n, rivals=1, graded=False, gain=gain, harm=harm)[1]
                for _ in range(sims)
            ]
            right = sum("label 'rare'" in parts for parts in found)
            other = sum(any(part != "label 'rare'" for part in parts) for parts in found)
            said = f"{right / sims:.1%} | {other / sims:.1%}"
            print(f"| {n} | {gain:g} | {max(0.0, harm - gain):g} | {said} |", flush=True)
    print()


def alike(sims: int) -> None:
    """One field of five is lost in every row, but in a share of rows the other broke its JSON."""
    print("| rows | share of the others broken | true difference | coverage | worse | better |")
    print("| --- | --- | --- | --- | --- | --- |")
    for n in (9, 15, 30):
        for broken in (0.0, 0.05, 0.15, 0.2):
            rng = np.random.default_rng(n)
            truth = 0.8 - (1 - broken)
            covered = worse = better = 0
            for number in range(sims):
                b = (rng.random(n) >= broken).astype(float)
                found = paired_difference(np.full(n, 0.8), b, seed=number, resamples=RESAMPLES)
                covered += found.low <= truth + 1e-9 and truth - 1e-9 <= found.high
                worse += found.high < 0 and found.p < 0.05
                better += found.low > 0 and found.p < 0.05
            shares = " | ".join(f"{one / sims:.1%}" for one in (covered, worse, better))
            print(f"| {n} | {broken:.0%} | {truth:+.2f} | {shares} |", flush=True)
    print()


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--simulations", type=int, default=2000)
    parts = {"intervals": intervals, "clusters": clusters, "verdicts": verdicts, "slices": slices,
             "alike": alike}  # fmt: skip
    parser.add_argument("--parts", nargs="*", choices=list(parts), default=list(parts))
    args = parser.parse_args()
    for name in args.parts:
        parts[name](args.simulations)


if __name__ == "__main__":
    main()

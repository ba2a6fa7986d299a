"""The verdict: which code, against whom, and what the sentence says."""

from __future__ import annotations

import re

import pytest

from unift.evaluate import Comparison, Verdict, paired_difference
from unift.evaluate._verdict import judge


def against(
    b: str, difference: float, low: float, high: float, p: float, scale: float = 1.0
) -> Comparison:
    return Comparison(
        "fine-tuned", b, "accuracy", difference, low, high, p, p, "McNemar exact", 100, scale,
        0.4, 0.1,
    )  # fmt: skip


def verdict(*comparisons: Comparison, own: float = 0.9) -> Verdict:
    means = {"fine-tuned": own, **{one.b: own - one.difference for one in comparisons}}
    return judge(
        "fine-tuned",
        means,
        comparisons,
        metric="accuracy",
        title="Accuracy",
        n=100,
        confidence=0.95,
    )


@pytest.mark.parametrize(
    ("comparison", "code"),
    [
        (against("base", 0.3, 0.2, 0.4, 0.001), "better"),
        (against("base", 0.3, 0.2, 0.4, 0.08), "inconclusive"),  # the test does not agree
        (against("base", -0.3, -0.4, -0.2, 0.001), "worse"),
        (against("base", 0.01, -0.02, 0.03, 0.6), "no_better"),
        (against("base", 0.02, -0.1, 0.15, 0.6), "inconclusive"),
    ],
)
def test_codes(comparison: Comparison, code: str) -> None:
    assert verdict(comparison).code == code


def test_the_strongest_baseline_decides() -> None:
    found = verdict(
        against("base", 0.5, 0.4, 0.6, 0.001), against("prompt:best.txt", 0.01, -0.02, 0.03, 0.7)
    )
    assert (found.code, found.against) == ("no_better", "prompt:best.txt")


def test_the_strongest_baseline_is_set_off_by_commas() -> None:
    found = verdict(against("base", 0.02, -0.1, 0.15, 0.6), against("old", 0.5, 0.4, 0.6, 0.001))
    assert "differs from base, the strongest alternative, by +2.0 in accuracy" in str(found)


def test_the_sentence_quotes_difference_interval_and_rows() -> None:
    found = verdict(against("base", 0.3, 0.2, 0.4, 0.001))
    assert str(found) == (
        "Worth it: the fine-tuned model reaches 90.0% accuracy, 30.0 points above base "
        "(95% interval +20.0 to +40.0, 100 rows)."
    )


def test_inconclusive_says_how_many_rows_would_tell() -> None:
    # ((1.95996 + 0.84162) * 0.4 / 0.05) ** 2 = 502.3
    assert "about 550 rows" in str(verdict(against("base", 0.02, -0.1, 0.15, 0.6)))


@pytest.mark.parametrize("loss", [0.2, 0.4])
def test_rows_that_all_differ_alike_are_told_how_many_would_do(loss: float) -> None:
    """One field of five: the number that the sentence gives is the first that is sure."""

    def on(rows: int) -> Verdict:
        own, base = [1 - loss] * rows, [1.0] * rows
        found = paired_difference(own, base)
        one = Comparison(
            "fine-tuned", "base", "accuracy", found.value, found.low, found.high, found.p, found.p,
            found.test, rows, 1.0, found.deviation, 0.1,
        )  # fmt: skip
        return verdict(one, own=1 - loss)

    few = on(9)
    assert few.code == "inconclusive"
    assert "by as much on every row" in str(few)
    found = re.search(r"if (\d+) rows do the same", str(few))
    assert found is not None
    enough = int(found[1])
    assert on(enough).code == "worse"
    assert on(enough - 1).code != "worse"


def test_other_scales_are_not_shown_as_percentages() -> None:
    found = verdict(against("base", 12.0, 8.0, 16.0, 0.001, scale=50.0), own=40.0)
    assert "40 accuracy, 12 above base (95% interval +8 to +16" in str(found)


def test_nothing_to_compare_with() -> None:
    found = verdict()
    assert found.code == "not_compared"
    assert "90.0% accuracy on 100 rows" in str(found)

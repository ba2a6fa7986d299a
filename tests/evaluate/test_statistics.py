"""Paired statistics: hand-checked values, edge cases and calibration."""

from __future__ import annotations

import random

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from unift.evaluate import holm, minimum_detectable_effect, paired_difference


def test_difference_of_means_and_exact_mcnemar() -> None:
    a = [1.0] * 9 + [0.0] + [1.0] * 10
    b = [0.0] * 9 + [1.0] + [1.0] * 10
    found = paired_difference(a, b)
    assert found.value == pytest.approx(0.4)
    # 9 wins and 1 loss: 2 * (C(10,0) + C(10,1)) / 2**10
    assert found.p == pytest.approx(2 * 11 / 1024)
    assert found.test == "McNemar exact"
    assert 0 < found.low < 0.4 < found.high < 0.8
    assert found.n == 20


def test_graded_scores_use_the_permutation_test() -> None:
    a, b = [0.5, 0.75, 1.0, 0.8, 0.6], [0.25, 0.5, 0.75, 0.5, 0.5]
    found = paired_difference(a, b)
    assert found.test == "sign-flip permutation"
    # All five differences are positive: 2 of the 2**5 sign patterns are as extreme.
    assert found.p == pytest.approx(2 / 32)


def test_same_input_same_output() -> None:
    random.seed(1)
    a = [random.random() for _ in range(60)]
    b = [random.random() for _ in range(60)]
    assert paired_difference(a, b, seed=4) == paired_difference(a, b, seed=4)
    assert paired_difference(a, b, seed=4).low != paired_difference(a, b, seed=5).low


def test_without_any_difference_the_interval_is_not_a_point() -> None:
    few, many = (paired_difference([1.0] * n, [1.0] * n) for n in (10, 1000))
    assert few.p == many.p == 1.0
    # Clopper-Pearson for 0 of n at 97.5 %: 1 - 0.025 ** (1 / n)
    assert few.high == pytest.approx(1 - 0.025 ** (1 / 10))
    assert few.low == -few.high
    assert many.high < 0.005


def test_scores_beyond_one_keep_their_scale() -> None:
    found = paired_difference([30.0, 28.0, 35.0, 31.0], [20.0, 19.0, 22.0, 25.0])
    assert found.value == pytest.approx(9.5)
    assert 5 < found.low < 9.5 < found.high < 14


@pytest.mark.parametrize(("a", "b"), [([], []), ([1.0], [1.0, 0.0])])
def test_scores_that_are_not_paired_are_refused(a: list[float], b: list[float]) -> None:
    with pytest.raises(ValueError, match="equally long"):
        paired_difference(a, b)


scores = st.sampled_from([0.0, 0.25, 0.5, 1.0])


@settings(max_examples=80, deadline=None)
@given(st.lists(st.tuples(scores, scores), min_size=1, max_size=25))
def test_any_scores_give_an_ordered_interval_around_the_difference(
    pairs: list[tuple[float, float]],
) -> None:
    a, b = [x for x, _ in pairs], [y for _, y in pairs]
    found = paired_difference(a, b, resamples=200)
    assert -1 <= found.low <= found.value + 1e-9
    assert found.value - 1e-9 <= found.high <= 1
    assert 0 < found.p <= 1
    swapped = paired_difference(b, a, resamples=200)
    assert swapped.value == pytest.approx(-found.value)
    assert swapped.test == found.test


def test_holm_by_hand() -> None:
    # Holm 1979: smallest times 3, next times 2, last times 1, never falling.
    assert holm([0.01, 0.04, 0.03]) == pytest.approx([0.03, 0.06, 0.06])
    assert holm([0.5, 0.9]) == pytest.approx([1.0, 1.0])
    assert holm([]) == []


def test_minimum_detectable_effect() -> None:
    # (1.959964 + 0.841621) * 0.5 / sqrt(100)
    assert minimum_detectable_effect(100) == pytest.approx(0.14008, abs=1e-5)
    assert minimum_detectable_effect(400) == pytest.approx(minimum_detectable_effect(100) / 2)
    with pytest.raises(ValueError, match="at least 1"):
        minimum_detectable_effect(0)


def test_few_groups_have_no_narrower_interval_than_students() -> None:
    a = [1.0, 1.0, 0.0, 1.0, 0.0, 0.0, 1.0, 1.0]
    found = paired_difference(a, [0.0] * 8, groups=["a", "a", "b", "b", "c", "c", "d", "d"])
    # Four means 1, 0.5, 0, 1: standard error 0.2394, Student's t at 3 degrees of freedom 3.182.
    assert found.low == pytest.approx(0.625 - 3.182 * 0.2394, abs=1e-3)
    assert found.high == 1.0


def test_mostly_perfect_scores_have_no_interval_of_the_bootstrap_alone() -> None:
    """Two rows of sixty differ, both for the worse: wins are not ruled out by that."""
    b = [1.0] * 60
    found = paired_difference([0.4, 0.7, *b[2:]], b)
    assert found.low < -0.03 < found.value < 0.0 < found.high < 0.04

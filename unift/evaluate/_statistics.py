"""Paired statistics: two candidates, the same rows, one score each.

Pairing removes the difficulty of the rows from the comparison, so that far fewer rows are needed
than for two independent samples. scipy does the arithmetic.
"""

from __future__ import annotations

import warnings
from collections.abc import Hashable, Sequence
from dataclasses import dataclass
from math import ceil, inf, isfinite, sqrt
from statistics import NormalDist
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from numpy.typing import NDArray

    Scores = NDArray[Any]

# At least 2,000 for a 95% interval (Efron & Tibshirani 1993, An Introduction to the Bootstrap,
# section 14.5 asks for 1,000 as a minimum); more costs a few milliseconds.
RESAMPLES = 5000
# Rows of resamples held at a time: bounds memory at about BATCH * n * 8 bytes.
_BATCH = 500
# With so few rows that differ the bootstrap's interval is too narrow (down to 72% coverage).
FEW_DIFFER = 20


@dataclass(frozen=True)
class Difference:
    """How much better `a` scored than `b` on the same rows.

    Attributes:
        value: mean(a) - mean(b), in units of the metric.
        low: Lower end of the confidence interval.
        high: Upper end.
        p: Two-sided p-value of "no difference", not corrected for several comparisons.
        test: Name of the test behind `p`.
        n: Number of rows.
        deviation: Standard deviation of the per-row differences (ddof 1; 0 for one row). Where
            rows come in groups it is ``sqrt(n)`` times the standard error of the mean, so that it
            means the same in `minimum_detectable_effect`.
        groups: Number of groups, None where every row stands for itself.
    """

    value: float
    low: float
    high: float
    p: float
    test: str
    n: int
    deviation: float
    groups: int | None = None


def paired_difference(
    a: Sequence[float] | Scores,
    b: Sequence[float] | Scores,
    *,
    confidence: float = 0.95,
    seed: int = 0,
    resamples: int = RESAMPLES,
    groups: Sequence[Hashable] | None = None,
) -> Difference:
    """Compare two candidates on the same rows.

    The interval is the BCa bootstrap of the mean difference (Efron 1987, JASA 82:171-185), and for
    right and wrong the score interval for paired proportions (Tango 1998, Statistics in Medicine
    17:891-908), since resampling knows of no wins where none was drawn. For other scores of which
    most are equal and no more than `FEW_DIFFER` are not, the bootstrap's interval is widened to
    hold the score interval of wins and losses times the root mean square of the differences: a
    convention, by which intervals of mostly perfect scores cover as often as they should
    (``benchmarks/results/calibration.md``).

    When every row differs by the same amount (most often: not at all) there is no variation,
    although the next row may differ; the interval is then what the rows allow that were not drawn:
    the exact binomial bound on their share, ``1 - (alpha/2) ** (1/n)`` (Clopper & Pearson 1934),
    with the largest difference that the scale has on that side.

    The p-value is McNemar's exact test where all scores are 0 or 1 (McNemar 1947, Psychometrika
    12:153-157; exact binomial form), else a sign-flip permutation test of the mean.

    Rows of one group (a customer, a document) resemble each other, so that a hundred of them say
    less than a hundred strangers. With `groups`, whole groups are resampled and whole groups change
    sign (the cluster bootstrap, Davison & Hinkley 1997, Bootstrap Methods, section 3.8); the
    interval holds Student's over groups, without which few groups cover too seldom.

    Args:
        a: Scores of the candidate, shape (n,).
        b: Scores of the baseline on the same rows, shape (n,).
        confidence: Coverage of the interval, between 0 and 1.
        seed: Fixes resampling; same input, same output.
        resamples: Bootstrap resamples and permutations.
        groups: The group of each row, shape (n,); None where every row stands for itself.

    Raises:
        ValueError: The shapes differ or there is no row.
    """
    import numpy as np

    left, right = np.asarray(a, dtype=float), np.asarray(b, dtype=float)
    if left.shape != right.shape or left.ndim != 1 or left.size == 0:
        raise ValueError("paired scores must be two equally long, non-empty lists")
    delta = left - right
    value, n = float(delta.mean()), int(delta.size)
    if groups is not None:
        return _clustered(delta, groups, scale(left, right), confidence, seed, resamples)
    p, test = _p_value(left, right, seed, resamples)
    deviation = float(delta.std(ddof=1)) if n > 1 else 0.0
    if n == 1 or float(np.ptp(delta)) < 1e-12:
        low, high = _unseen(value, n, scale(left, right), confidence)
    elif _right_or_wrong(left, right):
        low, high = _score_interval(int((delta > 0).sum()), int((delta < 0).sum()), n, confidence)
    else:
        low, high = _bootstrap(delta, confidence, seed, resamples)
        some = int(np.count_nonzero(delta))
        if some <= min(FEW_DIFFER, n // 2):
            size = float(np.sqrt((delta**2).sum() / some))
            ends = _score_interval(int((delta > 0).sum()), int((delta < 0).sum()), n, confidence)
            low, high = min(low, ends[0] * size), max(high, ends[1] * size)
    limit = scale(left, right)
    return Difference(value, max(low, -limit), min(high, limit), p, test, n, deviation)


def _clustered(
    delta: Scores,
    groups: Sequence[Hashable],
    limit: float,
    confidence: float,
    seed: int,
    resamples: int,
) -> Difference:
    import numpy as np

    sums, counts = group_sums(delta, groups)
    value, n, k = float(delta.mean()), int(delta.size), int(sums.size)
    test = "sign-flip permutation of groups"
    if k == 1:  # one group says nothing about the next one
        return Difference(value, -limit, limit, 1.0, test, n, 0.0, 1)
    p, _ = _flip(sums, seed, resamples)
    rest = sums - value * counts
    deviation = float(np.sqrt(k / (k - 1) * (rest**2).sum() / n))
    if float(np.ptp(delta)) < 1e-12:
        low, high = _unseen(value, k, limit, confidence)
    else:
        low, high = _bootstrap((sums, counts), confidence, seed, resamples)
        student = float(_scipy_stats().t.ppf(1 - (1 - confidence) / 2, k - 1))
        reach = student * deviation / sqrt(n)
        low, high = min(low, value - reach), max(high, value + reach)
    return Difference(value, max(low, -limit), min(high, limit), p, test, n, deviation, k)


def _unseen(value: float, n: int, limit: float, confidence: float) -> tuple[float, float]:
    """Interval where all of n rows (or groups) differ by the same value."""
    share = 1 - ((1 - confidence) / 2) ** (1 / n)
    return value - share * (limit + value), value + share * (limit - value)


def ratio_difference(
    a: Sequence[float],
    b: Sequence[float],
    counts: Sequence[int],
    *,
    confidence: float = 0.95,
    seed: int = 0,
    resamples: int = RESAMPLES,
) -> Difference:
    """Compare two candidates by sums over texts of different length, per unit of length.

    ``(sum(a) - sum(b)) / sum(counts)``; whole texts are resampled (a ratio estimator; Davison &
    Hinkley 1997, Bootstrap Methods, section 2.4) and whole texts change sign.

    Args:
        a: Sums of the candidate, one a text, shape (n,).
        b: Sums of the baseline on the same texts, shape (n,).
        counts: Units (tokens) of each text, shape (n,).
        confidence: Coverage of the interval.
        seed: Fixes resampling.
        resamples: Bootstrap resamples and permutations.
    """
    import numpy as np

    sums = np.asarray(a, dtype=float) - np.asarray(b, dtype=float)
    sizes = np.asarray(counts, dtype=float)
    value, k = float(sums.sum() / sizes.sum()), int(sums.size)
    rest = sums - value * sizes
    p, test = _flip(sums, seed, resamples)
    low = high = value
    if k > 1 and float(np.ptp(rest)) > 1e-12:
        low, high = _bootstrap((sums, sizes), confidence, seed, resamples)
    deviation = float(np.sqrt(k / max(1, k - 1) * (rest**2).sum() / sizes.sum()))
    return Difference(value, low, high, p, f"{test} of texts", k, deviation, k)


def group_sums(delta: Scores, groups: Sequence[Hashable]) -> tuple[Scores, Scores]:
    """Sum and number of the rows of each group, in order of first appearance.

    Raises:
        ValueError: There is not one group for each row.
    """
    import numpy as np

    if len(groups) != delta.size:
        raise ValueError("groups must be as long as the scores")
    numbers: dict[Hashable, int] = {}
    index = np.array([numbers.setdefault(one, len(numbers)) for one in groups])
    return np.bincount(index, delta), np.bincount(index).astype(float)


def scale(*scores: Sequence[float] | Scores) -> float:
    """Width of the scale of a metric: 1 for scores within 0..1, else the observed range."""
    low = min(0.0, *(float(min(values)) for values in scores))
    high = max(1.0, *(float(max(values)) for values in scores))
    return high - low


def _ratio(sums: Scores, counts: Scores, axis: int = -1) -> Any:
    return sums.sum(axis=axis) / counts.sum(axis=axis)


def _bootstrap(
    sample: Scores | tuple[Scores, Scores], confidence: float, seed: int, resamples: int
) -> tuple[float, float]:
    """Interval of the mean of rows, or of sum / count of groups."""
    import numpy as np

    stats = _scipy_stats()
    low = high = float("nan")
    grouped = isinstance(sample, tuple)
    for method in ("BCa", "percentile"):  # BCa has no answer for some tiny samples
        with np.errstate(all="ignore"), warnings.catch_warnings():
            warnings.simplefilter("ignore")  # scipy warns of exactly those
            found = stats.bootstrap(
                sample if grouped else (sample,),
                _ratio if grouped else np.mean,
                paired=grouped,
                vectorized=True,
                n_resamples=resamples,
                batch=_BATCH,
                confidence_level=confidence,
                method=method,
                rng=np.random.default_rng(seed),
            ).confidence_interval
        low, high = float(found.low), float(found.high)
        if isfinite(low) and isfinite(high):
            break
    return low, high


def _right_or_wrong(a: Scores, b: Scores) -> bool:
    import numpy as np

    return bool(np.isin(a, (0.0, 1.0)).all() and np.isin(b, (0.0, 1.0)).all())


def tango(wins: int, losses: int, n: int, truth: float) -> float:
    """z of "the true difference of two paired shares is `truth`" (Tango 1998, equation 6)."""
    # Largest-likelihood share of lost rows if that were so.
    a = 2 * n
    b = -wins - losses + (2 * n - wins + losses) * truth
    c = -losses * truth * (1 - truth)
    lost = (sqrt(max(0.0, b * b - 4 * a * c)) - b) / (2 * a)
    variance = n * (2 * lost + truth * (1 - truth))
    away = wins - losses - n * truth
    if variance <= 0:
        return inf if away > 0 else -inf
    return away / sqrt(variance)


def _score_interval(wins: int, losses: int, n: int, confidence: float) -> tuple[float, float]:
    """Every difference that the score test does not rule out."""
    reach = NormalDist().inv_cdf(1 - (1 - confidence) / 2)
    ends: list[float] = []
    for sign in (1, -1):  # z falls as `truth` rises
        low, high = -1.0, 1.0
        for _ in range(40):
            middle = (low + high) / 2
            inside = tango(wins, losses, n, middle) > sign * reach
            low, high = (middle, high) if inside else (low, middle)
        ends.append((low + high) / 2)
    return ends[0], ends[1]


def _p_value(a: Scores, b: Scores, seed: int, resamples: int) -> tuple[float, str]:

    stats = _scipy_stats()
    delta = a - b
    if _right_or_wrong(a, b):
        wins, losses = int((delta > 0).sum()), int((delta < 0).sum())
        if wins + losses == 0:
            return 1.0, "McNemar exact"
        return float(stats.binomtest(wins, wins + losses, 0.5).pvalue), "McNemar exact"
    return _flip(delta, seed, resamples)


def _flip(delta: Scores, seed: int, resamples: int) -> tuple[float, str]:
    """Two-sided p-value of "each difference is as likely with the other sign"."""
    import numpy as np

    stats = _scipy_stats()
    changed = delta[np.abs(delta) > 1e-12]  # rows that are equal say nothing about the sign
    if changed.size < 2:  # one difference is as likely with either sign
        return 1.0, "sign-flip permutation"

    def mean(sample: Scores, axis: int) -> Any:
        return sample.mean(axis=axis)

    found = stats.permutation_test(
        (changed,),
        mean,
        permutation_type="samples",
        vectorized=True,
        n_resamples=resamples,
        batch=_BATCH,
        rng=np.random.default_rng(seed),
    )
    return min(1.0, float(found.pvalue)), "sign-flip permutation"


def share_interval(count: int, n: int, confidence: float = 0.95) -> tuple[float, float]:
    """Interval of a share (Wilson 1927, JASA 22:209-212); 0 to 1 where nothing was counted."""
    if not n:
        return 0.0, 1.0
    found = _scipy_stats().binomtest(count, n).proportion_ci(confidence, method="wilson")
    return float(found.low), float(found.high)


def sign_test(wins: int, losses: int) -> float:
    """Two-sided p-value of "each is as likely as the other"; exact binomial."""
    return float(_scipy_stats().binomtest(wins, wins + losses, 0.5).pvalue)


def _scipy_stats() -> Any:
    # scipy ships no type information; everything that comes out of it is converted at once.
    from scipy import stats  # pyright: ignore[reportMissingTypeStubs]  # as said above

    return stats


def holm(p_values: Sequence[float]) -> list[float]:
    """p-values corrected for looking several times, in the order given.

    Step-down method that keeps the chance of any false alarm at its nominal level whatever the
    dependence (Holm 1979, Scandinavian Journal of Statistics 6:65-70).
    """
    order = sorted(range(len(p_values)), key=lambda index: p_values[index])
    corrected = [0.0] * len(p_values)
    highest = 0.0
    for rank, index in enumerate(order):
        highest = max(highest, min(1.0, (len(p_values) - rank) * p_values[index]))
        corrected[index] = highest
    return corrected


def minimum_detectable_effect(
    n: int, *, deviation: float = 0.5, confidence: float = 0.95, power: float = 0.8
) -> float:
    """The smallest true difference that `n` paired rows show with the given power.

    ``(z[1 - alpha/2] + z[power]) * deviation / sqrt(n)``, the normal approximation for a paired
    comparison (Cohen 1988, Statistical Power Analysis, section 2.3).

    Args:
        n: Number of rows.
        deviation: Standard deviation of the per-row differences. Before anything was measured 0.5
            is a fair guess for a right/wrong metric: the two candidates disagree on a quarter of
            the rows, and then the deviation is about the square root of that share.
        confidence: 1 - alpha.
        power: Chance to see an effect of that size.

    Returns:
        A difference in units of the metric.
    """
    if n < 1:
        raise ValueError("n must be at least 1")
    normal = NormalDist()
    reach = normal.inv_cdf(1 - (1 - confidence) / 2) + normal.inv_cdf(power)
    return reach * deviation / sqrt(n)


def rows_needed(
    margin: float, *, deviation: float = 0.5, confidence: float = 0.95, power: float = 0.8
) -> int:
    """How many paired rows show an effect of `margin`, or rule out a loss of `margin`.

    For non-inferiority the true difference is taken to be 0. The inverse of
    `minimum_detectable_effect`; see there for the arguments.
    """
    if not margin > 0:
        raise ValueError("margin must be above 0")
    unit = minimum_detectable_effect(1, deviation=deviation, confidence=confidence, power=power)
    return max(1, ceil((unit / margin) ** 2))

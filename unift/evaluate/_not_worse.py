"""Not worse than another by more than a margin: the question of whoever has to switch.

"No significant difference" is no answer to it: with few rows nothing is significant. Here the
burden is the other way round: a loss of `margin` or more has to be ruled out.
"""

from __future__ import annotations

from collections.abc import Hashable, Sequence
from dataclasses import dataclass
from math import sqrt
from statistics import NormalDist
from typing import TYPE_CHECKING, Any

from unift.evaluate._statistics import Difference, group_sums, scale, tango

if TYPE_CHECKING:
    from numpy.typing import NDArray

    Scores = NDArray[Any]


@dataclass(frozen=True)
class NonInferiority:
    """Whether a loss of `margin` or more is ruled out.

    Attributes:
        margin: The loss that would matter, in units of the metric.
        holds: True if it is ruled out: the lower end of the interval lies above ``-margin`` and `p`
            is at most ``(1 - confidence) / 2``, the convention for such trials (ICH E9, 1998,
            section 3.3.2: half the level of the two-sided interval).
        p: One-sided p-value of "it is worse by `margin` or more".
        test: Name of the test behind `p`.
        fails: True if it is certainly worse by more than `margin`: the interval lies below.
    """

    margin: float
    holds: bool
    p: float
    test: str
    fails: bool


def not_worse(
    a: Sequence[float] | Scores,
    b: Sequence[float] | Scores,
    difference: Difference,
    margin: float,
    *,
    confidence: float = 0.95,
    groups: Sequence[Hashable] | None = None,
) -> NonInferiority:
    """Test that `a` is not worse than `b` by `margin` or more on the same rows.

    Right/wrong scores: the score test for paired proportions (Tango 1998, Statistics in Medicine
    17:891-908, equation 6). Other scores, and groups: Student's test of the mean difference against
    ``-margin``, over groups with the standard error of the cluster bootstrap's ratio. Where all
    rows differ by the same amount: the exact chance to see that if so many rows were lost that
    the mean were ``-margin``.

    Args:
        a: Scores of the candidate, shape (n,).
        b: Scores of the one it is measured against, shape (n,).
        difference: `paired_difference` of the two, with the same groups and confidence.
        margin: Above 0, in units of the metric.
        confidence: As of `difference`.
        groups: The group of each row, or None.
    """
    import numpy as np

    left, right = np.asarray(a, dtype=float), np.asarray(b, dtype=float)
    delta = left - right
    if float(np.ptp(delta)) < 1e-12:
        lost = min(1.0, max(0.0, difference.value + margin) / scale(left, right))
        same = difference.groups or delta.size
        p = (1 - lost) ** same
        test = "exact binomial"
    elif groups is not None:
        p, test = _student(*group_sums(delta, groups), margin), "t test over groups"
    elif bool(np.isin(left, (0.0, 1.0)).all() and np.isin(right, (0.0, 1.0)).all()):
        wins, losses = int((delta > 0).sum()), int((delta < 0).sum())
        p, test = 1 - NormalDist().cdf(tango(wins, losses, delta.size, -margin)), "Tango"
    else:
        p, test = _student(delta, np.ones_like(delta), margin), "paired t test"
    holds = p <= (1 - confidence) / 2 + 1e-12 and difference.low > -margin
    return NonInferiority(margin, bool(holds), float(p), test, bool(difference.high < -margin))


def _student(sums: Scores, counts: Scores, margin: float) -> float:
    from scipy import stats  # pyright: ignore[reportMissingTypeStubs]  # has none

    known: Any = stats
    size = sums.size
    if size < 2:
        return 1.0
    value = float(sums.sum() / counts.sum())
    rest = sums - value * counts
    error = sqrt(size / (size - 1) * float((rest**2).sum())) / float(counts.sum())
    return float(known.t.sf((value + margin) / error, size - 1)) if error else 1.0

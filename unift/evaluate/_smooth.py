"""Loss curves without their noise, and how sure one may be of what is left."""

from __future__ import annotations

import math
from bisect import bisect_left
from collections.abc import Callable
from dataclasses import dataclass
from itertools import pairwise
from statistics import fmean, median, stdev

from unift.report._curves import Curve

# Training losses are smoothed over a twentieth of the points, five at least; validation losses of
# single batches, of which there are fewer, over a fifth.
_TRAIN, _BATCHES = 20, 5
_NARROW = 5
# Standard error of a median over that of a mean, for normal noise: sqrt(pi / 2).
_MEDIAN = 1.2533


@dataclass(frozen=True)
class Smooth:
    """Running means of training losses.

    Attributes:
        points: Means over `width` losses, each at the last step of its window.
        errors: Their standard errors, from the deviation within each window: one hard row in a
            small batch lifts a mean and its error alike, so that it is not taken for a change.
        width: Losses in a window.
        deviation: Of a single loss, as the median over windows.
    """

    points: Curve
    errors: tuple[float, ...]
    width: int
    deviation: float

    def error(self, one: int, other: int) -> float:
        """Standard error of the difference of two windows (Welch 1947, Biometrika 34:28-35)."""
        return math.hypot(self.errors[one], self.errors[other])


def smoothed(curve: Curve) -> Smooth:
    """Training losses without most of their noise; no point where there is no loss."""
    width = max(1, min(_NARROW, len(curve) // 2), len(curve) // _TRAIN)
    windows = [[v for _, v in curve[i - width + 1 : i + 1]] for i in range(width - 1, len(curve))]
    deviations = [stdev(some) if width > 1 else 0.0 for some in windows]
    return Smooth(
        tuple((curve[i + width - 1][0], fmean(some)) for i, some in enumerate(windows)),
        tuple(one / math.sqrt(width) for one in deviations),
        width,
        median(deviations) if deviations else 0.0,
    )


def steadied(curve: Curve) -> tuple[Curve, float]:
    """Running medians of validation losses of single batches, each at the middle of its window.

    The second value is the standard error of the difference of two *logarithms*, because the loss
    of a batch wobbles in proportion; infinite where there are too few losses to say anything. The
    noise of one loss is estimated from the differences of neighbours: median absolute difference /
    0.954, which is right for normal noise and blind to the trend.
    """
    if len(curve) < 2 * _NARROW or not all(math.isfinite(v) for _, v in curve):
        return curve, math.inf
    width = max(_NARROW, len(curve) // _BATCHES) | 1
    half = width // 2
    smooth = tuple(
        (curve[i][0], median(v for _, v in curve[i - half : i + half + 1]))
        for i in range(half, len(curve) - half)
    )
    logs = [math.log(max(v, 1e-12)) for _, v in curve]
    noise = median(abs(b - a) for a, b in pairwise(logs)) / 0.954
    return smooth, noise * _MEDIAN * math.sqrt(2 / width)


def learning_time(rate: Curve) -> Callable[[int], float]:
    """Step -> the sum of the learning rates up to it; the step itself where no rate is known.

    A rate that decays to zero makes every loss level off, so that the last quarter of the *steps*
    shows no fall even where the training was far too short. In units of the sum of rates it does:
    a quarter of that sum has been done long before.
    """
    known = [(step, value) for step, value in rate if math.isfinite(value) and value >= 0]
    if len(known) < _NARROW or not any(value for _, value in known):
        return float
    steps, sums, total, before = [0], [0.0], 0.0, 0
    for step, value in known:
        total += value * (step - before)
        before = step
        steps.append(step)
        sums.append(total)

    def at(step: int) -> float:
        """Between two known steps in a straight line."""
        right = min(bisect_left(steps, step), len(steps) - 1)
        left = max(0, right - 1)
        width = steps[right] - steps[left]
        share = min(1.0, (step - steps[left]) / width) if width else 0.0
        return sums[left] + share * (sums[right] - sums[left])

    return at

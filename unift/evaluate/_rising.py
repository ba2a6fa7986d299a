"""Losses that rise: diverging, or a rate that is too high for the loss to keep what it gained."""

from __future__ import annotations

import math
from collections.abc import Sequence

from unift.evaluate import _advice as advise
from unift.evaluate._advice import Case
from unift.evaluate._diagnosis import (
    BEGUN,
    DIVERGED,
    HARDLY,
    JUMPED,
    KNOWN,
    LATE,
    MIN_VALIDATIONS,
    OVERFIT,
    RISING,
    STOOD,
    SURE,
    UNSOLVED,
    Diagnosis,
)
from unift.evaluate._smooth import Smooth, learning_time


def rising(case: Case, smooth: Smooth) -> Diagnosis | None:
    """Diverging, or a rate that is too high for the loss to keep what it gained."""
    if len(case.train) < RISING:
        return None
    values = [v for _, v in smooth.points]
    first, deviation = start(case, smooth)
    end = len(values) - 1
    last, low = values[-1], min(range(len(values)), key=values.__getitem__)
    lowest = min(first, values[low])
    evidence = {"train_first": first, "train_lowest": lowest, "train_last": last}
    above = last - first - SURE * math.hypot(deviation, smooth.errors[end])
    if above > OVERFIT * first and last > KNOWN:
        return Diagnosis(
            "diverging",
            f"The training loss rises: it was {lowest:.3g} at its lowest and is {last:.3g} at "
            f"step {smooth.points[-1][0]}, above the {first:.3g} where it began.",
            advise.diverging(case),
            case.best_step,
            evidence,
        )
    held_out: Sequence[tuple[int, float]] = case.validation if case.readable else ()
    rises = last > values[low] * (1 + OVERFIT) + SURE * smooth.error(low, end)
    if len(held_out) > 1 and rises and held_out[-1][1] > held_out[0][1] * (1 + DIVERGED):
        return Diagnosis(
            "diverging",
            f"Training and validation loss both rise: validation from {held_out[0][1]:.3g} to "
            f"{held_out[-1][1]:.3g}.",
            advise.diverging(case),
            case.best_step,
            evidence,
        )
    fell = last < first - SURE * math.hypot(deviation, smooth.errors[end])
    if held_out and not fell and _base_unbeaten(case):
        return Diagnosis(
            "diverging",
            f"No step beat the base on the validation data ({held_out[0][1]:.3g} before training, "
            f"{held_out[-1][1]:.3g} at the end), and the training loss is no lower than before.",
            advise.diverging(case),
            case.best_step,
            evidence,
        )
    return _jumped(case, smooth, max(first, values[0]), evidence) or _stood_still(
        case, max(first, values[0])
    )


def _jumped(
    case: Case, smooth: Smooth, began: float, evidence: dict[str, float]
) -> Diagnosis | None:
    """A rise of the training loss, or of one over all validation rows, that did not last."""
    values = [v for _, v in smooth.points]
    low, found = 0, (0.0, 0, 0.0)  # jump, step, the low before it
    first_step, first = case.train[0][0], _before(case)
    for at in range(smooth.width, len(values)):  # windows that share no loss
        jump, sure = values[at] - first, SURE * math.hypot(smooth.deviation, smooth.errors[at])
        if first_step <= 1 and _is_jump(jump - sure, first, first) and values[at] > KNOWN:
            found = max(found, (jump, smooth.points[at][0], first))
        low = min(low, at - smooth.width, key=values.__getitem__)
        jump, sure = values[at] - values[low], SURE * smooth.error(low, at)
        if _is_jump(jump - sure, values[low], began) and values[at] > KNOWN:
            found = max(found, (jump, smooth.points[at][0], values[low]))
    name = "training"
    if not found[0] and not case.wobble and case.validation:
        name = "validation"
        (first_step, lowest), last = case.validation[0], case.validation[-1][1]
        began = max(lowest, began) if first_step else lowest  # much was learnt before that look
        for step, value in case.validation:
            if _is_jump(value - lowest, lowest, began) and last < lowest and value > KNOWN:
                found = max(found, (value - lowest, step, lowest))
            lowest = min(lowest, value)
    jump, step, base = found
    if not jump:
        return None
    return Diagnosis(
        "rate_too_high",
        f"The {name} loss jumped from {base:.3g} to {base + jump:.3g} near step {step} (it began "
        f"at {began:.3g}): the steps are probably too large to keep what was learnt.",
        advise.diverging(case),
        case.best_step,
        {**evidence, "jump": jump},
    )


def _stood_still(case: Case, began: float) -> Diagnosis | None:
    """A loss that fell at once, stood still while the rate was high, and fell on as that sank.

    At a rate that suits, what is left to learn is learnt ever more slowly; the noise of steps that
    are too large goes only with the rate.
    """
    looks, rates = case.validation, [rate for _, rate in case.curves.rate]
    sank = len(rates) > MIN_VALIDATIONS and rates[-1] <= max(rates) / 2
    if case.wobble or len(looks) <= MIN_VALIDATIONS or not sank:
        return None
    time, first = learning_time(case.curves.rate), looks[0][1]
    if looks[0][0]:  # much was learnt before that look
        first = max(first, began)
    end, lowest, best = time(looks[-1][0]), min(v for _, v in looks), first
    found: tuple[float, int, int, float] | None = None
    for i, (step, value) in enumerate(looks[1:], 1):
        if value >= best:
            continue
        best = value
        lower = (j for j in range(i + 1, len(looks)) if looks[j][1] < (1 - HARDLY) * value)
        stop = next(lower, len(looks)) - 1
        share = (time(looks[stop][0]) - time(step)) / end
        level = UNSOLVED * first <= value <= (1 - BEGUN) * first
        if level and share >= STOOD and lowest <= (1 - LATE) * value:
            found = max(found or (0.0, 0, 0, 0.0), (share, step, looks[stop][0], value))
    if found is None:
        return None
    share, since, until, value = found
    return Diagnosis(
        "rate_too_high",
        f"The validation loss fell to {value:.3g} by step {since}, stood there until step {until} "
        f"while the learning rate was high, and fell to {lowest:.3g} only as that sank: the steps "
        "are probably too large.",
        (
            advise.rate(case, 1 / 4, "Lower the learning rate."),
            advise.longer(case, "If a lower rate does no better, train for longer."),
        ),
        case.best_step,
        {"stood": share, "level": value, "lowest": lowest},
    )


def _base_unbeaten(case: Case) -> bool:
    """Whether the base, measured before the first step, was never beaten and is better now."""
    if len(case.validation) < MIN_VALIDATIONS or case.validation[0][0] > 0:
        return False
    first, *later = [v for _, v in case.validation]
    return min(later) >= first and later[-1] > first * (1 + OVERFIT)


def _is_jump(jump: float, low: float, began: float) -> bool:
    return jump > max(JUMPED * began, DIVERGED * low)


def _before(case: Case) -> float:
    """The first training loss; no less than that of the base on all validation rows, if it is
    known, since the first few rows may be those that the base knows."""
    step, value = case.validation[0] if case.validation else (1, 0.0)
    return max(case.train[0][1], value if step == 0 and not case.wobble else 0.0)


def start(case: Case, smooth: Smooth) -> tuple[float, float]:
    """The training loss before anything was learnt, as far as it is known, and its deviation."""
    if not smooth.points:
        return math.inf, 0.0
    mean, first = smooth.points[0][1], _before(case)
    # A rate that is far too high ruins the first few steps, which the first mean hides.
    if case.train[0][0] <= 1 and first < mean:
        return first, smooth.deviation
    return mean, smooth.errors[0]

"""What the loss curves say about a training, and what to do about it.

The rules are looked at in this order; the thresholds are the constants below.

1. ``diverging``: a loss is not a number or infinite; or the training loss, smoothed, ends more than
   `DIVERGED` above its own lowest point *and* above where it began; or the validation loss ends
   more than `DIVERGED` above its first value while the training loss rises too.
2. ``too_short``: fewer than `MIN_VALIDATIONS` validation losses and fewer than `MIN_STEPS` training
   losses. Nothing can be said; nothing is.
3. ``overfitting``: the validation loss ends at least `OVERFIT` above its lowest point, which is not
   the last evaluation, and the training loss went on falling meanwhile.
4. ``underfitting``: the validation loss (without validation data: the training loss) fell by less
   than `MOVED` in all; or it is still falling at the end, by at least `STILL_FALLING` over the last
   quarter of the steps.
5. ``healthy``: none of these.

Losses are mean cross-entropies in nats a token, as every trainer here reports them. The thresholds
are relative, so they hold for other bases of the logarithm as well. They are conventions, not laws:
chosen so that the labelled curves of the test-suite, noisy ones included, come out right.
"""

from __future__ import annotations

import math
from collections.abc import Iterable, Sequence
from dataclasses import asdict, dataclass
from typing import Any, Literal

from unift.provider import Event, Plan
from unift.report._curves import Curve, Curves, number, read_curves

Code = Literal["healthy", "overfitting", "underfitting", "diverging", "too_short"]

DIVERGED = 0.25
OVERFIT = 0.05
MOVED = 0.05
STILL_FALLING = 0.05
MIN_VALIDATIONS = 3
MIN_STEPS = 20
# A curve is smoothed by the mean over a twentieth of its points.
_SMOOTH = 20


@dataclass(frozen=True)
class Advice:
    """One thing to do. `flags` is what to add to ``unift train``, empty where no flag does it."""

    text: str
    flags: str = ""


@dataclass(frozen=True)
class Diagnosis:
    """Attributes:
    code: ``healthy``, ``overfitting``, ``underfitting``, ``diverging`` or ``too_short``.
    sentence: What was seen, with the numbers.
    advice: What to do, the first thing first.
    best_step: Step with the lowest validation loss, the one to go back to; None without any.
    evidence: The numbers behind the code.
    """

    code: Code
    sentence: str
    advice: tuple[Advice, ...]
    best_step: int | None
    evidence: dict[str, float]

    def as_dict(self) -> dict[str, Any]:
        return asdict(self)


@dataclass(frozen=True)
class _Case:
    """Curves, and the settings that shaped them."""

    curves: Curves
    settings: dict[str, Any]

    @property
    def train(self) -> Curve:
        return self.curves.train

    @property
    def validation(self) -> Curve:
        return self.curves.validation

    @property
    def epochs(self) -> dict[int, float]:
        return {step: epoch for step, epoch in self.curves.epochs.items() if epoch > 0}

    @property
    def learning_rate(self) -> float | None:
        """The peak rate: as planned, else as seen."""
        planned = number(self.settings.get("learning_rate"))
        seen = [rate for _, rate in self.curves.rate]
        return planned or (max(seen) if seen else None)


def diagnose(events: Iterable[Event], plan: Plan | None = None) -> Diagnosis:
    """Judge a training by its events, at its end or while it goes on.

    Args:
        events: ``metrics`` (step, loss, learning_rate, epoch) and ``evaluation`` (step,
            validation_loss) events, in order; others are ignored.
        plan: Where the settings are read that the advice changes.
    """
    settings = {} if plan is None else {one.name: one.value for one in plan.settings}
    return _judge(_Case(read_curves(events), settings))


def _judge(curves: _Case) -> Diagnosis:
    broken = next((s for s, v in (*curves.train, *curves.validation) if not math.isfinite(v)), None)
    if broken is not None:
        return _diverging(curves, f"The loss stopped being a number at step {broken}.", {})
    smooth = _smoothed(curves.train)
    found = _looks_diverging(curves, smooth)
    if found:
        return found
    if len(curves.validation) < MIN_VALIDATIONS and len(curves.train) < MIN_STEPS:
        return Diagnosis(
            "too_short",
            f"{len(curves.train)} training losses and {len(curves.validation)} validation losses "
            "are too few to judge the training by.",
            (
                Advice(
                    "Train for longer, and give validation data.", "--validation validation.jsonl"
                ),
            ),
            _best(curves.validation),
            {},
        )
    return (
        _looks_overfitting(curves, smooth) or _looks_underfitting(curves, smooth) or _fine(curves)
    )


def _looks_diverging(curves: _Case, smooth: Curve) -> Diagnosis | None:
    if len(smooth) < 3:
        return None
    first, last, lowest = smooth[0][1], smooth[-1][1], min(v for _, v in smooth)
    evidence = {"train_first": first, "train_lowest": lowest, "train_last": last}
    if last > lowest * (1 + DIVERGED) and last > first:
        return _diverging(
            curves,
            f"The training loss fell to {lowest:.3g} and then rose to {last:.3g}, above the "
            f"{first:.3g} where it began.",
            evidence,
        )
    held_out = curves.validation
    if len(held_out) < 2 or last <= lowest * (1 + OVERFIT):
        return None
    if held_out[-1][1] > held_out[0][1] * (1 + DIVERGED):
        return _diverging(
            curves,
            f"Training and validation loss both rise: validation from {held_out[0][1]:.3g} to "
            f"{held_out[-1][1]:.3g}.",
            evidence,
        )
    return None


def _looks_overfitting(curves: _Case, smooth: Curve) -> Diagnosis | None:
    if len(curves.validation) < MIN_VALIDATIONS:
        return None
    lowest_step, best = min(curves.validation, key=lambda point: point[1])
    best_step = _best(curves.validation)
    last_step, last = curves.validation[-1]
    if best_step is None or last_step == lowest_step or best <= 0 or last < best * (1 + OVERFIT):
        return None
    if smooth and not _at(smooth, lowest_step) > smooth[-1][1]:
        return None
    rise = last / best - 1
    if lowest_step == 0:
        return Diagnosis(
            "overfitting",
            f"No step beat the base on the validation data ({best:.3g} before training, {last:.3g} "
            "at the end) although the training loss fell: it learnt the rows, not the task.",
            (
                Advice("Check that training and validation data show the same task."),
                *_overfitting_advice(curves, best_step)[1:],
            ),
            best_step,
            {"validation_lowest": best, "validation_last": last, "rise": rise},
        )
    return Diagnosis(
        "overfitting",
        f"The validation loss was lowest at step {best_step} ({best:.3g}) and ended "
        f"{rise * 100:.0f}% higher ({last:.3g}) while the training loss went on falling: the "
        "model began to learn the rows by heart.",
        _overfitting_advice(curves, best_step),
        best_step,
        {"validation_lowest": best, "validation_last": last, "rise": rise},
    )


def _looks_underfitting(curves: _Case, smooth: Curve) -> Diagnosis | None:
    held_out = len(curves.validation) >= MIN_VALIDATIONS
    curve, name = (curves.validation, "validation") if held_out else (smooth, "training")
    if len(curve) < 3 or curve[0][1] <= 0:
        return None
    first, last, lowest = curve[0][1], curve[-1][1], min(v for _, v in curve)
    fell = 1 - lowest / first
    span = curve[-1][0] - curve[0][0]
    before = _at(curve, curve[-1][0] - span // 4)
    recent = 1 - last / before if before > 0 else 0.0
    evidence = {"first": first, "last": last, "fell": fell, "fell_in_last_quarter": recent}
    best = _best(curves.validation)
    if fell < MOVED:
        return Diagnosis(
            "underfitting",
            f"The {name} loss hardly moved: {first:.3g} at first, {lowest:.3g} at best.",
            _stronger(curves),
            best,
            evidence,
        )
    if recent >= STILL_FALLING:
        return Diagnosis(
            "underfitting",
            f"The {name} loss was still falling when training ended, by "
            f"{recent * 100:.0f}% over the last quarter (to {last:.3g}): there is more to learn.",
            _longer(curves),
            best,
            evidence,
        )
    return None


def _fine(curves: _Case) -> Diagnosis:
    best = _best(curves.validation)
    if best is None:
        return Diagnosis(
            "healthy",
            "The training loss fell and levelled off. Without validation data nobody can tell "
            "whether the model learnt the task or the rows.",
            (Advice("Give validation data.", "--validation validation.jsonl"),),
            None,
            {},
        )
    first, lowest = curves.validation[0][1], min(v for _, v in curves.validation)
    return Diagnosis(
        "healthy",
        f"The validation loss fell from {first:.3g} to {lowest:.3g} (step {best}) and stayed "
        "there.",
        (),
        best,
        {"validation_first": first, "validation_lowest": lowest},
    )


def _diverging(curves: _Case, sentence: str, evidence: dict[str, float]) -> Diagnosis:
    rate = curves.learning_rate
    advice = [
        Advice("Lower the learning rate.", f"--learning-rate {rate / 4:.2g}")
        if rate
        else Advice("Lower the learning rate to a quarter with --learning-rate."),
    ]
    warmup = number(curves.settings.get("warmup_ratio"))
    if warmup is not None and warmup < 0.1:
        advice.append(Advice("Let the rate rise more slowly.", "--warmup-ratio 0.1"))
    finite = tuple(point for point in curves.validation if math.isfinite(point[1]))
    return Diagnosis("diverging", sentence, tuple(advice), _best(finite), evidence)


def _overfitting_advice(curves: _Case, best_step: int) -> tuple[Advice, ...]:
    advice = [Advice(f"Use the weights of step {best_step}; local runs keep these by themselves.")]
    epoch = _epoch_at(curves, best_step)
    if epoch is not None:
        advice.append(Advice("Stop there next time.", f"--epochs {_round_epochs(epoch)}"))
    if curves.learning_rate:
        rate = f"--learning-rate {curves.learning_rate / 2:.2g}"
        advice.append(Advice("Or learn more slowly.", rate))
    rank = number(curves.settings.get("rank"))
    if rank and rank >= 8:
        advice.append(Advice("Or give the adapter less room.", f"--rank {int(rank) // 2}"))
    advice.append(Advice("More, and more varied, training rows help most of all."))
    return tuple(advice)


def _stronger(curves: _Case) -> tuple[Advice, ...]:
    rate, rank = curves.learning_rate, number(curves.settings.get("rank"))
    advice = [
        Advice("Raise the learning rate.", f"--learning-rate {rate * 4:.2g}")
        if rate
        else Advice("Raise the learning rate fourfold with --learning-rate.")
    ]
    if rank:
        advice.append(Advice("Or give the adapter more room.", f"--rank {int(rank) * 2}"))
    advice.append(Advice("Check that the answers carry loss.", ""))
    return tuple(advice)


def _longer(curves: _Case) -> tuple[Advice, ...]:
    planned = number(curves.settings.get("epochs"))
    seen = planned or (max(curves.epochs.values()) if curves.epochs else None)
    if number(curves.settings.get("max_steps")):
        steps = curves.train[-1][0] if curves.train else curves.validation[-1][0]
        return (Advice("Train for longer.", f"--max-steps {steps * 2}"),)
    if seen:
        return (Advice("Train for longer.", f"--epochs {_round_epochs(seen * 2)}"),)
    return (Advice("Train for twice as long with --epochs."),)


def _round_epochs(epochs: float) -> str:
    return f"{max(0.1, round(epochs, 1) if epochs < 2 else round(epochs)):g}"


def _epoch_at(curves: _Case, step: int) -> float | None:
    known = [(abs(s - step), epoch) for s, epoch in curves.epochs.items()]
    return min(known)[1] if known else None


def _best(validation: Curve) -> int | None:
    # Step 0 is the untouched base, which is no checkpoint to go back to.
    trained = [point for point in validation if point[0] > 0]
    return min(trained, key=lambda point: point[1])[0] if trained else None


def _at(curve: Sequence[tuple[int, float]], step: int) -> float:
    """The value of a curve at the last point not after `step`."""
    return next((v for s, v in reversed(curve) if s <= step), curve[0][1])


def _smoothed(curve: Curve) -> Curve:
    width = max(1, len(curve) // _SMOOTH)
    return tuple(
        (curve[i][0], sum(v for _, v in curve[i - width + 1 : i + 1]) / width)
        for i in range(width - 1, len(curve))
    )

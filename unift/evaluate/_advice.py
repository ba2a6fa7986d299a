"""What to do about a training: flags of ``unift train`` that exist, and the checkpoint to use."""

from __future__ import annotations

import math
import shlex
from dataclasses import dataclass
from typing import Any

from unift.report._curves import Curve, Curves, number


@dataclass(frozen=True)
class Advice:
    """One thing to do.

    `flags` is what to add to ``unift train``, `command` a whole command to type; both are empty
    where there is none.
    """

    text: str
    flags: str = ""
    command: str = ""


@dataclass(frozen=True)
class Case:
    """Curves, and what shaped them.

    Attributes:
        curves: Losses by step.
        validation: The validation curve that is judged.
        wobble: How sure one may be of it: the standard error of the difference of two logarithms in
            it; 0 where all validation rows stand behind every loss.
        settings: The resolved settings of the plan; empty without one.
        provider: Who trained; empty if unknown.
        kept: Step -> a model reference of a checkpoint that is kept.
        exported: The step whose weights the finished run left; None if nobody said.
        trained_share: Share of the training tokens that carry loss; None if nobody said.
    """

    curves: Curves
    validation: Curve
    wobble: float
    settings: dict[str, Any]
    provider: str = ""
    kept: dict[int, str] | None = None
    exported: int | None = None
    trained_share: float | None = None

    @property
    def train(self) -> Curve:
        return self.curves.train

    @property
    def readable(self) -> bool:
        """False for a handful of validation losses of single batches."""
        return math.isfinite(self.wobble)

    @property
    def best_step(self) -> int | None:
        """Step with the lowest validation loss; step 0, the untouched base, does not count."""
        known = [(v, step) for step, v in self.validation if math.isfinite(v) and step > 0]
        return min(known)[1] if known else None

    @property
    def beats_base(self) -> bool:
        """False where the base was measured before the first step and no step is better."""
        base = [v for step, v in self.validation if step == 0 and math.isfinite(v)]
        later = [v for step, v in self.validation if step > 0 and math.isfinite(v)]
        return not base or min(later, default=math.inf) < base[0]

    @property
    def epochs(self) -> dict[int, float]:
        return {step: epoch for step, epoch in self.curves.epochs.items() if epoch > 0}

    @property
    def learning_rate(self) -> float | None:
        """The peak rate: as planned, else as seen; None where the vendor hides it."""
        planned = number(self.settings.get("learning_rate"))
        seen = [rate for _, rate in self.curves.rate if math.isfinite(rate)]
        return planned or (max(seen) if seen else None)


def rate(case: Case, factor: float, text: str) -> Advice:
    """A learning rate changed by a factor, in the flag that this provider takes."""
    if case.learning_rate and "learning_rate_multiplier" not in case.settings:
        return Advice(text, f"--learning-rate {case.learning_rate * factor:.2g}")
    if "learning_rate_multiplier" in case.settings:
        multiplier = number(case.settings["learning_rate_multiplier"])
        if multiplier:
            return Advice(text, f"--learning-rate-multiplier {multiplier * factor:.2g}")
        side = "below" if factor < 1 else "above"
        return Advice(f"{text} Set --learning-rate-multiplier {side} what the vendor chose.")
    times = f"{factor:g} times" if factor > 1 else f"one over {1 / factor:g} of"
    return Advice(f"{text} Set --learning-rate to {times} the one used.")


def diverging(case: Case) -> tuple[Advice, ...]:
    advice = [rate(case, 1 / 4, "Lower the learning rate.")]
    warmup = number(case.settings.get("warmup_ratio"))
    if warmup is not None and warmup < 0.1:
        advice.append(Advice("Let the rate rise more slowly.", "--warmup-ratio 0.1"))
    if case.best_step is not None and case.beats_base:
        advice.append(go_back(case, case.best_step))
    elif case.best_step is not None:
        advice.append(Advice("No step is better than the base: use the base until then."))
    return tuple(advice)


def overfitting(case: Case) -> tuple[Advice, ...]:
    advice: list[Advice] = []
    if case.best_step is not None:
        advice.append(go_back(case, case.best_step))
        if number(case.settings.get("max_steps")):
            advice.append(Advice("Stop there next time.", f"--max-steps {case.best_step}"))
        elif (epoch := epoch_at(case, case.best_step)) is not None:
            advice.append(Advice("Stop there next time.", f"--epochs {round_epochs(epoch)}"))
    advice.append(rate(case, 1 / 2, "Or learn more slowly."))
    rank = number(case.settings.get("rank"))
    if rank and rank >= 8:
        advice.append(Advice("Or give the adapter less room.", f"--rank {int(rank) // 2}"))
    advice.append(Advice("More, and more varied, training rows help most of all."))
    return tuple(advice)


def go_back(case: Case, step: int) -> Advice:
    """Which weights to use, and how to reach them."""
    if case.exported == step:
        return Advice(f"The run's model has the weights of step {step} already: use it as it is.")
    kept = case.kept or {}
    near = min(kept, key=lambda one: (abs(one - step), one), default=None)
    if near is None:
        return Advice(f"The weights of step {step} are the ones to use, if they were kept.")
    exactly = "" if near == step else f", the kept one nearest to step {step}"
    return Advice(
        f"Go back to the checkpoint of step {near}{exactly}.",
        command=f"unift evaluate {shlex.quote(kept[near])} --data TEST.jsonl",
    )


def stronger(case: Case) -> tuple[Advice, ...]:
    advice = [rate(case, 4, "Raise the learning rate.")]
    rank = number(case.settings.get("rank"))
    if rank:
        advice.append(Advice("Or give the adapter more room.", f"--rank {int(rank) * 2}"))
    advice.append(look_at_masks("Check that the answers carry loss."))
    return tuple(advice)


def look_at_masks(text: str) -> Advice:
    return Advice(text, command="unift validate TRAIN.jsonl --model MODEL --show 3")


def longer(case: Case, text: str = "Train for longer.") -> Advice:
    if number(case.settings.get("max_steps")):
        steps = case.curves.last_step or 0
        return Advice(text, f"--max-steps {steps * 2}")
    planned = number(case.settings.get("epochs"))
    seen = planned or (max(case.epochs.values()) if case.epochs else None)
    if seen:
        return Advice(text, f"--epochs {round_epochs(seen * 2)}")
    return Advice(f"{text} Set --epochs to twice the number.")


def further(case: Case, *, little: bool) -> tuple[Advice, ...]:
    """The loss still falls; `little`: most of it is left, so that more steps may not be enough."""
    if not little:
        return (longer(case),)
    faster = rate(case, 4, "Raise the learning rate: the loss has fallen little so far.")
    return (faster, longer(case, "Or train for longer."))


def shorter(case: Case, step: int) -> Advice:
    text = "The same result for less."
    if number(case.settings.get("max_steps")):
        return Advice(text, f"--max-steps {step}")
    epoch = epoch_at(case, step)
    if epoch is None:
        return Advice(f"{text} Set --epochs lower.")
    return Advice(text, f"--epochs {round_epochs(epoch)}")


def validation_rows() -> Advice:
    return Advice("Give validation data.", "--validation validation.jsonl")


def round_epochs(epochs: float) -> str:
    return f"{max(0.1, round(epochs, 1) if epochs < 2 else round(epochs)):g}"


def epoch_at(case: Case, step: int) -> float | None:
    """The epochs done at a step, as the trainer said, else as their plan says."""
    known = [(abs(s - step), epoch) for s, epoch in case.epochs.items()]
    if known:
        return min(known)[1]
    planned, total = number(case.settings.get("epochs")), case.curves.total_steps
    return planned * step / total if planned and total else None

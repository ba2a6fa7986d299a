"""What the loss curves say about a training, and what to do about it.

The rules are looked at in this order; the thresholds are the constants of `_diagnosis`.

1. ``bad_masks``: the first loss, taken before any step, is not a number; that loss, or the first
   three and the mean of the first `MIN_STEPS`, are below `KNOWN` (nothing is left to learn in the
   tokens that carry loss); or the plan says that no token carries loss, or all but `ALL` of them.
2. ``diverging``: a later loss is not a number or infinite; or the smoothed training loss ends
   surely more than `OVERFIT` above where it began; or the validation loss ends more than `DIVERGED`
   above its first value while the training loss rises, or never fell below that value and ends
   more than `OVERFIT` above it while the training loss did not surely fall.
3. ``rate_too_high``: the training loss, smoothed, rose by more than `JUMPED` of its first value
   and by more than `DIVERGED` of the low before it, surely, but did not end above its beginning; or
   the validation loss did so and then fell below that low; or the validation loss fell by `BEGUN`
   to no less than `UNSOLVED` of its first value, fell by less than `HARDLY` for `STOOD` of the
   way, and then by `LATE` of what it stood at while the learning rate sank to half or less.
4. ``too_short``: fewer than `MIN_VALIDATIONS` validation losses and fewer than `MIN_STEPS` training
   losses. Nothing can be said; nothing is.
5. ``overfitting``: the validation loss ends at least `OVERFIT` above its lowest point, which is not
   the last evaluation, and above `KNOWN`, and the training loss went on falling meanwhile.
6. ``underfitting``: the validation loss (without validation data: the training loss) fell by less
   than `MOVED` in all; or more than `STILL_FALLING` of its whole fall came in the last quarter.
7. ``plateau``: the second half brought less than `LEVEL` of the whole fall, and less than
   `LEVEL_LEFT` of the loss that was left or less than `NOTHING`.
8. ``healthy``: none of these.

Losses are mean cross-entropies in nats a token, as every trainer here reports them. Halves and
quarters are counted in the sum of the learning rates where these are known (`learning_time`), else
in steps. "Surely" means by `SURE` standard errors of the difference of two smoothed values.
Validation losses of single batches (OpenAI's, between epochs) are left aside where there are three
over all rows, else smoothed, and then a rise counts only if it is sure. Reasons for the numbers,
all of them conventions:

- `STILL_FALLING` 0.1: an exponential fall that is cut off after two time constants shows it, when
  13% of the way are left. Where less than `LITTLE` (a quarter) of the loss is gone by then, a
  higher rate is advised before more steps.
- `OVERFIT` 0.05: the validation rows are always the same, so their loss carries no sampling noise;
  what wobbles from step to step is below 5% in the recorded curves. `FLOOR` (0.5% of the first
  loss) keeps a rise from 0.020 to 0.022 from being called anything.
- `KNOWN` 0.02 nats: the wanted tokens have a probability of 98%; before training nothing is left
  to learn then, and after it nothing is lost.
- `STOOD` 0.15, `LATE` 0.5, `UNSOLVED` 0.05: among recorded curves a rate four times too high
  showed these and no good training did; the nearest one fell by 0.39.
- `LEVEL` 0.005 and `LEVEL_LEFT` 0.05 (what is no rise is no fall either): nobody would pay half a
  training for it, nor for a gain of `NOTHING`, a thousandth of a nat.

How often they are right on recorded trainings, and on further ones that were recorded when they
had been set: ``benchmarks/results/diagnosis.md``.
"""

from __future__ import annotations

import math
from collections.abc import Iterable, Sequence

from unift.evaluate import _advice as advise
from unift.evaluate._advice import Advice, Case
from unift.evaluate._diagnosis import (
    ALL,
    FLOOR,
    KNOWN,
    LEVEL,
    LEVEL_LEFT,
    LITTLE,
    MIN_STEPS,
    MIN_VALIDATIONS,
    MOVED,
    NOTHING,
    OVERFIT,
    STILL_FALLING,
    SURE,
    Code,
    Diagnosis,
)
from unift.evaluate._rising import rising, start
from unift.evaluate._smooth import Smooth, learning_time, smoothed, steadied
from unift.provider import Event, Plan
from unift.report._curves import number, read_curves

__all__ = ["Advice", "Code", "Diagnosis", "diagnose"]


def diagnose(events: Iterable[Event], plan: Plan | None = None) -> Diagnosis:
    """Judge a training by its events, at its end or while it goes on.

    Args:
        events: ``metrics`` (step, loss, learning_rate, epoch) and ``evaluation`` (step,
            validation_loss) events, in order; ``checkpoint`` and ``artifact`` events tell which
            weights are kept. Others are ignored.
        plan: Where the settings are read that the advice changes.
    """
    return _judge(_case(list(events), plan))


def _case(events: Sequence[Event], plan: Plan | None) -> Case:
    settings = {} if plan is None else {one.name: one.value for one in plan.settings}
    provider = "" if plan is None else plan.spec.provider
    kept: dict[int, str] = {}
    exported: int | None = None
    for event in events:
        step = event.data.get("step")
        if not isinstance(step, (int, float)) or event.kind not in ("checkpoint", "artifact"):
            continue
        if event.kind == "artifact":
            exported = int(step)
        elif folder := event.data.get("folder"):
            kept[int(step)] = f"path:{folder}"
        elif (model := event.data.get("model")) and provider:
            kept[int(step)] = f"{provider}:{model}"
    payload = {} if plan is None else plan.payload
    trained, tokens = number(payload.get("trained_tokens")), number(payload.get("tokens"))
    share = None if trained is None or not tokens else trained / tokens
    curves = read_curves(events)
    judged, wobble = curves.whole, 0.0
    if any(step in curves.sampled for step, _ in judged):
        judged, wobble = steadied(judged)
    return Case(curves, judged, wobble, settings, provider, kept, exported, share)


def _judge(case: Case) -> Diagnosis:
    found = _bad_masks(case)
    if found:
        return found
    broken = next((s for s, v in (*case.train, *case.validation) if not math.isfinite(v)), None)
    if broken is not None:
        sentence = f"The loss stopped being a number at step {broken}."
        return Diagnosis("diverging", sentence, advise.diverging(case), case.best_step, {})
    smooth = smoothed(case.train)
    found = rising(case, smooth)
    if found:
        return found
    if len(case.validation) < MIN_VALIDATIONS and len(case.train) < MIN_STEPS:
        return Diagnosis(
            "too_short",
            f"{len(case.train)} training losses and {len(case.validation)} validation losses "
            "are too few to judge the training by.",
            (Advice("Train for longer, and give validation data.", "--validation FILE"),),
            case.best_step,
            {},
        )
    return _overfitting(case, smooth) or _level(case, smooth) or _healthy(case)


def _bad_masks(case: Case) -> Diagnosis | None:
    def bad(sentence: str, **evidence: float) -> Diagnosis:
        look = advise.look_at_masks(
            "Look at rows as the model sees them; the trained part is marked."
        )
        return Diagnosis("bad_masks", sentence, (look,), case.best_step, evidence)

    share = case.trained_share
    if share is not None and (share == 0 or share > 1 - ALL):
        what = "None" if share == 0 else f"{share:.0%}"
        tail = "" if share == 0 else ", so prompts are learnt as well as answers"
        return bad(f"{what} of the training tokens carry loss{tail}.", trained_share=share)
    # Three single rows that the base happens to know are no evidence.
    early = [v for _, v in case.train[:MIN_STEPS]]
    enough = len(early) == MIN_STEPS and case.train[2][0] <= 5 and sum(early[:3]) / 3 < KNOWN
    before = [v for step, v in case.validation[:1] if step == 0]
    first = case.train[:1]
    if any(not math.isfinite(v) for v in before) or (
        first and first[0][0] <= 1 and not math.isfinite(first[0][1])
    ):
        return bad(
            "The loss was not a number before anything was learnt, so the learning rate cannot be "
            "the cause: perhaps no token carries loss, or the base itself computes no number."
        )
    known = before or (early if enough else [])
    if known and sum(known) / len(known) < KNOWN:
        level = sum(known) / len(known)
        return bad(
            f"The loss was {level:.2g} from the start: either the base gives these answers already "
            "and there is nothing to learn, or the tokens that carry loss are not the answers.",
            first=level,
        )
    return None


def _overfitting(case: Case, smooth: Smooth) -> Diagnosis | None:
    best_step = case.best_step
    if len(case.validation) < MIN_VALIDATIONS or best_step is None or not case.readable:
        return None
    lowest_step, best = min(case.validation, key=lambda point: point[1])
    first, (last_step, last) = case.validation[0][1], case.validation[-1]
    if last_step == lowest_step or last - best < max(OVERFIT * best, FLOOR * first):
        return None
    if last < KNOWN or last < best * (1 + OVERFIT) * math.exp(SURE * case.wobble):
        return None
    train = smooth.points
    before = start(case, smooth)[0] if lowest_step == 0 else _at(train, lowest_step)
    if train and not before > train[-1][1]:
        return None
    rise = last / best - 1 if best > 0 else math.inf
    evidence = {
        "validation_lowest": best, "validation_last": last, "rise": rise,
        "validation_losses": len(case.validation),
        "undone": (last - best) / (first - best) if first > best else 1.0,
    }  # fmt: skip
    advice = advise.overfitting(case)
    if lowest_step == 0:
        return Diagnosis(
            "overfitting",
            f"No step beat the base on the validation data ({best:.3g} before training, {last:.3g} "
            "at the end) although the training loss fell: it learnt the rows, not the task.",
            (Advice("Check that training and validation data show the same task."), *advice[1:]),
            best_step,
            evidence,
        )
    return Diagnosis(
        "overfitting",
        f"The validation loss was lowest at step {best_step} ({best:.3g}) and is {rise * 100:.0f}% "
        f"higher at step {last_step} ({last:.3g}) while the training loss went on falling: the "
        "model probably learns the rows by heart.",
        advice,
        best_step,
        evidence,
    )


def _level(case: Case, smooth: Smooth) -> Diagnosis | None:
    """Underfitting or a plateau, by how the fall is spread over the steps."""
    held_out = len(case.validation) >= MIN_VALIDATIONS and case.readable
    curve, name = (case.validation, "validation") if held_out else (smooth.points, "training")
    if len(curve) < 3 or curve[0][1] <= 0:
        return None
    first, last, lowest = curve[0][1], curve[-1][1], min(v for _, v in curve)
    if held_out and curve[0][0] > 0 and smooth.points:  # the first look came after much was learnt
        first = max(first, smooth.points[0][1])
    time = learning_time(case.curves.rate)
    end = time(curve[-1][0])
    began = 0.0 if held_out else time(curve[0][0])
    fell, span = first - lowest, end - began

    def best_by(share: float) -> float:
        """The lowest loss up to a share of the way."""
        return min((v for s, v in curve if time(s) <= began + (share + 1e-9) * span), default=first)

    recent, half = best_by(0.75) - lowest, best_by(0.5)
    evidence = {
        "first": first, "last": last, "fell": fell / first,
        "fell_in_last_quarter": recent / fell if fell > 0 else 0.0,
    }  # fmt: skip
    if fell < MOVED * first:
        return Diagnosis(
            "underfitting",
            f"The {name} loss hardly moved: {first:.3g} at first, {lowest:.3g} at best.",
            advise.stronger(case),
            case.best_step,
            evidence,
        )
    if recent > STILL_FALLING * fell:
        return Diagnosis(
            "underfitting",
            f"{recent / fell:.0%} of the fall of the {name} loss came in the last quarter of the "
            f"way (from {first:.3g} to {last:.3g} in all): there is probably more to learn.",
            advise.further(case, little=fell < LITTLE * first),
            case.best_step,
            evidence,
        )
    gained = half - lowest
    level = last <= lowest * (1 + OVERFIT) or last < KNOWN
    if level and gained < LEVEL * fell and gained < max(LEVEL_LEFT * lowest, NOTHING):
        reached = next(s for s, v in curve if v <= half)
        enough = math.ceil(curve[-1][0] * time(reached) / end)  # with the same schedule, shorter
        return Diagnosis(
            "plateau",
            f"The {name} loss has stood at about {lowest:.3g} since step {reached}: the second "
            "half of the steps brought next to nothing.",
            (
                advise.shorter(case, enough),
                Advice("If that is not good enough, other rows will help, more steps will not."),
            ),
            case.best_step,
            {**evidence, "fell_in_second_half": gained / fell},
        )
    return None


def _healthy(case: Case) -> Diagnosis:
    best = case.best_step
    if best is None:
        return Diagnosis(
            "healthy",
            "The training loss fell and levelled off. Without validation data nobody can tell "
            "whether the model learnt the task or the rows.",
            (advise.validation_rows(),),
            None,
            {},
        )
    first, lowest = case.validation[0][1], min(v for _, v in case.validation)
    last_step, last = case.validation[-1]
    before = _at(case.validation, last_step - (last_step - case.validation[0][0]) // 4)
    more = before - last > OVERFIT * before and last <= lowest * (1 + OVERFIT / 5)
    then = ", most of it early." if more else " and stayed there."
    if last > max(lowest * (1 + OVERFIT), KNOWN):
        why = "these are losses of single batches" if case.wobble else "training fell no further"
        then = f" and ends at {last:.3g}; {why}, so that this is not called overfitting."
    return Diagnosis(
        "healthy",
        f"The validation loss fell from {first:.3g} to {lowest:.3g} (step {best}){then}",
        (advise.longer(case, "It may gain a little more if it goes on."),) if more else (),
        best,
        {"validation_first": first, "validation_lowest": lowest},
    )


def _at(curve: Sequence[tuple[int, float]], step: int) -> float:
    """The value of a curve at the last point not after `step`."""
    return next((v for s, v in reversed(curve) if s <= step), curve[0][1])

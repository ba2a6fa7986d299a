"""From a GPU and the rows of a step to the settings that train fastest and still fit.

What is learnt stays as the user asked: the rows of an optimiser step are given, and everything
chosen here only decides how they are laid out and what is kept between forward and backward pass.
One thing is different: AdamW's states in 8 bits, which round. They are the last resort.

The search is small, so it is done whole: every way to recompute, each with the micro-batch that
needs the fewest passes and still fits; the shortest step wins.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, replace
from typing import Any

from unift.errors import UsageError
from unift.estimate._hardware import Hardware
from unift.estimate._shape import Shape
from unift.estimate.memory import (
    Attention,
    Checkpointing,
    Dtype,
    Kernels,
    Loss,
    Memory,
    Optimizer,
    Tuning,
    estimate_memory,
)
from unift.estimate.time import estimate_time

# Share of the card that stays free: the error of the formula, and what other processes come to use.
MARGIN = 0.04
# A faster way must be faster by this share to be worth more memory.
_WORTH = 0.01
# Layers that are recomputed are tried in so many steps.
_STEPS = 8


@dataclass(frozen=True, slots=True)
class Step:
    """The rows of one optimiser step and how the trainer computes: all that is given.

    `mean` and `longest` are tokens of a row, `pack_length` those of a packed sequence, `scored` the
    share of tokens that carry loss. `ways` are the kinds of recomputing that the trainer knows.
    """

    tuning: Tuning
    batch_size: int
    mean: float
    longest: int
    pack_length: int
    packing: bool = True
    rank: int = 16
    targets: tuple[str, ...] | None = None
    dtype: Dtype = "bf16"
    loss: Loss = "tiled"
    attention: Attention = "sdpa"
    kernels: Kernels = "torch"
    dropout: float = 0.0
    scored: float = 1.0
    compiled: bool = False
    ways: tuple[Checkpointing, ...] = ("none", "full")

    @property
    def length(self) -> int:
        """Tokens of the longest sequence of a pass."""
        return max(self.pack_length, self.longest) if self.packing else self.longest

    @property
    def sequences(self) -> int:
        """Sequences of a step: packs, nearly full, or rows."""
        if not self.packing:
            return self.batch_size
        return max(1, math.ceil(self.batch_size * self.mean / self.pack_length))


@dataclass(frozen=True, slots=True)
class Choice:
    """One setting that was chosen, and why; `pinned` if the user had set it."""

    name: str
    value: Any
    why: str
    pinned: bool = False


@dataclass(frozen=True, slots=True)
class Layout:
    """How a step is computed: the choices, what they need, how long a step takes; `note` says what
    a probe had to say about the memory."""

    micro_batch: int
    passes: int
    checkpointing: Checkpointing
    checkpointed_layers: int | None
    optimizer: Optimizer
    memory: Memory
    seconds_per_step: float
    fits: bool
    choices: tuple[Choice, ...] = ()
    note: str = ""

    @property
    def recomputed(self) -> Checkpointing | int:
        """What is recomputed, as one word or a number of layers."""
        return self.checkpointing if self.checkpointed_layers is None else self.checkpointed_layers


# From the words of a layout and its memory by the formula to what probes say, and a note of it.
Measured = Callable[[Mapping[str, Any], Memory], tuple[Memory, str]]


def plan_layout(
    shape: Shape,
    place: Hardware,
    step: Step,
    pinned: Mapping[str, Any] | None = None,
    measured: Measured | None = None,
) -> Layout:
    """The fastest layout of a step that fits on `place` with a margin.

    Args:
        shape: The model.
        place: The hardware, present or named.
        step: What is given.
        pinned: Settings that the user has fixed: any of ``micro_batch``, ``checkpointing``,
            ``checkpointed_layers``, ``optimizer``. They are kept even if nothing fits with them.
        measured: What earlier probes of this model say, see `probes.learnt`.

    Returns:
        The layout; the one that needs least, with `fits` False, when none fits.

    Raises:
        UsageError: An unknown name in `pinned`.
    """
    fixed = {name: value for name, value in (pinned or {}).items() if value is not None}
    unknown = set(fixed) - {"micro_batch", "checkpointing", "checkpointed_layers", "optimizer"}
    if unknown:
        raise UsageError(
            f"'{min(unknown)}' is no setting of a layout.",
            code="unknown_setting",
            where=min(unknown),
            fix="pin micro_batch, checkpointing, checkpointed_layers or optimizer",
        )
    room = place.usable_gib * (1 - MARGIN)
    tried: list[Layout] = []
    for optimizer in _optimizers(step, fixed):
        tried += [
            found
            for way, layers in _ways(shape, step, fixed)
            for found in _micro_batches(
                shape, place, step, fixed, way, layers, optimizer, room, measured
            )
        ]
        fitting = [one for one in tried if one.fits]
        if fitting:
            fastest = min(one.seconds_per_step for one in fitting)
            near = [one for one in fitting if one.seconds_per_step <= fastest * (1 + _WORTH)]
            best = min(near, key=lambda one: one.memory.device_gib)
            return replace(best, choices=_explained(best, fitting, tried, step, fixed, place, room))
    least = min(tried, key=lambda one: one.memory.device_gib)
    return replace(least, choices=_explained(least, [], tried, step, fixed, place, room))


def _optimizers(step: Step, fixed: Mapping[str, Any]) -> tuple[Optimizer, ...]:
    if "optimizer" in fixed:
        return (fixed["optimizer"],)
    return ("adamw", "adamw_8bit") if step.tuning == "full" else ("adamw",)


def _ways(
    shape: Shape, step: Step, fixed: Mapping[str, Any]
) -> Iterator[tuple[Checkpointing, int | None]]:
    """Ways to recompute, from nothing to everything."""
    layers = fixed.get("checkpointed_layers")
    if layers is not None:
        yield "selective", int(layers)
        return
    for way in (fixed["checkpointing"],) if "checkpointing" in fixed else step.ways:
        if way != "selective":
            yield way, None
            continue
        counts = {round(shape.layers * part / _STEPS) for part in range(1, _STEPS)}
        for count in sorted(counts - {0, shape.layers}):
            yield "selective", count


def _micro_batches(
    shape: Shape,
    place: Hardware,
    step: Step,
    fixed: Mapping[str, Any],
    way: Checkpointing,
    layers: int | None,
    optimizer: Optimizer,
    room: float,
    measured: Measured | None,
) -> Iterator[Layout]:
    """The fewest passes that fit, and one more that does not, to show why; the smallest else."""
    if "micro_batch" in fixed:
        sizes = [int(fixed["micro_batch"])]
    else:
        # Only sizes that save a pass: the rows of a step are spread evenly over its passes.
        passes = range(step.sequences, 0, -1)
        sizes = sorted({math.ceil(step.sequences / count) for count in passes})
    found: Layout | None = None
    for size in sizes:
        one = _layout(shape, place, step, size, way, layers, optimizer, room, measured)
        if found is not None and not one.fits:
            yield one
            break
        found = one
        if not one.fits:
            break
    if found is not None:
        yield found


def _layout(
    shape: Shape,
    place: Hardware,
    step: Step,
    micro_batch: int,
    way: Checkpointing,
    layers: int | None,
    optimizer: Optimizer,
    room: float,
    measured: Measured | None,
) -> Layout:
    passes = math.ceil(step.sequences / micro_batch)
    # 8-bit states come with 16-bit weights (unift_local: full tuning with random rounding).
    dtype: Dtype = "bf16" if step.dtype == "mixed" and optimizer != "adamw" else step.dtype
    memory = estimate_memory(
        shape,
        tuning=step.tuning,
        rank=step.rank,
        targets=step.targets,
        micro_batch=micro_batch,
        length=step.length,
        checkpointing=way,
        checkpointed_layers=layers,
        dtype=dtype,
        optimizer=optimizer,
        loss=step.loss,
        packing=step.packing,
        attention=step.attention,
        kernels=step.kernels,
        padded=not step.packing and micro_batch > 1,
        dropout=step.dropout,
        passes=passes,
        scored=step.scored,
        compiled=step.compiled,
        device="cpu" if place.kind == "cpu" else "cuda",
    )
    note = ""
    if measured is not None:
        words = {
            "micro_batch": micro_batch,
            "length": step.length,
            "packing": step.packing,
            "checkpointing": way,
            "dtype": dtype,
            "optimizer": optimizer,
            "loss": step.loss,
            "attention": step.attention,
            "kernels": step.kernels,
        }
        memory, note = measured(words, memory)
    tokens = step.batch_size * step.mean
    filled = tokens / step.sequences
    duration = estimate_time(
        shape,
        tokens=tokens,
        tuning=step.tuning,
        micro_batch=micro_batch,
        length=max(1, round(filled)),
        row=step.mean,
        scored=step.scored,
        checkpointing=way,
        checkpointed_layers=layers,
        packing=step.packing,
        attention=step.attention,
        dtype=dtype,
        kernels=step.kernels,
        optimizer=optimizer,
        loss=step.loss,
        rank=step.rank,
        targets=step.targets,
        compiled=step.compiled,
        dropout=step.dropout,
        passes=passes,
        peak_tflops=None
        if place.kind == "cpu"
        else (place.gpu.bf16_tflops if place.gpu else _UNKNOWN_TFLOPS),
        bandwidth_gb_s=place.gpu.bandwidth_gb_s if place.gpu else None,
    )
    return Layout(
        micro_batch=micro_batch,
        passes=passes,
        checkpointing=way,
        checkpointed_layers=layers,
        optimizer=optimizer,
        memory=memory,
        seconds_per_step=duration.terms["training"],
        fits=memory.device_gib <= room,
        note=note,
    )


# A card that the catalogue does not know: only ratios matter for the choice.
_UNKNOWN_TFLOPS = 200.0


def _explained(
    best: Layout,
    fitting: list[Layout],
    tried: list[Layout],
    step: Step,
    fixed: Mapping[str, Any],
    place: Hardware,
    room: float,
) -> tuple[Choice, ...]:
    need = f"{best.memory.device_gib:.1f} of {place.usable_gib:.1f} GiB"
    same = [
        one
        for one in tried
        if (one.checkpointing, one.checkpointed_layers, one.optimizer)
        == (best.checkpointing, best.checkpointed_layers, best.optimizer)
    ]
    larger = min(
        (one for one in same if one.micro_batch > best.micro_batch and not one.fits),
        key=lambda one: one.micro_batch,
        default=None,
    )
    if not best.fits:
        size = f"nothing fits; this needs least ({need})"
    elif larger is not None:
        size = f"{need} at the peak; {larger.micro_batch} would need "
        size += f"{larger.memory.device_gib:.1f} and {room:.1f} are to be used"
    elif best.passes == 1:
        size = f"the whole step in one pass, {need} at the peak"
    else:
        size = f"{need} at the peak; more in a pass would save no time"
    if best.note:
        size += f" ({best.note})"
    what = "packed sequences" if step.packing else "rows"
    choices = [
        Choice("micro_batch", best.micro_batch, size, "micro_batch" in fixed),
        Choice(
            "accumulation",
            best.passes,
            f"passes for the {step.batch_size} rows ({step.sequences} {what}) of a step: the "
            "effective batch stays as it was",
        ),
        Choice(
            "checkpointing",
            best.checkpointing,
            _why_recompute(best, fitting, tried),
            bool({"checkpointing", "checkpointed_layers"} & set(fixed)),
        ),
    ]
    if best.checkpointed_layers is not None:
        choices.append(
            Choice(
                "checkpointed_layers",
                best.checkpointed_layers,
                "the fewest that leave room",
                "checkpointed_layers" in fixed,
            )
        )
    if best.optimizer == "adamw":
        why = "exact states fit"
    else:
        states = next((one for one in tried if one.optimizer == "adamw"), best)
        why = f"exact states would need {states.memory.device_gib:.1f} GiB in all"
    choices.append(Choice("optimizer", best.optimizer, why, "optimizer" in fixed))
    return tuple(choices)


def _why_recompute(best: Layout, fitting: list[Layout], tried: list[Layout]) -> str:
    """The best way against the best of each other kind."""
    if not best.fits:
        return "needs least memory"
    others: list[str] = []
    for way in dict.fromkeys(one.checkpointing for one in tried):
        if way == best.checkpointing:
            continue
        able = [one for one in fitting if one.checkpointing == way]
        if able:
            other = min(one.seconds_per_step for one in able)
            others.append(f"'{way}' takes {other / best.seconds_per_step - 1:+.0%} time")
        else:
            need = min(one.memory.device_gib for one in tried if one.checkpointing == way)
            others.append(f"'{way}' needs {need:.1f} GiB at least")
    return "; ".join(others) or "the only way"

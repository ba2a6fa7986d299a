"""What to change: so that a training fits, or needs less of a card."""

from __future__ import annotations

from dataclasses import replace

from unift import catalog
from unift.estimate._hardware import Hardware
from unift.estimate._resolve import Workload, local_providers
from unift.estimate._setup import LocalSettings, Setup, duration_of, memory_of, setup_of
from unift.estimate._shape import Shape
from unift.estimate.memory import Checkpointing, Tuning
from unift.estimate.planner import MARGIN
from unift.estimate.time import Duration

# Less memory than this share is no advice.
_WORTH = 0.05


def to_fit(
    shape: Shape,
    tuning: Tuning,
    place: Hardware,
    work: Workload,
    settings: LocalSettings,
    setup: Setup,
) -> str:
    """What would fit, tried in the order of what changes least."""
    room = place.usable_gib * (1 - MARGIN)
    options: list[str] = []
    own = _free(settings, setup)
    narrow = _without_experts(shape, tuning, settings)
    if narrow:
        need = _need(shape, tuning, place, work, replace(own, targets=narrow))
        if need <= room:
            options.append(f"leave the experts out: {_flags(narrow)} (from {need:.1f} GiB)")
    lighter: dict[Tuning, tuple[Tuning, ...]] = {"full": ("lora", "qlora"), "lora": ("qlora",)}
    names = {tunes: name for name, tunes in local_providers().items()}
    for way in lighter.get(tuning, ()):
        need = _need(shape, way, place, work, own)
        if need <= room:
            options.append(f"use {names.get(way, way)} (from {need:.1f} GiB)")
            break
    memory = memory_of(shape, tuning, place, settings, setup)
    for card in sorted(catalog.gpus(), key=lambda card: card.usable_gib):
        if place.kind == "cuda" and memory.device_gib <= card.usable_gib * (1 - MARGIN):
            options.append(f"use gpu={card.id} ({card.usable_gib:.0f} GiB)")
            break
    return ", or ".join(options) or (
        "no GPU of the catalogue is large enough, and unift trains on one: take a smaller model, "
        "or a vendor"
    )


def of_experts(
    shape: Shape,
    tuning: Tuning,
    place: Hardware,
    work: Workload,
    settings: LocalSettings,
    setup: Setup,
    duration: Duration | None,
) -> str:
    """What adapters on every expert cost, beside those on attention alone; empty where experts
    carry none.

    They stay the default: adapters on attention alone learn less than those on the MLP or the
    experts (Schulman et al. 2025, "LoRA Without Regret"), and what is learnt is not to depend on
    the card.
    """
    narrow = _without_experts(shape, tuning, settings)
    if not narrow:
        return ""
    free = _free(settings, setup)
    need = _need(shape, tuning, place, work, free)
    own = replace(free, targets=narrow)
    least = _need(shape, tuning, place, work, own)
    if least > need * (1 - _WORTH):
        return ""
    other = setup_of(shape, place, work, own, tuning)
    trained = memory_of(shape, tuning, place, own, other).trainable
    less = duration_of(shape, tuning, place, work, own, other, trained)
    costs, saves = f"from {need:.1f} GiB", f"from {least:.1f} GiB"
    if duration is not None and less is not None:
        costs += f", {duration.hours:.2g} hours"
        saves += f", {less.hours:.2g} hours"
    return (
        f"adapters on all experts, which peft multiplies out in every pass: {costs}; on attention "
        f"alone, where they learn less: {saves} ({_flags(narrow)})"
    )


def _without_experts(
    shape: Shape, tuning: Tuning, settings: LocalSettings
) -> tuple[str, ...] | None:
    """The targets less those that mean the experts; None where no expert carries an adapter."""
    if tuning == "full" or not shape.experts:
        return None
    asked = settings.targets or shape.default_targets()
    narrow = tuple(name for name in asked if name not in shape.expert_targets)
    return narrow if narrow and len(narrow) < len(asked) else None


def _flags(targets: tuple[str, ...]) -> str:
    return " ".join(f"--target {name}" for name in targets)


def _free(settings: LocalSettings, setup: Setup) -> LocalSettings:
    """The same training, with a layout still to be chosen."""
    return replace(
        settings, setup=None, batch_size=setup.batch_size, max_length=settings.max_length
    )


def _need(
    shape: Shape, tuning: Tuning, place: Hardware, work: Workload, settings: LocalSettings
) -> float:
    """GiB of the card at least: a row at a time, and on a card every layer recomputed."""
    setup = setup_of(shape, place, work, settings, tuning)
    least = replace(setup, micro_batch=1, passes=max(2, setup.passes * setup.micro_batch))
    if place.kind == "cpu":
        return memory_of(shape, tuning, place, settings, least).device_gib
    ways: tuple[Checkpointing, ...] = ("full", "offloaded")
    tried = [replace(least, checkpointing=way, checkpointed_layers=None) for way in ways]
    return min(memory_of(shape, tuning, place, settings, one).device_gib for one in tried)

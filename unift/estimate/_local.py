"""Rows for training on a machine of one's own, or a rented one."""

from __future__ import annotations

from dataclasses import asdict

from unift.estimate import paces, probes
from unift.estimate._advice import of_experts, to_fit
from unift.estimate._hardware import Hardware, hardware
from unift.estimate._resolve import Base, Workload, local_providers
from unift.estimate._row import Row
from unift.estimate._setup import LocalSettings, Setup, duration_of, memory_of, setup_of
from unift.estimate._shape import Shape
from unift.estimate.memory import Tuning
from unift.estimate.money import Cost, electricity_cost, gpu_cost
from unift.estimate.planner import MARGIN


def local_row(provider: str, base: Base, work: Workload, settings: LocalSettings) -> Row:
    """Memory, time and price of one local way to train.

    The set-up is the local provider's default: one packed sequence per forward pass; on a GPU
    bfloat16 (full fine-tuning: float32 weights) and checkpointing; on a CPU float32 without.

    Raises:
        UsageError: An unknown GPU.
    """
    if base.shape is None:
        reason = f"the weights of {base.name} are not to be had, so it cannot be trained locally"
        return Row(
            provider=provider,
            model=base.name,
            available=False,
            reason=reason,
            assumptions=(reason,),
            weights_yours=False,
        )
    shape = base.shape
    place = hardware(settings.gpu)
    tuning = local_providers()[provider]
    setup = setup_of(shape, place, work, settings, tuning)
    memory = memory_of(shape, tuning, place, settings, setup)
    duration = duration_of(shape, tuning, place, work, settings, setup, memory.trainable)
    notes = [
        *work.notes,
        *_unmeasured(shape, setup),
        f"{settings.epochs:g} epochs, rank {settings.rank}"
        if tuning != "full"
        else f"{settings.epochs:g} epochs",
        f"{'packed sequences' if setup.packing else 'rows'} of {setup.length} tokens, "
        f"{setup.micro_batch} per pass, {setup.dtype}, "
        f"checkpointing {_recomputed(setup)}",
        f"shape from {base.origin}",
    ]
    if duration is not None:
        notes += duration.assumptions
    else:
        notes.append(f"no arithmetic figure for {place.name}, so no time")
    probe = _probe(shape, tuning, place, setup, settings)
    pace = _pace(shape, tuning, place, setup, settings)
    room = place.usable_gib * (1 - MARGIN)
    if probe is not None:
        timed = duration if pace is None else None
        memory, timed, note = probes.corrected(probe, settings.subject, memory, timed)
        duration = timed or duration
        notes += [note, *probe.replanned]
        if probe.subject == settings.subject:
            room = place.usable_gib  # it ran: no margin for the formula's error
    if pace is not None and duration is not None:
        duration = paces.corrected(pace, duration)
        notes.append(pace.note())
    fits = memory.device_gib <= room
    cost = _cost(place, duration.hours if duration else None, settings, notes)
    sources = list(cost.sources) if cost else []
    if probe is not None:
        sources.append(probe.source())
    if pace is not None:
        sources.append(pace.source())
    if place.gpu:
        sources.append({"what": f"data sheet of {place.gpu.id}", **place.gpu.citation()})
    rent = settings.usd_per_hour
    if rent is None and place.gpu and not place.present:
        rent = place.gpu.typical_usd_per_hour
    if rent is None and settings.watts is not None and settings.usd_per_kwh is not None:
        rent = settings.watts / 1000 * settings.usd_per_kwh
    return Row(
        provider=provider,
        model=base.name,
        fits=fits,
        memory=memory,
        duration=duration,
        price_usd=cost.usd if cost else None,
        price_low_usd=cost.low if cost else None,
        price_high_usd=cost.high if cost else None,
        hardware=place.name,
        usable_gib=place.usable_gib,
        advice=of_experts(shape, tuning, place, work, settings, setup, duration)
        if fits
        else to_fit(shape, tuning, place, work, settings, setup),
        weights_yours=True,
        running_usd_per_hour=rent,
        assumptions=tuple([*notes, *(cost.assumptions if cost else ())]),
        sources=tuple(sources),
        settings={
            "tuning": tuning,
            "rank": None if tuning == "full" else settings.rank,
            "epochs": settings.epochs,
            "batch_size": setup.batch_size,
            "micro_batch": setup.micro_batch,
            "length": setup.length,
            "packing": setup.packing,
            "passes": setup.passes,
            "checkpointing": setup.checkpointing,
            "checkpointed_layers": setup.checkpointed_layers,
            "optimizer": setup.optimizer,
            "attention": setup.attention,
            "kernels": setup.kernels,
            "loss": setup.loss,
            "compiled": setup.compiled,
            "dtype": setup.dtype,
        },
    )


def _unmeasured(shape: Shape, setup: Setup) -> list[str]:
    """What of the memory stands on few measurements or on none."""
    found: list[str] = []
    if shape.stored:
        found.append(
            f"memory: the weights are stored in {shape.stored}, but counted as those of the model "
            "that was not quantised: that one is to be trained"
        )
    if shape.experts:
        found.append(
            "time: experts within 50%: 7 of 12 held-out steps were within 15%; full fine-tuning "
            "took up to 1.5 times what is said here, adapters down to 0.67 times"
        )
    if setup.compiled:
        found.append(
            "memory: what compiled layers keep rests on one measured model (8B, about 3% over)"
        )
    if shape.vision:
        found.append(
            "memory: for rows of text alone; pictures need more where the tower is trained"
        )
    return found


def _probe(
    shape: Shape, tuning: Tuning, place: Hardware, setup: Setup, settings: LocalSettings
) -> probes.Probe | None:
    if not settings.corrected:
        return None
    key = probes.key_of(place, shape, tuning, asdict(setup))
    return probes.recall(key, settings.subject)


def _pace(
    shape: Shape, tuning: Tuning, place: Hardware, setup: Setup, settings: LocalSettings
) -> paces.Pace | None:
    if not settings.corrected:
        return None
    return paces.recall(paces.key_of(place, shape, tuning, asdict(setup), setup.threads))


def _recomputed(setup: Setup) -> str:
    if setup.checkpointing == "none":
        return "off"
    layers = setup.checkpointed_layers
    return f"of {layers} layers" if layers is not None else setup.checkpointing


def _cost(
    place: Hardware, hours: float | None, settings: LocalSettings, notes: list[str]
) -> Cost | None:
    """Rent, the user's own price, electricity, or nothing for hardware that is there already."""
    if hours is None:
        return None
    if settings.usd_per_hour is not None:
        usd = settings.usd_per_hour * hours
        return Cost(usd, usd, usd, (f"${settings.usd_per_hour:g} per hour, given",), ())
    if settings.watts is not None and settings.usd_per_kwh is not None:
        return electricity_cost(hours, watts=settings.watts, usd_per_kwh=settings.usd_per_kwh)
    if place.present:
        notes.append(f"{place.name} is this machine's own: counted as free, electricity left out")
        return Cost(0.0, 0.0, 0.0, (), ())
    return gpu_cost(place.gpu, hours) if place.gpu else None

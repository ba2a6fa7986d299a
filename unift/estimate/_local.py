"""Rows for training on a machine of one's own, or a rented one."""

from __future__ import annotations

import math
from dataclasses import asdict, dataclass, replace

from unift import catalog
from unift.estimate import _paces as paces
from unift.estimate import _probes as probes
from unift.estimate._cpu_time import remembered_cpu, threads
from unift.estimate._hardware import Hardware, hardware
from unift.estimate._resolve import Base, Workload, local_providers
from unift.estimate._row import Row
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
from unift.estimate.money import Cost, electricity_cost, gpu_cost
from unift.estimate.planner import MARGIN, Step, plan_layout
from unift.estimate.time import LENGTH_SIGMA, estimate_time

# Evaluations of the validation data in a run of the local provider: each epoch, at least ten.
_EVALUATIONS = 10
# Bytes of a checkpoint for each trained weight: itself and AdamW's two moments in float32.
_CHECKPOINT = 12.0
# The local provider compiles layers from so many forward passes on.
_COMPILED_PASSES = 1000
# Packed sequences: as long as this, or the longest row.
_LENGTH = 2048


@dataclass(frozen=True, slots=True)
class Setup:
    """One forward pass: `length` tokens at most, `filled` on average, `row` in the row that a token
    lies in; the words are those of `estimate_memory`."""

    batch_size: int
    micro_batch: int
    length: int
    filled: int
    packing: bool
    checkpointing: Checkpointing
    dtype: Dtype
    row: float | None = None
    checkpointed_layers: int | None = None
    passes: int = 1
    optimizer: Optimizer = "adamw"
    loss: Loss = "chunked"
    attention: Attention = "varlen"
    kernels: Kernels = "adapters"
    scored: float = 1.0
    dropout: float = 0.0
    evaluations: int = _EVALUATIONS
    threads: int | None = None
    compiled: bool = False


@dataclass(frozen=True, slots=True)
class LocalSettings:
    """What is fixed for a local row; None leaves it to the row.

    `setup` is what a provider has planned; without it the row stands on the provider's defaults.
    `subject` identifies a planned training for whoever asks whether it was probed (see `Probe`);
    with `corrected` False the formulas' own figures are given, whatever probes said.
    """

    epochs: float
    gpu: str | None = None
    usd_per_hour: float | None = None
    watts: float | None = None
    usd_per_kwh: float | None = None
    rank: int = 16
    targets: tuple[str, ...] | None = None
    batch_size: int | None = None
    max_length: int | None = None
    setup: Setup | None = None
    subject: str = ""
    corrected: bool = True


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
    setup = settings.setup or _setup(shape, place, work, settings, tuning)
    if tuning == "full":
        # 8-bit states come with 16-bit weights, exact ones with weights in float32.
        exact = setup.optimizer == "adamw" and setup.dtype == "bf16"
        setup = replace(setup, dropout=0.0, dtype="mixed" if exact else setup.dtype)
    memory = _memory(shape, tuning, place, settings, setup)
    peak = place.gpu.bf16_tflops if place.gpu else None
    unmeasured = _unmeasured(shape, tuning, setup)
    notes = [
        *work.notes,
        *unmeasured,
        f"{settings.epochs:g} epochs, rank {settings.rank}"
        if tuning != "full"
        else f"{settings.epochs:g} epochs",
        f"{'packed sequences' if setup.packing else 'rows'} of {setup.length} tokens, "
        f"{setup.micro_batch} per pass, {setup.dtype}, "
        f"checkpointing {_recomputed(setup)}",
        f"shape from {base.origin}",
    ]
    duration = None
    if place.kind == "cpu" or peak is not None:
        duration = estimate_time(
            shape,
            tokens=work.tokens * settings.epochs,
            tuning=tuning,
            micro_batch=setup.micro_batch,
            length=setup.filled,
            row=setup.row,
            checkpointing=setup.checkpointing,
            checkpointed_layers=setup.checkpointed_layers,
            packing=setup.packing,
            attention=setup.attention,
            dtype=setup.dtype,
            kernels=setup.kernels,
            optimizer=setup.optimizer,
            loss=setup.loss,
            rank=settings.rank,
            targets=settings.targets,
            compiled=setup.compiled,
            dropout=setup.dropout,
            scored=setup.scored,
            passes=setup.passes,
            peak_tflops=peak,
            bandwidth_gb_s=place.gpu.bandwidth_gb_s if place.gpu else None,
            cpu_threads=setup.threads,
            cpu_speed=remembered_cpu(setup.threads or threads()) if peak is None else None,
            evaluation_tokens=work.validation_tokens,
            evaluations=setup.evaluations,
            checkpoint_bytes=_CHECKPOINT * memory.trainable,
            data_tokens=work.tokens,
        )
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
        advice="" if fits else _advice(shape, tuning, place, settings, setup),
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


def _unmeasured(shape: Shape, tuning: Tuning, setup: Setup) -> list[str]:
    """What of the memory stands on few measurements or on none."""
    found: list[str] = []
    if shape.experts and tuning != "full":
        found.append(
            "memory: peft multiplies adapters of fused experts out, a copy of all experts of every "
            "layer that is not recomputed; lora.targets of attention alone need none"
        )
    if shape.experts:
        found.append(
            "time: of expert models 4 of 12 held-out steps were within 15%; half of a full "
            "fine-tune's can be missing, adapters were up to 46% over"
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


def _setup(
    shape: Shape, place: Hardware, work: Workload, settings: LocalSettings, tuning: Tuning
) -> Setup:
    """The local provider's defaults, with the layout that its plan would choose."""
    cpu = place.kind == "cpu"
    longest = settings.max_length or work.longest or 0
    length = max(longest, _LENGTH)
    if shape.context:
        length = min(length, max(shape.context, longest))
    # Most tokens lie in long rows: of log-normal ones, in rows of so many on average.
    row = min(work.mean * math.exp(LENGTH_SIGMA**2), max(work.mean, longest or math.inf))
    # A step takes exactly `batch_size` rows, so its last sequence is seldom full.
    batch = settings.batch_size or _batch_size(work.rows)
    tokens = batch * work.mean
    dtype: Dtype = "fp32" if cpu else "mixed" if tuning == "full" else "bf16"
    kernels: Kernels = "torch" if tuning == "full" else "adapters"
    filled = max(1, round(tokens / max(1, math.ceil(tokens / length))))
    setup = Setup(batch, 1, length, filled, True, "none", dtype, row=row, kernels=kernels)
    if cpu:
        return setup
    step = Step(
        tuning=tuning,
        batch_size=batch,
        mean=work.mean,
        longest=max(longest, 1),
        pack_length=length,
        rank=settings.rank,
        targets=settings.targets,
        dtype=dtype,
        loss=setup.loss,
        attention=setup.attention,
        kernels=kernels,
        ways=("none", "selective", "full", "offloaded"),
    )
    measured = probes.learnt(place, shape, tuning) if settings.corrected else None
    layout = plan_layout(shape, place, step, measured=measured)
    return replace(
        setup,
        micro_batch=layout.micro_batch,
        passes=layout.passes,
        checkpointing=layout.checkpointing,
        checkpointed_layers=layout.checkpointed_layers,
        optimizer=layout.optimizer,
        dtype="bf16" if tuning == "full" and layout.optimizer != "adamw" else dtype,
        compiled=(work.rows or 0) * settings.epochs / batch * layout.passes >= _COMPILED_PASSES,
    )


def _batch_size(rows: int | None) -> int:
    """The local provider's default: small data gets small batches, so that steps are enough."""
    if rows is None:
        return 8
    return 4 if rows < 200 else 8 if rows < 1000 else 16


def _memory(
    shape: Shape, tuning: Tuning, place: Hardware, settings: LocalSettings, setup: Setup
) -> Memory:
    return estimate_memory(
        shape,
        tuning=tuning,
        rank=settings.rank,
        targets=settings.targets,
        micro_batch=setup.micro_batch,
        length=setup.length,
        checkpointing=setup.checkpointing,
        checkpointed_layers=setup.checkpointed_layers,
        dtype=setup.dtype,
        optimizer=setup.optimizer,
        loss=setup.loss,
        packing=setup.packing,
        attention=setup.attention,
        kernels=setup.kernels,
        padded=not setup.packing and setup.micro_batch > 1,
        dropout=setup.dropout,
        passes=setup.passes,
        scored=setup.scored,
        device="cpu" if place.kind == "cpu" else "cuda",
        compiled=setup.compiled,
    )


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


def _advice(
    shape: Shape, tuning: Tuning, place: Hardware, settings: LocalSettings, setup: Setup
) -> str:
    """What would fit, tried in the order of what costs least."""
    room = place.usable_gib * (1 - MARGIN)
    options: list[str] = []
    lighter: dict[Tuning, tuple[Tuning, ...]] = {"full": ("lora", "qlora"), "lora": ("qlora",)}
    adapters = replace(setup, dtype="bf16") if setup.dtype == "mixed" else setup
    names = {tunes: name for name, tunes in local_providers().items()}
    for way in lighter.get(tuning, ()):
        memory = _memory(shape, way, place, settings, adapters)
        if memory.device_gib <= room:
            options.append(f"use {names.get(way, way)} ({memory.device_gib:.1f} GiB)")
            break
    memory = _memory(shape, tuning, place, settings, setup)
    for card in sorted(catalog.gpus(), key=lambda card: card.usable_gib):
        if place.kind == "cuda" and memory.device_gib <= card.usable_gib * (1 - MARGIN):
            options.append(f"use gpu={card.id} ({card.usable_gib:.0f} GiB)")
            break
    return ", or ".join(options) or "no single GPU of the catalogue is large enough: smaller model"

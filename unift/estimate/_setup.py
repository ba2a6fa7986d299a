"""How a local provider computes a step unless told otherwise, and what that needs."""

from __future__ import annotations

import math
from dataclasses import dataclass, replace

from unift.estimate import probes
from unift.estimate._cpu_time import remembered_cpu, threads
from unift.estimate._hardware import Hardware
from unift.estimate._resolve import Workload
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
from unift.estimate.planner import Step, plan_layout
from unift.estimate.time import LENGTH_SIGMA, Duration, estimate_time

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


def setup_of(
    shape: Shape, place: Hardware, work: Workload, settings: LocalSettings, tuning: Tuning
) -> Setup:
    """What was planned, else the local provider's defaults with the layout that its plan would
    choose."""
    setup = settings.setup or _default(shape, place, work, settings, tuning)
    if tuning != "full":
        return setup
    # 8-bit states come with 16-bit weights, exact ones with weights in float32.
    exact = setup.optimizer == "adamw" and setup.dtype == "bf16"
    return replace(setup, dropout=0.0, dtype="mixed" if exact else setup.dtype)


def _default(
    shape: Shape, place: Hardware, work: Workload, settings: LocalSettings, tuning: Tuning
) -> Setup:
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


def memory_of(
    shape: Shape, tuning: Tuning, place: Hardware, settings: LocalSettings, setup: Setup
) -> Memory:
    """Peak memory of a set-up."""
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


def duration_of(
    shape: Shape,
    tuning: Tuning,
    place: Hardware,
    work: Workload,
    settings: LocalSettings,
    setup: Setup,
    trained: int,
) -> Duration | None:
    """Time of a training of so many weights; None on a card whose arithmetic has no figure."""
    peak = place.gpu.bf16_tflops if place.gpu else None
    if place.kind != "cpu" and peak is None:
        return None
    return estimate_time(
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
        checkpoint_bytes=_CHECKPOINT * trained,
        data_tokens=work.tokens,
    )

"""The estimate of a plan: memory, time and price of exactly the settings that were chosen."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import asdict, replace
from datetime import UTC, datetime
from pathlib import Path
from typing import TYPE_CHECKING, Any

from unift.errors import UsageError
from unift.estimate import (
    Base,
    LocalSettings,
    Probe,
    Setup,
    Shape,
    Workload,
    hardware,
    local_row,
    probes,
    read_shape,
)
from unift.estimate.memory import Optimizer
from unift.provider import Plan
from unift_local.measuring import Data
from unift_local.models import BaseModelFiles

if TYPE_CHECKING:
    from unift_local.probe import Measured

# What the memory and the time of a step depend on, besides the model and the rows.
_SUBJECT = (
    *("batch_size", "micro_batch", "packing", "pack_length", "max_length", "seed", "total_steps"),
    *("gradient_checkpointing", "checkpointing", "checkpointed_layers", "attention", "compile"),
    *("fused_adapters", "loss", "optimizer", "dtype", "device", "rank", "targets", "dropout"),
)


def plan_estimate(
    provider: str,
    model: str,
    base: BaseModelFiles,
    data: Data,
    values: Mapping[str, Any],
    fingerprints: Mapping[str, str],
) -> tuple[dict[str, Any], str]:
    """The row of `unift.estimate` for the settings in `values`, and a warning if there is none.

    An architecture without a formula can be trained all the same; the plan then says so.
    """
    try:
        shape = Shape.from_config(base.config, where=str(base.folder / "config.json"))
    except UsageError as error:
        return {}, f"Memory and time are not estimated: {error.message}"
    if values["device"] == "cpu":
        from unift_local.calibrate import cpu_speed  # imports torch

        cpu_speed(values["threads"])  # measured once a machine; the row finds it
    rows, tokens = len(data.train), sum(data.train)
    epochs = values["total_steps"] * values["batch_size"] / rows
    row = local_row(
        provider,
        Base(model, shape, str(base.folder / "config.json")),
        Workload(
            tokens=tokens,
            rows=rows,
            longest=data.longest,
            validation_tokens=sum(data.validation),
            notes=(f"{tokens:,} tokens in {rows:,} rows under the model's own chat template",),
        ),
        LocalSettings(
            epochs=epochs,
            gpu="cpu" if values["device"] == "cpu" else None,
            rank=values.get("rank", 16),
            targets=known_targets(values.get("targets"), shape),
            setup=setup_of(values, data),
            subject=_subject(base.reference, fingerprints, values),
        ),
    )
    return row.as_dict(), ""


def keep_probe(plan: Plan, lengths: Sequence[int], found: Measured, why: Sequence[str]) -> Probe:
    """Hold what a probe measured against the formulas for the same step, and keep the difference.

    Args:
        plan: The one that is being trained.
        lengths: Tokens of every training row.
        found: The measurement.
        why: Sentences about what was replanned before it fitted.

    Raises:
        UsageError: The model has no formula.
    """
    provider, values = plan.spec.provider, {one.name: one.value for one in plan.settings}
    folder = Path(plan.payload["base_folder"])
    shape = read_shape(folder)
    base = Base(plan.spec.model, shape, str(folder / "config.json"))
    share = plan.payload["trained_tokens"] / max(1, plan.payload["tokens"])
    setup = setup_of(values, Data(list(lengths), [], round(share * sum(lengths))))
    tokens, passes = sum(found.lengths), len(found.passes)
    rows = max(1, math.ceil(len(found.lengths) / passes))
    packed = values["packing"]
    step = replace(
        setup,
        batch_size=len(found.lengths),
        micro_batch=1 if packed else min(rows, values["micro_batch"]),
        length=max(found.passes) if packed else max(found.lengths),
        # Rounded up, so that the step is not taken for one pass more.
        filled=math.ceil(tokens / passes) if packed else math.ceil(tokens / len(found.lengths)),
        row=tokens / len(found.lengths),
        passes=passes,
        scored=max(1, found.trained) / tokens,
    )
    settings = LocalSettings(
        epochs=1.0,
        gpu="cpu" if values["device"] == "cpu" else None,
        rank=values.get("rank", 16),
        targets=known_targets(values.get("targets"), shape),
        setup=step,
        corrected=False,
    )
    work = Workload(tokens, len(found.lengths), max(found.lengths), 0.0, ())
    row = local_row(provider, base, work, settings)
    assert row.memory is not None
    planned = row.duration.terms["training"] if row.duration else found.seconds
    beyond = 0.0
    if found.allocated_gib is not None:
        beyond = found.allocated_gib - row.memory.allocated_gib
    place = hardware(settings.gpu)
    probe = Probe(
        at=datetime.now(UTC).isoformat(timespec="seconds"),
        key=probes.key_of(place, shape, str(row.settings["tuning"]), row.settings),
        subject=_subject(plan.payload["base"], plan.fingerprints, values),
        model=plan.spec.model,
        device=probes.device_of(place),
        libraries=probes.libraries(),
        setup=asdict(setup),
        tokens=tokens,
        passes=passes,
        seconds=found.seconds,
        time_factor=found.seconds / planned,
        allocated_gib=found.allocated_gib,
        reserved_gib=found.reserved_gib,
        resident_gib=found.resident_gib,
        memory_gib=beyond,
        replanned=tuple(why),
    )
    probes.remember(probe)
    return probe


def _subject(reference: str, prints: Mapping[str, str], values: Mapping[str, Any]) -> str:
    """What was, or would be, probed: the same model, rows, order and settings."""
    chosen = {name: values.get(name) for name in _SUBJECT}
    return probes.digest(reference, prints.get("data"), chosen)


def setup_of(values: Mapping[str, Any], data: Data) -> Setup:
    """The settings of a plan in the estimate's words."""
    batch, micro = values["batch_size"], values["micro_batch"]
    mean = sum(data.train) / len(data.train)
    if values["packing"]:
        # A step takes exactly `batch` rows, so its last pack is seldom full.
        length = max(values["pack_length"], data.longest)
        packs = max(1, math.ceil(batch * mean / values["pack_length"]))
        filled = batch * mean / packs
    else:
        length, filled = data.longest, mean
    return Setup(
        batch_size=batch,
        micro_batch=micro,
        length=length,
        filled=max(1, round(filled)),
        packing=values["packing"],
        row=sum(one * one for one in data.train) / sum(data.train),
        checkpointing=(
            values.get("checkpointing", "full") if values["gradient_checkpointing"] else "none"
        ),
        checkpointed_layers=values.get("checkpointed_layers")
        if values["gradient_checkpointing"]
        else None,
        passes=values["accumulation"],
        dtype=values["dtype"],
        optimizer=optimizer_word(values),
        loss="chunked" if values["loss"] == "chunked" else "tiled",
        attention="varlen" if values["attention"] != "sdpa" else "sdpa",
        kernels="adapters" if values.get("fused_adapters") else "torch",
        scored=max(1, data.trained) / max(1, sum(data.train)),
        dropout=values.get("dropout", 0.0),
        evaluations=_evaluations(values, len(data.train)),
        threads=values["threads"],
        compiled=bool(values["compile"]),
    )


def _evaluations(values: Mapping[str, Any], rows: int) -> int:
    """Before the first step, every so many steps, at the end of each epoch and of the run."""
    total, often = values["total_steps"], values["eval_steps"]
    epoch = math.ceil(rows / values["batch_size"])
    return 1 + len({*range(often, total + 1, often), *range(epoch, total + 1, epoch), total})


def optimizer_word(values: Mapping[str, Any]) -> Optimizer:
    """The optimiser of a plan in the estimate's words."""
    name = str(values["optimizer"])
    if "8bit" not in name:
        return "adamw"
    return "paged_adamw_8bit" if name.startswith("paged") else "adamw_8bit"


def known_targets(targets: Any, shape: Shape) -> tuple[str, ...] | None:
    """The targets that the formula has widths for; None, for all of them, when it lacks one."""
    if not isinstance(targets, list):
        return None
    known = shape.default_targets()
    return tuple(targets) if all(target in known for target in targets) else None

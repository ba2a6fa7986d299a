"""The estimate of a plan: memory, time and price of exactly the settings that were chosen."""

from __future__ import annotations

import math
from collections.abc import Mapping
from typing import Any

from unift.errors import UsageError
from unift.estimate import Base, LocalSettings, Setup, Shape, Workload, local_row
from unift.estimate.memory import Optimizer
from unift_local.measuring import Data
from unift_local.models import BaseModelFiles


def plan_estimate(
    provider: str, model: str, base: BaseModelFiles, data: Data, values: Mapping[str, Any]
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
            setup=_setup(values, data),
        ),
    )
    return row.as_dict(), ""


def _setup(values: Mapping[str, Any], data: Data) -> Setup:
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
        row=mean,
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
        evaluations=math.ceil(values["total_steps"] / values["eval_steps"]) + 1,
        threads=values["threads"],
        compiled=bool(values["compile"]),
    )


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

"""The settings that decide memory and speed, from the estimate: for the card that is here, the
fastest layout of a step that fits. What the user has set stays."""

from __future__ import annotations

from typing import Any

from unift.errors import UsageError
from unift.estimate import Hardware, Shape, hardware, probes
from unift.estimate.planner import Layout, Step, plan_layout
from unift.provider import Setting
from unift_local.estimating import known_targets, optimizer_word
from unift_local.measuring import Data
from unift_local.models import BaseModelFiles
from unift_local.options import LocalOptions

_CHOSEN = (
    "micro_batch",
    "accumulation",
    "gradient_checkpointing",
    "checkpointing",
    "checkpointed_layers",
)


def fitted(
    found: list[Setting], options: LocalOptions, base: BaseModelFiles, data: Data, tunes: str
) -> list[Setting]:
    """`found` with a layout that fits in place of the defaults; unchanged for a model without
    formula, and on a CPU, where one sequence at a time is best."""
    values = {one.name: one.value for one in found}
    place = hardware("cpu" if values["device"] == "cpu" else None)
    if place.kind == "cpu":
        return found
    try:
        shape = Shape.from_config(base.config, where=str(base.folder / "config.json"))
    except UsageError:
        return found
    layout = plan_layout(
        shape,
        place,
        step_of(values, data, shape, tunes),
        _pinned(options, values),
        probes.learnt(place, shape, tunes),
    )
    return _replaced(found, options, layout, place)


def step_of(values: dict[str, Any], data: Data, shape: Shape, tunes: Any) -> Step:
    """The rows of a step and the trainer's way with them, as the planner takes them."""
    full = tunes == "full"
    exact = optimizer_word(values) == "adamw"
    return Step(
        tuning=tunes,
        batch_size=values["batch_size"],
        mean=sum(data.train) / len(data.train),
        longest=data.longest,
        pack_length=values.get("pack_length", data.longest),
        packing=values["packing"],
        rank=values.get("rank", 16),
        targets=known_targets(values.get("targets"), shape),
        dtype="mixed" if full and exact and values["dtype"] == "bf16" else values["dtype"],
        loss="chunked" if values["loss"] == "chunked" else "tiled",
        attention="varlen" if values["attention"] != "sdpa" else "sdpa",
        kernels="adapters" if values.get("fused_adapters") else "torch",
        dropout=values.get("dropout", 0.0),
        scored=max(1, data.trained) / max(1, sum(data.train)),
        compiled=bool(values.get("compile")),
        ways=("none", "selective", "full", "offloaded"),
    )


def _pinned(options: LocalOptions, values: dict[str, Any]) -> dict[str, Any]:
    way: str | None = None
    if options.gradient_checkpointing is False:
        way = "none"
    elif options.checkpointing != "auto":
        way = options.checkpointing
    elif options.gradient_checkpointing and options.checkpointed_layers is None:
        way = "full"
    return {
        "micro_batch": options.micro_batch,
        "checkpointing": way,
        "checkpointed_layers": options.checkpointed_layers if way in (None, "selective") else None,
        "optimizer": optimizer_word(values),
    }


def _replaced(
    found: list[Setting], options: LocalOptions, layout: Layout, place: Hardware
) -> list[Setting]:
    why = {one.name: one.why for one in layout.choices}
    recomputes = layout.checkpointing != "none"
    new: dict[str, tuple[Any, str]] = {
        "micro_batch": (layout.micro_batch, why["micro_batch"]),
        "accumulation": (layout.passes, why["accumulation"]),
        "gradient_checkpointing": (recomputes, why["checkpointing"]),
    }
    if recomputes:
        new["checkpointing"] = (layout.checkpointing, why["checkpointing"])
    if layout.checkpointed_layers is not None:
        new["checkpointed_layers"] = (layout.checkpointed_layers, why["checkpointed_layers"])
    kept: list[Setting] = []
    for one in found:
        if one.name not in new or one.origin == "user":
            kept.append(one)
            new.pop(one.name, None)
            continue
        value, reason = new.pop(one.name)
        kept.append(Setting(name=one.name, value=value, origin="estimate", why=reason))
    at = 1 + max(i for i, one in enumerate(kept) if one.name in _CHOSEN)
    kept[at:at] = [
        Setting(name=name, value=value, origin="estimate", why=reason)
        for name, (value, reason) in new.items()
    ]
    return kept

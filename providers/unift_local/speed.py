"""Applies the plan's settings for speed to a model. None of them changes what is learnt."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import AbstractContextManager
from typing import Any

import torch
from transformers.modeling_layers import GradientCheckpointingLayer

from unift.provider import Plan
from unift_local import attention, fused, kernels
from unift_local.offload import Offload
from unift_local.recompute import recomputed

#: Packs are filled up to a multiple of this when layers are compiled, so that few shapes occur.
COMPILED_MULTIPLE = 256


def attention_name(plan: Plan) -> str:
    """What transformers calls the attention of the plan."""
    name = plan.value("attention")
    return attention.register() if name == "varlen" else name


def layers(model: torch.nn.Module) -> Iterator[GradientCheckpointingLayer]:
    """The decoder layers, in order."""
    return (one for one in model.modules() if isinstance(one, GradientCheckpointingLayer))


def apply(plan: Plan, model: Any) -> str:
    """Fuse, checkpoint and compile as planned; in words, what was done."""
    done: list[str] = []
    base = model.get_base_model() if hasattr(model, "get_base_model") else model
    kernels.fuse_pointwise(plan.value("device") == "cuda")
    if plan.payload["tunes"] != "full" and plan.value("fused_adapters"):
        found = fused.fuse(model)
        done.append(
            f"fused {found['attention']} attention blocks, {found['mlp']} MLPs and "
            f"{found['single']} single projections"
            + (f"; {found['plain']} layers stay as they are" if found["plain"] else "")
        )
        # Runs that an older version planned do not have the setting.
        if any(one.name == "products" and one.value == "bf16" for one in plan.settings):
            done.append(f"{fused.narrow(model)} frozen weights are in bf16")
    everyone: list[Any] = list(layers(base))
    if plan.value("compile"):
        if plan.payload["tunes"] != "full":
            base.enable_input_require_grads()  # else the first layer would be compiled by itself
        torch._dynamo.config.suppress_errors = True  # what cannot be compiled runs as it is
        for layer in everyone:
            layer.forward = torch.compile(layer.forward)
        done.append("the decoder layer is compiled once")
    if plan.value("gradient_checkpointing"):
        done.append(_checkpoint(plan, everyone))
    return "; ".join(done)


def _checkpoint(plan: Plan, everyone: list[Any]) -> str:
    """Around compiled code, not within it as newer versions of transformers would have it."""
    kind = plan.value("checkpointing")
    count = len(everyone)
    if kind == "selective":
        # The last layers stay: theirs is the memory that is free again first.
        count = min(plan.value("checkpointed_layers"), count)
    keeper = Offload() if kind == "offloaded" else None
    for layer in everyone[:count]:
        layer.forward = recomputed(layer, layer.forward, keeper)
    if kind == "selective":
        return f"{count} of {len(everyone)} layers are recomputed"
    kept = " from an input kept in main memory" if kind == "offloaded" else ""
    return f"every layer is recomputed{kept}"


def precision(plan: Plan) -> AbstractContextManager[Any]:
    """Where the weights are kept wider than they compute: bf16 by torch's autocast."""
    enabled = plan.value("dtype") == "bf16" and not computes_in_bf16(plan)
    return torch.autocast(plan.value("device"), dtype=torch.bfloat16, enabled=enabled)


def computes_in_bf16(plan: Plan) -> bool:
    """Whether everything is in bf16 by itself: a frozen base under fused adapters, or all of it."""
    if plan.payload["tunes"] == "full":
        return plan.value("optimizer") == "adamw_8bit"
    return plan.value("fused_adapters")

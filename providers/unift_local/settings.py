"""How settings are collected, and those that need no look at the data: speed and adapters."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Any, Literal

from unift.errors import UsageError
from unift.provider import Origin, Setting
from unift.spec import TrainSpec
from unift_local.models import BaseModelFiles
from unift_local.options import LocalOptions

Tunes = Literal["full", "lora", "qlora"]

_NARROW_WIDTH = 128  # of the model; narrower ones were not measured
_COMPILED_PASSES = 1000  # a fifth faster from then on (benchmarks/results/training.md)


@dataclass
class Settings:
    """Collects settings in the order in which they are decided."""

    found: list[Setting] = field(default_factory=list)

    def take(
        self, name: str, wanted: Any, default: Any, why: str, origin: Origin = "provider default"
    ) -> Any:
        """The user's value, or the default with its origin and reason."""
        given = wanted is not None
        value = wanted if given else default
        self.found.append(
            Setting(
                name=name,
                value=value,
                origin="user" if given else origin,
                why="" if given else why,
            )
        )
        return value


def speed_settings(
    settings: Settings, options: LocalOptions, base: BaseModelFiles, cuda: bool, tunes: Tunes
) -> None:
    """How the same numbers are computed faster. None of this changes what is learnt."""
    values = {one.name: one.value for one in settings.found}
    half = values["dtype"] == "bf16"
    varlen = (not cuda or half) and values["packing"]
    attention = settings.take(
        "attention",
        None if options.attention == "auto" else options.attention,
        "varlen" if varlen else "sdpa",
        "each row of a pack attends to itself alone, without a mask"
        if varlen
        else "rows are not packed"
        if not values["packing"]
        else "the kernel needs bf16",
        "hardware",
    )
    if attention != "sdpa" and not values["packing"]:
        raise UsageError(
            f"attention '{attention}' is for packed rows.",
            code="bad_setting",
            where="options.attention",
            fix="turn packing on, or use sdpa",
        )
    if attention.startswith("flash"):
        _refuse_flash(attention, cuda=cuda, half=half)
    if tunes != "full":
        dropout = values["dropout"]
        fused = settings.take(
            "fused_adapters",
            options.fused_adapters,
            dropout == 0,
            "base and adapter are one function; exact, and less memory"
            if dropout == 0
            else "dropout keeps base and adapter apart; set lora dropout 0 to fuse them",
            "mapping rule",
        )
        if fused and dropout:
            raise UsageError(
                f"Fused adapters have no dropout, but dropout is {dropout:g}.",
                code="bad_setting",
                where="options.fused_adapters",
                fix="set lora dropout to 0, or leave fused_adapters out",
            )
        _products(settings, options, base, cuda, tunes, fused=fused)
    settings.take(
        "loss",
        None if options.loss == "auto" else options.loss,
        "chunked",
        "logits exist for some tokens at a time, and only where a token is trained",
    )
    passes = values["total_steps"] * values["accumulation"]
    worth = cuda and half and attention == "varlen" and passes >= _COMPILED_PASSES
    compiled = settings.take(
        "compile",
        options.compile,
        worth,
        f"{passes} forward passes are enough to win the minute of compiling back"
        if worth
        else f"compiling takes about a minute on a card, and pays from {_COMPILED_PASSES} forward "
        "passes on",
        "hardware",
    )
    if compiled and not cuda:
        raise UsageError(
            "Compiling is for CUDA cards.",
            code="bad_setting",
            where="options.compile",
            fix="leave compile out",
        )


def _products(
    settings: Settings,
    options: LocalOptions,
    base: BaseModelFiles,
    cuda: bool,
    tunes: Tunes,
    *,
    fused: bool,
) -> None:
    values = {one.name: one.value for one in settings.found}
    can = tunes == "lora" and fused and not cuda and values["dtype"] == "fp32"
    if options.products == "bf16" and not can:
        raise UsageError(
            "Only fp32 training of fused adapters on a CPU can have its products in bf16.",
            code="bad_setting",
            where="options.products",
            fix="leave products out; dtype bf16 computes everything in bf16",
        )
    if not can:
        why = "as everything else"
    elif not _cpu_has_bf16():
        why = "this processor has no bf16 instructions"
    elif base.config.get("hidden_size", 0) < _NARROW_WIDTH:
        why = "small products gain nothing from bf16"
    else:
        settings.take(
            "products",
            None if options.products == "auto" else options.products,
            "bf16",
            "this processor multiplies faster in bf16; what is learnt, attention and the loss "
            "stay in fp32",
            "hardware",
        )
        return
    given = None if options.products == "auto" else options.products
    settings.take("products", given, values["dtype"], why, "hardware")


def _cpu_has_bf16() -> bool:
    """Whether products of bf16 are instructions (AVX512-BF16, AMX), not emulated ones."""
    import torch

    names = ("_is_avx512_bf16_supported", "_is_amx_tile_supported")
    return any(getattr(torch.cpu, name, lambda: False)() for name in names)


def _refuse_flash(attention: str, *, cuda: bool, half: bool) -> None:
    """Raises UsageError where the kernels of a flash-attn wheel cannot be used."""
    from transformers.utils.import_utils import (
        is_flash_attn_2_available,
        is_flash_attn_3_available,
    )

    second = attention.endswith("2")
    package = "flash-attn" if second else "flash-attn-3"
    there = is_flash_attn_2_available() if second else is_flash_attn_3_available()
    why = (
        "is for CUDA cards"
        if not cuda
        else "computes in 16 bits only"
        if not half
        else f"needs the package {package}, which is not installed"
        if not there
        else None
    )
    if why is not None:
        raise UsageError(
            f"{attention} {why}.",
            code="bad_setting",
            where="options.attention",
            fix="leave attention out: varlen is torch's own kernel for packed rows and needs no "
            "package"
            if cuda and half
            else "leave attention out",
        )


def adapter_settings(settings: Settings, spec: TrainSpec, base: BaseModelFiles) -> None:
    """Rank, scale, dropout and the modules that get an adapter."""
    rank = settings.take("rank", spec.lora.rank, 16, "enough for most tasks")
    settings.take("alpha", spec.lora.alpha, 2.0 * rank, "twice the rank", "mapping rule")
    settings.take(
        "dropout",
        spec.lora.dropout,
        0.0,
        "lets adapter and base be one function; the best step on validation data is what is kept "
        "against overfitting",
    )
    known = base.projections()
    targets = spec.lora.targets
    if targets is not None and known:
        _check_targets(targets, base)
    settings.take(
        "targets",
        None if targets is None else list(targets),
        list(known) or "all-linear",
        _why_all(base, known),
        "model",
    )


def _why_all(base: BaseModelFiles, known: Sequence[str]) -> str:
    """The reason for adapters everywhere; of experts, that leaving them out would be cheaper."""
    text: dict[str, Any] = {**base.config, **base.config.get("text_config", {})}
    experts = any(text.get(key) for key in ("num_experts", "num_local_experts", "n_routed_experts"))
    if experts and {"gate_proj", "w1"} & set(known):
        return (
            "all attention projections and every expert, which learns more than attention alone; "
            "the estimate says what leaving the experts out would save, and how"
        )
    return "all attention and MLP projections"


def _check_targets(targets: Sequence[str], base: BaseModelFiles) -> None:
    from unift._text import did_you_mean

    present = {part for key in base.shapes for part in key.split(".")}
    linear = {
        key.split(".")[-2]
        for key, shape in base.shapes.items()
        if key.endswith(".weight") and len(shape) == 2 and "." in key
    }
    for target in targets:
        if target in ("lm_head", "embed_tokens"):
            raise UsageError(
                f"'{target}' cannot carry an adapter here: the loss is computed from the plain "
                "output weights, so it would never be trained.",
                code="bad_setting",
                where="lora.targets",
                fix=f"use any of {', '.join(base.projections())}",
            )
        if target not in present:
            raise UsageError(
                f"The model has no layer named '{target}'.",
                code="bad_setting",
                where="lora.targets",
                fix=did_you_mean(target, base.projections()),
            )
        if target not in linear:
            raise UsageError(
                f"'{target}' is no linear layer, and only those can carry an adapter here.",
                code="bad_setting",
                where="lora.targets",
                fix=f"use any of {', '.join(base.projections())}",
            )

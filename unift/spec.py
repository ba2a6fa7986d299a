"""What the user wants, in words that no vendor owns.

A field that is None means "you decide": the provider's plan fills it in and records where the
value came from. Nothing here knows which providers exist.
"""

from __future__ import annotations

from collections.abc import Mapping
from enum import StrEnum
from typing import Any, TypeVar

from pydantic import BaseModel, ConfigDict, Field, ValidationError

from unift._text import did_you_mean
from unift.errors import UsageError

_Options = TypeVar("_Options", bound=BaseModel)


class Frozen(BaseModel):
    """An immutable value that refuses fields it does not know."""

    model_config = ConfigDict(frozen=True, extra="forbid", defer_build=True)


class Method(StrEnum):
    """How the model learns from the data; what is trained is the provider's business."""

    SFT = "sft"
    DPO = "dpo"
    RFT = "rft"


class Hyperparameters(Frozen):
    """Settings of the optimisation, all optional."""

    epochs: float | None = Field(default=None, gt=0, le=1000, description="passes over the data")
    max_steps: int | None = Field(
        default=None, gt=0, description="stop after so many optimiser steps"
    )
    batch_size: int | None = Field(
        default=None,
        gt=0,
        le=65536,
        description="effective batch: rows per optimiser step, all devices",
    )
    learning_rate: float | None = Field(default=None, gt=0, le=10, description="peak, absolute")
    learning_rate_multiplier: float | None = Field(
        default=None, gt=0, le=100, description="for vendors that hide the absolute rate"
    )
    weight_decay: float | None = Field(default=None, ge=0, le=1)
    warmup_ratio: float | None = Field(default=None, ge=0, lt=1, description="share of all steps")
    max_length: int | None = Field(
        default=None, gt=0, description="tokens per row; longer rows are an error"
    )
    packing: bool | None = Field(default=None, description="several short rows in one sequence")
    seed: int | None = Field(default=None, ge=0, le=2**31 - 1)


class Lora(Frozen):
    """Shape of a low-rank adapter (Hu et al. 2021, https://arxiv.org/abs/2106.09685)."""

    rank: int | None = Field(default=None, gt=0, le=4096)
    alpha: float | None = Field(
        default=None, gt=0, description="scale; the update is alpha/rank * B @ A"
    )
    dropout: float | None = Field(default=None, ge=0, lt=1)
    targets: tuple[str, ...] | None = Field(default=None, description="module names, e.g. q_proj")


class Budget(Frozen):
    """Hard limits, checked before anything is started."""

    usd: float | None = Field(default=None, ge=0)
    hours: float | None = Field(default=None, gt=0)
    memory_gib: float | None = Field(
        default=None, gt=0, description="device memory the run may use"
    )


class TrainSpec(Frozen):
    """One wanted training. Changing `provider` is all it takes to move to another place.

    `data` and `validation` are paths of chat JSONL files (or ``demo:train`` and the like).
    `options` holds settings that one provider alone has: ``{"openai": {"suffix": "v2"}}``.
    """

    provider: str
    model: str = Field(min_length=1)
    data: str = Field(min_length=1)
    validation: str | None = None
    method: Method = Method.SFT
    hyperparameters: Hyperparameters = Hyperparameters()
    lora: Lora = Lora()
    budget: Budget = Budget()
    name: str | None = Field(
        default=None, max_length=64, description="label of the run and its model"
    )
    options: Mapping[str, Mapping[str, Any]] = Field(default_factory=dict)


# Keyword arguments of `unift.train` -> the part of the spec they belong to.
_PARTS: dict[str, type[Frozen]] = {
    "hyperparameters": Hyperparameters,
    "lora": Lora,
    "budget": Budget,
}


def make_spec(
    *,
    provider: str,
    model: str,
    data: str,
    validation: str | None = None,
    method: str = "sft",
    name: str | None = None,
    options: Mapping[str, Mapping[str, Any]] | None = None,
    **settings: Any,
) -> TrainSpec:
    """Build a spec from flat names, as `unift.train` and the command line take them.

    Raises:
        UsageError: An unknown setting (the nearest known one is named) or an impossible value.
    """
    home = {field: part for part, cls in _PARTS.items() for field in cls.model_fields}
    parts: dict[str, dict[str, Any]] = {part: {} for part in _PARTS}
    for key, value in settings.items():
        if key not in home:
            raise UsageError(
                f"There is no setting '{key}'.",
                code="unknown_setting",
                where=key,
                fix=did_you_mean(key, home),
            )
        if value is not None:
            parts[home[key]][key] = value
    try:
        return TrainSpec.model_validate(
            {
                "provider": provider,
                "model": model,
                "data": str(data),
                "validation": None if validation is None else str(validation),
                "method": method,
                "name": name,
                "options": options or {},
                **parts,
            }
        )
    except ValidationError as error:
        raise spec_error(error) from None


def spec_error(error: ValidationError) -> UsageError:
    """The first complaint of pydantic, as an error of ours."""
    first = error.errors()[0]
    field = ".".join(str(part) for part in first["loc"])
    return UsageError(
        f"{first['msg']} (got {first['input']!r}).",
        code="bad_setting",
        where=field,
        fix=f"give {field} a value that fits",
    )


def typed_options(cls: type[_Options], provider: str, spec: TrainSpec) -> _Options:
    """The options of one provider as that provider's own type.

    Raises:
        UsageError: An unknown key (the nearest known one is named) or a bad value.
    """
    given = dict(spec.options.get(provider, {}))
    for key in given:
        if key not in cls.model_fields:
            raise UsageError(
                f"Provider '{provider}' has no option '{key}'.",
                code="unknown_option",
                where=f"options.{provider}.{key}",
                fix=did_you_mean(key, cls.model_fields),
            )
    try:
        return cls.model_validate(given)
    except ValidationError as error:
        raise spec_error(error) from None

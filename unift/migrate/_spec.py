"""What a migration is made of: the contents of ``migration.yaml``."""

from __future__ import annotations

import re
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any

from pydantic import BaseModel, Field, ValidationError, field_validator

from unift._text import did_you_mean
from unift.errors import UsageError
from unift.spec import Frozen, Hyperparameters, Lora

VERSION = 1
STEPS = ("inventory", "fetch", "record", "plan", "train", "compare", "cutover", "report")


class Source(Frozen):
    """The model that is left, and what its vendor offers in its place."""

    model: str = Field(description="reference of the old model, such as openai:ft:...")
    job: str | None = Field(
        default=None, description="its fine-tuning job; None: found by the model"
    )
    successor: str | None = Field(
        default=None, description="the vendor's untuned successor, to compare"
    )
    successor_prompt: str | None = Field(
        default=None, description="file with the best system prompt"
    )


class Data(Frozen):
    """What is learnt, watched and tested with. Paths are relative to the file."""

    train: str | None = Field(default=None, description="None: the fetched training file")
    validation: str | None = Field(default=None, description="None: the fetched validation file")
    test: str | None = Field(default=None, description="None: held out from the two above")
    held_out: float = Field(
        default=0.15, gt=0, lt=0.6, description="share of rows that are tested with"
    )
    seed: int = Field(default=0, ge=0)
    drop: tuple[str, ...] = Field(default=(), description="what a conversion may lose")


class Record(Frozen):
    """Which answers of the old model are kept, and at what cost."""

    prompts: tuple[str, ...] = Field(default=(), description="more files with real prompts")
    held_out: bool = Field(default=True, description="ask the rows that are tested with")
    draws: int = Field(default=2, ge=1, le=20, description="answers to each prompt")
    limit: int | None = Field(default=None, gt=0, description="prompts at most")
    usd: float | None = Field(default=None, ge=0, description="stop before it costs more")
    rate: float | None = Field(default=None, gt=0, description="requests per minute at most")
    scrub: bool = Field(default=False, description="take secrets out of what is kept")


class Target(Frozen):
    """Where to, and what the new base must be."""

    provider: str | None = Field(default=None, description="who trains; None: the plan recommends")
    model: str | None = Field(default=None, description="the new base; None: the plan recommends")
    gpu: str | None = Field(default=None, description="such as h100; None: what is present")
    usd_per_hour: float | None = Field(default=None, ge=0, description="what an hour of it costs")
    answers_per_month: int | None = Field(default=None, gt=0, description="traffic, for break-even")
    licence: tuple[str, ...] = Field(default=(), description="licences that are allowed; none: all")
    languages: tuple[str, ...] = Field(default=(), description="ISO 639-1 codes that it must know")
    max_params_b: float | None = Field(
        default=None, gt=0, description="billions of parameters at most"
    )


class Training(Hyperparameters, Lora):
    """Settings of the training; what is left out is mapped from the old job."""

    options: Mapping[str, Mapping[str, Any]] = Field(default_factory=dict)


class Sweep(Frozen):
    """A small search, decided on validation rows alone. Empty lists: no search."""

    rank: tuple[int, ...] = ()
    learning_rate: tuple[float, ...] = ()
    model: tuple[str, ...] = ()
    trials: int = Field(default=4, ge=1, le=64, description="trainings at most")
    usd: float | None = Field(default=None, ge=0, description="estimated price of all at most")
    hours: float | None = Field(default=None, gt=0, description="estimated hours of all at most")
    limit: int = Field(default=100, ge=1, description="validation rows that decide")

    @property
    def wanted(self) -> bool:
        return bool(self.rank or self.learning_rate or self.model)


class Compare(Frozen):
    """When the new model counts as not worse."""

    metric: str | None = Field(default=None, description="the deciding metric; None: by the data")
    margin: float = Field(
        default=0.03, ge=0, lt=1, description="how much worse is still acceptable"
    )
    confidence: float = Field(default=0.95, ge=0.5, lt=1)
    slices: tuple[str, ...] = Field(default=(), description="groups that are looked at one by one")
    limit: int | None = Field(default=None, gt=0, description="test rows at most")
    few_shot: int = Field(default=0, ge=0, le=50, description="examples in the successor's prompt")


class Cutover(Frozen):
    """How the new model is served, and what the application changes."""

    name: str | None = Field(default=None, description="model name for the application")
    host: str = "127.0.0.1"
    port: int = Field(default=8000, ge=1, le=65535)
    env_file: str | None = Field(
        default=None, description="the application's .env, for a real diff"
    )
    checked_rows: int = Field(default=20, ge=1, description="rows whose tokens are compared")
    despite_verdict: bool = Field(
        default=False, description="prepare it although the verdict is no"
    )


class Signing(Frozen):
    """Whose decision it is."""

    owner: str | None = None
    approvers: tuple[str, ...] = ()


class MigrationSpec(Frozen):
    """A whole migration, as ``migration.yaml`` holds it."""

    version: int = Field(default=VERSION, ge=1, le=VERSION)
    name: str
    source: Source
    data: Data = Data()
    record: Record = Record()
    target: Target = Target()
    training: Training = Training()
    sweep: Sweep = Sweep()
    compare: Compare = Compare()
    cutover: Cutover = Cutover()
    report: Signing = Signing()

    @field_validator("name")
    @classmethod
    def _a_folder_name(cls, value: str) -> str:
        if not re.fullmatch(r"[A-Za-z0-9][A-Za-z0-9._-]{0,40}", value):
            raise ValueError("a name has letters, digits, '.', '_' and '-', at most 41 of them")
        return value


def make_spec(document: Mapping[str, Any], where: str = "migration") -> MigrationSpec:
    """The specification of keyword arguments.

    Raises:
        UsageError: An unknown key (the nearest known one is named) or an impossible value.
    """
    try:
        return MigrationSpec.model_validate(document)
    except ValidationError as error:
        raise spec_error(error, where) from None


def spec_error(
    error: ValidationError,
    where: str,
    line_of: Callable[[Sequence[Any]], int | None] | None = None,
) -> UsageError:
    """The first complaint of pydantic with its line and, for an unknown key, the nearest one."""
    first = error.errors()[0]
    path = tuple(first["loc"])
    line = line_of(path) if line_of else None
    place = f"{where}:{line}" if line else where
    dotted = ".".join(str(part) for part in path)
    if first["type"] == "extra_forbidden":
        known = known_keys(path[:-1])
        return UsageError(
            f"There is no '{dotted}'.",
            code="unknown_setting",
            where=place,
            fix=did_you_mean(str(path[-1]), known),
        )
    if first["type"] == "missing":
        return UsageError(
            f"'{dotted}' is missing.", code="bad_setting", where=place, fix=f"add {dotted}"
        )
    message = first["msg"].removeprefix("Value error, ")
    return UsageError(
        f"{dotted}: {message} (got {first['input']!r}).",
        code="bad_setting",
        where=place,
        fix=f"give {dotted} a value that fits",
    )


def known_keys(path: tuple[Any, ...]) -> list[str]:
    """The keys that a migration may have at a place, such as ``("compare",)``."""
    model: type[BaseModel] = MigrationSpec
    for part in path:
        field = model.model_fields.get(str(part))
        kind = field.annotation if field else None
        if not (isinstance(kind, type) and issubclass(kind, BaseModel)):
            return []
        model = kind
    return list(model.model_fields)


def default_name(source: str) -> str:
    """A folder name: ``openai:ft:gpt-4o-mini:org:tickets:ab12`` -> ``tickets-ab12``."""
    parts = [part for part in re.split(r"[:/#]", source) if part]
    kept = [re.sub(r"[^A-Za-z0-9._-]+", "-", part).strip("-._") for part in parts[-2:]]
    return "-".join(part for part in kept if part)[:41].strip("-._") or "migration"


def relative_to(base: Path, name: str) -> str:
    """A path of the file made absolute; ``demo:train`` and absolute paths stay."""
    if name.startswith("demo:"):
        return name
    path = Path(name).expanduser()
    return str(path if path.is_absolute() else (base / path).absolute())

"""From what the user typed (a model, data, a provider) to what the formulas need."""

from __future__ import annotations

import json
import os
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import lru_cache
from pathlib import Path
from typing import TYPE_CHECKING, cast, get_args

from unift import catalog
from unift.errors import DataError, UniftError, UsageError
from unift.estimate._shape import Shape, read_shape
from unift.estimate._training import Tuning
from unift.provider import get_provider, provider_names

if TYPE_CHECKING:
    from unift.data import Report

# Tokens of a row and its share of answer when only totals are known: the measured chat rows have a
# median of 260 tokens and a mean near 350; instruction data answers with about a third of the row.
MEAN_ROW_TOKENS = 350
ANSWER_SHARE = 1 / 3


@dataclass(frozen=True, slots=True)
class Base:
    """A base model: its name, its shape if it can be trained here, where the shape was read, and
    whether the name is one of the hub, so that vendors know it too."""

    name: str
    shape: Shape | None
    origin: str
    public: bool = True

    @property
    def params_b(self) -> float | None:
        """Billions of parameters, or None for a hidden model."""
        return None if self.shape is None else self.shape.parameters / 1e9


@dataclass(frozen=True, slots=True)
class Workload:
    """One epoch of data. `longest` is None when only totals are known."""

    tokens: float
    rows: int | None
    longest: int | None
    validation_tokens: float
    notes: tuple[str, ...]

    @property
    def mean(self) -> float:
        """Tokens per row."""
        return self.tokens / self.rows if self.rows else MEAN_ROW_TOKENS


def find_base(model: str) -> Base:
    """What `model` names: ``demo``, a folder, a vendor's model id, or a hub id.

    A hub id is looked up in the local Hugging Face cache, then among the shapes of the catalogue;
    what is not there may still have a price for its answers (``unift[prices]``).

    Raises:
        UsageError: It is none of them; the nearest known name is in `fix`.
    """
    if model == "demo":
        from unift.demo import model_path

        return Base(model, read_shape(model_path()), "embedded model", public=False)
    name = model.removeprefix("path:").removeprefix("hf:")
    folder = Path(name).expanduser()
    if folder.is_dir():
        return Base(model, read_shape(folder), str(folder / "config.json"), public=False)
    cached = cached_config(name)
    if cached is not None:
        config = json.loads(cached.read_text(encoding="utf-8"))
        return Base(name, Shape.from_config(config, where=str(cached)), "config.json in the cache")
    try:
        found = catalog.open_model(name)
    except UsageError as unknown_shape:
        try:
            return Base(name, None, catalog.model(name).id)
        except UsageError as unknown_model:
            if _answering(name):  # nobody trains it, but what it costs as it is can be said
                return Base(name, None, "price lists")
            # A name with a slash is meant as a hub id; anything else as a vendor's.
            raise (unknown_shape if "/" in name else unknown_model) from None
    return Base(name, Shape.from_config(found.config, where=name), "; ".join(found.source))


def cached_config(name: str) -> Path | None:
    """config.json of a hub id in the local cache (layout of huggingface_hub), newest snapshot."""
    if name.count("/") != 1:
        return None
    root = os.environ.get("HF_HUB_CACHE")
    home = Path(os.environ.get("HF_HOME") or "~/.cache/huggingface").expanduser()
    hub = Path(root).expanduser() if root else home / "hub"
    snapshots = (hub / f"models--{name.replace('/', '--')}" / "snapshots").glob("*/config.json")
    return max(snapshots, key=lambda path: path.stat().st_mtime, default=None)


@lru_cache(maxsize=1)
def local_providers() -> dict[str, Tuning]:
    """The installed providers that train on this machine, and what they tune: asked of their
    capabilities. Whom the catalogue knows as a vendor is not asked: its SDK takes a second to load.
    """
    found: dict[str, Tuning] = {}
    vendors = {name for one in catalog.providers() for name in (one.id, *one.aliases)}
    for name in sorted(provider_names() - vendors):
        try:
            able = get_provider(name).capabilities(None)
        except UniftError:  # what it needs is not installed: it cannot train here
            continue
        if able.place == "local" and able.tunes in get_args(Tuning):
            found[name] = cast("Tuning", able.tunes)
    return found


def local_provider(tunes: Tuning) -> str:
    """The installed provider that tunes so on this machine.

    Raises:
        UsageError: There is none.
    """
    for name, tuned in local_providers().items():
        if tuned == tunes:
            return name
    raise UsageError(
        f"Nothing that is installed trains '{tunes}' on this machine.",
        code="no_local_provider",
        where="provider",
        fix="pip install 'unift[local]'; unift doctor says what is missing",
    )


def choose_providers(asked: Sequence[str] | str | None, base: Base) -> tuple[list[str], bool]:
    """The providers to estimate, and whether the user named them.

    None or ``"all"``: the three local ways if the shape is known, and every vendor with a price.

    Raises:
        UsageError: An unknown provider.
    """
    here = local_providers()
    if asked is not None and asked != "all" and list(asked) != ["all"]:
        names = [asked] if isinstance(asked, str) else list(asked)
        for name in names:
            if name not in here:
                try:
                    catalog.vendor(name)
                except UsageError as error:
                    raise UsageError(
                        f"There is no provider '{name}' to estimate.",
                        code="unknown_provider",
                        where=name,
                        fix=f"on this machine: {', '.join(here)}; {error.fix}",
                    ) from None
        return names, True
    local = list(here) if base.shape is not None else []
    vendors = [
        vendor.id
        for vendor in catalog.providers()
        if vendor.alive
        and base.public
        and catalog.price(base.name, vendor.id, tunes="lora", params_b=base.params_b) is not None
    ]
    if not local and not vendors:
        vendors = _answering(base.name)
    # "google" stands for its whole family; its members would repeat it.
    members = {
        member
        for vendor in catalog.providers()
        for member in vendor.family
        if vendor.id in vendors and member != vendor.id
    }
    return local + [name for name in vendors if name not in members], False


def _answering(model: str) -> list[str]:
    """The vendors whose price for answers of a model is known."""
    return [
        vendor.id
        for vendor in catalog.providers()
        if vendor.alive and catalog.answer_price(model, vendor.id) is not None
    ]


def counter_model(provider: str, base: Base) -> str:
    """Whose tokenizer a vendor bills by: the model's if it is trained there, else that of the first
    model that is."""
    listed = catalog.models(provider)
    if any(base.name in (entry.id, entry.hub_id, *entry.aliases) for entry in listed):
        return base.name
    return next((entry.id for entry in listed if entry.trainable != "no"), base.name)


def count(
    data: str | os.PathLike[str] | None,
    validation: str | os.PathLike[str] | None,
    tokens: float | None,
    rows: int | None,
    *,
    model: str,
) -> Workload:
    """Tokens and rows of one epoch, from the files (with the tokenizer of `model`) or as given.

    Raises:
        UsageError: Neither data nor tokens, or a number that is not positive.
        DataError: The file holds no usable row.
    """
    if data is None:
        return _given(tokens, rows)
    if tokens is not None or rows is not None:
        raise UsageError(
            "Give either data or tokens, not both.",
            code="bad_setting",
            where="tokens",
            fix="leave out tokens and rows: they are counted from the file",
        )
    train_tokens, train = _measure(data, model)
    longest = train.longest_row
    return Workload(
        tokens=float(train_tokens),
        rows=train.rows,
        longest=longest[0] if longest else None,
        validation_tokens=float(_measure(validation, model)[0]) if validation is not None else 0.0,
        notes=(f"{train_tokens:,} tokens in {train.rows:,} rows ({train.tokens_method})",),
    )


def check_numbers(
    above_zero: Mapping[str, float | None], not_below: Mapping[str, float | None]
) -> None:
    """Refuse numbers that make no sense; None is left alone.

    Raises:
        UsageError: The first one that is not above zero, or that is negative.
    """
    for bound, numbers in (("above 0", above_zero), ("0 or more", not_below)):
        for name, value in numbers.items():
            if value is not None and not (value > 0 or (value == 0 and bound == "0 or more")):
                raise UsageError(
                    f"{name} must be {bound} (got {value}).",
                    code="bad_setting",
                    where=name,
                    fix=f"give {name} as a number {bound}",
                )


def _given(tokens: float | None, rows: int | None) -> Workload:
    if tokens is None and rows is None:
        raise UsageError(
            "An estimate needs data, or the tokens of one epoch.",
            code="no_data",
            where="data",
            fix="give data=FILE or tokens=NUMBER",
        )
    notes: tuple[str, ...] = ()
    if tokens is None:
        tokens = float((rows or 0) * MEAN_ROW_TOKENS)
        notes = (f"{MEAN_ROW_TOKENS} tokens a row assumed; give data for a count",)
    return Workload(float(tokens), rows, None, 0.0, notes)


def _measure(path: str | os.PathLike[str], model: str) -> tuple[int, Report]:
    from unift.data import validate

    report = validate(path, model=model)
    if not report.rows or not report.tokens:
        raise DataError(
            "The file has no row that could be counted.",
            code="no_rows",
            where=str(path),
            fix=f"unift validate {path}",
            findings=report.findings,
        )
    return report.tokens, report

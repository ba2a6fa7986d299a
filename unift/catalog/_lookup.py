"""Finding a fact by the name that a person would type."""

from __future__ import annotations

from collections.abc import Iterable
from typing import NamedTuple

from unift._text import did_you_mean, nearest
from unift.catalog._load import load
from unift.catalog._schema import (
    BaseModel,
    Fact,
    Gpu,
    Happening,
    Limits,
    OpenModel,
    RateRule,
    Vendor,
    VendorModel,
)
from unift.errors import UsageError


class TrainPrice(NamedTuple):
    """Dollars per million trained tokens, the vendor that bills them, the fact that says so."""

    provider: str
    usd_per_1m_tokens: float
    fact: Fact


def providers() -> tuple[Vendor, ...]:
    """Every training service of the catalogue, the dead ones too (see `Vendor.alive`)."""
    return load().providers


def vendor(name: str) -> Vendor:
    """A training service by id or alias.

    Raises:
        UsageError: Nobody of that name; the nearest one is in `fix`.
    """
    wanted = name.lower()
    for entry in load().providers:
        if wanted == entry.id or wanted in entry.aliases:
            return entry
    raise UsageError(
        f"The catalogue knows no provider '{name}'.",
        code="unknown_provider",
        where=name,
        fix=did_you_mean(name, (entry.id for entry in load().providers)),
    )


def models(provider: str | None = None) -> tuple[VendorModel, ...]:
    """Vendor models, of one provider (and its family) or of all.

    Raises:
        UsageError: Unknown provider.
    """
    if provider is None:
        return load().models
    found = vendor(provider)
    ids = found.family or (found.id,)
    return tuple(entry for entry in load().models if entry.provider in ids)


def model(id: str, provider: str | None = None) -> VendorModel:
    """A vendor model by its id there, an alias of it, or the hub id of the same weights.

    With no provider given, the first vendor that has the id answers.

    Raises:
        UsageError: Unknown model or provider; the nearest name is in `fix`.
    """
    pool = models(provider)
    for entry in pool:
        if id in (entry.id, entry.hub_id, *entry.aliases):
            return entry
    known = [entry.id for entry in pool] + [entry.hub_id for entry in pool if entry.hub_id]
    place = f" at {provider}" if provider else ""
    close = nearest(id, known)
    raise UsageError(
        f"The catalogue knows no model '{id}'{place}.",
        code="unknown_model",
        where=id,
        fix=(f"did you mean '{close}'?" if close else did_you_mean(id, known)),
    )


def open_model(id: str) -> OpenModel:
    """The shape of a common open model by hub id, upper and lower case alike.

    Raises:
        UsageError: Unknown model; the nearest one is in `fix`.
    """
    wanted = id.lower()
    for entry in load().open_models:
        if any(wanted == known.lower() for known in entry.ids):
            return entry
    known = [name for entry in load().open_models for name in entry.ids]
    close = nearest(id, known)
    raise UsageError(
        f"The shape of model '{id}' is not in the catalogue.",
        code="unknown_model",
        where=id,
        fix=(f"did you mean '{close}'? " if close else "")
        + "otherwise name a local folder that has its config.json",
    )


def bases() -> tuple[BaseModel, ...]:
    """Open models that one may start from, with licence, context, tools and languages."""
    return load().bases


def rate_rules() -> tuple[RateRule, ...]:
    """Published formulas for the learning rate of an adapter."""
    return load().rate_rules


def gpus() -> tuple[Gpu, ...]:
    """Every card of the catalogue."""
    return load().gpus


def gpu(id: str) -> Gpu:
    """A card by id or alias ("h100", or the name that the driver prints).

    Raises:
        UsageError: Unknown card; the nearest one is in `fix`.
    """
    wanted = _plain(id)
    for entry in load().gpus:
        if wanted == _plain(entry.id) or any(wanted == _plain(alias) for alias in entry.aliases):
            return entry
    raise UsageError(
        f"The catalogue knows no GPU '{id}'.",
        code="unknown_gpu",
        where=id,
        fix=_gpu_hint(id),
    )


def _plain(name: str) -> str:
    return "".join(char for char in name.lower() if char.isalnum())


def _gpu_hint(name: str) -> str:
    aliases = {alias: entry.id for entry in load().gpus for alias in (entry.id, *entry.aliases)}
    close = nearest(name, aliases)
    listing = ", ".join(sorted(entry.id for entry in load().gpus))
    return f"did you mean '{aliases[close]}'? Known: {listing}" if close else f"known: {listing}"


def price(
    model_id: str,
    provider: str,
    *,
    method: str = "sft",
    tunes: str = "lora",
    params_b: float | None = None,
) -> TrainPrice | None:
    """What training costs at a vendor, per million tokens; None if no price is known.

    A price of the model itself wins over one by size. `params_b` (billions, all experts) is needed
    for vendors that charge by size; without it the catalogue's own figure for the model is used.

    Raises:
        UsageError: Unknown provider.
    """
    found = vendor(provider)
    ids = found.family or (found.id,)
    for entry in load().models:
        if entry.provider in ids and model_id in (
            entry.id,
            entry.hub_id,
            *entry.aliases,
        ):
            params_b = params_b or entry.params_b
            if entry.train_usd_per_1m_tokens is not None:
                return TrainPrice(entry.provider, entry.train_usd_per_1m_tokens, entry)
    if params_b is None:
        return None
    for bracket in load().size_prices:
        if (
            bracket.provider in ids
            and (bracket.method, bracket.tunes) == (method, tunes)
            and bracket.above_b < params_b
            and (bracket.up_to_b is None or params_b <= bracket.up_to_b)
        ):
            return TrainPrice(bracket.provider, bracket.usd_per_1m_tokens, bracket)
    return None


def charges_by_size(provider: str) -> bool:
    """True for vendors that train any open model at a price by its size."""
    return any(bracket.provider == vendor(provider).id for bracket in load().size_prices)


def events(provider: str | None = None) -> tuple[Happening, ...]:
    """Shutdowns and the like in order of their day, of one provider or of all.

    Raises:
        UsageError: Unknown provider.
    """
    found: Iterable[Happening] = load().events
    if provider is not None:
        entry = vendor(provider)
        ids = entry.family or (entry.id,)
        found = (event for event in found if event.provider in ids)
    return tuple(sorted(found, key=lambda event: (event.date, event.what)))


def limits(provider: str) -> Limits | None:
    """What a vendor accepts, or None if nothing is published.

    Raises:
        UsageError: Unknown provider.
    """
    return vendor(provider).limits

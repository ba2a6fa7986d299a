"""Where to go: every open base by every way to train it, with what it costs and when it ends."""

from __future__ import annotations

import math
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import asdict, dataclass, replace
from datetime import date
from functools import lru_cache
from typing import Any

from unift import catalog
from unift._text import dollars
from unift.errors import UniftError
from unift.estimate import local_provider, local_providers
from unift.migrate._spec import Target

# Vendors that train open bases and give the weights, and the stop-gap for the old base itself.
_OPEN_VENDORS = ("together", "fireworks", "google-open", "crusoe", "nebius", "tinker")
_STOP_GAP = "azure"
# Cards that are rented by the hour, small to large; the first that fits is the cheapest way.
_RENTED = ("rtx4090-24gb", "l40s-48gb", "a100-sxm-80gb", "h100-sxm-80gb", "h200-141gb")
# What teams pick in place of a vendor's model, by its name (public repositories read 2026-10 and
# 2026-11 choose 8 to 9 billion for the small ones, 14 for the large). A convention, not a law.
_USUAL_B = {"mini": 8.0, "nano": 4.0, "3.5": 8.0, "lite": 8.0, "flash": 8.0}
_USUAL_LARGE_B = 14.0


@dataclass(frozen=True)
class Needs:
    """What the data and the user ask of a base."""

    rows: int
    tokens: float
    longest: int
    tools: bool
    languages: tuple[str, ...]
    licences: tuple[str, ...]
    max_params_b: float | None
    usual_b: float


@dataclass(frozen=True)
class Candidate:
    """One way out. None means unknown, never zero.

    Attributes:
        way: ``own``, ``rented``, ``vendor`` or ``stop-gap``.
        against: Why it will not do; empty if it will.
        slack_days: Days between the end of the training and the end of the old model.
        recommended: The one that the plan takes when nothing else is said.
    """

    base: str
    provider: str
    way: str
    hardware: str | None
    params_b: float | None
    licence: str
    licence_conditions: str
    context_tokens: int | None
    tools: bool | None
    languages: str
    fits: bool | None
    memory_gib: float | None
    hours: float | None
    price_usd: float | None
    price_low_usd: float | None
    price_high_usd: float | None
    usd_per_1000_answers: float | None
    usd_per_month: float | None
    weights_yours: bool | None
    ends_on: str | None
    slack_days: int | None
    date_risk: str
    against: tuple[str, ...]
    sources: tuple[str, ...]
    recommended: bool = False
    why: str = ""

    def as_dict(self) -> dict[str, Any]:
        return asdict(self)


def candidates(
    needs: Needs,
    target: Target,
    *,
    epochs: float,
    old_base: str,
    old_vendor: str,
    old_ends: date | None,
    today: date,
) -> list[Candidate]:
    """Every way, the best first; the first one that will do is recommended."""
    found: list[Candidate] = []
    extra = [target.model] if target.model else []
    known = {base.id: base for base in catalog.bases()}
    for name in [*extra, *(name for name in known if name not in extra)]:
        base = known.get(name)
        found += _ways(name, base, needs, target, epochs, old_ends, today)
    found += _stop_gap(old_base, old_vendor, needs, epochs, old_ends, today)
    ranked = sorted(found, key=lambda one: _rank(one, needs, target))
    for index, one in enumerate(ranked):
        if not one.against and one.way != "stop-gap":
            ranked[index] = replace(one, recommended=True, why=_why(one, needs, target))
            break
    return ranked


@lru_cache(maxsize=1)
def registered() -> frozenset[str]:
    """Names of the providers that unift can start a training with."""
    from unift.provider import providers

    return frozenset(info.name for info in providers())


def usual_size(old_base: str) -> float:
    """Billions of parameters that usually take the place of a vendor's model."""
    name = old_base.lower()
    return next((size for word, size in _USUAL_B.items() if word in name), _USUAL_LARGE_B)


def _ways(
    name: str,
    base: catalog.BaseModel | None,
    needs: Needs,
    target: Target,
    epochs: float,
    old_ends: date | None,
    today: date,
) -> Iterable[Candidate]:
    about = _About.of(name, base)
    against = about.against(needs)
    rows: list[tuple[str, Any]] = []
    own = _local(name, target.gpu, needs, epochs, target)
    if own is not None:
        rows.append(("own", own))
    if base is not None or target.gpu is None:
        for card in _RENTED:
            row = _local(name, card, needs, epochs, target)
            if row is not None and row.fits:
                rows.append(("rented", row))
                break
    rows += [("vendor", row) for row in _vendors(name, base, needs, epochs, target)]
    for way, row in rows:
        yield _candidate(way, row, about, against, old_ends, today)


@dataclass(frozen=True)
class _About:
    """What the catalogue says about a base; of an unknown one, nothing."""

    name: str
    params_b: float | None = None
    licence: str = "unknown"
    conditions: str = ""
    context: int | None = None
    tools: bool | None = None
    languages: tuple[str, ...] = ()
    count: int | None = None
    sources: tuple[str, ...] = ()

    @classmethod
    def of(cls, name: str, base: catalog.BaseModel | None) -> _About:
        if base is None:
            return cls(name)
        cited = tuple(f"{one} ({base.as_of})" for one in base.source)
        return cls(
            name,
            base.params_b,
            base.licence,
            base.licence_conditions,
            base.context_tokens,
            base.tools,
            base.languages,
            base.languages_count,
            cited,
        )

    @property
    def spoken(self) -> str:
        if self.languages:
            return ", ".join(self.languages)
        return f"{self.count} languages" if self.count else "unknown"

    def against(self, needs: Needs) -> tuple[str, ...]:
        said: list[str] = []
        if needs.tools and self.tools is False:
            said.append("its chat template has no place for tools, and the data uses them")
        if self.context is not None and needs.longest > self.context:
            said.append(f"reads {self.context:,} tokens, the longest row has {needs.longest:,}")
        if needs.licences and self.licence.lower() not in {n.lower() for n in needs.licences}:
            said.append(f"licence {self.licence} is not among {', '.join(needs.licences)}")
        missing = [one for one in needs.languages if self.languages and one not in self.languages]
        if missing:
            said.append(f"does not list {', '.join(missing)}")
        if needs.max_params_b and self.params_b and self.params_b > needs.max_params_b:
            said.append(f"{self.params_b:g} billion parameters, {needs.max_params_b:g} at most")
        return tuple(said)


def _local(name: str, gpu: str | None, needs: Needs, epochs: float, target: Target) -> Any:
    """The roomiest way to train on a card: an adapter on 16-bit weights, else on 4-bit ones."""
    rows = [
        row
        for tunes in ("lora", "qlora")
        for row in _estimate(name, [local_provider(tunes)], needs, epochs, target, gpu)
    ]
    usable = [row for row in rows if row.fits]
    return (usable or rows or [None])[0]


def _vendors(
    name: str, base: catalog.BaseModel | None, needs: Needs, epochs: float, target: Target
) -> list[Any]:
    if base is None and "/" not in name:
        return []  # a folder or the demo: no vendor has it
    found: list[Any] = []
    for vendor in _OPEN_VENDORS:
        rows = _estimate(name, [vendor], needs, epochs, target)
        if rows and rows[0].available:  # else the vendor does not train this base
            found += rows
    return found


def _estimate(
    name: str,
    providers: Sequence[str],
    needs: Needs,
    epochs: float,
    target: Target,
    gpu: str | None = None,
) -> list[Any]:
    from unift.estimate import estimate

    local = providers[0] in local_providers()
    try:
        table = estimate(
            model=name,
            tokens=needs.tokens,
            rows=needs.rows,
            max_length=needs.longest,
            epochs=epochs,
            providers=list(providers),
            gpu=gpu,
            usd_per_hour=target.usd_per_hour if local and gpu == target.gpu else None,
            traffic=target.answers_per_month,
        )
    except UniftError:  # a shape that is not known: nothing can be said about this way
        return []
    return list(table.rows)


def _candidate(
    way: str,
    row: Any,
    about: _About,
    against: tuple[str, ...],
    old_ends: date | None,
    today: date,
) -> Candidate:
    said = list(against)
    if not row.available:
        said.append(row.reason)
    if way == "vendor" and row.provider not in registered():
        said.append("unift cannot start a training there; its price is for comparison")
    if row.fits is False:
        said.append(row.advice or "does not fit in that memory")
    slack, risk = _dates(row, old_ends, today)
    memory = None if row.memory is None else row.memory.as_dict()
    cited = [
        f"{source.get('what')}: {'; '.join(source.get('source', []))} ({source.get('as_of')})"
        for source in row.sources
    ]
    return Candidate(
        base=row.model,
        provider=row.provider,
        way=way,
        hardware=row.hardware,
        params_b=about.params_b,
        licence=about.licence,
        licence_conditions=about.conditions,
        context_tokens=about.context,
        tools=about.tools,
        languages=about.spoken,
        fits=row.fits,
        memory_gib=_memory(memory),
        hours=None if row.hours is None else round(row.hours, 3),
        price_usd=_cents(row.price_usd),
        price_low_usd=_cents(row.price_low_usd),
        price_high_usd=_cents(row.price_high_usd),
        usd_per_1000_answers=_cents(row.usd_per_1000_answers),
        usd_per_month=_cents(row.usd_per_month),
        weights_yours=True if way in ("own", "rented") else row.weights_yours,
        ends_on=row.ends_on,
        slack_days=slack,
        date_risk=risk,
        against=tuple(said),
        sources=(*about.sources, *cited),
    )


def _dates(row: Any, old_ends: date | None, today: date) -> tuple[int | None, str]:
    """Days to spare before the old model stops, and what threatens them."""
    parts: list[str] = []
    slack = None
    if old_ends is not None:
        days = (old_ends - today).days
        training = math.ceil((row.hours or 0) / 24)
        slack = days - training
        took = f"{training} days of training" if training else "a training of hours"
        if slack < 0:
            parts.append("too late: the old model stops before the training ends")
        elif slack < 14:
            parts.append(f"tight: {slack} days to spare after {took}")
        else:
            parts.append(f"{slack} days to spare after {took}")
    if row.ends_on:
        parts.append(f"this one ends too, on {row.ends_on}")
    return slack, "; ".join(parts) or "no end is announced"


def _stop_gap(
    old_base: str,
    old_vendor: str,
    needs: Needs,
    epochs: float,
    old_ends: date | None,
    today: date,
) -> list[Candidate]:
    """The same base at Azure: the same file and the same settings, for some months more."""
    if old_vendor != "openai":
        return []
    rows = _estimate(old_base, [_STOP_GAP], needs, epochs, Target())
    about = _About(old_base, licence="closed", languages=(), tools=True)
    return [
        _candidate("stop-gap", row, about, (), old_ends, today)
        for row in rows
        if row.model == old_base and row.available
    ]


def _rank(one: Candidate, needs: Needs, target: Target) -> tuple[Any, ...]:
    chosen = one.base != target.model if target.model else False
    provider = one.provider != target.provider if target.provider else False
    way = {"own": 0, "rented": 1, "vendor": 2, "stop-gap": 3}[one.way]
    size = abs(math.log((one.params_b or needs.usual_b) / needs.usual_b))
    return (
        chosen,
        provider,
        bool(one.against),
        one.slack_days is not None and one.slack_days < 0,
        one.weights_yours is False,
        # Half as large or twice as large counts as the same size; within it the licence decides.
        round(size / math.log(2)),
        bool(one.licence_conditions),
        way,
        size,
        one.price_usd if one.price_usd is not None else math.inf,
        one.base,
        one.provider,
    )


def _why(one: Candidate, needs: Needs, target: Target) -> str:
    parts: list[str] = []
    if target.model == one.base:
        parts.append("the base that you named")
    else:
        parts.append(f"about the usual size in place of the old model ({needs.usual_b:g} billion)")
        parts.append(f"licence {one.licence}" + ("" if one.licence_conditions else ", any use"))
    if one.weights_yours:
        parts.append("the weights are yours")
    if one.way == "own":
        parts.append(f"fits {one.hardware}")
    elif one.price_usd is not None:
        parts.append(f"{dollars(one.price_usd)} to train")
    return "; ".join(parts)


def _memory(document: Mapping[str, Any] | None) -> float | None:
    if document is None:
        return None
    value = document.get("device_gib", document.get("reserved_gib"))
    return round(float(value), 1) if value is not None else None


def _cents(value: float | None) -> float | None:
    return None if value is None else round(value, 4)

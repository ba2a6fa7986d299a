"""What a model's answers cost at a vendor: from the catalogue, else from genai-prices."""

from __future__ import annotations

import re
from datetime import UTC, date, datetime
from functools import lru_cache
from importlib.metadata import version
from importlib.util import find_spec
from typing import TYPE_CHECKING, Any

from unift.catalog._lookup import model, vendor
from unift.catalog._schema import Fact, TokenPrice
from unift.errors import UsageError

if TYPE_CHECKING:
    from genai_prices.types import ModelInfo, Provider

_DAY = re.compile(r"\b20\d\d-[01]\d-[0-3]\d\b")
# What may follow the name of a model without making it another one.
_SNAPSHOT = re.compile(r"-(20\d\d-[01]\d-[0-3]\d|20\d{6}|latest)")


def answer_price(name: str, provider: str) -> tuple[TokenPrice, Fact] | None:
    """The price of a model's answers and the fact that says so; None where nobody knows it.

    A price of the catalogue (with the user's own file laid over it) wins. Otherwise the list that
    the package genai-prices (``unift[prices]``) carries is looked up, offline; without the package
    the price stays unknown. There the name has to be the model's own: a price of one that only
    begins alike is not taken. Of prices that rise with the length of the prompt the first is given,
    and `Fact.note` says up to where it holds.

    Args:
        name: A model id at the vendor; ``ft:BASE:...`` for a fine-tune, which has a price of its
            own: that of its base is never taken for it.
        provider: A vendor's id or alias.
    """
    tuned = name.startswith("ft:")
    base = name.split(":")[1] if tuned else name
    try:
        known = model(base, provider)
    except UsageError:
        known = None
    price = known and (known.tuned_price if tuned else known.base_price)
    if known is not None and price is not None:
        return price, known
    try:
        there = vendor(provider).answer_list
    except UsageError:
        return None
    if there is None:
        return None
    ids = {base, *((known.id, *known.aliases) if known else ())}
    return _listed(there, tuple(sorted(f"ft:{one}" if tuned else one for one in ids)))


def more_prices() -> str:
    """What would make more prices known, for the end of an error's `fix`; empty if it is here."""
    return "" if find_spec("genai_prices") else "; more prices: pip install 'unift[prices]'"


@lru_cache(maxsize=256)
def _listed(provider: str, names: tuple[str, ...]) -> tuple[TokenPrice, Fact] | None:
    try:  # 45 ms, so only when a price is missing
        from genai_prices.data import providers
    except ImportError:
        return None
    for seller in providers:
        if seller.id != provider:
            continue
        for name in names:
            for entry in seller.models:
                if _is(entry, name.lower()):
                    return _read(seller, entry)
    return None


def _is(entry: ModelInfo, name: str) -> bool:
    """Whether an entry is the model itself, not one that its pattern happens to cover."""
    if name.startswith("ft:"):
        return entry.id.startswith("ft:") and entry.is_match(name)
    return _equals(entry.match, name) or (
        entry.is_match(name)
        and re.fullmatch(re.escape(entry.id.lower()) + f"({_SNAPSHOT.pattern})?", name) is not None
    )


def _equals(clause: Any, name: str) -> bool:
    either: list[Any] = getattr(clause, "or_", [])
    return getattr(clause, "equals", "").lower() == name or any(
        _equals(one, name) for one in either
    )


def _read(seller: Provider, entry: ModelInfo) -> tuple[TokenPrice, Fact] | None:
    prices = entry.get_prices(datetime.now(UTC))
    sides: dict[str, float] = {}
    starts: list[int] = []
    for ours, theirs in (
        ("input", "input_mtok"),
        ("cached_input", "cache_read_mtok"),
        ("output", "output_mtok"),
    ):
        listed: Any = getattr(prices, theirs, None)
        if listed is None:
            continue
        starts += [tier.start for tier in getattr(listed, "tiers", ())]
        sides[ours] = float(getattr(listed, "base", listed))
    if "input" not in sides or "output" not in sides:
        return None
    release = f"genai-prices {version('genai-prices')}"
    notes = ["the day is the newest that its data names; this price may have been read earlier"]
    if starts:
        notes.append(f"for prompts up to {min(starts):,} tokens, longer ones cost more")
    fact = Fact(
        source=(f"{release} ({seller.id}/{entry.id})", *(seller.pricing_urls or ())[:1]),
        as_of=_day(),
        verification="third_party",
        note="; ".join(notes),
    )
    return TokenPrice(**sides), fact


@lru_cache(maxsize=1)
def _day() -> date:
    """How new the data is. The package does not say, so: the newest day that is named in it, as the
    start of a price or in a comment, and that is not ahead of us."""
    from genai_prices.data import providers

    today = datetime.now(UTC).date()
    named: set[date] = set()
    for seller in providers:
        for entry in seller.models:
            conditions: Any = entry.prices if isinstance(entry.prices, list) else ()
            starts = (getattr(one.constraint, "start_date", None) for one in conditions)
            named.update(start for start in starts if start)
            named.update(map(date.fromisoformat, _DAY.findall(entry.price_comments or "")))
    return max(day for day in named if day <= today)

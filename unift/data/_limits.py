"""What each provider accepts in a training file: facts of the catalogue, or its own word."""

from __future__ import annotations

from contextlib import suppress
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Literal

from unift.errors import UniftError
from unift.provider import get_provider, provider_names

if TYPE_CHECKING:
    from unift import catalog
    from unift.catalog import Vendor

MIB = 1 << 20


@dataclass(frozen=True, slots=True)
class Limits:
    """Limits of one provider for one model. None: the vendor publishes none.

    Attributes:
        family: Name under which findings know it (``refused_by`` of a code).
        min_rows: Fewer rows are refused.
        max_rows: More rows are refused, in training data.
        max_validation_rows: The same for validation data.
        max_bytes: Size of one uploaded file.
        max_tokens: Tokens of one row.
        too_long: What happens to a longer row: refused, or cut at its end.
        max_images: Images in one row.
        formats: Formats of rows that can be trained on there as they are.
        source: Where the numbers are from, and when they were read.
    """

    family: str
    source: str
    min_rows: int = 1
    max_rows: int | None = None
    max_validation_rows: int | None = None
    max_bytes: int | None = None
    max_tokens: int | None = None
    too_long: Literal["refused", "cut"] = "refused"
    max_images: int | None = None
    formats: tuple[str, ...] = ("openai-chat",)


def known_limits() -> dict[str, Limits]:
    """Limits of everybody who is known without being asked, for no model in particular."""
    from unift import catalog

    ruled = [entry.id for entry in catalog.providers() if entry.limits and entry.limits.formats]
    known = {name: limits_of(name, None) for name in ruled}
    for name in sorted(provider_names() - known.keys()):
        known[name] = Limits(name, "not asked")
    return known


def limits_of(provider: str, model: str | None) -> Limits:
    """Limits of a provider: those of the catalogue, else what the provider says of itself.

    Raises:
        UsageError: Nobody registered that name.
    """
    vendor = _vendor(provider)
    facts = vendor.limits if vendor is not None else None
    if vendor is None or facts is None or not facts.formats:
        base = _of_provider(provider, model)
    else:
        base = Limits(vendor.checks_as or vendor.id, "", formats=facts.formats)
    return _from_catalogue(base, provider, model, facts) if facts is not None else base


def _vendor(provider: str) -> Vendor | None:
    from unift import catalog

    with suppress(UniftError):  # a plug-in; the catalogue does not know it
        return catalog.vendor(provider)
    return None


def _of_provider(provider: str, model: str | None) -> Limits:
    try:
        said = get_provider(provider).capabilities(model)
    except UniftError as error:
        error.fix = error.fix or f"known: {', '.join(sorted(known_limits()))}"
        raise
    if said.place == "local":
        return Limits("local", "this machine sets no limits but memory", formats=said.formats)
    return Limits(
        family=provider,
        min_rows=said.min_rows,
        max_tokens=said.max_tokens_per_row,
        formats=said.formats,
        source=f"capabilities of the provider {provider}",
    )


def _from_catalogue(
    base: Limits, provider: str, model: str | None, facts: catalog.Limits
) -> Limits:
    from unift import catalog

    longest = facts.max_tokens_per_example
    if model is not None:
        # A model that the catalogue does not know has no limit of its own.
        with suppress(UniftError):
            longest = catalog.model(model, provider).max_tokens_per_example or longest
    cut = facts.over_length is not None and "truncated" in facts.over_length
    size = facts.upload_max_mb
    return replace(
        base,
        min_rows=facts.min_examples or base.min_rows,
        max_rows=facts.max_examples,
        max_validation_rows=facts.validation_rows_max,
        max_bytes=size * MIB if size else None,
        max_tokens=longest or base.max_tokens,
        too_long="cut" if cut else "refused",
        max_images=facts.images_per_example_max,
        source=f"{', '.join(facts.fact.source)}; {facts.fact.as_of}",
    )

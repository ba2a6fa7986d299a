"""What each provider accepts in a training file: facts of the catalogue, or its own word."""

from __future__ import annotations

from contextlib import suppress
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Literal

from unift.data.formats import FORMATS
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
        max_images: Images in one row; 0: only text is trained on.
        max_image_rows: Rows with images, in training data.
        many_validation_rows: Validation data of more rows may have `max_validation_share`.
        max_validation_share: Of the rows of the training data.
        max_validation_bytes: The same of its bytes, however few rows there are.
        formats: Formats of rows that can be trained on there as they are.
        converted: Formats of rows that unift's provider writes anew in one of those.
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
    max_image_rows: int | None = None
    many_validation_rows: int = 0
    max_validation_share: float | None = None
    max_validation_bytes: float | None = None
    formats: tuple[str, ...] = ("openai-chat",)
    converted: tuple[str, ...] = ()

    def target(self, form: str) -> str | None:
        """The format in which rows of `form` are trained on; None if they are not."""
        if form in self.formats:
            return form
        kind = FORMATS[form].kind
        if kind != "chat" and form not in self.converted:
            return None
        known = (FORMATS[name] for name in self.formats if name in FORMATS)
        return next((one.name for one in known if one.kind == kind), None)


def known_limits() -> dict[str, Limits]:
    """Limits of everybody who is known without being asked, for no model in particular."""
    from unift import catalog

    entries = catalog.providers()
    parts = {id for entry in entries for id in entry.family if id != entry.id}
    ruled = [
        entry.id
        for entry in entries
        if entry.limits and entry.limits.formats and entry.id not in parts
    ]
    known = {name: limits_of(name, None) for name in ruled}
    for name in sorted(provider_names() - known.keys()):
        known[name] = Limits(name, "not asked")
    return known


def limits_of(provider: str, model: str | None) -> Limits:
    """Limits of a provider: those of the catalogue, else what the provider says of itself.

    Raises:
        UsageError: Nobody registered that name.
    """
    vendor = _vendor(provider, model)
    facts = vendor.limits if vendor is not None else None
    if vendor is None or facts is None or not facts.formats:
        base = _of_provider(provider, model)
    else:
        base = Limits(
            vendor.checks_as or vendor.id,
            "",
            formats=facts.formats,
            converted=facts.formats_converted,
        )
    return _from_catalogue(base, provider, model, facts) if facts is not None else base


def _vendor(provider: str, model: str | None) -> Vendor | None:
    from unift import catalog

    found: Vendor | None = None
    with suppress(UniftError):  # a plug-in or a new model; the catalogue does not know it
        found = catalog.vendor(provider)
        if found.family and model is not None:
            # Google has other rules for open models than for its own.
            return catalog.vendor(catalog.model(model, provider).provider)
    return found


def _of_provider(provider: str, model: str | None) -> Limits:
    try:
        said = get_provider(provider).capabilities(model)
    except UniftError as error:
        error.fix = error.fix or f"known: {', '.join(sorted(known_limits()))}"
        raise
    images = 0 if said.images is False else None
    if said.place == "local":
        source = "this machine sets no limits but memory"
        return Limits("local", source, max_images=images, formats=said.formats)
    return Limits(
        family=provider,
        min_rows=said.min_rows,
        max_tokens=said.max_tokens_per_row,
        max_images=images,
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
        max_image_rows=facts.image_examples_max,
        many_validation_rows=facts.validation_many_rows or 0,
        max_validation_share=facts.validation_max_share_of_train_rows,
        max_validation_bytes=facts.validation_max_share_of_train_bytes,
        source=f"{', '.join(facts.fact.source)}; {facts.fact.as_of}",
    )

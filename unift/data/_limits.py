"""What each provider accepts in a training file, as data with sources."""

from __future__ import annotations

from contextlib import suppress
from dataclasses import dataclass, replace
from typing import Literal

from unift.errors import UniftError
from unift.provider import get_provider

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


# What is not in the catalogue: what is read, what becomes of a row that is too long, and a few
# numbers of pages without a date. The rest is filled in by `limits_of`.
_OPENAI_FORMATS = ("openai-chat", "openai-preference", "openai-rft")
_LOCAL = Limits(family="local", source="this machine sets no limits but memory")
_BASE: dict[str, Limits] = {
    "openai": Limits(
        family="openai", formats=_OPENAI_FORMATS, too_long="cut", source="OpenAI guides, 2026-11"
    ),
    "azure": Limits(
        family="azure",
        formats=_OPENAI_FORMATS,
        max_bytes=512 * MIB,
        max_tokens=65_536,
        too_long="cut",
        max_images=64,
        source="learn.microsoft.com/azure, 'Customize a model with fine-tuning'; read 2026-11; "
        "tokens per row as for OpenAI",
    ),
    "google": Limits(
        family="google",
        # OpenAI's rows are turned into Gemini's form when they are uploaded.
        formats=("openai-chat", "openai-preference", "gemini", "gemini-preference", "gemini-rft"),
        source="docs.cloud.google.com, tuning of Gemini, page of 2026-09-25",
    ),
    "together": Limits(
        family="together",
        formats=("openai-chat", "openai-preference", "prompt-completion"),
        source="together 3.1.1 (PyPI), read 2026-11-04",
    ),
    "fireworks": Limits(
        family="fireworks",
        formats=("openai-chat", "openai-rft"),
        source="docs.fireworks.ai, fine-tuning; read 2026-11",
    ),
    "local-full": _LOCAL,
    "local-lora": _LOCAL,
    "local-qlora": _LOCAL,
}


def known_limits() -> dict[str, Limits]:
    """Limits of every provider that is known without asking it, for no model in particular."""
    return {name: limits_of(name, None) for name in _BASE}


def limits_of(provider: str, model: str | None) -> Limits:
    """Limits of a provider: those of the catalogue, else what the provider says of itself.

    Raises:
        UsageError: Nobody registered that name.
    """
    base = _BASE.get(provider)
    if base is not None and base.family == "local":
        return base
    if base is not None:
        return _from_catalogue(base, provider, model)
    try:
        said = get_provider(provider).capabilities(model)
    except UniftError as error:
        error.fix = error.fix or f"known: {', '.join(_BASE)}"
        raise
    return Limits(
        family=provider,
        min_rows=said.min_rows,
        max_tokens=said.max_tokens_per_row,
        source=f"capabilities of the provider {provider}",
    )


def _from_catalogue(base: Limits, provider: str, model: str | None) -> Limits:
    from unift import catalog

    facts = catalog.vendor(provider).limits
    if facts is None:
        return base
    longest = facts.max_tokens_per_example
    if model is not None:
        with suppress(
            UniftError
        ):  # a model that the catalogue does not know has no limit of its own
            longest = catalog.model(model, provider).max_tokens_per_example or longest
    cut = facts.over_length is not None and "truncated" in facts.over_length
    size = facts.upload_max_mb
    return replace(
        base,
        min_rows=facts.min_examples or base.min_rows,
        max_rows=facts.max_examples or base.max_rows,
        max_validation_rows=facts.validation_rows_max or base.max_validation_rows,
        max_bytes=size * MIB if size else base.max_bytes,
        max_tokens=longest or base.max_tokens,
        too_long="cut" if cut else base.too_long,
        max_images=facts.images_per_example_max or base.max_images,
        source=f"{', '.join(facts.fact.source)}; {facts.fact.as_of}",
    )

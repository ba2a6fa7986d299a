"""What each provider accepts in a training file, as data with sources."""

from __future__ import annotations

from dataclasses import dataclass
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
        formats: Formats of rows that can be trained on there.
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


_OPENAI_FORMATS = ("openai-chat", "openai-preference", "openai-rft")
OPENAI = Limits(
    family="openai",
    formats=_OPENAI_FORMATS,
    min_rows=10,
    max_bytes=512 * MIB,
    max_tokens=65_536,
    too_long="cut",
    max_images=10,
    source="OpenAI guides 'Supervised fine-tuning', 'Vision fine-tuning' and 'Fine-tuning best "
    "practices', createFile in openai-openapi f85dbe2; read 2026-11-17",
)
AZURE = Limits(
    family="azure",
    formats=_OPENAI_FORMATS,
    min_rows=10,
    max_bytes=512 * MIB,
    max_tokens=65_536,
    too_long="cut",
    max_images=64,
    source="learn.microsoft.com/azure, 'Customize a model with fine-tuning'; read 2026-11; "
    "tokens per row as for OpenAI",
)
GOOGLE = Limits(
    family="google",
    # Chat rows are turned into Gemini's form when they are uploaded.
    formats=("openai-chat", "gemini", "gemini-preference", "gemini-rft"),
    max_rows=10_000_000,
    max_validation_rows=5_000,
    max_bytes=1024 * MIB,
    max_tokens=131_072,
    source="docs.cloud.google.com, supervised tuning of Gemini, page of 2026-09-25",
)
TOGETHER = Limits(
    family="together",
    formats=("openai-chat", "openai-preference", "prompt-completion"),
    max_bytes=50_100_000_000,
    source="together 3.1.1 (PyPI), constant of the SDK; read 2026-11-04",
)
FIREWORKS = Limits(
    family="fireworks",
    formats=("openai-chat", "openai-rft"),
    min_rows=3,
    max_rows=3_000_000,
    source="docs.fireworks.ai, fine-tuning; read 2026-11",
)
LOCAL = Limits(family="local", source="this machine sets no limits but memory")

KNOWN: dict[str, Limits] = {
    "openai": OPENAI,
    "azure": AZURE,
    "google": GOOGLE,
    "together": TOGETHER,
    "fireworks": FIREWORKS,
    "local-full": LOCAL,
    "local-lora": LOCAL,
    "local-qlora": LOCAL,
}


def limits_of(provider: str, model: str | None) -> Limits:
    """Limits of a provider: from the table above, else what the provider says of itself.

    Raises:
        UsageError: Nobody registered that name.
    """
    if provider in KNOWN:
        return KNOWN[provider]
    try:
        said = get_provider(provider).capabilities(model)
    except UniftError as error:
        error.fix = error.fix or f"known: {', '.join(KNOWN)}"
        raise
    return Limits(
        family=provider,
        min_rows=said.min_rows,
        max_tokens=said.max_tokens_per_row,
        source=f"capabilities of the provider {provider}",
    )

"""The formats in which training rows are written, and how to tell which one a file has."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any, cast

from unift._text import did_you_mean
from unift.data.formats import _gemini, _openai, _plain, _trl
from unift.data.formats._model import LOSSES, Format, Lose, NothingLeftError, Row
from unift.data.formats._old import modern, modern_chat
from unift.data.formats._plain import SHAREGPT_ROLES
from unift.data.formats._reduce import reduce
from unift.errors import UsageError

__all__ = [
    "FORMATS",
    "LOSSES",
    "SHAREGPT_ROLES",
    "Format",
    "Lose",
    "NothingLeftError",
    "Row",
    "allowed_losses",
    "detect",
    "format_named",
    "modern",
    "modern_chat",
    "reduce",
]

#: More telling keys first: the first one whose keys are all there is the format of a row.
FORMATS: dict[str, Format] = {
    one.name: one
    for one in (
        _openai.PREFERENCE,
        _gemini.PREFERENCE,
        _gemini.RFT,
        _gemini.TUNING,
        _trl.PREFERENCE,
        _openai.CHAT,
        _openai.RFT,
        _plain.SHAREGPT,
        _plain.ALPACA,
        _plain.COMPLETION,
    )
}
# What people say for the format that they most often mean.
_SHORT = {"openai": "openai-chat", "chat": "openai-chat", "google": "gemini", "vertex": "gemini"}


def format_named(name: str) -> Format:
    """A format by its name or a short form of it.

    Raises:
        UsageError: There is none of that name; the nearest one is in `fix`.
    """
    found = FORMATS.get(_SHORT.get(name, name))
    if found is None:
        raise UsageError(
            f"There is no format '{name}'.",
            code="unknown_format",
            where=name,
            fix=did_you_mean(name, FORMATS),
        )
    return found


def allowed_losses(drop: Iterable[str]) -> frozenset[str]:
    """What may be lost, if there are such things (`LOSSES`).

    Raises:
        UsageError: There is nothing of that name; the nearest one is in `fix`.
    """
    allowed = frozenset(drop)
    for name in sorted(allowed):
        if name not in LOSSES:
            raise UsageError(
                f"There is nothing called '{name}' to drop.",
                code="unknown_loss",
                where="drop",
                fix=did_you_mean(name, LOSSES),
            )
    return allowed


def detect(rows: Iterable[Any]) -> tuple[Format, str]:
    """The format of a file by its first rows, and the reason in words.

    The first row that has the keys of a format decides; a file of which no row has, is taken for
    chat. Chat rows of which most end with the user, with keys of their own, are for graders.
    """
    sample = [cast("dict[str, Any]", row) for row in rows if isinstance(row, dict)]
    for number, row in enumerate(sample, 1):
        for one in FORMATS.values():
            if all(key in row for key in one.keys):
                if one is _openai.CHAT and 2 * sum(map(_prompt_only, sample)) > len(sample):
                    return _openai.RFT, "messages end with the user, and there are keys for graders"
                keys = " and ".join(f"`{key}`" for key in one.keys)
                return one, f"row {number} has {keys}"
    return _openai.CHAT, "no row has the keys of another format"


def _prompt_only(row: dict[str, Any]) -> bool:
    messages = row.get("messages")
    last: Any = cast("list[Any]", messages)[-1] if isinstance(messages, list) and messages else None
    role = cast("dict[str, Any]", last).get("role") if isinstance(last, dict) else None
    return role == "user" and bool(row.keys() - {"messages", "tools", "parallel_tool_calls"})

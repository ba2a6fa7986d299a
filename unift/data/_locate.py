"""From a JSON path to the character where its value starts, and the excerpt shown for it."""

from __future__ import annotations

import json
import re
from collections.abc import Callable
from json.decoder import scanstring  # type: ignore[attr-defined]  # public in CPython, not in its stubs
from typing import Any, cast

from unift.data._finding import Path

_SPACE = re.compile(r"[ \t\r\n]*")
_BLANK = frozenset(("", " ", "\t", "\r", "\n"))
# The scanner behind `raw_decode`; it answers where a value ends.
_scan: Callable[[str, int], tuple[object, int]] = cast("Any", json.JSONDecoder()).scan_once
# Characters shown on each side of a fault.
BEFORE, AFTER = 32, 40


def locate(text: str, path: Path) -> int:
    """Offset of the value at `path` in JSON `text`; of the nearest part that exists otherwise.

    Of a duplicate key it is the last one, the one that parsers of the standard library keep.
    """
    at = _skip(text, 0)
    for part in path:
        try:
            found = _member(text, at, part) if isinstance(part, str) else _item(text, at, part)
        except (ValueError, IndexError, RecursionError):
            return at
        if found is None:
            return at
        at = found
    return at


def excerpt(text: str, at: int) -> str:
    """Two lines: the text around offset `at`, and a caret under it."""
    start = max(0, at - BEFORE)
    end = min(len(text), at + AFTER)
    left = ("…" if start else "") + _printable(text[start:at])
    right = _printable(text[at:end]) + ("…" if end < len(text) else "")
    return f"{left}{right}\n{' ' * len(left)}^"


def _printable(text: str) -> str:
    """One column a character: whatever would move the cursor becomes a visible stand-in."""
    if text.isprintable():
        return text
    return "".join(char if char.isprintable() else "·" for char in text)


def _skip(text: str, at: int) -> int:
    if text[at : at + 1] not in _BLANK:
        return at
    match = _SPACE.match(text, at)
    return match.end() if match else at


def _end(text: str, at: int) -> int:
    """Where the value that starts at `at` ends."""
    try:
        return _scan(text, at)[1]
    except StopIteration:
        raise ValueError("no value") from None


def _member(text: str, at: int, name: str) -> int | None:
    if text[at] != "{":
        return None
    found: int | None = None
    at = _skip(text, at + 1)
    while text[at] == '"':
        key, at = cast("tuple[str, int]", scanstring(text, at + 1, False))
        at = _skip(text, _skip(text, at) + 1)  # past the colon
        if key == name:
            found = at
        at = _skip(text, _end(text, at))
        if text[at] != ",":
            break
        at = _skip(text, at + 1)
    return found


def _item(text: str, at: int, index: int) -> int | None:
    if text[at] != "[":
        return None
    at = _skip(text, at + 1)
    for _ in range(index):
        at = _skip(text, _end(text, at))
        if text[at] != ",":
            return None
        at = _skip(text, at + 1)
    return at

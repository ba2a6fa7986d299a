"""Where a line has what a decoder passes over: keys that come twice, numbers that are none."""

from __future__ import annotations

import json
import re
from collections.abc import Iterator
from typing import Any, Literal, NamedTuple

from unift.data._finding import Path

_TOKEN = re.compile(
    r'"(?:[^"\\]++|\\.)*+"|[\[\]{},:]|-?(?:NaN|Infinity)|-?[0-9][0-9.eE+-]*+', re.DOTALL
)
# No number of fewer characters is out of range, unless it has an exponent.
_SHORT = 19


class Odd(NamedTuple):
    """One such place: its kind, JSON path, character offset, and the key or number itself."""

    kind: Literal["twice", "constant", "number"]
    path: Path
    at: int
    word: str


class _Level:
    """An object or a list that is open."""

    __slots__ = ("keys", "part")

    def __init__(self, is_object: bool) -> None:
        self.keys: set[str] | None = set() if is_object else None
        self.part: str | int = "" if is_object else 0


def odd_places(text: str) -> Iterator[Odd]:
    """Every odd place of a line that is JSON but for them. Of a key, the second time and later."""
    levels: list[_Level] = []
    key_next = False
    for match in _TOKEN.finditer(text):
        token = match[0]
        match token[0]:
            case "{" | "[":
                levels.append(_Level(token == "{"))
                key_next = token == "{"
            case "}" | "]":
                levels.pop()
            case ",":
                top = levels[-1]
                key_next = top.keys is not None
                if isinstance(top.part, int):
                    top.part += 1
            case ":":
                key_next = False
            case '"':
                if key_next:
                    top = levels[-1]
                    key = json.loads(token) if "\\" in token else token[1:-1]
                    top.part = key
                    if top.keys is not None and key in top.keys:
                        yield Odd("twice", _path(levels), match.start(), key)
                    elif top.keys is not None:
                        top.keys.add(key)
            case "N" | "I":
                yield Odd("constant", _path(levels), match.start(), token)
            case _ if token[-1] in "Ny":
                yield Odd("constant", _path(levels), match.start(), token)
            case _:
                if not in_range(token):
                    yield Odd("number", _path(levels), match.start(), token)


def _path(levels: list[_Level]) -> Path:
    return tuple(level.part for level in levels)


def in_range(digits: str) -> bool:
    """True for a number of JSON that fits in 64 bits, or in a double if it has a fraction."""
    if digits.lstrip("-").isdigit():
        return len(digits) < _SHORT or (len(digits) <= 20 and -(2**63) <= int(digits) < 2**64)
    value: Any = float(digits)
    return abs(value) != float("inf")

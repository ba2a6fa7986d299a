"""Where a line has what a decoder passes over: keys that come twice, numbers that are none."""

from __future__ import annotations

import json
import re
from collections.abc import Iterator
from typing import Any, Literal, NamedTuple

from unift.data._finding import Path

# A text (1), also as a key (2); a bracket or comma (3); a number, or what stands for one (4).
_TOKEN = re.compile(
    r'("(?:[^"\\]++|\\.)*+")\s*+(:)?|([\[\]{},])|([-0-9NI][-+.0-9A-Za-z]*+)', re.DOTALL
)
# No number of fewer characters is out of range, unless it has an exponent.
_SHORT = 19


class Odd(NamedTuple):
    """One such place: its kind, JSON path, character offset, and the key or number itself."""

    kind: Literal["twice", "constant", "number"]
    path: Path
    at: int
    word: str


def odd_places(text: str) -> Iterator[Odd]:
    """Every odd place of a line that is JSON but for them. Of a key, the second time and later."""
    # Of each object or list that is open: its keys so far (None: a list), the key or index of now.
    keys: list[set[str] | None] = []
    parts: list[str | int] = []
    for match in _TOKEN.finditer(text):
        which = match.lastindex
        if which == 2:
            token = match[1]
            key = json.loads(token) if "\\" in token else token[1:-1]
            parts[-1] = key
            known = keys[-1]
            if known is not None and key in known:
                yield Odd("twice", tuple(parts), match.start(), key)
            elif known is not None:
                known.add(key)
        elif which == 3:
            token = match[3]
            if token == ",":
                last = parts[-1]
                if isinstance(last, int):
                    parts[-1] = last + 1
            elif token in "{[":
                keys.append(set() if token == "{" else None)
                parts.append("" if token == "{" else 0)
            else:
                keys.pop()
                parts.pop()
        elif which == 4:
            token = match[4]
            if token[-1] in "Ny":  # NaN, Infinity
                yield Odd("constant", tuple(parts), match.start(), token)
            elif not in_range(token):
                yield Odd("number", tuple(parts), match.start(), token)


def in_range(digits: str) -> bool:
    """True for a number of JSON that fits in 64 bits, or in a double if it has a fraction."""
    if digits.lstrip("-").isdigit():
        return len(digits) < _SHORT or (len(digits) <= 20 and -(2**63) <= int(digits) < 2**64)
    value: Any = float(digits)
    return abs(value) != float("inf")

"""One line of bytes as JSON, with everything that is wrong with it as JSON.

This is the slow, precise way; it decides. `_rows.py` is the fast way, for lines that are plain.
"""

from __future__ import annotations

import json
import re
import threading
from collections.abc import Callable
from typing import Any, cast

import numpy as np

from unift.data._finding import Path
from unift.data._walk import in_range, odd_places

MAX_DEPTH = 100

Note = Callable[..., None]
"""``note(code, path, message, fix=None, at=None)``; `at` is a character offset in the line."""

_SURROGATE = re.compile("[\ud800-\udfff]")
_ESCAPED_SURROGATE = re.compile(r"\\u[dD][89a-fA-F][0-9a-fA-F]{2}")
_BRACKETS = re.compile(r'"(?:[^"\\]|\\.)*"?|[\[\]{}]', re.DOTALL)
# What other text starts with -> what it is, and what to do.
_NO_ROWS: dict[str, tuple[str, str]] = {
    "version https://git-lfs": (
        "This is a pointer of Git LFS, not the file itself.",
        "fetch the file: git lfs pull",
    ),
    "<": ("This is HTML or XML, not JSON.", "look at the file: a download or an export failed"),
    "//": ("JSON has no comments.", "remove the line"),
    "#": ("JSON has no comments.", "remove the line"),
}
#: Lines that are longer are not copied without need, and measured before they are parsed.
LONG = 4 << 20
# Bytes for the text and the values of such a line.
_MOST_ROOM = 170_000_000
_MANY_QUOTES = 200_000
_PART = 1 << 20
_STRING = re.compile(rb'"(?:[^"\\]++|\\.)*+"', re.DOTALL)
_SMART_QUOTES = "“”„‟"


class NoNumber(float):
    """Stands where a number could not be read, which is told once and by its own code."""


class Spoilt(dict[str, Any]):
    """A row with a `NoNumber` in it."""


def tolerant(row: object, note: Note) -> Note:
    """A note that says nothing more of numbers that could not be read."""
    if not isinstance(row, Spoilt):
        return note

    def said_before(code: str, path: Path, *more: Any, **named: Any) -> None:
        value: Any = row
        for part in path:
            try:
                value = value[part]
            except (LookupError, TypeError):
                break
        if not isinstance(value, NoNumber):
            note(code, path, *more, **named)

    return said_before


class _Faults:
    """What the hooks of the JSON decoder saw; they know values but not places."""

    def __init__(self) -> None:
        self.clear()
        # Made once: it takes as long as decoding a short line.
        self.decode = json.JSONDecoder(
            object_pairs_hook=self.pairs,
            parse_constant=self.constant,
            parse_int=self.integer,
            parse_float=self.real,
        ).decode

    def clear(self) -> None:
        self.duplicates: list[str] = []
        self.constants: list[str] = []
        self.numbers: list[str] = []

    def pairs(self, pairs: list[tuple[str, Any]]) -> dict[str, Any]:
        built = dict(pairs)
        if len(built) != len(pairs):
            seen: set[str] = set()
            for key, _ in pairs:
                if key in seen and key not in self.duplicates:
                    self.duplicates.append(key)
                seen.add(key)
        return built

    def constant(self, word: str) -> float:
        self.constants.append(word)
        return NoNumber()

    def integer(self, digits: str) -> float:
        if not in_range(digits):
            self.numbers.append(digits)
            return NoNumber()
        return int(digits)

    def real(self, digits: str) -> float:
        if not in_range(digits):
            self.numbers.append(digits)
            return NoNumber()
        return float(digits)


class _OfThread(threading.local):
    def __init__(self) -> None:
        self.faults = _Faults()


_of_thread = _OfThread()


def parse(line: bytes, note: Note) -> tuple[str | None, Any]:
    """Decode one line.

    Returns:
        The text (None if it is not UTF-8) and the value (None if it cannot be parsed; a row is
        never None). Everything wrong is passed to `note`.
    """
    if too_heavy(line):
        size = f"{len(line) / 1e6:.0f} MB"
        note("UD006", (), f"The line ({size}) would take too much memory to look into.", at=0)
        return None, None
    try:
        text = line.decode("utf-8")
    except UnicodeDecodeError as error:
        bad = line[error.start : error.start + 4].hex(" ")
        note(
            "UD003",
            (),
            f"Byte {error.start + 1} of the line is not UTF-8 (bytes {bad}): {error.reason}.",
            at=len(line[: error.start].decode("utf-8", "replace")),
        )
        return None, None
    deep = _too_deep(text)
    if deep is not None:
        note("UD105", (), f"More than {MAX_DEPTH} levels of brackets.", at=deep)
        return text, None
    faults = _of_thread.faults
    faults.clear()
    try:
        value = faults.decode(text)
    except json.JSONDecodeError as error:
        message, fix = _why(text, error)
        note("UD100", (), message, fix, at=error.pos)
        return text, None
    if faults.duplicates or faults.constants or faults.numbers:
        _note_odd(text, note)
    # Escapes cost a search of the line only where there is one at all.
    if _ESCAPED_SURROGATE.search(text):
        _note_surrogates(value, (), note)
    if (faults.constants or faults.numbers) and isinstance(value, dict):
        value = Spoilt(cast("dict[str, Any]", value))
    return text, value


def _note_odd(text: str, note: Note) -> None:
    told: set[str] = set()
    for kind, path, at, word in odd_places(text):
        if kind == "constant":
            note("UD103", path, f"{word} is not JSON.", at=at)
        elif kind == "number":
            shown = word if len(word) <= 24 else f"{word[:20]}… ({len(word)} characters)"
            note("UD104", path, f"The number {shown} is out of range.", at=at)
        elif word not in told:  # a key once a row, however often it comes twice
            told.add(word)
            note("UD102", path, f"The key {_short(word)} is there twice.", at=at)


def strictly(text: str) -> Any:
    """The value of JSON inside a row, such as the arguments of a call.

    Raises:
        ValueError: It is none, or none that every program reads alike; says why.
    """
    if _too_deep(text) is not None:
        raise ValueError(f"more than {MAX_DEPTH} levels of brackets")
    faults = _of_thread.faults
    faults.clear()
    value = faults.decode(text)
    if faults.duplicates:
        raise ValueError(f"the key {_short(faults.duplicates[0])} is there twice")
    if faults.constants:
        raise ValueError(f"{faults.constants[0]} is no JSON number")
    if faults.numbers:
        raise ValueError("a number is out of range")
    if _ESCAPED_SURROGATE.search(text):
        halves: list[str] = []

        def note(code: str, *_: object) -> None:
            halves.append(code)

        _note_surrogates(value, (), note)
        if halves:
            raise ValueError("it has half a character (a lone surrogate)")
    return value


def too_heavy(line: bytes) -> bool:
    """True for a line whose values would take too much memory."""
    return len(line) > LONG and _room(line) > _MOST_ROOM


def _room(line: bytes) -> int:
    """Bytes that a long line takes at most as text and as values, beside the line itself."""
    characters = len(line)
    # One, two or four bytes a character, by the widest one in it (PEP 393).
    width = 1
    if not line.isascii():
        codes = np.frombuffer(line, np.uint8)
        parts = (codes[at : at + _PART] for at in range(0, len(line), _PART))
        characters = sum(int(np.count_nonzero((part & 0xC0) != 0x80)) for part in parts)
        most = int(codes.max())
        width = 4 if most >= 0xF0 else 2 if most >= 0xC4 else 1
    escaped = 1
    if b"\\u" in line:
        escaped = 4 if b"\\ud" in line or b"\\uD" in line else 2
    values = _room_of_values(line)
    if values > _MOST_ROOM // 4 and line.count(b'"') < _MANY_QUOTES:
        # Perhaps the commas and braces of texts.
        values = _room_of_values(_STRING.sub(b"", line))
    return characters * (width + max(width, escaped)) + values


def _room_of_values(line: bytes) -> int:
    """Numbers and lists take up to 72 bytes each, an object of CPython with a key 240."""
    return 72 * (line.count(b",") + line.count(b"[")) + 240 * line.count(b"{")


def _too_deep(text: str) -> int | None:
    """Offset of the bracket that is one too many. Brackets inside strings do not count."""
    if text.count("[") + text.count("{") <= MAX_DEPTH:
        return None
    depth = 0
    for match in _BRACKETS.finditer(text):
        char = match[0]
        if char in "[{":
            depth += 1
            if depth > MAX_DEPTH:
                return match.start()
        elif char in "]}":
            depth -= 1
    return None


def _note_surrogates(value: Any, path: Path, note: Note) -> None:
    if isinstance(value, str):
        found = _SURROGATE.search(value)
        if found:
            note("UD106", path, f"The text has half a character (\\u{ord(found[0]):04x}).")
    elif isinstance(value, dict):
        for key, inner in value.items():  # type: ignore[reportUnknownVariableType]  # any JSON
            if _SURROGATE.search(str(key)):  # type: ignore[reportUnknownArgumentType]  # any JSON
                note("UD106", path, "A key has half a character (a lone surrogate).")
            _note_surrogates(inner, (*path, str(key)), note)  # type: ignore[reportUnknownArgumentType]  # any JSON
    elif isinstance(value, list):
        for index, inner in enumerate(value):  # type: ignore[reportUnknownArgumentType, reportUnknownVariableType]  # any JSON
            _note_surrogates(inner, (*path, index), note)


def _why(text: str, error: json.JSONDecodeError) -> tuple[str, str | None]:
    """The usual reasons for broken JSON, in words."""
    at = error.pos
    here = text[at : at + 1]
    before = text[max(0, at - 100) : at].rstrip()
    for start, why in _NO_ROWS.items():
        if at == 0 and text.startswith(start):
            return why
    if error.msg == "Extra data":
        rest = text[at : at + 100].strip()
        if rest == ",":
            return "There is a comma after the row.", "remove it, or mend it: --fix OUT"
        if here == "{":
            return (
                "There are two objects on one line.",
                "put each row on its own line, or mend it: --fix OUT",
            )
        return f"There is more text after the end of the row: {_short(text[at : at + 41])}.", None
    if here == "'":
        return "Strings are in single quotes, as Python prints them.", "use json.dumps, not str()"
    if here and here in _SMART_QUOTES:
        return "Typographic quotes are used as string quotes.", 'use straight quotes: "'
    if here in ("}", "]") and before.endswith(","):
        return "There is a comma before the closing bracket.", "remove the comma"
    # The decoder points at the comma itself for objects.
    if here == "," or (here in ("}", "]") and text[at + 1 : at + 2] == ","):
        return f"{error.msg} at character {at + 1}.", None
    for word in ("None", "True", "False"):
        if text.startswith(word, at):
            return f"{word} is Python, not JSON.", "use json.dumps, not str()"
    if "Invalid control character" in error.msg:
        name = {"\n": "line end", "\t": "tab", "\r": "carriage return", "\0": "NUL"}.get(here)
        shown = name or f"U+{ord(here):04X}"
        fix = "remove it" if here == "\0" else "escape it, as in \\n or \\t"
        return f"A string has a raw control character ({shown}).", fix
    if "Invalid \\escape" in error.msg or "Invalid \\uXXXX" in error.msg:
        return "A backslash starts no valid escape.", "write a backslash as \\\\"
    if not text[at : at + 100].strip() or error.msg.startswith("Unterminated string"):
        return "The line ends in the middle of the row.", "write the row again; it was cut off"
    return f"{error.msg} at character {at + 1}.", None


def _short(text: str) -> str:
    shown = text if len(text) <= 40 else text[:39] + "…"
    return repr(shown)

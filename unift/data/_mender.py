"""Line by line: what can be mended is, what still has an error is left out, and both are told."""

from __future__ import annotations

import ast
import json
import re
from collections.abc import Callable, Iterator
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Any, cast

from unift.data._finding import Path as JsonPath
from unift.data._finding import format_path
from unift.data._layout import layout
from unift.data._lines import blocks
from unift.data._other import check_other
from unift.data._parse import parse
from unift.data._remedies import load, mend_row
from unift.data._row import check_row
from unift.data._rows import plain_rows
from unift.data._scan import CHAT
from unift.data._sink import Sink
from unift.data.formats import Format, detect

# A JSON array or pretty-printed rows are one value over many lines and have to be read whole.
_WHOLE = 64 << 20
# Lines of such a file are counted for so many rows; counting from the start is quadratic.
_COUNTED = 1000
# Python's own parser takes a hundred times the text in memory.
_PYTHON = 1 << 20
# Faults of the JSON that `load` and `mend_row` may take away.
_MENDED_AS_JSON = ("UD102", "UD106")
_FIRST = 50


@dataclass(frozen=True, slots=True)
class Change:
    """One thing that was changed.

    Attributes:
        line: In the file that was read, from 1.
        path: JSON path inside the row; empty for the row or the line.
        code: The finding that is gone now, or the one for which the row was left out.
        what: What was done, in words.
        left_out: True if the row could not be mended and was not written.
    """

    line: int
    path: str
    code: str
    what: str
    left_out: bool = False

    def as_dict(self) -> dict[str, Any]:
        """As the log and the ``--json`` document have it."""
        return {
            "line": self.line,
            "path": self.path,
            "code": self.code,
            "what": self.what,
            "left_out": self.left_out,
        }


Add = Callable[[Change], None]


@dataclass(slots=True)
class Mender:
    """Mends the rows of one file, in its format (None to look)."""

    shown: str
    families: dict[str, str]
    form: Format | None

    def rows(self, source: Path, add: Add) -> Iterator[tuple[int, bytes]]:
        """(line number, row) of everything that can be written."""

        def report(code: str, line: int, message: str, fix: str | None) -> None:
            what = "removed the byte order mark" if code == "UD004" else f"left out: {message}"
            add(Change(line, "", code, what, left_out=code != "UD004"))

        for block in blocks(source, report):
            if block.first == 1:
                other = layout(block.lines)
                if other is not None:
                    yield from self._unfolded(source, other[0], add)
                    return
                if self.form is None:
                    self.form = detect(_first_rows(block.lines))[0]
            quick = frozenset(plain_rows(block).lines if self._chat else ())
            for index, line in enumerate(block.lines):
                number = block.first + index
                if index in quick:
                    yield number, line.strip()
                elif not line or line.isspace():
                    add(Change(number, "", "UD005", "removed the blank line"))
                else:
                    yield from ((number, row) for row in self._line(number, line, add))

    @property
    def _chat(self) -> bool:
        return self.form is None or self.form.name == CHAT

    def _unfolded(self, source: Path, code: str, add: Add) -> Iterator[tuple[int, bytes]]:
        """Rows of a JSON array or of pretty-printed objects."""
        if code not in ("UD009", "UD010") or source.stat().st_size > _WHOLE:
            add(Change(1, "", code, "left out: the file is not JSON Lines", left_out=True))
            return
        text = b"\n".join(line for block in blocks(source, _silent) for line in block.lines)
        decoded = text.decode("utf-8", "replace")
        between = " \t\r\n[,]" if code == "UD009" else " \t\r\n"
        for rows, (at, one) in enumerate(_values(decoded, between, strict=True)):
            line = decoded.count("\n", 0, at) + 1 if rows < _COUNTED else 0
            if one is None:
                add(Change(line, "", "UD100", "left out: not JSON from here on", left_out=True))
                return
            raw = one.replace("\r", " ").replace("\n", " ").encode()
            if self.form is None:
                self.form = detect(_first_rows([raw]))[0]
            add(Change(line, "", code, "the row is on a line of its own now"))
            yield from ((line, row) for row in self._line(line, raw, add))

    def _line(self, number: int, line: bytes, add: Add) -> Iterator[bytes]:
        """The rows of a line without what can be mended; those with an error are left out."""
        fault = self._fault(line, only_json=True)
        apart = _apart(line) if fault is not None and fault[0] == "UD100" else []
        for one, what in apart or [(line, "")]:
            fault = self._fault(one, only_json=True)
            if fault is not None and fault[0] not in _MENDED_AS_JSON:
                gone = f"left out: {fault[1]}"
                add(Change(number, fault[2], fault[0], gone, left_out=True))
                continue
            if what:
                add(Change(number, "", "UD100", what))
            row = self._row(number, one, add)
            if row is not None:
                yield row

    def _row(self, number: int, line: bytes, add: Add) -> bytes | None:
        """One row without what can be mended, or None if an error stays."""
        changes: list[Change] = []

        def changed(code: str, path: JsonPath, what: str) -> None:
            changes.append(Change(number, format_path(path), code, what))

        try:
            value = load(line.decode("utf-8"), changed)
        except (ValueError, RecursionError):
            value = None
        out = line.strip()
        if isinstance(value, dict):
            name = self.form.name if self.form is not None else CHAT
            row = mend_row(cast("dict[str, Any]", value), changed, name)
            if changes:
                out = json.dumps(row, ensure_ascii=False).encode("utf-8", "replace")
        fault = self._fault(out)
        if fault is not None:
            add(Change(number, fault[2], fault[0], f"left out: {fault[1]}", left_out=True))
            return None
        for change in changes:
            add(change)
        return out

    def _fault(self, line: bytes, *, only_json: bool = False) -> tuple[str, str, str] | None:
        """(code, message, path) of the first error of a line."""
        sink = Sink(self.families, 0)
        first: list[tuple[str, str, str]] = []

        def note(
            code: str, path: JsonPath, message: str, fix: str | None = None, at: int | None = None
        ) -> None:
            if sink.add(code, file=self.shown, path=path, message=message) == "error" and not first:
                first.append((code, message, format_path(path)))

        text, row = parse(line, note)
        if text is not None and not first and not only_json:
            if self._chat or self.form is None:
                check_row(row, note)
            else:
                check_other(row, self.form, note)
        return first[0] if first else None


def _silent(*_: object) -> None:
    """For what was reported before."""


def _first_rows(lines: list[bytes]) -> Iterator[Any]:
    """The first rows, to tell the format from; also where two are on a line."""
    for line in lines[:_FIRST]:
        for one in [line, *(one for one, _ in _apart(line))]:
            with suppress(ValueError, RecursionError):
                yield json.loads(one)


def _apart(line: bytes) -> list[tuple[bytes, str]]:
    """(row, what was done) of the objects on a line that is no JSON; empty if it cannot be told."""
    try:
        text = line.decode("utf-8").strip()
    except UnicodeDecodeError:
        return []
    if text[:1] != "{":
        return []
    values = [one for _, one in _values(text, " \t\r,", strict=False)]
    if any(one is None or one[:1] != "{" for one in values):
        return _from_python(text)
    what = "removed the comma after the row"
    if len(values) > 1:
        what = "the row is on a line of its own now"
    elif not text.endswith(","):
        what = "escaped a control character"
    return [(_escaped(str(one)), what) for one in values]


def _escaped(one: str) -> bytes:
    """JSON in which control characters are taken as they are meant, and escaped."""
    try:
        json.loads(one)
    except ValueError:
        return _CONTROL.sub(lambda found: json.dumps(found[0])[1:-1], one).encode("utf-8")
    return one.encode("utf-8")


_CONTROL = re.compile(r"[\x00-\x08\x0b-\x1f\t]")


def _from_python(text: str) -> list[tuple[bytes, str]]:
    """A row that was printed by Python instead of written as JSON."""
    if not text.startswith("{'") or len(text) > _PYTHON:
        return []
    try:
        value = ast.literal_eval(text)
        written = json.dumps(value, ensure_ascii=False, allow_nan=False).encode("utf-8")
        # What JSON has no form for (tuples, keys that are no text) would come back as another.
        same = json.loads(written) == value
    except (ValueError, TypeError, SyntaxError, RecursionError, MemoryError):
        return []
    return [(written, "Python's spelling is JSON now")] if same else []


def _values(text: str, between: str, *, strict: bool) -> Iterator[tuple[int, str | None]]:
    """(offset, value) of JSON values one after the other; None for what is no JSON, the end."""
    decoder = json.JSONDecoder(strict=strict)
    at = 0
    while True:
        while at < len(text) and text[at] in between:
            at += 1
        if at >= len(text):
            return
        try:
            end = decoder.raw_decode(text, at)[1]
        except (ValueError, RecursionError):
            yield at, None
            return
        yield at, text[at:end]
        at = end

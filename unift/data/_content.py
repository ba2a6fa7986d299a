"""The rows of a file without errors, each with its bytes and what is said in it."""

from __future__ import annotations

import json
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from unift.data._batch import Content
from unift.data._finding import Path as JsonPath
from unift.data._finding import data_error
from unift.data._layout import layout
from unift.data._lines import blocks
from unift.data._other import check_other
from unift.data._parse import parse
from unift.data._row import check_row
from unift.data._rows import plain_rows
from unift.data._scan import CHAT, content_of, first_values
from unift.data._sink import Sink
from unift.data.formats import Format, detect
from unift.errors import DataError


@dataclass(frozen=True, slots=True)
class RowContent:
    """One row: its line, its bytes, its value, the same as chat, and what is said in it."""

    line: int
    raw: bytes
    value: dict[str, Any]
    chat: dict[str, Any]
    content: Content
    format: str


def contents(path: Path, shown: str) -> Iterator[RowContent]:
    """Every row in file order, in whatever format the file is.

    Raises:
        DataError: A row has an error; file and line are in `where`.
    """
    for _, row in attempts(path, shown):
        if isinstance(row, DataError):
            raise row
        yield row


def attempts(path: Path, shown: str) -> Iterator[tuple[int, RowContent | DataError]]:
    """(line, row or what is wrong with it), in file order.

    Raises:
        DataError: The file as such cannot be read.
    """
    form: Format | None = None
    rows = 0

    def report(code: str, line: int, message: str, fix: str | None) -> None:
        sink = Sink({}, 1)
        if sink.add(code, file=shown, line=line, message=message, fix=fix) == "error":
            raise data_error(sink.findings, 1, shown)

    for block in blocks(path, report):
        if block.first == 1:
            other = layout(block.lines)
            if other is not None:
                report(other[0], 1, other[1], None)
        if form is None:
            form = detect(first_values(block.lines))[0]
        quick = frozenset(plain_rows(block).lines if form.name == CHAT else ())
        for index, line in enumerate(block.lines):
            number = block.first + index
            if not line or line.isspace():
                continue
            rows += 1
            try:
                if index in quick:
                    value = chat = json.loads(line)
                else:
                    value, chat = _checked(number, line, form, shown)
            except DataError as error:
                yield number, error
                continue
            yield number, RowContent(number, line.strip(), value, chat, content_of(chat), form.name)
    if not rows:
        report("UD001", 0, "The file has no rows.", None)


def _checked(number: int, line: bytes, form: Format, shown: str) -> tuple[Any, dict[str, Any]]:
    """The row as it is, and as chat."""
    sink = Sink({}, 1000)
    text: str | None = None

    def note(
        code: str, path: JsonPath, message: str, fix: str | None = None, at: int | None = None
    ) -> None:
        seen = text if text is not None else line.decode("utf-8", "replace")
        sink.add(
            code, file=shown, line=number, path=path, message=message, fix=fix, text=seen, at=at
        )

    text, value = parse(line, note)
    chat = value
    if not sink.severities["error"]:
        if form.name == CHAT:
            check_row(value, note)
        else:
            chat = check_other(value, form, note)
    errors = sink.severities["error"]
    if errors or chat is None:
        raise data_error(sink.findings, errors, shown)
    return value, chat

"""Examples as the rest of unift reads them, and the fingerprint of a file."""

from __future__ import annotations

import hashlib
import json
import os
from collections.abc import Iterator
from dataclasses import dataclass, field
from typing import Any

from unift.data._finding import Path as JsonPath
from unift.data._finding import data_error
from unift.data._layout import layout
from unift.data._lines import blocks, find_file
from unift.data._parse import parse
from unift.data._row import check_row
from unift.data._sink import Sink

FileName = str | os.PathLike[str]


@dataclass(frozen=True, slots=True)
class Example:
    """One conversation to learn.

    Attributes:
        messages: As in the file: dicts with role, content and what else they have.
        tools: Declarations of the tools on offer, if any.
        file: As the user named it.
        line: 1-based.
        extra: What else the row holds, such as a customer or a topic.
    """

    messages: list[dict[str, Any]]
    tools: list[dict[str, Any]] | None
    file: str
    line: int
    extra: dict[str, Any] = field(default_factory=dict[str, Any])


def read_examples(path: FileName) -> Iterator[Example]:
    """The rows of a file, one at a time, in file order.

    Blank lines are passed over, as `validate` warns; nothing else is.

    Args:
        path: As for `unift.validate`.

    Raises:
        UsageError: The file is missing or is a folder.
        DataError: A row has an error; file and line are in `where`. Rows before it were yielded.
    """
    for line, row in _rows(path):
        extra = {key: value for key, value in row.items() if key not in ("messages", "tools")}
        yield Example(row["messages"], row.get("tools"), str(path), line, extra)


def count_rows(path: FileName) -> int:
    """Rows of a file: its lines that are not blank. Nothing is parsed.

    Raises:
        UsageError: The file is missing or is a folder.
        DataError: It is not text, or damaged.
    """
    sink = _Strict(str(path))
    return sum(
        sum(1 for line in block.lines if line and not line.isspace())
        for block in blocks(find_file(path), sink.report)
    )


def fingerprint(path: FileName) -> str:
    """A name for the content of a file: ``sha256:`` and 64 hexadecimal digits.

    It does not depend on key order, white space, blank lines, escapes, compression or the name of
    the file. It does depend on the order of the rows, because the order of training does.

    Raises:
        UsageError: The file is missing or is a folder.
        DataError: A line is not JSON; file and line are in `where`.
    """
    digest = hashlib.sha256()
    shown = str(path)
    sink = _Strict(shown)
    for block in blocks(find_file(path), sink.report):
        for number, line in enumerate(block.lines, block.first):
            if not line or line.isspace():
                continue
            row = sink.parse(number, line)
            text = json.dumps(row, sort_keys=True, ensure_ascii=False, separators=(",", ":"))
            digest.update(text.encode("utf-8"))
            digest.update(b"\n")
    return f"sha256:{digest.hexdigest()}"


def _rows(path: FileName) -> Iterator[tuple[int, dict[str, Any]]]:
    from unift.data._rows import plain_rows  # msgspec: not at import

    sink = _Strict(str(path))
    rows = 0
    for block in blocks(find_file(path), sink.report):
        if block.first == 1:
            other = layout(block.lines)
            if other is not None:
                sink.report(other[0], 1, other[1], None)
        quick = frozenset(plain_rows(block).lines)
        for index, line in enumerate(block.lines):
            number = block.first + index
            if not line or line.isspace():
                continue
            rows += 1
            if index in quick:
                yield number, json.loads(line)
            else:
                yield number, sink.check(number, line)
    if not rows:
        sink.report("UD001", 0, "The file has no rows.", None)


class _Strict:
    """Raises at the first error instead of collecting findings; less than errors pass."""

    def __init__(self, shown: str) -> None:
        self._shown = shown

    def report(self, code: str, line: int, message: str, fix: str | None) -> None:
        sink = Sink({}, 1)
        if sink.add(code, file=self._shown, line=line, message=message, fix=fix) == "error":
            raise data_error(sink.findings, 1, self._shown)

    def parse(self, line: int, data: bytes) -> Any:
        """The value of one line."""
        return self._run(line, data, deep=False)

    def check(self, line: int, data: bytes) -> dict[str, Any]:
        """One row without errors."""
        return self._run(line, data, deep=True)

    def _run(self, line: int, data: bytes, *, deep: bool) -> Any:
        sink = Sink({}, 1000)
        text: str | None = None

        def note(
            code: str, path: JsonPath, message: str, fix: str | None = None, at: int | None = None
        ) -> None:
            nonlocal text
            text = text if text is not None else data.decode("utf-8", "replace")
            sink.add(
                code,
                file=self._shown,
                line=line,
                path=path,
                message=message,
                fix=fix,
                text=text,
                at=at,
            )

        text, row = parse(data, note)
        if deep and not sink.severities["error"]:
            check_row(row, note)
        errors = sink.severities["error"]
        if errors:
            raise data_error(sink.findings, errors, self._shown)
        return row

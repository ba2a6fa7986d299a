"""Write a mended copy of a file: every change is listed, and no row with an error is written."""

from __future__ import annotations

import json
import os
from array import array
from collections.abc import Callable, Iterator
from contextlib import suppress
from dataclasses import dataclass, field
from pathlib import Path
from typing import IO, Any, cast

from unift.data._finding import Path as JsonPath
from unift.data._finding import Report, format_path
from unift.data._layout import layout
from unift.data._lines import blocks
from unift.data._parse import parse
from unift.data._remedies import load, mend_row
from unift.data._row import check_row
from unift.data._rows import plain_rows
from unift.data._sink import Sink
from unift.errors import UsageError

# Changes held for the caller; the log beside the output has all of them.
_KEPT = 1000
# A JSON array or pretty-printed rows are one value over many lines and have to be read whole.
_WHOLE = 64 << 20


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


@dataclass(frozen=True, slots=True)
class Fixed:
    """What ``fix=`` did.

    Attributes:
        file: The mended copy.
        log: JSON Lines beside it with every change.
        rows: Rows written.
        left_out: Rows that could not be mended, and are not in the copy.
        changed: How many changes there are, rows left out included.
        changes: The first 1,000 of them.
        after: The report about the copy.
    """

    file: str
    log: str
    rows: int
    left_out: int
    changed: int
    changes: tuple[Change, ...]
    after: Report

    def as_dict(self) -> dict[str, Any]:
        """As the ``--json`` document has it."""
        return {
            "file": self.file,
            "log": self.log,
            "rows": self.rows,
            "left_out": self.left_out,
            "changed": self.changed,
            "changes": [change.as_dict() for change in self.changes],
            "ok": self.after.ok,
            "errors": self.after.errors,
        }


@dataclass(slots=True)
class _Log:
    """Every change to the file, the first ones to the caller."""

    file: IO[str]
    count: int = 0
    left_out: int = 0
    kept: list[Change] = field(default_factory=list[Change])

    def add(self, change: Change) -> None:
        self.count += 1
        self.left_out += change.left_out
        if len(self.kept) < _KEPT:
            self.kept.append(change)
        self.file.write(json.dumps(change.as_dict(), ensure_ascii=False) + "\n")


def mend(
    source: Path,
    shown: str,
    target: str | os.PathLike[str],
    families: dict[str, str],
    check: Callable[[str, Callable[[str, int, str], None]], Report],
) -> Fixed:
    """Write `target`, and `target` + ``.changes.jsonl``.

    Args:
        families: As for `Sink`: what is refused by a provider asked about is not written either.
        check: Validates a file; tells (file, line, code) of each error to the callable.

    Raises:
        UsageError: The copy cannot be written, is the file itself, or would be compressed.
    """
    out = _target(source, target)
    log_path = out.with_name(out.name + ".changes.jsonl")
    draft = out.with_name(f".{out.name}.{os.getpid()}")
    numbers = array("Q")  # of the lines written
    try:
        with draft.open("wb") as file, log_path.open("w", encoding="utf-8") as listed:
            log = _Log(listed)
            for number, line in _mended(source, shown, families, log):
                file.write(line + b"\n")
                numbers.append(number)
            file.flush()
            bad: dict[int, str] = {}

            def failed(file: str, line: int, code: str) -> None:
                if file == str(draft) and line:
                    bad.setdefault(line, code)

            after = check(str(draft), failed)
            if bad:
                # Only limits are left here (tokens, images): the rest was checked row by row.
                _drop(draft, bad)
                for line, code in sorted(bad.items()):
                    gone = "left out: a limit that only a shorter row meets"
                    log.add(Change(numbers[line - 1], "", code, gone, left_out=True))
        draft.replace(out)
    except OSError as error:
        raise UsageError(
            f"The mended copy cannot be written: {error.strerror}.",
            code="fix_unwritable",
            where=str(target),
            fix="give another place with --fix FILE",
        ) from error
    finally:
        with suppress(OSError):
            draft.unlink(missing_ok=True)
    after = check(str(out), _silent)
    kept = tuple(log.kept)
    return Fixed(str(out), str(log_path), after.rows, log.left_out, log.count, kept, after)


def _silent(*_: object) -> None:
    """For what was reported before."""


def _target(source: Path, target: str | os.PathLike[str]) -> Path:
    out = Path(target)
    problem = ""
    if out.exists() and out.samefile(source):
        problem = "The mended copy would replace the file itself."
    elif out.suffix in (".gz", ".zst"):
        problem = "The mended copy is written uncompressed."
    elif out.is_dir():
        problem = "This is a folder."
    if problem:
        raise UsageError(
            problem,
            code="bad_fix_target",
            where=str(out),
            fix=f"name another file, such as {out.with_name('mended.jsonl')}",
        )
    return out


def _drop(path: Path, bad: dict[int, str]) -> None:
    shorter = path.with_name(path.name + ".short")
    with path.open("rb") as old, shorter.open("wb") as new:
        new.writelines(line for number, line in enumerate(old, 1) if number not in bad)
    shorter.replace(path)


def _mended(
    source: Path, shown: str, families: dict[str, str], log: _Log
) -> Iterator[tuple[int, bytes]]:
    """(line number, row) of everything that can be written."""

    def report(code: str, line: int, message: str, fix: str | None) -> None:
        what = "removed the byte order mark" if code == "UD004" else f"left out: {message}"
        log.add(Change(line, "", code, what, left_out=code != "UD004"))

    for block in blocks(source, report):
        if block.first == 1:
            other = layout(block.lines)
            if other is not None:
                yield from _unfolded(source, other[0], families, log)
                return
        quick = frozenset(plain_rows(block).lines)
        for index, line in enumerate(block.lines):
            number = block.first + index
            if index in quick:
                yield number, line.strip()
            elif not line or line.isspace():
                log.add(Change(number, "", "UD005", "removed the blank line"))
            else:
                row = _mend_line(number, line, shown, families, log)
                if row is not None:
                    yield number, row


def _unfolded(
    source: Path, code: str, families: dict[str, str], log: _Log
) -> Iterator[tuple[int, bytes]]:
    """Rows of a JSON array or of pretty-printed objects."""
    if code not in ("UD009", "UD010") or source.stat().st_size > _WHOLE:
        log.add(Change(1, "", code, "left out: the file is not JSON Lines", left_out=True))
        return
    text = b"\n".join(line for block in blocks(source, _silent) for line in block.lines)
    decoder, decoded = json.JSONDecoder(), text.decode("utf-8", "replace")
    at, rows = 0, 0
    separators = " \t\r\n[,]" if code == "UD009" else " \t\r\n"
    while True:
        while at < len(decoded) and decoded[at] in separators:
            at += 1
        if at >= len(decoded):
            break
        line = decoded.count("\n", 0, at) + 1 if rows < _KEPT else 0
        try:
            end = decoder.raw_decode(decoded, at)[1]
        except (ValueError, RecursionError):
            log.add(Change(line, "", "UD100", "left out: not JSON from here on", left_out=True))
            return
        rows += 1
        one = decoded[at:end].replace("\r", " ").replace("\n", " ").encode()
        at = end
        log.add(Change(line, "", code, "the row is on a line of its own now"))
        row = _mend_line(line, one, str(source), families, log)
        if row is not None:
            yield line, row


def _mend_line(
    number: int, line: bytes, shown: str, families: dict[str, str], log: _Log
) -> bytes | None:
    """The row without what can be mended, or None if an error stays."""
    changes: list[Change] = []

    def changed(code: str, path: JsonPath, what: str) -> None:
        changes.append(Change(number, format_path(path), code, what))

    fault = _fault(line, families, shown, only_json=True)
    if fault is not None and fault[0] not in ("UD102", "UD106"):
        log.add(Change(number, fault[2], fault[0], f"left out: {fault[1]}", left_out=True))
        return None
    try:
        value = load(line.decode("utf-8"), changed)
    except (ValueError, RecursionError):
        value = None
    out = line.strip()
    if isinstance(value, dict):
        row = mend_row(cast("dict[str, Any]", value), changed)
        if changes:
            out = json.dumps(row, ensure_ascii=False).encode("utf-8", "replace")
    fault = _fault(out, families, shown)
    if fault is not None:
        log.add(Change(number, fault[2], fault[0], f"left out: {fault[1]}", left_out=True))
        return None
    for change in changes:
        log.add(change)
    return out


def _fault(
    line: bytes, families: dict[str, str], shown: str, *, only_json: bool = False
) -> tuple[str, str, str] | None:
    """(code, message, path) of the first error of a line."""
    sink = Sink(families, 0)
    first: list[tuple[str, str, str]] = []

    def note(
        code: str, path: JsonPath, message: str, fix: str | None = None, at: int | None = None
    ) -> None:
        if sink.add(code, file=shown, path=path, message=message) == "error" and not first:
            first.append((code, message, format_path(path)))

    text, row = parse(line, note)
    if text is not None and not first and not only_json:
        check_row(row, note)
    return first[0] if first else None

"""Write a mended copy of a file: every change is listed, and no row with an error is written."""

from __future__ import annotations

import json
import os
import shutil
import tempfile
from array import array
from collections.abc import Callable, Generator
from contextlib import contextmanager, suppress
from dataclasses import dataclass, field
from pathlib import Path
from typing import IO, Any

from unift.data._finding import Report
from unift.data._mender import Change, Mender
from unift.data._scan import CHAT
from unift.data.formats import FORMATS, Format
from unift.errors import UsageError

# Changes held for the caller; the log beside the output has all of them.
_KEPT = 1000


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
    check: Callable[[str, Callable[[str, int, str], None], Format], Report],
    form: Format | None = None,
) -> Fixed:
    """Write `target`, and `target` + ``.changes.jsonl``.

    Args:
        families: As for `Sink`: what is refused by a provider asked about is not written either.
        check: Validates a file; tells (file, line, code) of each error to the callable.
        form: Format of the rows; None to look.

    Raises:
        UsageError: The copy cannot be written, is the file itself, or would be compressed.
    """
    out = _target(source, target)
    log_path = out.with_name(out.name + ".changes.jsonl")
    draft = out.with_name(f".{out.name}.{os.getpid()}")
    numbers = array("Q")  # of the lines written
    mender = Mender(shown, families, form)
    try:
        with (
            draft.open("wb") as file,
            log_path.open("w", encoding="utf-8") as listed,
            _as_utf8(source) as (readable, recoded),
        ):
            log = _Log(listed)
            if recoded:
                log.add(Change(0, "", "UD002", "UTF-16 is UTF-8 now"))
            for number, line in mender.rows(readable, log.add):
                file.write(line + b"\n")
                numbers.append(number)
            file.flush()
            bad: dict[int, str] = {}

            def failed(file: str, line: int, code: str) -> None:
                if file == str(draft) and line:
                    bad.setdefault(line, code)

            found = mender.form or FORMATS[CHAT]
            after = check(str(draft), failed, found)
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
    after = check(str(out), _silent, found)
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


@contextmanager
def _as_utf8(source: Path) -> Generator[tuple[Path, bool]]:
    """The file, or a copy in UTF-8 if it starts with the mark of UTF-16 (as PowerShell writes)."""
    with source.open("rb") as raw:
        marked = raw.read(2) in (b"\xff\xfe", b"\xfe\xff")
    if not marked:
        yield source, False
        return
    with tempfile.TemporaryDirectory(prefix="unift-utf8-") as folder:
        copy = Path(folder) / "rows.jsonl"
        try:
            with (
                source.open(encoding="utf-16", newline="") as old,
                copy.open("w", encoding="utf-8", newline="") as new,
            ):
                shutil.copyfileobj(old, new, 1 << 20)
            recoded = True
        except UnicodeError:  # no UTF-16 after all; told as what it is
            recoded = False
        yield (copy, True) if recoded else (source, False)

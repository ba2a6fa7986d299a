"""The work behind `convert`: read, reduce to what the target holds, write, or say what would go."""

from __future__ import annotations

import gzip
import json
import os
from collections import Counter
from collections.abc import Callable, Iterable
from contextlib import suppress
from dataclasses import dataclass, field
from pathlib import Path
from typing import IO, Any, cast

from unift.data._convert import Converted, FileName
from unift.data._finding import Finding, data_error
from unift.data._fit import lost, no_place
from unift.data._layout import layout
from unift.data._lines import blocks, find_file
from unift.data._other import check_other
from unift.data._parse import parse
from unift.data._row import check_row
from unift.data._rows import plain_rows
from unift.data._scan import CHAT, first_values
from unift.data._sink import Sink
from unift.data.formats import (
    FORMATS,
    Format,
    allowed_losses,
    detect,
    format_named,
    modern,
)
from unift.errors import UsageError

# Findings kept for the error; all are counted.
_KEPT = 1000


def run(
    path: FileName,
    out: FileName,
    *,
    to: str,
    source: str | None,
    drop: Iterable[str],
    progress: Callable[[int, int], None] | None,
) -> Converted:
    """See `unift.data.convert`."""

    target = format_named(to)
    given = format_named(source) if source is not None else None
    allowed = allowed_losses(drop)
    found, shown, written = find_file(path), str(path), Path(out)
    _check_target(found, written)
    total = found.stat().st_size
    work = _Work(shown, written, target, allowed)
    draft = written.with_name(f".{written.name}.{os.getpid()}")
    reason = "as given"
    try:
        with _open(draft, written.suffix) as file:
            for block in blocks(found, work.report):
                if block.first == 1 and given is None:
                    given, reason = detect(first_values(block.lines))
                if given is None:
                    continue
                if block.first == 1:
                    work.check_layout(block.lines)
                    _check_kinds(given, target, reason)
                quick = frozenset(plain_rows(block).lines if given.name == CHAT else ())
                for index, line in enumerate(block.lines):
                    if line and not line.isspace():
                        known = json.loads(line) if index in quick else None
                        work.one(block.first + index, line, given, file, known)
                if progress is not None:
                    progress(min(block.position, total), total)
        if given is None or not (work.rows or work.errors):
            work.report("UD001", 0, "The file has no rows.", None)
        work.raise_if_bad()
        draft.replace(written)
    except OSError as error:
        raise UsageError(
            f"The file cannot be written: {error.strerror}.",
            code="convert_unwritable",
            where=str(out),
            fix="give another place with --out FILE",
        ) from error
    finally:
        with suppress(OSError):
            draft.unlink(missing_ok=True)
    name = given.name if given is not None else ""
    lost = dict(sorted(work.lost.items()))
    return Converted(str(out), work.rows, name, reason, target.name, lost, tuple(work.left_out))


def _check_target(source: Path, out: Path) -> None:
    if out.is_dir() or (out.exists() and out.samefile(source)):
        raise UsageError(
            "The output would replace the input." if not out.is_dir() else "This is a folder.",
            code="bad_convert_target",
            where=str(out),
            fix="name another file with --out",
        )


def _check_kinds(source: Format, target: Format, reason: str) -> None:
    if source.kind == target.kind or (source.kind, target.kind) == ("preference", "chat"):
        return
    same = ", ".join(one.name for one in FORMATS.values() if one.kind == source.kind)
    raise UsageError(
        f"{source.name} rows ({reason}) cannot become {target.name}: the ones are {source.kind}, "
        f"the others {target.kind}.",
        code="other_kind",
        where="to",
        fix=f"choose one of {same}",
    )


def _open(path: Path, suffix: str) -> IO[bytes]:
    if suffix == ".gz":
        return gzip.GzipFile(path, "wb", mtime=0)  # type: ignore[return-value]  # writes like IO[bytes]
    if suffix == ".zst":
        import zstandard

        return cast("Any", zstandard).open(path, "wb")
    return path.open("wb")


@dataclass(slots=True)
class _Work:
    """The rows one by one, and what is wrong with them."""

    shown: str
    out: Path
    target: Format
    allowed: frozenset[str]
    rows: int = 0
    errors: int = 0
    lost: Counter[str] = field(default_factory=Counter[str])
    left_out: list[tuple[int, str]] = field(default_factory=list[tuple[int, str]])
    findings: list[Finding] = field(default_factory=list[Finding])
    refused: Counter[str] = field(default_factory=Counter[str])

    def report(self, code: str, line: int, message: str, fix: str | None) -> None:
        """A fault of the file as such."""
        sink = Sink({}, 1)
        if sink.add(code, file=self.shown, line=line, message=message, fix=fix) == "error":
            self._keep(sink.findings[0])

    def check_layout(self, lines: list[bytes]) -> None:
        """A file that is no JSON Lines is told as that, not row by row."""
        other = layout(lines)
        if other is not None:
            self.report(other[0], 1, other[1], None)
            self.raise_if_bad()

    def one(
        self,
        number: int,
        line: bytes,
        source: Format,
        file: IO[bytes],
        value: dict[str, Any] | None = None,
    ) -> None:
        """Convert and write one row, or keep what is wrong with it; `value` if it was checked."""
        value = value or self._checked(number, line, source)
        if value is None:
            return
        row = source.read(value, _ignore)
        if row is None:
            return
        row = modern(row)
        written, gone = lost(row, self.target)
        refused = {kind: what for kind, what in gone.items() if kind not in self.allowed}
        if refused:
            self.refused.update(refused.keys())
            self._keep(_loss(self.shown, number, self.target.name, refused))
            return
        self.lost.update(gone.keys())
        if written is None:
            self.left_out.append((number, gone["rows"]))
            return
        file.write(json.dumps(written, ensure_ascii=False).encode("utf-8") + b"\n")
        self.rows += 1

    def _checked(self, number: int, line: bytes, source: Format) -> dict[str, Any] | None:
        """The row if it has no error in its own format."""
        sink = Sink({}, 1000)
        text: str | None = None

        def note(code: str, path: Any, message: str, fix: Any = None, at: Any = None) -> None:
            shown = text if text is not None else line.decode("utf-8", "replace")
            sink.add(
                code,
                file=self.shown,
                line=number,
                path=path,
                message=message,
                fix=fix,
                text=shown,
                at=at,
            )

        text, value = parse(line, note)
        if text is not None and not sink.severities["error"]:
            if source.name == CHAT:
                check_row(value, note)
            else:
                check_other(value, source, note)
        bad = [finding for finding in sink.findings if finding.severity == "error"]
        for finding in bad:
            self._keep(finding)
        return None if bad else value

    def _keep(self, finding: Finding) -> None:
        self.errors += 1
        if len(self.findings) < _KEPT:
            self.findings.append(finding)

    def raise_if_bad(self) -> None:
        """Raise what is wrong, the first of it quoted."""
        if not self.errors:
            return
        error = data_error(self.findings, self.errors, self.shown)
        if self.refused:
            flags = " ".join(f"--drop {kind}" for kind in sorted(self.refused))
            counts = ", ".join(f"{kind} in {n} rows" for kind, n in self.refused.most_common())
            error.message += f" Lost would be: {counts}."
            error.fix = f"if that may go: {flags}"
        raise error


def _ignore(*_: object) -> None:
    """The row was checked before."""


def _loss(file: str, line: int, target: str, gone: dict[str, str]) -> Finding:
    return Finding(
        code="UD907",
        severity="error",
        file=file,
        line=line,
        path="",
        message=no_place(target, gone),
        fix=f"if that may go: {' '.join(f'--drop {kind}' for kind in gone)}",
    )

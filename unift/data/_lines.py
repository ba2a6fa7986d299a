"""Lines of a file, in bounded memory, whatever the file turns out to be.

Plain, gzip and zstd files; at most `CHUNK` bytes are read at a time and a line longer than
`MAX_LINE` is skipped, never held. Faults of the file as such are passed to `report`; faults of a
line are the business of whoever reads the lines.
"""

from __future__ import annotations

import os
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from functools import cached_property, partial
from io import BufferedReader
from pathlib import Path

import numpy as np
import numpy.typing as npt

from unift._text import nearest
from unift.data._parquet import parquet_lines
from unift.data._unpack import SUFFIXES, UnreadableError, unpacked
from unift.demo import is_demo, resolve
from unift.errors import UsageError

CHUNK = 1 << 20
MAX_LINE = 64 << 20
# A longer line is a block of its own, so that nobody has to copy it out of one.
_LONG = 4 << 20
Report = Callable[[str, int, str, str | None], None]
"""``report(code, line, message, fix)``; fix None means the one of the code table."""

_BOM = b"\xef\xbb\xbf"
# Without those that text has: tab, line ends, form feed and (in terminal logs) escape.
_CONTROLS = (*range(9), *range(14, 27), *range(28, 32))
_UTF_16 = "mend it (unift validate FILE --fix OUT), or iconv -f utf-16 -t utf-8"
_EXCEL = (
    "export it as JSON Lines; in Python: "
    "pandas.read_excel(FILE).to_json(OUT, orient='records', lines=True)"
)
# (offset, first bytes, what that is, what to do); the first one that fits.
_MAGIC: tuple[tuple[int, bytes, str, str], ...] = (
    (0, b"\x1f\x8b", "gzip data", "rename it so that it ends in .gz, or unpack it: gunzip"),
    (
        0,
        b"\x28\xb5\x2f\xfd",
        "zstd data",
        "rename it so that it ends in .zst, or unpack it: zstd -d",
    ),
    (30, b"[Content_Types].xml", "an Office document, such as an Excel workbook", _EXCEL),
    (0, b"PK\x03\x04", "a zip archive", "unpack it: unzip FILE"),
    (0, b"\xd0\xcf\x11\xe0", "an old Office document, such as an Excel workbook", _EXCEL),
    (0, b"PAR1", "a Parquet file", "rename it so that it ends in .parquet"),
    (0, b"BZh", "bzip2 data", "unpack it: bunzip2"),
    (0, b"\xfd7zXZ", "xz data", "unpack it: unxz"),
    (257, b"ustar", "a tar archive", "unpack it: tar -xf FILE"),
    (0, b"ARROW1", "an Arrow file", "export it as JSON Lines"),
    (0, b"SQLite format 3", "an SQLite database", "export it as JSON Lines"),
    (0, b"%PDF", "a PDF document", "training rows have to be JSON Lines"),
    (0, b"\xff\xfe", "UTF-16 text", _UTF_16),
    (0, b"\xfe\xff", "UTF-16 text", _UTF_16),
)
# What a file is by the end of its name: none of `_MAGIC` but its own.
_OF_SUFFIX = {".gz": "gzip data", ".zst": "zstd data", ".parquet": "a Parquet file"}


@dataclass(frozen=True)
class Block:
    """Some lines in a row.

    Attributes:
        first: Number of the first one, from 1.
        data: The lines, without the last line end.
        position: Bytes of the file (compressed, if it is) read so far.
    """

    first: int
    data: bytes
    position: int

    @cached_property
    def ends(self) -> npt.NDArray[np.int64]:
        """Where in `data` each line ends."""
        return np.append(places(self.data, "\n"), len(self.data))

    @property
    def count(self) -> int:
        """How many lines there are."""
        return len(self.ends)

    @cached_property
    def lines(self) -> list[bytes]:
        """The lines one by one; not made before somebody asks."""
        return self.data.split(b"\n") if b"\n" in self.data else [self.data]


def places(data: bytes, char: str) -> npt.NDArray[np.int64]:
    """Where a byte is in `data`. Eight at a time are looked at first, for most bytes are others."""
    if len(data) > _LONG:  # the comparison takes a byte for each
        parts = range(0, len(data), _LONG)
        return np.concatenate([places(data[at : at + _LONG], char) + at for at in parts])
    found = np.frombuffer(data, np.uint8) == ord(char)
    whole = len(data) & ~7
    eights = np.flatnonzero(found[:whole].view(np.uint64) != 0)
    which, byte = np.nonzero(found[:whole].reshape(-1, 8)[eights])
    return np.concatenate((eights[which] * 8 + byte, whole + np.flatnonzero(found[whole:])))


def find_file(name: str | os.PathLike[str]) -> Path:
    """The file behind a name.

    Raises:
        UsageError: There is none, it is a folder, or it may not be read.
    """
    path = resolve(name if isinstance(name, str) else Path(name))
    shown = str(name)
    if path.is_dir():
        inside = sorted(entry.name for entry in path.iterdir() if ".jsonl" in entry.name)
        raise UsageError(
            "This is a folder, not a file.",
            code="not_a_file",
            where=shown,
            fix=f"name one of its files: {', '.join(inside[:5])}" if inside else "name a file",
        )
    if not path.exists():
        beside = [entry.name for entry in path.parent.iterdir()] if path.parent.is_dir() else []
        close = nearest(path.name, beside)
        hint = f"did you mean '{path.with_name(close)}'?" if close else "check the path"
        raise UsageError("There is no such file.", code="no_such_file", where=shown, fix=hint)
    if not path.is_file():
        raise UsageError(
            "This is a pipe or a device; data is read more than once.",
            code="not_a_file",
            where=shown,
            fix="write it to a file first",
        )
    if not os.access(path, os.R_OK):
        raise UsageError(
            "The file may not be read.",
            code="unreadable_file",
            where=shown,
            fix=f"chmod u+r {path}" if not is_demo(shown) else "reinstall unift",
        )
    return path


def blocks(path: Path, report: Report) -> Iterator[Block]:
    """All lines of a file. The last line end is not followed by a line of its own."""
    _keep_heap()
    with path.open("rb") as raw:
        if not _is_readable(path, raw, report):
            return
        line = 1
        if path.suffix == ".parquet":
            size = path.stat().st_size
            for lines, share in parquet_lines(path, report):
                yield Block(line, b"\n".join(lines), int(size * share))
                line += len(lines)
            return
        chunks = _chunks(path, raw)
        # The line whose end has not been seen yet.
        begun = bytearray()
        skipping = False
        while True:
            try:
                chunk = next(chunks, b"")
            except UnreadableError as error:
                # What was begun is the half of a line that was cut off; it is no row.
                report(error.code, line, error.message, None)
                return
            if not chunk:
                break
            if line == 1 and not begun and not skipping and chunk.startswith(_BOM):
                report("UD004", 1, "The file starts with a byte order mark.", None)
                chunk = chunk[3:]
            start = 0
            if skipping:
                start = chunk.find(b"\n") + 1
                if not start:
                    continue
                skipping = False
                line += 1
            cut = chunk.rfind(b"\n", start)
            if cut < 0:
                begun += memoryview(chunk)[start:]
            else:
                if len(begun) + chunk.find(b"\n", start) - start > MAX_LINE:
                    _too_long(report, line)
                    start = chunk.find(b"\n", start) + 1
                    begun = bytearray()
                    line += 1
                if len(begun) > _LONG:
                    end = chunk.find(b"\n", start)
                    begun += memoryview(chunk)[start:end]
                    data = bytes(begun)
                    begun = bytearray()  # a long line is not to be held twice
                    yield Block(line, data, raw.tell())
                    del data
                    line += 1
                    start = end + 1
                if start <= cut:
                    # A view, so that the bytes are copied once.
                    data = b"".join((begun, memoryview(chunk)[start:cut]))
                    begun = bytearray()
                    block = Block(line, data, raw.tell())
                    yield block
                    line += block.count
                begun = bytearray(memoryview(chunk)[cut + 1 :])
            if len(begun) > MAX_LINE:
                _too_long(report, line)
                begun, skipping = bytearray(), True
        if begun:
            data = bytes(begun)
            del begun
            yield Block(line, data, raw.tell())


def _keep_heap() -> None:
    """Make glibc reuse memory instead of giving it back to the system after each block.

    Getting it anew costs as much as decoding. glibc raises its threshold for giving back to the
    size of the largest piece that was freed (mallopt(3), M_MMAP_THRESHOLD); this piece is never
    touched, so it costs nothing.
    """
    np.empty(16 << 20, np.uint8)


def _too_long(report: Report, line: int) -> None:
    report("UD006", line, f"The line is longer than {MAX_LINE >> 20} MiB.", None)


def _is_readable(path: Path, raw: BufferedReader, report: Report) -> bool:
    """Look at the first bytes; report and answer False for what is not what its name says."""
    head = raw.peek(8192)[:8192]
    wanted = _OF_SUFFIX.get(path.suffix)
    found = next(
        ((what, fix) for at, magic, what, fix in _MAGIC if head.startswith(magic, at)), None
    )
    if wanted is not None:
        if found is None and head[:1] in (b"{", b"["):
            found = "plain text", f"rename it so that it does not end in {path.suffix}"
        if found is None or found[0] == wanted:
            return True  # or else its reader says what is wrong
        report("UD007", 1, f"The file ends in {path.suffix} but is {found[0]}.", found[1])
        return False
    if found is not None:
        report("UD002", 0, f"This is {found[0]}, not JSON Lines.", found[1])
        return False
    nuls = head.count(0)
    if nuls > len(head) // 5 and head[:4].count(0) in (1, 2):
        fix = "convert it: iconv -f utf-16le -t utf-8 FILE > OUT"
        report("UD002", 0, "This looks like UTF-16 text.", fix)
        return False
    # Control characters do not occur in text. A stray one is left to its line.
    if sum(head.count(byte) for byte in _CONTROLS) > len(head) // 30:
        report("UD002", 0, "This is binary data, not JSON Lines.", None)
        return False
    return True


def _chunks(path: Path, raw: BufferedReader) -> Iterator[bytes]:
    """Pieces of the file, unpacked if need be; none of them empty."""
    if path.suffix in SUFFIXES:
        return unpacked(path, raw, CHUNK)
    return iter(partial(raw.read, CHUNK), b"")

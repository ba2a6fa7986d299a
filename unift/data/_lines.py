"""Lines of a file, in bounded memory, whatever the file turns out to be.

Plain, gzip and zstd files; at most `CHUNK` bytes are read at a time and a line longer than
`MAX_LINE` is skipped, never held. Faults of the file as such are passed to `report`; faults of a
line are the business of whoever reads the lines.
"""

from __future__ import annotations

import gzip
import os
import zlib
from collections import deque
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from functools import cached_property
from io import BufferedReader
from pathlib import Path
from typing import IO, Any

import numpy as np
import numpy.typing as npt

from unift._text import nearest
from unift.data._parquet import parquet_lines
from unift.demo import is_demo, resolve
from unift.errors import UsageError

CHUNK = 1 << 20
MAX_LINE = 64 << 20
# Deflate grows data at most 1,032-fold (https://zlib.net/zlib_tech.html), 229-fold at level 1; real
# JSON Lines seldom exceed 30-fold, even when rows repeat. The ratio is taken over BOMB_WINDOW
# unpacked bytes, which are held back until it is known: rows of a bomb are never looked at,
# wherever in the file it starts.
BOMB_RATIO = 200
BOMB_WINDOW = 32 << 20
# Bytes of rows that may unpack by more than that in a file. At some 200 MB/s that is 20 seconds.
MOST_REPEATED = 4 << 30
# Decoder memory that a zstd file may ask for: what `zstd -d` accepts without --long.
ZSTD_WINDOW = 1 << 27

Report = Callable[[str, int, str, str | None], None]
"""``report(code, line, message, fix)``; fix None means the one of the code table."""

_BOM = b"\xef\xbb\xbf"
# Without those that text has: tab, line ends, form feed and (in terminal logs) escape.
_CONTROLS = (*range(9), *range(14, 27), *range(28, 32))
_MAGIC: tuple[tuple[bytes, str, str], ...] = (
    (b"\x1f\x8b", "gzip data", "rename it so that it ends in .gz, or unpack it: gunzip"),
    (b"\x28\xb5\x2f\xfd", "zstd data", "rename it so that it ends in .zst, or unpack it: zstd -d"),
    (b"PK\x03\x04", "a zip archive (or an Office document)", "unpack or export it as JSON Lines"),
    (b"PAR1", "a Parquet file", "rename it so that it ends in .parquet"),
    (b"BZh", "bzip2 data", "unpack it: bunzip2"),
    (b"\xfd7zXZ", "xz data", "unpack it: unxz"),
    (b"ARROW1", "an Arrow file", "export it as JSON Lines"),
    (b"SQLite format 3", "an SQLite database", "export it as JSON Lines"),
    (b"%PDF", "a PDF document", "training rows have to be JSON Lines"),
    (
        b"\xff\xfe",
        "UTF-16 text",
        "mend it (unift validate FILE --fix OUT), or iconv -f utf-16 -t utf-8",
    ),
    (
        b"\xfe\xff",
        "UTF-16 text",
        "mend it (unift validate FILE --fix OUT), or iconv -f utf-16 -t utf-8",
    ),
)


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
    if path.suffix == ".parquet":
        line, size = 1, path.stat().st_size
        for lines, share in parquet_lines(path, report):
            yield Block(line, b"\n".join(lines), int(size * share))
            line += len(lines)
        return
    _keep_heap()
    with path.open("rb") as raw:
        if not _is_text(path, raw, report):
            return
        chunks = _chunks(path, raw)
        line = 1
        # Pieces of the line whose end has not been seen yet.
        pieces: list[bytes] = []
        size = 0
        skipping = False
        while True:
            try:
                chunk = next(chunks, b"")
            except _UnreadableError as error:
                # The last piece is the half of a line that was cut off; it is no row.
                report(error.code, line, error.message, None)
                return
            if not chunk:
                break
            if line == 1 and not pieces and not skipping and chunk.startswith(_BOM):
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
                pieces.append(chunk[start:])
                size += len(chunk) - start
            else:
                if size + chunk.find(b"\n", start) - start > MAX_LINE:
                    _too_long(report, line)
                    start = chunk.find(b"\n", start) + 1
                    pieces = []
                    line += 1
                if start <= cut:
                    # A view, so that the bytes are copied once.
                    data = b"".join((*pieces, memoryview(chunk)[start:cut]))
                    pieces.clear()  # a long line is not to be held twice
                    block = Block(line, data, raw.tell())
                    yield block
                    line += block.count
                pieces = [chunk[cut + 1 :]]
                size = len(pieces[0])
            if size > MAX_LINE:
                _too_long(report, line)
                pieces, size, skipping = [], 0, True
        rest = b"".join(pieces)
        pieces.clear()
        if rest:
            yield Block(line, rest, raw.tell())


def _keep_heap() -> None:
    """Make glibc reuse memory instead of giving it back to the system after each block.

    Getting it anew costs as much as decoding. glibc raises its threshold for giving back to the
    size of the largest piece that was freed (mallopt(3), M_MMAP_THRESHOLD); this piece is never
    touched, so it costs nothing.
    """
    np.empty(16 << 20, np.uint8)


def _too_long(report: Report, line: int) -> None:
    report("UD006", line, f"The line is longer than {MAX_LINE >> 20} MiB.", None)


def _is_text(path: Path, raw: BufferedReader, report: Report) -> bool:
    """Look at the first bytes; report and answer False for what is no text at all."""
    head = raw.peek(8192)[:8192]
    if path.suffix in (".gz", ".zst"):
        if head[:1] in (b"{", b"["):
            fix = f"rename it so that it does not end in {path.suffix}"
            report("UD007", 1, f"The file ends in {path.suffix} but is plain text.", fix)
            return False
        return True
    for magic, what, fix in _MAGIC:
        if head.startswith(magic):
            report("UD002", 0, f"This is {what}, not JSON Lines.", fix)
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


class _UnreadableError(Exception):
    """The stream broke; carries the code and the message of the finding."""

    def __init__(self, code: str, message: str) -> None:
        super().__init__(message)
        self.code = code
        self.message = message


def _chunks(path: Path, raw: BufferedReader) -> Iterator[bytes]:
    """Unpacked pieces of the file, none of them empty."""
    stream, broken = _open(path, raw)
    # Pieces not given out yet, each with the position in the file after it was read.
    held: deque[tuple[bytes, int]] = deque()
    size = before = unpacked = 0
    while True:
        try:
            chunk = stream.read(CHUNK)
        except broken as error:
            yield from (piece for piece, _ in held)
            why = str(error).rstrip(".") or type(error).__name__
            raise _UnreadableError(
                "UD007", f"The compressed file is damaged here: {why}."
            ) from None
        if not chunk:
            yield from (piece for piece, _ in held)
            return
        if stream is raw:
            yield chunk
            continue
        held.append((chunk, raw.tell()))
        size += len(chunk)
        if size > BOMB_WINDOW:
            if size > BOMB_RATIO * max(1, raw.tell() - before):
                unpacked += len(chunk)
                # Rows that repeat pack as well as a bomb does. What starts like one is read, but
                # not without end: a bomb may be made of rows.
                rows = all(b'\n{"' in chunk for chunk, _ in held)
                if not rows or unpacked > MOST_REPEATED:
                    raise _UnreadableError("UD008", f"It unpacks more than {BOMB_RATIO}-fold.")
            piece, before = held.popleft()
            size -= len(piece)
            yield piece


def _open(path: Path, raw: BufferedReader) -> tuple[IO[bytes], tuple[type[Exception], ...]]:
    """A stream of unpacked bytes, and the errors that mean damage."""
    if path.suffix == ".gz":
        return gzip.GzipFile(fileobj=raw, mode="rb"), (EOFError, OSError, zlib.error)  # type: ignore[return-value]  # GzipFile reads like IO[bytes]
    if path.suffix == ".zst":
        return _open_zstd(raw)
    return raw, ()


def _open_zstd(raw: BufferedReader) -> tuple[IO[bytes], tuple[type[Exception], ...]]:
    import zstandard

    reader: Any = zstandard.ZstdDecompressor(max_window_size=ZSTD_WINDOW).stream_reader(
        raw, read_size=1 << 14, read_across_frames=True
    )
    return reader, (zstandard.ZstdError,)

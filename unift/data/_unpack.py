"""Unpacking gzip and zstd files piece by piece: every row before a fault, and where the fault is.

Both are made of members (gzip) or frames (zstd), one after the other, each with a mark before it.
Packed bytes are fed a few at a time, so that a bomb cannot grow beyond bounds in one call.
"""

from __future__ import annotations

import zlib
from collections import deque
from collections.abc import Callable, Iterator
from io import BufferedReader
from pathlib import Path
from typing import Any

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
# Packed bytes that are fed at a time. A zstd block of 4 bytes may hold 128 KiB: 32 MiB for these.
_FED = 1 << 10

_NAMES = {".gz": "gzip", ".zst": "zstd"}
_MARKS = {".gz": (b"\x1f\x8b",), ".zst": (b"\x28\xb5\x2f\xfd",)}
# Frames that hold no data (RFC 8878, 3.1.2): 16 marks that differ in the first half of a byte.
_SKIPPED = b"\x2a\x4d\x18"
SUFFIXES = tuple(_MARKS)


class UnreadableError(Exception):
    """The stream broke; carries the code and the message of the finding."""

    def __init__(self, code: str, message: str) -> None:
        super().__init__(message)
        self.code = code
        self.message = message


def unpacked(path: Path, raw: BufferedReader, size: int) -> Iterator[bytes]:
    """Unpacked pieces of about `size` bytes. What comes before a fault is given out first.

    Raises:
        UnreadableError: The file is cut off, damaged, goes on with something else, or is a bomb.
    """
    # Pieces not given out yet, each with the position in the file after it was read.
    held: deque[tuple[bytes, int]] = deque()
    waiting = before = repeated = 0
    fault: UnreadableError | None = None
    pieces = _gathered(_members(path.suffix, raw), size)
    while True:
        try:
            piece = next(pieces, b"")
        except UnreadableError as error:
            piece, fault = b"", error
        if not piece:
            yield from (each for each, _ in held)
            if fault is not None:
                raise fault
            return
        held.append((piece, raw.tell()))
        waiting += len(piece)
        if waiting > BOMB_WINDOW:
            if waiting > BOMB_RATIO * max(1, raw.tell() - before):
                repeated += len(piece)
                # Rows that repeat pack as well as a bomb does. What starts like one is read, but
                # not without end: a bomb may be made of rows.
                rows = all(b'\n{"' in each for each, _ in held)
                if not rows or repeated > MOST_REPEATED:
                    raise UnreadableError("UD008", f"It unpacks more than {BOMB_RATIO}-fold.")
            out, before = held.popleft()
            waiting -= len(out)
            yield out


def _gathered(pieces: Iterator[bytes], size: int) -> Iterator[bytes]:
    """The same bytes in pieces of at least `size`; what there is before a fault as well."""
    kept: list[bytes] = []
    length = 0
    try:
        for piece in pieces:
            kept.append(piece)
            length += len(piece)
            if length >= size:
                yield b"".join(kept)
                kept, length = [], 0
    except UnreadableError:
        if kept:
            yield b"".join(kept)
        raise
    if kept:
        yield b"".join(kept)


def _members(suffix: str, raw: BufferedReader) -> Iterator[bytes]:
    """Unpacked bytes, as they come."""
    start, broken = _unpackers(suffix)
    unpacker, inside = start(), False  # inside: a member has begun
    done = 0  # members
    data = b""
    while True:
        data = data or raw.read(_FED)
        if not inside:
            # gzip files may be filled up with zeros (gzip(1)).
            data = data.lstrip(b"\0") if done else data
            if data and len(data) < 4:
                data += raw.read(4 - len(data))
            if data and not _starts(suffix, data):
                at = raw.tell() - len(data) + 1
                where = f"From byte {at} on it" if done else "The file"
                raise UnreadableError("UD007", f"{where} is no {_NAMES[suffix]} data.")
            if data:
                unpacker, inside = start(), True
        if not data:
            if inside:
                raise UnreadableError("UD007", f"The file is cut off after byte {raw.tell()}.")
            if not raw.peek(1):
                return
            continue
        try:
            out = unpacker.decompress(data)
        except broken as error:
            why = str(error).rpartition(": ")[2].rstrip(".") or type(error).__name__
            message = f"The compressed file is damaged near byte {raw.tell()}: {why}."
            raise UnreadableError("UD007", message) from None
        data = b""
        if unpacker.eof:
            data, inside = unpacker.unused_data, False
            done += 1
        if out:
            yield out


def _starts(suffix: str, data: bytes) -> bool:
    if suffix == ".zst" and data[1:4] == _SKIPPED and data[0] >> 4 == 5:
        return True
    return data.startswith(_MARKS[suffix])


def _unpackers(suffix: str) -> tuple[Callable[[], Any], tuple[type[Exception], ...]]:
    """What makes an unpacker of one member, and the errors that mean damage."""
    if suffix == ".gz":
        return lambda: zlib.decompressobj(31), (zlib.error,)  # 31: with gzip's header and checksum
    import zstandard

    # Each frame has its own, for a context is of one frame only.
    return (
        lambda: zstandard.ZstdDecompressor(max_window_size=ZSTD_WINDOW).decompressobj(),
        (zstandard.ZstdError,),
    )

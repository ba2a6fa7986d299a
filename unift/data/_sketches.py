"""Sketches of rows on disk, and the pairs among them that are alike, in bounded memory.

A sketch is 256 bytes, cut in bands; each band of all rows is a file. Rows whose band is equal are
found by sorting hashes of the band, a million rows at a time, and compared by all bands. In a group
of equal bands a row is compared with a few before it, so that many copies take no quadratic time.
"""

from __future__ import annotations

import tempfile
from collections.abc import Iterator, Sequence
from contextlib import ExitStack
from pathlib import Path
from typing import IO, Any

import numpy as np
import numpy.typing as npt

from unift.errors import UniftError

BANDS, WIDTH = 16, 8  # 16 * 8 minima of 16 bits
#: Rows whose hashes are sorted at a time; some 40 bytes each.
SORTED = 1_000_000
# Pairs that are compared at a time; 512 bytes each.
_COMPARED = 1 << 16
# Rows before it in its group with which a row is compared.
_BACK = 4
_MIX = np.array([0x9E3779B97F4A7C15, 0xC2B2AE3D27D4EB4F], np.uint64)

U32 = npt.NDArray[np.uint32]
U64 = npt.NDArray[np.uint64]
Pairs = tuple[U32, U32, npt.NDArray[np.float32]]
"""(lines, lines that they are like, how much)"""
_Places = npt.NDArray[np.int64]


class Sketches:
    """Sketches are added a batch at a time and compared once all are there."""

    def __init__(self) -> None:
        self._stack = ExitStack()
        folder = self._stack.enter_context(tempfile.TemporaryDirectory(prefix="unift-near-"))
        self._folder = Path(folder)
        self._bands = [self._open(f"band{band}") for band in range(BANDS)]
        self._numbers = self._open("lines")
        self.rows = 0

    def _open(self, name: str) -> IO[bytes]:
        return self._stack.enter_context((self._folder / name).open("w+b", buffering=1 << 16))

    def close(self) -> None:
        """Take away what is on disk."""
        self._stack.close()

    def add(self, lines: Sequence[int], sketches: npt.NDArray[np.uint16]) -> None:
        """Take in rows: the line of each, and its sketch."""
        cut = np.ascontiguousarray(sketches.reshape(-1, BANDS, WIDTH).transpose(1, 0, 2))
        try:
            for file, band in zip(self._bands, cut, strict=True):
                file.write(band.tobytes())
            self._numbers.write(np.array(lines, np.uint32).tobytes())
        except OSError as error:
            raise UniftError(
                f"Sketches of rows cannot be put down for later: {error.strerror or error}.",
                code="no_room",
                where=str(self._folder),
                fix="260 bytes a row are needed; name a folder with room in TMPDIR",
            ) from error
        self.rows += len(lines)

    def within(self, least: float) -> Iterator[Pairs]:
        """Rows that are like one before them by `least` or more; a pair may come again."""
        reader = _Reader(self._bands, self._numbers, self.rows)
        for band, part, parts in _rounds(self.rows):
            hashes, rows = reader.hashed(band, part, parts)
            order = np.lexsort((rows, hashes))
            hashes, rows = hashes[order], rows[order]
            start = np.searchsorted(hashes, hashes, side="left")
            place = np.arange(len(hashes))
            for back in range(1, _BACK + 1):
                # The last comparison is with the first one of the group.
                other = start if back == _BACK else place - back
                at = place[(other >= start) & (place - back >= start)]
                yield from _alike(reader, rows[at], reader, rows[other[at]], least)

    def across(self, held: Sketches, least: float) -> Iterator[Pairs]:
        """Rows of `held` that are like one of these."""
        mine = _Reader(self._bands, self._numbers, self.rows)
        theirs = _Reader(held._bands, held._numbers, held.rows)
        for band, part, parts in _rounds(max(self.rows, held.rows)):
            hashes, rows = mine.hashed(band, part, parts)
            order = np.lexsort((rows, hashes))
            hashes, rows = hashes[order], rows[order]
            wanted, asking = theirs.hashed(band, part, parts)
            start = np.searchsorted(hashes, wanted, side="left")
            end = np.searchsorted(hashes, wanted, side="right")
            for step in range(_BACK):
                at = np.flatnonzero(start + step < end)
                yield from _alike(theirs, asking[at], mine, rows[start[at] + step], least)


def _rounds(rows: int) -> Iterator[tuple[int, int, int]]:
    """(band, part, parts): hashes are sorted in parts that hold equal ones together."""
    parts = -(-rows // SORTED)
    for band in range(BANDS):
        for part in range(parts):
            yield band, part, parts


class _Reader:
    """The sketches of one file, read from disk as they are asked for."""

    def __init__(self, bands: Sequence[IO[bytes]], numbers: IO[bytes], rows: int) -> None:
        for file in (*bands, numbers):
            file.flush()
        self.bands: list[U64] = [_mapped(file, np.uint64).reshape(rows, 2) for file in bands]
        self.lines: U32 = _mapped(numbers, np.uint32)
        self.rows = rows

    def hashed(self, band: int, part: int, parts: int) -> tuple[U64, _Places]:
        """(hash, row) of the band of every row whose hash belongs to this part."""
        hashes: list[U64] = [np.empty(0, np.uint64)]
        rows: list[_Places] = [np.empty(0, np.int64)]
        for start in range(0, self.rows, SORTED):
            words = self.bands[band][start : start + SORTED]
            mixed: U64 = (words * _MIX).sum(axis=1, dtype=np.uint64)
            mixed ^= mixed >> np.uint64(29)
            mine = np.flatnonzero(mixed % np.uint64(parts) == part)
            hashes.append(mixed[mine])
            rows.append(mine + start)
        return np.concatenate(hashes), np.concatenate(rows)


def _mapped(file: IO[bytes], kind: type[Any]) -> Any:
    if not Path(file.name).stat().st_size:
        return np.empty(0, kind)
    return np.memmap(file.name, kind, mode="r")


def _alike(
    one: _Reader, rows: _Places, other: _Reader, others: _Places, least: float
) -> Iterator[Pairs]:
    """Those of the pairs of rows that are alike."""
    for start in range(0, len(rows), _COMPARED):
        a, b = rows[start : start + _COMPARED], others[start : start + _COMPARED]
        same = np.zeros(len(a), np.int64)
        for mine, theirs in zip(one.bands, other.bands, strict=True):
            left, right = mine[a].view(np.uint16), theirs[b].view(np.uint16)
            same += (left == right).sum(axis=1)
        like = (same / (BANDS * WIDTH)).astype(np.float32)
        kept = np.flatnonzero(like >= least)
        if len(kept):
            yield one.lines[a[kept]], other.lines[b[kept]], like[kept]

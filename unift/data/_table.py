"""A table of row hashes in bounded memory: beyond a number of rows it lies on disk.

A row is 20 bytes: the hash of its prompt, the hash of all of it, its line. What does not fit is
spread over files by the prompt, so that rows to be compared with each other, which share at least
a prompt, are in one file; a file is small enough to be sorted in memory.
"""

from __future__ import annotations

import tempfile
from collections.abc import Iterator, Sequence
from pathlib import Path

import numpy as np
import numpy.typing as npt

from unift.errors import UniftError

ROW = np.dtype([("prompt", "<i8"), ("whole", "<i8"), ("line", "<u4")])
#: Rows in memory at most; 20 MB, and a few times that while they are sorted.
KEPT = 1_000_000
_PARTS = 64  # files of 0.8 million rows at 50 million
_GOLDEN = np.uint64(0x9E3779B97F4A7C15)  # odd, so that multiplying loses nothing

Rows = npt.NDArray[np.void]
Numbers = Sequence[int] | npt.NDArray[np.int64]


class Table:
    """Rows are added a block at a time and read part by part, once all are there."""

    def __init__(self, kept: int = KEPT) -> None:
        self.rows = 0
        self._kept = kept
        self._blocks: list[Rows] = []
        self._held = 0
        self._folder: tempfile.TemporaryDirectory[str] | None = None

    def add(self, lines: Sequence[int], prompts: Numbers, answers: Numbers) -> None:
        """Take in rows: the line of each, the hashes of its prompt and of its answer."""
        rows = np.empty(len(lines), ROW)
        rows["line"] = np.arange(lines.start, lines.stop) if isinstance(lines, range) else lines
        rows["prompt"] = prompts
        # Wraps around, as hashes may.
        mixed = rows["prompt"].view(np.uint64) * _GOLDEN
        rows["whole"] = (mixed ^ np.asarray(answers, np.int64).view(np.uint64)).view(np.int64)
        self._blocks.append(rows)
        self._held += len(rows)
        self.rows += len(rows)
        if self._held >= self._kept:
            self._write()

    def close(self) -> None:
        """Take away what is on disk."""
        if self._folder is not None:
            self._folder.cleanup()

    def parts(self) -> Iterator[Rows]:
        """All rows, in parts that share no prompt."""
        if self._folder is None:
            yield self._together()
            return
        for number in range(_PARTS):
            yield self._part(number)

    def parts_with(self, other: Table) -> Iterator[tuple[Rows, Rows]]:
        """Parts of both tables that may share prompts, pair by pair."""
        if self._folder is None and other._folder is None:
            yield self._together(), other._together()
            return
        for number in range(_PARTS):
            yield self._part(number), other._part(number)

    def _together(self) -> Rows:
        if len(self._blocks) != 1:
            self._blocks = [np.concatenate([np.empty(0, ROW), *self._blocks])]
        return self._blocks[0]

    def _part(self, number: int) -> Rows:
        held = self._together()
        found = held[_part_of(held) == number]
        file = self._file(number)
        if file is None or not file.exists():
            return found
        return np.concatenate([np.fromfile(file, ROW), found])

    def _file(self, number: int) -> Path | None:
        return None if self._folder is None else Path(self._folder.name) / str(number)

    def _write(self) -> None:
        if self._folder is None:
            self._folder = tempfile.TemporaryDirectory(prefix="unift-rows-")
        held = self._together()
        parts = _part_of(held)
        held = held[np.argsort(parts, kind="stable")]
        cuts = np.searchsorted(np.sort(parts), np.arange(_PARTS + 1))
        try:
            for number in range(_PARTS):
                with (Path(self._folder.name) / str(number)).open("ab") as file:
                    held[cuts[number] : cuts[number + 1]].tofile(file)
        except OSError as error:
            raise UniftError(
                f"Hashes of rows cannot be put down for later: {error.strerror or error}.",
                code="no_room",
                where=self._folder.name,
                fix="20 bytes a row are needed; name a folder with room in TMPDIR",
            ) from error
        self._blocks, self._held = [], 0


def _part_of(rows: Rows) -> npt.NDArray[np.uint64]:
    return rows["prompt"].view(np.uint64) >> np.uint64(58) if len(rows) else np.empty(0, np.uint64)

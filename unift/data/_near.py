"""Rows that are nearly the same, within a file and across files (MinHash, through rensa).

Broder 1997 ("On the resemblance and containment of documents"): the share of equal minima estimates
the Jaccard similarity of two sets. The sets are the sequences of three words in what is not the
system prompt; of four letters where words are few (a short row, or a language without spaces).
Rows are compared if one of 16 bands of 8 minima is equal (`_sketches`), and the finding rests on
all 128 of them. At 0.85 one pair in 160 has no equal band and is missed.
"""

from __future__ import annotations

import zlib
from collections.abc import Callable, Iterator, Sequence
from typing import Any

import numpy as np
import numpy.typing as npt

from unift.data._sketches import BANDS, WIDTH, Pairs, Sketches
from unift.errors import MissingDependency

SIMILAR = 0.85
_PERMUTATIONS = BANDS * WIDTH  # standard error of the estimate: 0.032 at 0.85
_WORDS, _LETTERS = 3, 4
# With fewer words, or longer ones, letters say more: one word in ten is not nearly the same row.
_FEW, _LONG = 12, 15
# Shingles that wait to be sketched together, at 8 bytes.
_BATCH = 1 << 19

Say = Callable[[str, str, int, str], Any]
Hashes = npt.NDArray[np.uint64]
_PRIMES = np.array(
    [0x9E3779B97F4A7C15, 0xC2B2AE3D27D4EB4F, 0x165667B19E3779F9, 0x27D4EB2F165667C5], np.uint64
)


class NearRows:
    """The sketches of the rows of one file. To be closed: they lie in a temporary folder."""

    def __init__(self, file: str) -> None:
        try:
            import rensa  # pyright: ignore[reportMissingTypeStubs]  # has none
        except ImportError:
            raise MissingDependency(
                "Looking for near duplicates needs rensa.",
                where=file,
                fix="pip install 'unift[data]', or do without: no --deep, data split --no-near",
            ) from None
        self.file = file
        self._rensa: Any = rensa
        self._sketches = Sketches()
        self._lines: list[int] = []
        self._sets: list[Hashes] = []
        self._waiting = 0

    def close(self) -> None:
        """Take away what is on disk."""
        self._sketches.close()

    def add(self, line: int, texts: Sequence[str]) -> None:
        """Take in one row: everything that is said in it but the system prompt."""
        shingles = _shingles("\n".join(texts))
        if len(shingles):
            self._lines.append(line)
            self._sets.append(shingles)
            self._waiting += len(shingles)
            if self._waiting > _BATCH:
                self._flush()

    def _flush(self) -> None:
        if not self._lines:
            return
        ends = np.cumsum([0, *map(len, self._sets)])
        # The same seed everywhere, so that sketches of two files can be compared.
        minima = self._rensa.RMinHash.digest_matrix_from_flat_token_hashes(
            np.concatenate(self._sets), ends.astype(np.uint64), _PERMUTATIONS, 1
        )
        # 16 bits of each are enough: two different ones are taken for equal once in 65,536.
        self._sketches.add(self._lines, np.array(minima.to_rows(), np.uint32).astype(np.uint16))
        self._lines, self._sets, self._waiting = [], [], 0

    def pairs(self) -> Iterator[Pairs]:
        """(lines, lines before them, similarity) of rows that belong together; some come twice."""
        self._flush()
        return self._sketches.within(SIMILAR)

    def report(self, say: Say, known: npt.NDArray[np.uint32]) -> None:
        """Findings within the file; `known` lines are exact repeats and told already."""
        for line, before, similarity in _best(self.pairs(), known):
            say("UD607", self.file, line, f"The row is {similarity:.0%} like line {before}.")

    def report_leaks(self, held: NearRows, say: Say, known: npt.NDArray[np.uint32]) -> None:
        """Findings about rows of `held` that are nearly in this file."""
        self._flush()
        held._flush()
        for line, mine, similarity in _best(self._sketches.across(held._sketches, SIMILAR), known):
            message = f"The row is {similarity:.0%} like line {mine} of {self.file}."
            say("UD609", held.file, line, message)


def _best(
    pairs: Iterator[Pairs], known: npt.NDArray[np.uint32]
) -> Iterator[tuple[int, int, float]]:
    """For each line the likest other one, the first of those; by line. 12 bytes a line found."""
    kept = (np.empty(0, np.uint32), np.empty(0, np.uint32), np.empty(0, np.float32))
    for found in pairs:
        new = ~np.isin(found[0], known)
        line, other, like = (
            np.concatenate((old, one[new])) for old, one in zip(kept, found, strict=True)
        )
        order = np.lexsort((other, -like, line))
        line = line[order]
        new = np.append(True, line[1:] != line[:-1])[: len(line)]
        kept = line[new], other[order[new]], like[order[new]]
    yield from zip(*(one.tolist() for one in kept), strict=True)


def _shingles(text: str) -> Hashes:
    """Hashes of the sequences of words, or of letters, that a text is made of."""
    words = text.lower().split()
    length = sum(map(len, words))
    if len(words) < _FEW or length > _LONG * len(words):
        units = np.frombuffer(" ".join(words).encode("utf-32-le", "replace"), np.uint32)
        size = _LETTERS
    else:
        # crc32 and not hash(): the same in every process, so that a finding can be repeated.
        codes = [zlib.crc32(word.encode("utf-8", "replace")) for word in words]
        units, size = np.array(codes, np.uint32), _WORDS
    size = min(size, len(units))
    if not size:
        return np.empty(0, np.uint64)
    count = len(units) - size + 1
    wide = units.astype(np.uint64)
    mixed = np.zeros(count, np.uint64)
    for at in range(size):
        mixed ^= wide[at : at + count] * _PRIMES[at]
        mixed = (mixed << np.uint64(13)) | (mixed >> np.uint64(51))
    return mixed * _PRIMES[0]

"""Rows that are nearly the same, within a file and across files (MinHash, through datasketch).

Broder 1997 ("On the resemblance and containment of documents"): the share of equal minima estimates
the Jaccard similarity of two sets, here of the sequences of three words in what is not the system
prompt. A row is looked up among those that came before with locality-sensitive hashing and compared
with the candidates, so that a finding rests on the estimate and not on the hash bucket.

Measured: 0.7 ms and 6 KB a row (a text of 160 words); after `MOST` rows the rest is not compared,
which bounds the memory at some 300 MB.
"""

from __future__ import annotations

import zlib
from collections.abc import Callable, Iterator, Sequence
from typing import Any, cast

from unift.errors import MissingDependency

MOST = 50_000
SIMILAR = 0.85
_PERMUTATIONS = 128  # standard error of the estimate: 0.032 at 0.85
# Looked up with a lower bar than SIMILAR, so that hashing misses less than one in a hundred.
_CANDIDATE = 0.65
_WORDS = 3
# A row that is like so many others is not looked up again: copies take no quadratic time.
_PAIRS = 20
# Below that a change of one word is a change of meaning (short questions of a classification).
_SHORTEST = 12

Say = Callable[[str, str, int, str], Any]


class NearRows:
    """The sketches of the rows of one file."""

    def __init__(self, file: str) -> None:
        try:
            import datasketch  # pyright: ignore[reportMissingTypeStubs]  # has none
        except ImportError:
            raise MissingDependency(
                "Looking for near duplicates needs datasketch.",
                where="deep",
                fix="pip install 'unift[data]'",
            ) from None
        self.file = file
        self.left_out = 0
        self._make: Any = datasketch.MinHash
        self._index: Any = cast("Any", datasketch.MinHashLSH)(
            threshold=_CANDIDATE, num_perm=_PERMUTATIONS
        )
        self._sketches: dict[int, Any] = {}
        self._near: list[tuple[int, int, float]] = []
        self._pairs: list[tuple[int, int]] = []

    def add(self, line: int, texts: Sequence[str]) -> None:
        """Take in one row: everything that is said in it but the system prompt."""
        if len(self._sketches) >= MOST:
            self.left_out += 1
            return
        words = " ".join(texts).lower().split()
        if len(words) < _SHORTEST:
            return
        shingles = {
            zlib.crc32(" ".join(words[at : at + _WORDS]).encode("utf-8", "replace"))
            for at in range(len(words) - _WORDS + 1)
        }
        # The same seed everywhere, so that sketches of two files can be compared.
        sketch = self._make(num_perm=_PERMUTATIONS, hashfunc=int, seed=1)
        sketch.update_batch(sorted(shingles))
        found = self._similar(sketch)
        self._pairs += [(line, before) for _, before in found]
        if found:
            self._near.append((line, found[0][1], -found[0][0]))
        # A copy of many copies says nothing new, and thousands of them would all be compared.
        if len(found) < _PAIRS:
            self._index.insert(line, sketch)
        self._sketches[line] = sketch

    def _similar(self, sketch: Any) -> list[tuple[float, int]]:
        """(negative similarity, line) of the rows that are like this one, the likest first."""
        found = [
            (-float(sketch.jaccard(self._sketches[line])), int(line))
            for line in self._index.query(sketch)
        ]
        return sorted(one for one in found if -one[0] >= SIMILAR)

    def report(self, say: Say, known: set[int]) -> None:
        """Findings within the file; `known` lines are exact repeats and told already."""
        for line, before, similarity in self._near:
            if line not in known:
                message = f"The row is {similarity:.0%} like line {before}."
                say("UD607", self.file, line, message)
        if self.left_out:
            message = f"The last {self.left_out} rows were not compared (at most {MOST:,} are)."
            say("UD607", self.file, 0, message)

    def report_leaks(self, held: NearRows, say: Say, known: set[int]) -> None:
        """Findings about rows of `held` that are nearly in this file."""
        for line, sketch in held._sketches.items():
            found = self._similar(sketch)
            if found and line not in known:
                message = f"The row is {-found[0][0]:.0%} like line {found[0][1]} of {self.file}."
                say("UD609", held.file, line, message)

    def groups(self) -> Iterator[tuple[int, int]]:
        """(line, line before it) of rows that belong together."""
        yield from self._pairs

"""How many tokens the rows of a file have, in memory that does not grow with the rows."""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence

import numpy as np
import numpy.typing as npt

# Lengths up to this one are counted in an array, longer ones one by one.
_SHORT = 1 << 16
_SHARES = (50, 90, 99, 100)


class Lengths:
    """Length -> rows of that length.

    Different lengths are few: n of them need rows of n * n / 2 tokens together.
    """

    def __init__(self) -> None:
        self._short = np.zeros(_SHORT, np.int64)
        self._long: Counter[int] = Counter()
        self.total = 0
        self.count = 0
        self.longest: tuple[int, int] | None = None
        """(tokens, line) of the first row of the greatest length."""

    def add(self, tokens: npt.NDArray[np.int64], lines: Sequence[int]) -> None:
        """Take in some rows."""
        self.total += int(tokens.sum())
        self.count += len(tokens)
        most = int(tokens.max())
        if most < _SHORT:
            found = np.bincount(tokens)
            self._short[: len(found)] += found
        else:
            self._long.update(tokens.tolist())
        if self.longest is None or most > self.longest[0]:
            line = min(lines[at] for at in np.flatnonzero(tokens == most).tolist())
            self.longest = most, line

    def within(self, longest: int | None) -> int:
        """Tokens of all rows, none counted with more than `longest`."""
        if longest is None:
            return self.total
        return sum(min(tokens, longest) * rows for tokens, rows in self._counts().items())

    def shares(self) -> dict[int, int]:
        """Percentile (50, 90, 99, 100) -> tokens of a row."""
        found: dict[int, int] = {}
        wanted = {share: min(self.count - 1, self.count * share // 100) for share in _SHARES}
        before = 0
        for tokens, rows in sorted(self._counts().items()):
            before += rows
            for share, place in wanted.items():
                if share not in found and place < before:
                    found[share] = tokens
        return found

    def _counts(self) -> Counter[int]:
        there = np.flatnonzero(self._short)
        short = dict(zip(there.tolist(), self._short[there].tolist(), strict=True))
        return Counter(short) + self._long

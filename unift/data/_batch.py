"""The good rows of a block, column by column, whatever way they went."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass

import numpy as np

from unift.data._plain import Places, PlainRows, identity

_NOTHING = np.empty(0, np.int64)
_INSTRUCT = ("system", "developer")


@dataclass(frozen=True, slots=True)
class Content:
    """The part of a good row that is read and learnt."""

    roles: tuple[str, ...]
    texts: Sequence[str]
    extra: str = ""
    images: int = 0


class Batch:
    """Good rows of a block, column by column: those of the fast way, then the others."""

    def __init__(self, first: int, plain: PlainRows) -> None:
        self.numbers: Sequence[int]  # lines of the file
        if isinstance(plain.lines, range):
            self.numbers = range(first, first + len(plain.lines))
        else:
            self.numbers = [first + index for index in plain.lines]
        self.texts, self.roles = plain.texts, plain.roles  # texts of all rows, one after the other
        self.last: list[str] = plain.answers()
        self.systems: list[str] = plain.systems if plain.lines else []
        self.sizes: Places = plain.sizes()  # texts of each row
        self.prompts, self.answers = (
            plain.identities() if plain.lines else (_NOTHING.copy(), _NOTHING.copy())
        )
        self.images: list[tuple[int, int]] = []
        self.lengths: Places = plain.lengths  # characters of each text
        self.ascii = plain.ascii
        self.unsaid = 0  # characters of texts that nobody says

    def take(self, rows: Sequence[tuple[int, Content]]) -> None:
        """Take in the rows that went the slow way."""
        if not rows:
            return
        if len(self.systems) == 1:
            self.systems *= len(self.numbers)
        numbers = list(self.numbers)
        found: list[tuple[int, int]] = []
        sizes: list[int] = []
        before = len(self.texts)
        for number, content in rows:
            found.append(identity(content.roles, content.texts, content.extra))
            numbers.append(number)
            self.last.append(content.texts[-1])
            self.systems.append(content.texts[0] if content.roles[0] in _INSTRUCT else "")
            self.texts += content.texts
            sizes.append(len(content.texts) + bool(content.extra))
            self.roles.append(content.roles)
            if content.extra:
                # Counted as tokens, but nobody says it.
                self.texts.append(content.extra)
                self.unsaid += len(content.extra)
            if content.images:
                self.images.append((number, content.images))
        prompts, answers = np.array(found, np.int64).T
        self.prompts = np.append(self.prompts, prompts)
        self.answers = np.append(self.answers, answers)
        self.sizes = np.append(self.sizes, sizes)
        self.numbers, self.ascii = numbers, False
        self.lengths = np.append(self.lengths, list(map(len, self.texts[before:])))

    def rows(self) -> Iterator[tuple[int, tuple[str, ...], list[str]]]:
        """(line, roles, texts) of each row."""
        at = 0
        for number, roles, size in zip(self.numbers, self.roles, self.sizes.tolist(), strict=True):
            yield number, roles, self.texts[at : at + len(roles)]
            at += size

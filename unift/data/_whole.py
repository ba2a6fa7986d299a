"""What can only be seen over all rows: repeats, contradictions, leaks, lop-sidedness.

Of each row two 64-bit hashes and the line number are kept, in memory or on disk (`_table`). Two
different rows of a million have one hash with a probability of 3e-8.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Sequence
from typing import Any, Protocol

import numpy as np
import numpy.typing as npt

from unift.data._table import KEPT, Numbers, Rows, Table

# Distinct answers and system prompts that are counted; beyond that a set is not a classification.
_DISTINCT = 1000
_LABEL_CHARACTERS = 100
_MIN_ROWS = 20

Lines = npt.NDArray[np.uint32]
Say = Callable[[str, str, int, str], Any]
"""``say(code, file, line, message)``"""


class Tell(Protocol):
    """Where findings go: some with their line, all counted."""

    @property
    def most(self) -> int:
        """Findings of a code that are worth their place and message."""
        ...

    def say(self, code: str, file: str, line: int, message: str) -> Any:
        """One finding."""
        ...

    def more(self, code: str, count: int) -> Any:
        """Further ones of that code, without place or message."""
        ...


class Signatures:
    """The hashes of the good rows of one file."""

    def __init__(self, file: str, kept: int = KEPT) -> None:
        self.file = file
        self.table = Table(kept)
        self._answers: Counter[str] | None = Counter()
        self._systems: Counter[str] = Counter()
        self._system_line: dict[str, int] = {}

    def add(
        self,
        lines: Sequence[int],
        prompts: Numbers,
        answers: Numbers,
        last: Sequence[str],
        systems: Sequence[str],
    ) -> None:
        """Take in some rows.

        Args:
            prompts: Hash of everything that comes before the answer.
            answers: Hash of the answer.
            last: The answers.
            systems: The system prompts; empty where there is none. A single one is that of all.
        """
        self.table.add(lines, prompts, answers)
        if self._answers is not None:
            if len(last) and max(map(len, last)) > _LABEL_CHARACTERS:
                self._answers = None
            else:
                self._answers.update(last)
                if len(self._answers) > _DISTINCT:
                    self._answers = None
        alike = len(systems) == 1
        for system, count in (
            {systems[0]: len(lines)}.items() if alike else Counter(systems).items()
        ):
            if system in self._systems:
                self._systems[system] += count
            elif len(self._systems) < _DISTINCT:
                self._systems[system] = count
                self._system_line[system] = lines[systems.index(system)]

    def report(self, tell: Tell) -> Lines:
        """Findings within this file; answers the lines that repeat another one, sorted."""
        again: list[Lines] = [np.empty(0, np.uint32)]
        repeats = _Lowest(tell.most)
        others = _Lowest(tell.most)
        for rows in self.table.parts():
            lines, first = _repeats(rows)
            again.append(lines)
            repeats.add(lines, first)
            others.add(*_contradictions(rows))
        repeats.tell(tell, "UD600", self.file, "The row is the same as line {}.")
        others.tell(tell, "UD601", self.file, "Line {} answers the same prompt differently.")
        self._report_answers(tell.say)
        self._report_systems(tell.say)
        return np.sort(np.concatenate(again))

    def report_leaks(self, other: Signatures, tell: Tell) -> Lines:
        """Findings about rows of `other`, held out from training, that are in this file.

        Answers the lines of `other` that have one, sorted.
        """
        told: list[Lines] = [np.empty(0, np.uint32)]
        rows, prompts = _Lowest(tell.most), _Lowest(tell.most)
        for mine, theirs in self.table.parts_with(other.table):
            lines, here = _shared(theirs, mine, "whole")
            told.append(lines)
            rows.add(lines, here)
            asked, here = _shared(theirs, mine, "prompt")
            new = ~np.isin(asked, lines)
            prompts.add(asked[new], here[new])
        rows.tell(tell, "UD602", other.file, f"The row is line {{}} of {_plain(self.file)}.")
        message = f"The prompt is that of line {{}} of {_plain(self.file)}."
        prompts.tell(tell, "UD603", other.file, message)
        return np.sort(np.concatenate(told))

    def _report_answers(self, say: Say) -> None:
        total = self.table.rows
        if self._answers is None or total < _MIN_ROWS:
            return
        [(answer, most)] = self._answers.most_common(1)
        kinds = len(self._answers)
        if kinds == 1:
            say("UD604", self.file, 0, f"All {total} rows are answered with {answer[:60]!r}.")
        # A handful of answers, each used often, is a classification; free text is not.
        elif kinds <= total // 5 and most > 0.8 * total:
            share = 100 * most // total
            message = f"{share}% of the rows are answered with {answer[:60]!r} ({kinds} answers)."
            say("UD605", self.file, 0, message)

    def _report_systems(self, say: Say) -> None:
        total = self.table.rows
        if total < _MIN_ROWS or not 1 < len(self._systems) < _DISTINCT:
            return
        spellings = Counter(" ".join(system.casefold().split()) for system in self._systems)
        [(plain, variants)] = spellings.most_common(1)
        if variants > 1 and plain:
            message = f"One system prompt is spelt in {variants} ways (white space, capitals)."
            say("UD606", self.file, 0, message)
            return
        [(_, most)] = self._systems.most_common(1)
        if most > 0.8 * total:
            odd = self._systems.most_common()[-1][0]
            what = "no system prompt" if not odd else "another system prompt"
            message = (
                f"{most} of {total} rows share one system prompt; {total - most} do not, "
                f"line {self._system_line[odd]} for example has {what}."
            )
            say("UD606", self.file, 0, message)


class _Lowest:
    """The first lines of which there is something to say; of the rest only the number."""

    def __init__(self, most: int) -> None:
        self._most = most
        self._count = 0
        self._lines: Lines = np.empty(0, np.uint32)
        self._first: Lines = np.empty(0, np.uint32)

    def add(self, lines: Lines, first: Lines) -> None:
        self._count += len(lines)
        lines, first = np.append(self._lines, lines), np.append(self._first, first)
        order = np.argsort(lines, kind="stable")[: self._most]
        self._lines, self._first = lines[order], first[order]

    def tell(self, tell: Tell, code: str, file: str, message: str) -> None:
        for line, first in zip(self._lines.tolist(), self._first.tolist(), strict=True):
            tell.say(code, file, line, message.format(first))
        tell.more(code, self._count - len(self._lines))


def _plain(name: str) -> str:
    """A file name inside a text with fields."""
    return name.replace("{", "{{").replace("}", "}}")


def _sorted(rows: Rows, key: str) -> Rows:
    """By hash, and the rows of one hash by line."""
    return rows[np.lexsort((rows["line"], rows[key]))]


def _alike(rows: Rows, key: str) -> Rows:
    """The rows that share a hash with another one, as `_sorted`. Most files have few."""
    hashes = np.sort(rows[key])
    twice = hashes[1:][hashes[1:] == hashes[:-1]]
    return _sorted(rows[np.isin(rows[key], twice)] if len(twice) else rows[:0], key)


def _repeats(rows: Rows) -> tuple[Lines, Lines]:
    """(lines, first lines) of the rows that came before."""
    ordered = _alike(rows, "whole")
    return _after_first(ordered["whole"], ordered["line"])


def _contradictions(rows: Rows) -> tuple[Lines, Lines]:
    """(lines, first lines) of the first row of each further answer to a prompt."""
    ordered = _sorted(_alike(rows, "prompt"), "whole")
    # Of each whole the first row is enough.
    new = np.append(True, ordered["whole"][1:] != ordered["whole"][:-1])[: len(ordered)]
    ordered = _sorted(ordered[new], "prompt")
    return _after_first(ordered["prompt"], ordered["line"])


def _after_first(hashes: npt.NDArray[np.int64], lines: Lines) -> tuple[Lines, Lines]:
    """(line, first line of the same hash) of all but the first ones."""
    again = np.flatnonzero(hashes[1:] == hashes[:-1]) + 1
    return lines[again], lines[np.searchsorted(hashes, hashes[again], side="left")]


def _shared(held: Rows, mine: Rows, key: str) -> tuple[Lines, Lines]:
    """(lines there, lines here) of what is in both."""
    if not len(held) or not len(mine):
        return np.empty(0, np.uint32), np.empty(0, np.uint32)
    ordered = _sorted(mine, key)
    at = np.searchsorted(ordered[key], held[key], side="left")
    at = np.minimum(at, len(ordered) - 1)
    found = np.flatnonzero(ordered[key][at] == held[key])
    return held["line"][found], ordered["line"][at[found]]

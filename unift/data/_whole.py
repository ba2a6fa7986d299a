"""What can only be seen over all rows: repeats, contradictions, leaks, lop-sidedness.

Per row 20 bytes are kept: two 64-bit hashes and the line number. The hashes are Python's own
(SipHash for texts, keyed anew in each process), so two different rows of a million collide with
a probability of 3e-8.
"""

from __future__ import annotations

from array import array
from collections import Counter
from collections.abc import Callable, Iterator, Sequence
from typing import Any

# Distinct answers and system prompts that are counted; beyond that a set is not a classification.
_DISTINCT = 1000
_LABEL_CHARACTERS = 100
_MIN_ROWS = 20

Say = Callable[[str, str, int, str], Any]
"""``say(code, file, line, message)``"""


class Signatures:
    """The hashes of the good rows of one file."""

    def __init__(self, file: str) -> None:
        self.file = file
        self.rows = array("q")
        self.prompts = array("q")
        self.lines = array("I")
        self._answers: Counter[str] | None = Counter()
        self._systems: Counter[str] = Counter()
        self._system_line: dict[str, int] = {}

    def add(self, line: int, roles: tuple[str, ...], texts: Sequence[str], extra: str) -> None:
        """Take in one row; `extra` is what else belongs to the prompt (tools)."""
        prompt = hash((roles, tuple(texts[:-1]), extra))
        self.prompts.append(prompt)
        self.rows.append(hash((prompt, texts[-1])))
        self.lines.append(line)
        if self._answers is not None:
            answer = texts[-1]
            if len(answer) > _LABEL_CHARACTERS:
                self._answers = None
            else:
                self._answers[answer] += 1
                if len(self._answers) > _DISTINCT:
                    self._answers = None
        system = texts[0] if roles[0] in ("system", "developer") else ""
        if system in self._systems:
            self._systems[system] += 1
        elif len(self._systems) < _DISTINCT:
            self._systems[system] = 1
            self._system_line[system] = line

    def report(self, say: Say) -> set[int]:
        """Findings within this file; answers the lines that repeat another one."""
        repeats: set[int] = set()
        for line, first in _repeats(self.rows, self.lines):
            repeats.add(line)
            say("UD600", self.file, line, f"The row is the same as line {first}.")
        for line, first in _contradictions(self.prompts, self.rows, self.lines):
            say("UD601", self.file, line, f"Line {first} answers the same prompt differently.")
        self._report_answers(say)
        self._report_systems(say)
        return repeats

    def report_leaks(self, other: Signatures, say: Say) -> set[int]:
        """Findings about rows of `other`, held out from training, that are in this file.

        Answers the lines of `other` that have one.
        """
        told: set[int] = set()
        for line, mine in _shared(other.rows, other.lines, self.rows, self.lines):
            told.add(line)
            say("UD602", other.file, line, f"The row is line {mine} of {self.file}.")
        for line, mine in _shared(other.prompts, other.lines, self.prompts, self.lines):
            if line not in told:
                message = f"The prompt is that of line {mine} of {self.file}."
                say("UD603", other.file, line, message)
        return told

    def _report_answers(self, say: Say) -> None:
        total = len(self.rows)
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
        total = len(self.rows)
        if total < _MIN_ROWS or not 1 < len(self._systems) < _DISTINCT:
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


def _repeats(values: array[int], lines: array[int]) -> Iterator[tuple[int, int]]:
    """(line, first line) of each row that came before."""
    import numpy as np

    hashes = np.frombuffer(values, dtype=np.int64)
    order = np.argsort(hashes, kind="stable")
    ordered = hashes[order]
    again = np.flatnonzero(ordered[1:] == ordered[:-1]) + 1
    first = np.searchsorted(ordered, ordered[again], side="left")
    for row, before in zip(order[again], order[first], strict=True):
        yield lines[int(row)], lines[int(before)]


def _contradictions(
    prompts: array[int], rows: array[int], lines: array[int]
) -> Iterator[tuple[int, int]]:
    """(line, first line) of the first row of each further answer to a prompt."""
    import numpy as np

    hashes = np.frombuffer(prompts, dtype=np.int64)
    whole = np.frombuffer(rows, dtype=np.int64)
    order = np.argsort(hashes, kind="stable")
    ordered = hashes[order]
    again = np.flatnonzero(ordered[1:] == ordered[:-1]) + 1
    first = np.searchsorted(ordered, ordered[again], side="left")
    seen: set[int] = set()
    for row, before in zip(order[again], order[first], strict=True):
        answer = int(whole[row])
        if answer != int(whole[before]) and answer not in seen:
            seen.add(answer)
            yield lines[int(row)], lines[int(before)]


def _shared(
    held: array[int], held_lines: array[int], mine: array[int], my_lines: array[int]
) -> Iterator[tuple[int, int]]:
    """(line there, line here) of what is in both files."""
    import numpy as np

    theirs = np.frombuffer(held, dtype=np.int64)
    ours = np.frombuffer(mine, dtype=np.int64)
    if not len(theirs) or not len(ours):
        return
    order = np.argsort(ours, kind="stable")
    ordered = ours[order]
    at = np.minimum(np.searchsorted(ordered, theirs, side="left"), len(ordered) - 1)
    for index in np.flatnonzero(ordered[at] == theirs):
        yield held_lines[int(index)], my_lines[int(order[at[index]])]

"""The fast path: the rows of a block that are plain and in which nothing can be wrong.

A row that passes here is one for which the slow way (`_row`, `_other`) would note nothing (a
property test holds the two together). Everything else, good or bad, goes the slow way. A block is
looked at as a whole, because a loop over its rows in Python costs more than decoding them: faults
leave traces in the bytes of the block or in a list of all its texts, and only rows with a trace are
looked at one by one.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from itertools import chain
from operator import attrgetter, eq, is_, itemgetter
from typing import Any

import numpy as np

from unift.data._decode import Found, decode, fitting
from unift.data._lines import Block, places
from unift.data._notes import Noted
from unift.data._plain import Places, PlainRows
from unift.data._shapes import ANSWERS, CHAT, Messages, Shape
from unift.data._texts import LONGEST_PLACEHOLDER, REFUSALS, placeholder, suspicious

_content = attrgetter("content")
# Beginnings of refusals, as long as the shortest one: one look spares a comparison with each.
_SHORTEST = min(map(len, REFUSALS))
_START = itemgetter(slice(_SHORTEST))
_STARTS = frozenset(map(_START, REFUSALS))
# A block is some 1 MiB; one with a longer line is left to the slow way, which needs less memory.
_LARGEST = 8 << 20

# What comes after a bracket that starts a control token ([INST], [/INST], [THINK]).
_AFTER_BRACKET = tuple(map(ord, "IT/\\"))


# Value of a hexadecimal digit (of anything else 0), and the characters that `suspicious` looks for.
_HEX = np.zeros(256, np.int64)
_HEX[[*b"0123456789abcdef", *b"ABCDEF"]] = [*range(16), *range(10, 16)]
_SUSPECT = np.zeros(1 << 16, bool)
_SUSPECT[[*map(ord, "\0<`{[]ÂÃÄÅâï\ufffd◁")]] = True


def plain_rows(block: Block, shape: Shape = CHAT, weighted: bool = True) -> PlainRows:
    """Find the rows of a block that are plain; the rest is for a closer look.

    Args:
        weighted: A row with a weight may be plain.
    """
    if len(block.data) > _LARGEST:
        return PlainRows()
    shape, notes = fitting(block, shape)
    found = decode(block, shape, notes)
    if not found.rows:
        return PlainRows()
    look = _Look(block, found, shape, notes)
    faulty = look.faulty()
    if not weighted:
        faulty.update(look.weighted)
    if not faulty:
        return look.with_notes(look.plain, range(len(found.rows)))
    keep = [at for at in range(len(found.rows)) if at not in faulty]
    if not keep:
        return PlainRows()
    kept = [look.plain.rows[at] for at in keep]
    return look.with_notes(
        PlainRows(
            [found.lines[at] for at in keep],
            kept,
            [look.plain.roles[at] for at in keep],
            list(map(_content, chain.from_iterable(kept))),
            found.width,
            found.system,
        ),
        keep,
    )


def _learnt(message: Any) -> bool:
    return type(message) in ANSWERS and getattr(message, "weight", 1) != 0


def _fine(messages: Messages) -> bool:
    """True for a row whose texts have no fault."""
    learnt = False
    for message in messages:
        text = message.content
        if not text or text.isspace():
            return False
        if _learnt(message):
            learnt = True
            if (
                text.strip() is not text
                or (text[:_SHORTEST] in _STARTS and text.startswith(REFUSALS))
                or placeholder(text)
                or ("`" in text and text.count("```") % 2)
            ):
                return False
    return learnt and not suspicious("\n".join(map(_content, messages)))


class _Look:
    """The rows of a block as a whole."""

    def __init__(self, block: Block, found: Found, shape: Shape, notes: Noted | None) -> None:
        self._block = block
        self._found = found
        self._shape = shape
        self._all = len(found.lines) == block.count
        data = block.data
        self._escaped = b"\\" in data
        self._ascii = data.isascii()
        self.plain = PlainRows(
            found.lines,
            found.rows,
            found.roles,
            list(map(_content, chain.from_iterable(found.rows))),
            found.width,
            found.system,
            self._ascii and not self._escaped,
        )
        self._rejected = (
            list(map(shape.rejected, found.decoded)) if shape.rejected is not None else []
        )
        if not shape.strings[1]:
            self._turns = np.zeros(len(found.rows), np.int64)
        elif found.alike:
            self._turns = np.full(len(found.rows), found.width)
        else:
            turns = map(len, map(shape.turns, found.decoded))
            self._turns = np.fromiter(turns, np.int64, len(found.rows))
        # Two for each string.
        self._quotes = 2 * (shape.strings[0] + shape.strings[1] * self._turns)
        self._notes = notes
        self._noted = np.zeros(0, bool)  # which rows have notes
        if notes is not None:
            has = (isinstance(one, notes.row) for one in found.decoded)
            self._noted = np.fromiter(has, bool, len(found.decoded))
            self._quotes += 2 * notes.strings * self._noted
        there = int(np.count_nonzero(np.frombuffer(data, np.uint8) == ord('"')))
        # With more there may be a key that a row need not have, one twice, or a quote in a text.
        self._exact = self._all and int(self._quotes.sum()) == there
        more: Places = np.empty(0, np.int64)
        if not self._exact and shape.more is not None and (shape.weights or not found.alike):
            more = np.fromiter(map(shape.more, found.decoded), np.int64, len(found.rows))
            self._quotes += 2 * more
            self._exact = self._all and int(self._quotes.sum()) == there
        self.weighted: list[int] = np.flatnonzero(more).tolist() if shape.weights else []

    def with_notes(self, plain: PlainRows, kept: Sequence[int]) -> PlainRows:
        """The rows that were kept, with the notes that there are."""
        first = next((at for at in kept if self._noted[at]), None) if len(self._noted) else None
        if self._notes is not None and first is not None:
            plain.notes, plain.noted = self._notes.keys, self._found.lines[first]
        return plain

    def faulty(self) -> set[int]:
        """Positions of the rows that have a fault."""
        rows, rejected = self._found.rows, self._rejected
        faulty = {
            at
            for at in self._odd()
            if not _fine(rows[at]) or (rejected and not _fine((rejected[at],)))
        }
        faulty.update(self._repeated_keys())
        if rejected:
            same = map(eq, map(_content, rejected), self.plain.answers())
            faulty.update(at for at, alike in enumerate(same) if alike)
        return faulty

    def _odd(self) -> set[int]:
        """Positions of rows with a trace of a fault."""
        odd = set(self.weighted)
        texts = self.plain.texts
        if not self.plain.lengths.all() or any(map(str.isspace, self._asked())):
            odd.update(self._owners([not text or text.isspace() for text in texts]))
        if not _all_fine(self._answers()):
            odd.update(
                self._owners(
                    [
                        type(one) in ANSWERS and not _all_fine([one.content])
                        for one in chain.from_iterable(self._found.rows)
                    ]
                )
            )
        rejected = list(map(_content, self._rejected))
        if rejected and not _all_fine(rejected):
            odd.update(at for at, text in enumerate(rejected) if not _all_fine([text]))
        marks = np.concatenate([np.empty(0, np.int64), *self._marks()])
        found = np.unique(np.searchsorted(self._block.ends, marks)).tolist()
        if found:
            place = {line: at for at, line in enumerate(self._found.lines)}
            odd.update(place[line] for line in found if line in place)
        return odd

    def _columns(self, answers: bool) -> Iterator[int]:
        """Places of the messages that are learnt, or of the others, if rows are alike."""
        for at, role in enumerate(self._found.roles[0]):
            if (role == "assistant") == answers:
                yield at

    def _answers(self) -> list[str]:
        width, texts = self._found.width, self.plain.texts
        if width:
            return list(chain.from_iterable(texts[at::width] for at in self._columns(True)))
        return [
            one.content for one in chain.from_iterable(self._found.rows) if type(one) in ANSWERS
        ]

    def _asked(self) -> Iterable[str]:
        """The texts that `_answers` leaves out, one system prompt of all once; or all texts."""
        width, texts = self._found.width, self.plain.texts
        if not width:
            return texts
        return chain.from_iterable(
            texts[:1] if not at and self._found.system is not None else texts[at::width]
            for at in self._columns(False)
        )

    def _owners(self, flags: list[bool]) -> list[int]:
        """Positions of the rows that have a message with a flag."""
        ends = np.cumsum(self.plain.sizes())
        return np.searchsorted(ends, np.flatnonzero(flags), side="right").tolist()

    def _marks(self) -> Iterator[Places]:
        """Where the bytes have something that `suspicious` would look at.

        In bytes and not in texts, because a comparison of a whole block runs at memory speed.
        """
        data = self._block.data
        buffer = np.frombuffer(data, np.uint8)
        for char in "<`":
            if char.encode() in data:
                yield places(data, char)
        # Brackets that are there anyway. Brackets and braces differ in one bit.
        a, b = self._shape.brackets
        wanted = a * len(self._turns) + b * int(self._turns.sum())
        if self._notes is not None:
            wanted += self._notes.braces * int(self._noted.sum())
        if not self._all or np.count_nonzero((buffer | 0x20) == ord("{")) != wanted:
            at = places(data[:-1], "{")
            yield at[buffer[at + 1] == ord("{")]
            at = places(data[:-1], "[")
            yield at[np.isin(buffer[at + 1], _AFTER_BRACKET)]
        if self._escaped:
            at = places(data[:-6], "\\")  # what follows a text takes two bytes at least
            at = at[buffer[at + 1] == ord("u")]
            a, b, c, d = (_HEX[buffer[at + digit]] for digit in range(2, 6))
            yield at[_SUSPECT[a << 12 | b << 8 | c << 4 | d]]
        if not self._ascii:
            # What is garbled starts with one of six letters (C3 82..85, A2, AF) and goes on with a
            # sign from C2 or E2, or is U+FFFD (EF BF BD). No text ends a line.
            at = places(data[:-2], "\xc3")
            letters = np.isin(buffer[at + 1], (0x82, 0x83, 0x84, 0x85, 0xA2, 0xAF))
            yield at[letters & np.isin(buffer[at + 2], (0xC2, 0xE2))]
            at = places(data[:-2], "\xef")
            yield at[(buffer[at + 1] == 0xBF) & (buffer[at + 2] == 0xBD)]
            at = places(data[:-2], "\xe2")
            yield at[(buffer[at + 1] == 0x97) & (buffer[at + 2] == 0x81)]  # ◁

    def _repeated_keys(self) -> list[int]:
        """Positions of the rows in which a key comes twice.

        That is invisible in a decoded row, but not in its bytes, by their quotes.
        """
        if self._exact:
            return []
        data, ends = self._block.data, self._block.ends
        buffer = np.frombuffer(data, np.uint8)
        # Escaped quotes do not count. One after two backslashes may be a real one.
        at = places(data, '"')
        real = at[(buffer[at - 1] != ord("\\")) | (buffer[at - 2] == ord("\\"))]
        lines = self._found.lines
        counts = np.diff(np.searchsorted(real, ends), prepend=0)
        if not self._all:
            counts = counts[lines]
        found: list[int] = []
        for position in np.flatnonzero(counts != self._quotes).tolist():
            line = self._block.lines[lines[position]]
            quotes = line.replace(b"\\\\", b"").replace(b'\\"', b"").count(b'"')
            if quotes != int(self._quotes[position]):
                found.append(position)
        return found


def _all_fine(answers: list[str]) -> bool:
    """True if none of the answers has a fault that lies in how it starts or ends."""
    # strip answers the very same text if there is nothing to strip.
    return (
        all(map(is_, map(str.strip, answers), answers))
        and _STARTS.isdisjoint(map(_START, answers))
        and (min(map(len, answers)) > LONGEST_PLACEHOLDER or _no_placeholder(answers))
    )


def _no_placeholder(answers: list[str]) -> bool:
    """True if all say something. Short answers are labels: few different ones."""
    short = {text for text in answers if len(text) <= LONGEST_PLACEHOLDER}
    return "" not in short and not any(map(placeholder, short))

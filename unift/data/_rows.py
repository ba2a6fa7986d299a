"""The fast path: the rows of a block that are plain and in which nothing can be wrong.

A row that passes here is one for which `_row.check_row` would note nothing (a property test holds
the two together). Everything else, good or bad, goes the slow way. A block is looked at as a
whole, because a loop over its rows in Python costs more than decoding them: faults leave traces
in the bytes of the block or in a list of all its texts, and only rows with a trace are looked at
one by one.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from itertools import chain
from operator import attrgetter, is_
from typing import Any, Literal

import msgspec
import numpy as np
import numpy.typing as npt
from msgspec import UNSET, Struct, UnsetType

from unift.data._lines import Block, places
from unift.data._row import check_order
from unift.data._texts import (
    LONGEST_PLACEHOLDER,
    REFUSAL_INITIALS,
    REFUSALS,
    placeholder,
    suspicious,
)


class _Says(Struct, tag_field="role", forbid_unknown_fields=True, frozen=True, gc=False):
    content: str


class _System(_Says, tag="system", frozen=True, gc=False):
    pass


class _Developer(_Says, tag="developer", frozen=True, gc=False):
    pass


class _User(_Says, tag="user", frozen=True, gc=False):
    pass


class _Assistant(_Says, tag="assistant", frozen=True, gc=False):
    weight: Literal[0, 1] | UnsetType = UNSET


class _Plain(Struct, forbid_unknown_fields=True, frozen=True, gc=False):
    # A tuple, so that it has a hash.
    messages: tuple[_System | _Developer | _User | _Assistant, ...]


_ROLES: dict[type, str] = {
    _System: "system",
    _Developer: "developer",
    _User: "user",
    _Assistant: "assistant",
}
_TYPES: dict[str, Any] = {role: kind for kind, role in _ROLES.items()}
_decoder = msgspec.json.Decoder(_Plain)
_NOT_PLAIN = (msgspec.MsgspecError, UnicodeDecodeError, RecursionError)
_INSTRUCT = (_System, _Developer)
_messages, _content = attrgetter("messages"), attrgetter("content")
# Kinds of the messages of a row -> the roles, or None if their order has a fault.
_orders: dict[tuple[type, ...], tuple[str, ...] | None] = {}
_ORDERS_KEPT = 10_000
# A block is some 1 MiB; one with a longer line is left to the slow way, which needs less memory.
_LARGEST = 8 << 20

Places = npt.NDArray[np.int64]
Messages = tuple[_System | _Developer | _User | _Assistant, ...]


@dataclass(slots=True)
class PlainRows:
    """The rows of a block without any fault.

    Attributes:
        lines: Index of each in the block.
        rows: Messages of each.
        roles: Roles of each.
        texts: Texts of all of them, one after the other.
        width: Messages of each row, if all rows have the same roles; else 0.
        weighted: Positions (in `lines`) of rows in which a weight is written.
    """

    lines: list[int] = field(default_factory=list[int])
    rows: list[Messages] = field(default_factory=list["Messages"])
    roles: list[tuple[str, ...]] = field(default_factory=list[tuple[str, ...]])
    texts: list[str] = field(default_factory=list[str])
    width: int = 0
    weighted: list[int] = field(default_factory=list[int])

    def answers(self) -> list[str]:
        """The last text of each row."""
        if self.width:
            return self.texts[self.width - 1 :: self.width]
        return [messages[-1].content for messages in self.rows]

    def systems(self) -> list[str]:
        """The system prompt of each row, empty if it has none."""
        if not self.width:
            return [
                messages[0].content if type(messages[0]) in _INSTRUCT else ""
                for messages in self.rows
            ]
        alike = self.rows and type(self.rows[0][0]) in _INSTRUCT
        return self.texts[:: self.width] if alike else [""] * len(self.rows)

    def identities(self) -> tuple[list[int], list[int]]:
        """(hash of the prompt, hash of the answer) of each row; see `identity`."""
        prompts = [hash(messages[:-1]) for messages in self.rows]
        answers = list(map(hash, self.answers()))
        for at in self.weighted:
            texts = [message.content for message in self.rows[at]]
            prompts[at], answers[at] = identity(self.roles[at], texts, "")
        return prompts, answers


def identity(roles: Sequence[str], texts: Sequence[str], extra: str) -> tuple[int, int]:
    """Hashes of the prompt and of the answer of a row, whatever way it went.

    They are Python's own (SipHash for texts, keyed anew in each process).
    """
    prompt: tuple[object, ...] = tuple(
        _TYPES[role](text) if role in _TYPES else (role, text)
        for role, text in zip(roles[:-1], texts, strict=False)
    )
    return hash((*prompt, extra) if extra else prompt), hash(texts[-1])


def plain_rows(block: Block) -> PlainRows:
    """Find the rows of a block that are plain; the rest is for a closer look."""
    if len(block.data) > _LARGEST:
        return PlainRows()
    lines, rows = _decode(block)
    lines, rows, roles, width = _in_order(lines, rows)
    if not rows:
        return PlainRows()
    look = _Look(block, lines, rows, width)
    faulty = {at for at in look.odd() if not _fine(rows[at])}
    faulty.update(look.repeated_keys())
    if not faulty:
        return PlainRows(lines, rows, roles, look.texts, width, look.weighted)
    keep = [at for at in range(len(rows)) if at not in faulty]
    place = {at: new for new, at in enumerate(keep)}
    kept = [rows[at] for at in keep]
    return PlainRows(
        [lines[at] for at in keep],
        kept,
        [roles[at] for at in keep],
        list(map(_content, chain.from_iterable(kept))),
        width,
        [place[at] for at in look.weighted if at in place],
    )


def _decode(block: Block) -> tuple[list[int], list[Messages]]:
    """(index, messages) of the lines that have the shape of a plain row."""
    buffer, ends = np.frombuffer(block.data, np.uint8), block.ends
    starts = np.append(0, ends[:-1] + 1)
    if (ends > starts).all():
        last = buffer[ends - 1]
        last = np.where(last == ord("\r"), buffer[ends - 2], last)
        # If each line starts and ends like an object, no object spreads over lines, for one that
        # does would have to have a bracket after a bracket without a comma. So with as many
        # objects as lines, each line is one object.
        if (buffer[starts] == ord("{")).all() and (last == ord("}")).all():
            try:
                found = _decoder.decode_lines(block.data)
            except _NOT_PLAIN:
                found = []
            if len(found) == len(ends):
                return list(range(len(found))), list(map(_messages, found))
    lines: list[int] = []
    rows: list[Messages] = []
    decode = _decoder.decode
    for index, line in enumerate(block.lines):
        try:
            messages = decode(line).messages
        except _NOT_PLAIN:
            continue
        lines.append(index)
        rows.append(messages)
    return lines, rows


def _in_order(
    lines: list[int], rows: list[Messages]
) -> tuple[list[int], list[Messages], list[tuple[str, ...]], int]:
    """The rows whose order of speakers has no fault, their roles, their number if all alike."""
    kinds: list[type] = list(map(type, chain.from_iterable(rows)))
    first = tuple(kinds[: len(rows[0])]) if rows else ()
    # In most files all rows are alike.
    if kinds == [*first] * len(rows) and set(map(len, rows)) == {len(first)}:
        roles = _order(first)
        return ([], [], [], 0) if roles is None else (lines, rows, [roles] * len(rows), len(first))
    found: list[tuple[str, ...] | None] = []
    at = 0
    for row in rows:
        found.append(_order(tuple(kinds[at : at + len(row)])))
        at += len(row)
    keep = [at for at, roles in enumerate(found) if roles is not None]
    if len(keep) < len(rows):
        lines, rows = [lines[at] for at in keep], [rows[at] for at in keep]
    return lines, rows, [roles for roles in found if roles is not None], 0


def _order(kinds: tuple[type, ...]) -> tuple[str, ...] | None:
    """Roles of a row with messages of these kinds; None if their order has a fault."""
    if kinds in _orders:
        return _orders[kinds]
    faults: list[str] = []
    roles = tuple(_ROLES[kind] for kind in kinds)

    def note(code: str, *_: object) -> None:
        faults.append(code)

    check_order(list(roles), note)
    found = roles if roles and not faults else None
    if len(_orders) < _ORDERS_KEPT:
        _orders[kinds] = found
    return found


def _fine(messages: Messages) -> bool:
    """True for a row whose texts have no fault."""
    learnt = False
    for message in messages:
        text = message.content
        if not text or text.isspace():
            return False
        if type(message) is _Assistant and message.weight != 0:
            learnt = True
            if (
                text.strip() is not text
                or text.startswith(REFUSALS)
                or placeholder(text)
                or ("`" in text and text.count("```") % 2)
            ):
                return False
    return learnt and not suspicious("\n".join(map(_content, messages)))


class _Look:
    """The rows of a block as a whole."""

    def __init__(self, block: Block, lines: list[int], rows: list[Messages], width: int) -> None:
        self._block = block
        self._lines = lines
        self._rows = rows
        self._all = len(lines) == block.count
        self._messages = list(chain.from_iterable(rows))
        self._width = width
        self._sizes = np.array(list(map(len, rows)))
        self.texts = list(map(_content, self._messages))
        # Two for each key and each string: four strings a message, and one for the row.
        self._quotes = 8 * self._sizes + 2
        buffer = np.frombuffer(block.data, np.uint8)
        there = int(np.count_nonzero(buffer == ord('"')))
        # With more there may be a weight, a key that comes twice, or a quote in a text.
        self._exact = self._all and there == int(self._quotes.sum())
        self.weighted = [
            at for at, row in enumerate(() if self._exact else rows) if _weights_in(row)
        ]

    def odd(self) -> set[int]:
        """Positions of rows with a trace of a fault."""
        odd = set(self.weighted)
        texts = self.texts
        if not all(texts) or any(map(str.isspace, texts)):
            odd.update(self._owners([not text or text.isspace() for text in texts]))
        answers = self._answers()
        # strip answers the very same text if there is nothing to strip.
        same = all(map(is_, map(str.strip, answers), answers))
        if not (
            same
            and min(map(len, answers)) > LONGEST_PLACEHOLDER
            and not any(
                [text[0] in REFUSAL_INITIALS and text.startswith(REFUSALS) for text in answers]
            )
        ):
            odd.update(
                self._owners(
                    [
                        type(one) is _Assistant
                        and (
                            (text := one.content).strip() is not text
                            or len(text) <= LONGEST_PLACEHOLDER
                            or text.startswith(REFUSALS)
                        )
                        for one in self._messages
                    ]
                )
            )
        marks = np.concatenate([np.empty(0, np.int64), *self._marks()])
        found = np.unique(np.searchsorted(self._block.ends, marks)).tolist()
        if found:
            place = {line: at for at, line in enumerate(self._lines)}
            odd.update(place[line] for line in found if line in place)
        return odd

    def _answers(self) -> list[str]:
        if not self._width:
            return [one.content for one in self._messages if type(one) is _Assistant]
        kinds = map(type, self._rows[0])
        columns = [at for at, kind in enumerate(kinds) if kind is _Assistant]
        return list(chain.from_iterable(self.texts[at :: self._width] for at in columns))

    def _owners(self, flags: list[bool]) -> list[int]:
        """Positions of the rows that have a message with a flag."""
        return np.searchsorted(np.cumsum(self._sizes), np.flatnonzero(flags), side="right").tolist()

    def _marks(self) -> Iterator[Places]:
        """Where the bytes have something that `suspicious` would look at.

        In bytes and not in texts, because a comparison of a whole block runs at memory speed. What
        is escaped (\\u) may be anything, so such a row is looked at in any case.
        """
        data = self._block.data
        buffer = np.frombuffer(data, np.uint8)
        for char in "<`":
            if char.encode() in data:
                yield places(data, char)
        # Brackets that are there anyway: one pair for each row and each message.
        rows, messages = len(self._rows), len(self._messages)
        if not self._all or np.count_nonzero(buffer == ord("{")) != rows + messages:
            at = places(data[:-1], "{")
            yield at[buffer[at + 1] == ord("{")]
        if not self._all or np.count_nonzero(buffer == ord("]")) != rows:
            at = places(data, "]")
            yield at[buffer[at - 1] == ord("T")]
        if b"\\" in data:
            at = places(data[:-1], "\\")
            yield at[buffer[at + 1] == ord("u")]
        if not data.isascii():
            # What is garbled starts with one of six letters (C3 82..85, A2, AF) and goes on with a
            # sign from C2 or E2, or is U+FFFD (EF BF BD). No text ends a line.
            at = places(data[:-2], "\xc3")
            letters = np.isin(buffer[at + 1], (0x82, 0x83, 0x84, 0x85, 0xA2, 0xAF))
            yield at[letters & np.isin(buffer[at + 2], (0xC2, 0xE2))]
            at = places(data[:-2], "\xef")
            yield at[(buffer[at + 1] == 0xBF) & (buffer[at + 2] == 0xBD)]

    def repeated_keys(self) -> list[int]:
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
        counts = np.diff(np.searchsorted(real, ends), prepend=0)[self._lines]
        found: list[int] = []
        for position in np.flatnonzero(counts != self._quotes).tolist():
            line = self._block.lines[self._lines[position]]
            quotes = line.replace(b"\\\\", b"").replace(b'\\"', b"").count(b'"')
            if quotes != int(self._quotes[position]) + 2 * _weights_in(self._rows[position]):
                found.append(position)
        return found


def _weights_in(row: Messages) -> int:
    return sum(type(one) is _Assistant and one.weight is not UNSET for one in row)

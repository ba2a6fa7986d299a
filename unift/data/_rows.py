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
from functools import cache
from itertools import chain
from operator import attrgetter, is_
from typing import Literal

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
_decoder = msgspec.json.Decoder(_Plain)
_NOT_PLAIN = (msgspec.MsgspecError, UnicodeDecodeError, RecursionError)
_INSTRUCT = (_System, _Developer)
_messages, _content = attrgetter("messages"), attrgetter("content")
# Kinds of the messages of a row -> the roles, or None if their order has a fault.
_orders: dict[tuple[type, ...], tuple[str, ...] | None] = {}
_ORDERS_KEPT = 10_000
_ODD, _ALL_BITS = 0x9E3779B97F4A7C15, (1 << 64) - 1
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
    """

    lines: list[int] = field(default_factory=list[int])
    rows: list[Messages] = field(default_factory=list["Messages"])
    roles: list[tuple[str, ...]] = field(default_factory=list[tuple[str, ...]])
    texts: list[str] = field(default_factory=list[str])
    width: int = 0

    def answers(self) -> list[str]:
        """The last text of each row."""
        if self.width:
            return self.texts[self.width - 1 :: self.width]
        return [messages[-1].content for messages in self.rows]

    def systems(self) -> list[str]:
        """The system prompt of each row, empty if it has none; only one if all are alike."""
        if not self.width:
            return [
                messages[0].content if type(messages[0]) in _INSTRUCT else ""
                for messages in self.rows
            ]
        if type(self.rows[0][0]) not in _INSTRUCT:
            return [""]
        first = self.texts[:: self.width]
        # A comparison is cheaper than a hash.
        return first[:1] if first.count(first[0]) == len(first) else first

    def identities(self) -> tuple[Places, Places]:
        """(hash of the prompt, hash of the answer) of each row; see `identity`."""
        hashes = np.fromiter(map(hash, self.texts), np.int64, len(self.texts)).view(np.uint64)
        if self.width:
            table = hashes.reshape(-1, self.width)
            prompts = np.zeros(len(table), np.uint64)
            for column, role in enumerate(self.roles[0][:-1]):
                prompts = (prompts + table[:, column] + _role_number(role)) * _ODD
            return prompts.view(np.int64), table[:, -1].view(np.int64)
        prompts = np.empty(len(self.rows), np.uint64)
        ends = np.cumsum(self.sizes())
        said = hashes.tolist()
        at = 0
        for index, (roles, end) in enumerate(zip(self.roles, ends.tolist(), strict=True)):
            prompts[index] = _mixed(roles, said[at : end - 1])
            at = end
        return prompts.view(np.int64), hashes[ends - 1].view(np.int64)

    def sizes(self) -> Places:
        """Texts of each row."""
        if self.width:
            return np.full(len(self.rows), self.width)
        return np.fromiter(map(len, self.rows), np.int64, len(self.rows))


def identity(roles: Sequence[str], texts: Sequence[str], extra: str) -> tuple[int, int]:
    """Hashes of the prompt and of the answer of a row, whatever way it went.

    They are Python's own of each text (SipHash, keyed anew in each process), those of the prompt
    mixed with the roles by multiplication modulo 2**64 (Horner), and signed at last.
    """
    said = [hash(text) for text in texts[: len(roles) - 1]]
    prompt = _mixed(roles, said)
    if extra:
        prompt = (prompt + hash(extra) + 1) * _ODD & _ALL_BITS
    return prompt - (prompt >> 63 << 64), hash(texts[-1])


def _mixed(roles: Sequence[str], hashes: Sequence[int]) -> int:
    prompt = 0
    for role, each in zip(roles[:-1], hashes, strict=False):
        prompt = (prompt + each + _role_number(role)) * _ODD & _ALL_BITS
    return prompt


@cache
def _role_number(role: str) -> int:
    return hash((role,)) & _ALL_BITS


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
        return PlainRows(lines, rows, roles, look.texts, width)
    keep = [at for at in range(len(rows)) if at not in faulty]
    if not keep:
        return PlainRows()
    kept = [rows[at] for at in keep]
    return PlainRows(
        [lines[at] for at in keep],
        kept,
        [roles[at] for at in keep],
        list(map(_content, chain.from_iterable(kept))),
        width,
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

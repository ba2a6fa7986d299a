"""The rows of a block that have the shape of their format, as many decoded at once as possible."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from itertools import chain
from operator import attrgetter
from typing import Any

import numpy as np

from unift.data._lines import Block
from unift.data._notes import Noted, noted, notes_of
from unift.data._row import check_order
from unift.data._shapes import INSTRUCT, NOT_PLAIN, ROLES, Messages, Shape, alike, decoder

# Kinds of the messages of a row -> the roles, or None if their order has a fault.
_orders: dict[tuple[type, ...], tuple[str, ...] | None] = {}
_ORDERS_KEPT = 10_000
# Characters of a system prompt that is kept as part of a decoder.
_LONGEST_SYSTEM = 1 << 16


@dataclass(slots=True)
class Found:
    """The rows of a block that have the shape: line of each, as decoded, and what is said in it."""

    lines: Sequence[int]
    decoded: list[Any]
    rows: list[Messages]
    roles: list[tuple[str, ...]] = field(default_factory=list[tuple[str, ...]])
    width: int = 0
    system: str | None = None
    alike: bool = False  # decoded as rows that have the list only


def decode(block: Block, shape: Shape, notes: Noted | None = None) -> Found:
    """Decode a block; rows whose order of speakers has a fault are left out."""
    return _in_order(_decode(block, shape, notes))


def fitting(block: Block, shape: Shape) -> tuple[Shape, Noted | None]:
    """The shape of the first row that has one, and the notes beside it."""
    for line in _samples(block):
        found = notes_of(line)
        for one in (shape, *shape.others):
            notes = noted(one.row, found) if found else None
            try:
                decoder(one.row if notes is None else notes.row).decode(line)
            except NOT_PLAIN:
                continue
            return one, notes
    return shape, None


def _samples(block: Block) -> Iterator[bytes]:
    """The first line of a block, the middle one and the last one."""
    ends = block.ends
    for at in (0, len(ends) // 2, len(ends) - 1):
        yield block.data[int(ends[at - 1]) + 1 if at else 0 : int(ends[at])]


def _decode(block: Block, shape: Shape, notes: Noted | None) -> Found:
    mine = shape.decoder if notes is None else decoder(notes.row)
    if _is_an_object_a_line(block):
        sample = _sample(block, shape, mine)
        if sample is not None:
            kinds, roles, system = sample
            more = () if notes is None else (notes.row,)
            found = _decoded(alike(shape.key, kinds, system, *more), block)
            if found:
                rows = list(map(attrgetter(shape.key), found))
                many = len(found)
                return Found(range(many), found, rows, [roles] * many, len(kinds), system, True)
        found = _decoded(mine, block)
        if found:
            return Found(range(len(found)), found, list(map(shape.said, found)))
    lines: list[int] = []
    found: list[Any] = []
    # Some rows may have no notes.
    readers = [mine.decode] if notes is None else [mine.decode, shape.decoder.decode]
    for index, line in enumerate(block.lines):
        for read in readers:
            try:
                found.append(read(line))
            except NOT_PLAIN:
                continue
            lines.append(index)
            break
    return Found(lines, found, list(map(shape.said, found)))


def _is_an_object_a_line(block: Block) -> bool:
    """True if no object can spread over lines.

    If each line starts and ends like an object, one that does would have to have a bracket after a
    bracket without a comma. So with as many objects as lines, each line is one object.
    """
    buffer, ends = np.frombuffer(block.data, np.uint8), block.ends
    starts = np.append(0, ends[:-1] + 1)
    if not (ends > starts).all() or not (buffer[starts] == ord("{")).all():
        return False
    last = buffer[ends - 1]
    if (last == ord("}")).all():
        return True
    return bool((np.where(last == ord("\r"), buffer[ends - 2], last) == ord("}")).all())


def _decoded(decoder: Any, block: Block) -> list[Any]:
    """The rows of all lines, or none."""
    try:
        found = decoder.decode_lines(block.data)
    except NOT_PLAIN:
        return []
    return found if len(found) == block.count else []


def _sample(
    block: Block, shape: Shape, read: Any
) -> tuple[tuple[type, ...], tuple[str, ...], str | None] | None:
    """(kinds, roles, system prompt) of the first row, if two more rows are like it."""
    if not shape.key:
        return None
    rows: list[Messages] = []
    for line in _samples(block):
        try:
            row = read.decode(line)
        except NOT_PLAIN:
            return None
        if shape.said(row) is not shape.turns(row):
            return None  # the conversation has a part elsewhere
        rows.append(shape.said(row))
    [kinds, *others] = {tuple(map(type, row)) for row in rows}
    roles = _order(kinds)
    if others or roles is None:
        return None
    texts = {row[0].content for row in rows}
    if kinds[0] in INSTRUCT and len(texts) == 1 and len(rows[0][0].content) <= _LONGEST_SYSTEM:
        return kinds, roles, texts.pop()
    return kinds, roles, None


def _in_order(found: Found) -> Found:
    """The rows whose order of speakers has no fault, with their roles."""
    rows = found.rows
    if found.alike:
        return found
    kinds: list[type] = list(map(type, chain.from_iterable(rows)))
    first = tuple(kinds[: len(rows[0])]) if rows else ()
    # In most files all rows are alike.
    if first and kinds == [*first] * len(rows) and set(map(len, rows)) == {len(first)}:
        roles = _order(first)
        if roles is None:
            return Found([], [], [])
        found.roles, found.width = [roles] * len(rows), len(first)
        return found
    orders: list[tuple[str, ...] | None] = []
    at = 0
    for row in rows:
        orders.append(_order(tuple(kinds[at : at + len(row)])))
        at += len(row)
    keep = [at for at, roles in enumerate(orders) if roles is not None]
    return Found(
        [found.lines[at] for at in keep],
        [found.decoded[at] for at in keep],
        [rows[at] for at in keep],
        [roles for roles in orders if roles is not None],
    )


def _order(kinds: tuple[type, ...]) -> tuple[str, ...] | None:
    """Roles of a row with messages of these kinds; None if their order has a fault."""
    if kinds in _orders:
        return _orders[kinds]
    faults: list[str] = []
    roles = tuple(ROLES[kind] for kind in kinds)

    def note(code: str, *_: object) -> None:
        faults.append(code)

    check_order(list(roles), note)
    found = roles if roles and not faults else None
    if len(_orders) < _ORDERS_KEPT:
        _orders[kinds] = found
    return found

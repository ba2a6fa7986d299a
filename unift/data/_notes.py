"""Notes beside a conversation (`id`, `metadata`, `source`) on the fast way.

The notes of one row of a block say which keys its other rows have, and of what type. Only texts,
numbers of 64 bits, truth values and objects of these are taken: in them nothing can be wrong that a
decoded value does not show. A row with other notes goes the slow way.
"""

from __future__ import annotations

import re
from dataclasses import dataclass
from functools import lru_cache
from typing import Annotated, Any

import msgspec
from msgspec import Meta, Struct

from unift.data._row import NOTES

Kind = str | tuple[tuple[str, Any], ...]
#: (key, kind of the value); an object has such pairs for its kind.
Notes = tuple[tuple[str, Kind], ...]

_TYPES: dict[str, Any] = {
    "str": str,
    "int": Annotated[int, Meta(ge=-(2**63), le=2**63 - 1)],
    "bool": bool,
}
_ESCAPED = re.compile(r'[\x00-\x1f"\\]')
_MOST = 40  # keys, however deep
_PLAIN = frozenset({str, int, bool})


class _Closed(Struct, forbid_unknown_fields=True, gc=False):
    pass


@dataclass(frozen=True)
class Noted:
    """Rows with notes.

    Attributes:
        keys: Of the notes.
        row: Type of such a row: one with these keys besides.
        strings: Strings (keys and values) that they add.
        braces: Braces likewise.
    """

    keys: tuple[str, ...]
    row: type[Struct]
    strings: int
    braces: int


def notes_of(line: bytes) -> Notes:
    """The notes of a row; none if there are none, or some that are not taken here."""
    try:
        row = msgspec.json.decode(line)
    except (msgspec.MsgspecError, UnicodeDecodeError, RecursionError):
        return ()
    if not isinstance(row, dict):
        return ()
    notes = _kinds({key: value for key, value in row.items() if key in NOTES})  # pyright: ignore[reportUnknownVariableType,reportUnknownArgumentType]  # any JSON
    return notes if notes is not None and _size(notes) <= _MOST else ()


def _kinds(fields: dict[str, Any]) -> Notes | None:
    found: list[tuple[str, Kind]] = []
    for key, value in fields.items():
        if not key or _ESCAPED.search(key):
            return None  # msgspec has no fields of such names
        if type(value) in _PLAIN:
            found.append((key, type(value).__name__))
            continue
        inside = _kinds(value) if isinstance(value, dict) else None  # pyright: ignore[reportUnknownArgumentType]  # any JSON
        if inside is None:
            return None
        found.append((key, inside))
    return tuple(found)


def _size(notes: Kind) -> int:
    return 1 if isinstance(notes, str) else sum(1 + _size(kind) for _, kind in notes)


@lru_cache(64)
def noted(row: type[Struct], notes: Notes) -> Noted:
    """The type of rows that have notes beside what `row` has."""
    names = {key: f"note{at}" for at, (key, _) in enumerate(notes)}
    fields = [(names[key], _type(kind)) for key, kind in notes]
    rename = {name: key for key, name in names.items()}
    made = msgspec.defstruct(
        "Noted",
        fields,
        bases=(row,),
        kw_only=True,
        forbid_unknown_fields=True,
        gc=False,
        rename=rename,
    )
    strings, braces = _count(notes)
    return Noted(tuple(names), made, strings, braces)


def _type(kind: Kind) -> Any:
    if isinstance(kind, str):
        return _TYPES[kind]
    fields = [(f"note{at}", _type(inner)) for at, (_, inner) in enumerate(kind)]
    rename = {f"note{at}": key for at, (key, _) in enumerate(kind)}
    return msgspec.defstruct("Object", fields, bases=(_Closed,), gc=False, rename=rename)


def _count(notes: Notes) -> tuple[int, int]:
    """(strings, braces) of notes."""
    strings = braces = 0
    for _, kind in notes:
        strings += 1 + (kind == "str")
        if not isinstance(kind, str):
            more = _count(kind)
            strings, braces = strings + more[0], braces + more[1] + 1
    return strings, braces

"""Rows in another format than OpenAI chat: the same checks, at the places of that format."""

from __future__ import annotations

from typing import Any

from unift.data._finding import Path
from unift.data._parse import Note, tolerant
from unift.data._row import REASONING, check_row, kind, note_key
from unift.data.formats import Format, Row

#: Key (of no JSON key's form) under which a reinforcement row keeps what graders compare with.
REFERENCES = "\0references"
# What a row without an answer cannot have.
_OF_ANSWERS = frozenset({"UD220", "UD221", "UD232"})


def check_other(row: object, form: Format, note: Note) -> dict[str, Any] | None:
    """Pass every fault of a parsed line to `note`.

    Returns:
        The row as OpenAI chat, with the preferred answer if there are two; None if it cannot be
        read.
    """
    if not isinstance(row, dict):
        note("UD101", (), f"The row is {kind(row)}, not an object.")
        return None
    fields: dict[str, Any] = row  # pyright: ignore[reportUnknownVariableType]  # any JSON object
    note = tolerant(fields, note)
    missing = [key for key in form.keys if key not in fields]
    if missing:
        note("UD900", (), f"The row is not {form.name}: it has no `{missing[0]}`.")
        return None
    read = form.read(fields, note)
    if read is None:
        return None
    _check_unread(read, form, note)
    chat = read.chat(read.chosen)
    check_row(chat, _translated(read, note))
    if read.kind == "preference":
        _check_rejected(read, note)
    if read.kind == "reinforcement":
        chat[REFERENCES] = read.extra
    return chat


def _check_unread(row: Row, form: Format, note: Note) -> None:
    """Keys that nobody reads. Those of reinforcement rows may be meant for a grader."""
    for key in row.extra if row.kind != "reinforcement" else ():
        note_key(str(key), form.known, note)
    for path in row.unread:
        shown = str(path[-1])[:60]
        note("UD216", path, f"{form.name} has no key {shown!r} there.")


def _check_rejected(row: Row, note: Note) -> None:
    before, chosen = len(row.messages), len(row.chosen)

    def rejected(code: str, path: Path, message: str, *more: Any, **named: Any) -> None:
        # The prompt was checked with the preferred answer.
        if len(path) > 1 and isinstance(path[1], int) and path[1] >= before:
            path = ("messages", path[1] + chosen, *path[2:])
            _translated(row, note)(code, path, message, *more, **named)

    check_row(row.chat(row.rejected), rejected)
    if row.chosen == row.rejected:
        note("UD902", row.places[before], "Both answers are the same.")


def _translated(row: Row, note: Note) -> Note:
    """Paths in the canonical row become paths in the row as it is written."""

    def here(code: str, path: Path, message: str, fix: Any = None, at: Any = None) -> None:
        if row.kind == "reinforcement" and code in _OF_ANSWERS:
            return
        if code == "UD216" and path[-1] in REASONING and not row.exact:
            # Gemini's own place for it.
            code, message, fix = "UD505", "A part of the answer is a thought.", None
        if len(path) > 1 and path[0] == "messages" and isinstance(path[1], int):
            place = row.places[path[1]] if path[1] < len(row.places) else ()
            path = (*place, *path[2:]) if row.exact else place
        elif path and path[0] == "messages":
            path = ()
        note(code, path, message, fix, at)

    return here

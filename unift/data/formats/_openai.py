"""OpenAI's three formats: chat, preference, reinforcement.

Sources: OpenAI guides "Supervised fine-tuning", "Direct preference optimization" and
"Reinforcement fine-tuning", read 2026-11; Azure's wording of the same (learn.microsoft.com). The
schemas of the lines are no longer in OpenAI's public specification.
"""

from __future__ import annotations

from typing import Any, cast

from unift.data._parse import Note
from unift.data.formats._model import (
    Format,
    Lose,
    Message,
    Row,
    list_field,
    object_field,
    unread,
    without_clash,
)

_CHAT_KEYS = ("messages", "tools", "parallel_tool_calls")
_PAIR_KEYS = ("input", "preferred_output", "non_preferred_output")
_ALL = frozenset(
    {
        "tools", "weights", "images", "turns", "system", "names", "parts", "refusals", "settings",
        "extra", "any order", "old calls", "reasoning",
    }
)  # fmt: skip


def _read_chat(fields: dict[str, Any], note: Note) -> Row | None:
    messages = list_field(fields, "messages", note)
    if messages is None:
        return None
    return Row(
        "chat",
        cast("list[Message]", messages),
        tools=fields.get("tools"),
        parallel=fields.get("parallel_tool_calls"),
        extra={key: value for key, value in fields.items() if key not in _CHAT_KEYS},
        places=[("messages", index) for index in range(len(messages))],
        exact=True,
    )


def _write_chat(row: Row, lose: Lose) -> dict[str, Any]:
    return {**row.chat(), **without_clash(row.extra, _CHAT_KEYS, lose)}


def _read_rft(fields: dict[str, Any], note: Note) -> Row | None:
    row = _read_chat(fields, note)
    if row is None:
        return None
    row.kind = "reinforcement"
    last = row.messages[-1]
    if isinstance(last, dict) and last.get("role") != "user":  # pyright: ignore[reportUnnecessaryIsInstance]  # any JSON
        note(
            "UD905",
            ("messages", len(row.messages) - 1),
            f"The prompt ends with {str(last.get('role'))[:20]!r}, not with the user.",
        )
        return None
    return row


def _read_preference(fields: dict[str, Any], note: Note) -> Row | None:
    given = object_field(fields, "input", note)
    chosen = list_field(fields, "preferred_output", note)
    rejected = list_field(fields, "non_preferred_output", note)
    messages = list_field(given, "messages", note, ("input",)) if given is not None else None
    if given is None or messages is None or chosen is None or rejected is None:
        return None
    places = [
        *(("input", "messages", index) for index in range(len(messages))),
        *(("preferred_output", index) for index in range(len(chosen))),
        *(("non_preferred_output", index) for index in range(len(rejected))),
    ]
    for index, message in enumerate([*chosen, *rejected]):
        role = cast("Message", message).get("role") if isinstance(message, dict) else None
        if role not in ("assistant", "tool"):
            place = places[len(messages) + index]
            note("UD903", place, f"An output has the role {str(role)[:20]!r}.")
            return None
    return Row(
        "preference",
        cast("list[Message]", messages),
        cast("list[Message]", chosen),
        cast("list[Message]", rejected),
        tools=given.get("tools"),
        parallel=given.get("parallel_tool_calls"),
        extra={key: value for key, value in fields.items() if key not in _PAIR_KEYS},
        places=places,
        exact=True,
        unread=unread(given, _CHAT_KEYS, ("input",)),
    )


def _write_preference(row: Row, lose: Lose) -> dict[str, Any]:
    return {
        "input": row.chat(),
        "preferred_output": row.chosen,
        "non_preferred_output": row.rejected,
        **without_clash(row.extra, _PAIR_KEYS, lose),
    }


CHAT = Format(
    "openai-chat",
    "chat",
    ("messages",),
    _CHAT_KEYS,
    _ALL,
    _read_chat,
    _write_chat,
    "OpenAI guide 'Supervised fine-tuning'",
)
PREFERENCE = Format(
    "openai-preference",
    "preference",
    ("input", "preferred_output"),
    _PAIR_KEYS,
    _ALL - {"images"},
    _read_preference,
    _write_preference,
    "OpenAI guide 'Direct preference optimization'; text only",
)
RFT = Format(
    "openai-rft",
    "reinforcement",
    ("messages",),
    _CHAT_KEYS,
    _ALL,
    _read_rft,
    _write_chat,
    "OpenAI guide 'Reinforcement fine-tuning'; other keys are for graders ({{item.key}})",
)

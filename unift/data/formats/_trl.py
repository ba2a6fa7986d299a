"""TRL's preference format: `chosen` and `rejected`, with the prompt beside them or inside both.

Source: trl 1.16, "Dataset formats and types" and `trl.data_utils.maybe_extract_prompt`: a prompt
that is not given apart (or only repeated, as a text beside conversations) is what both answers
start with. Texts with "\\n\\nHuman:" and "\\n\\nAssistant:" are those of Anthropic/hh-rlhf.
"""

from __future__ import annotations

import re
from typing import Any, cast

from unift.data._finding import Path
from unift.data._parse import Note
from unift.data.formats._model import Format, Lose, Message, Row

_KEYS = ("prompt", "chosen", "rejected", "tools")
_TURN = re.compile(r"\n\n(Human|Assistant):")
_ROLE = {"Human": "user", "Assistant": "assistant"}
_Side = tuple[list[Message], list[Path]]


def _read(fields: dict[str, Any], note: Note) -> Row | None:
    sides = [_side(fields, key, note) for key in ("chosen", "rejected")]
    if sides[0] is None or sides[1] is None:
        return None
    (chosen, at_chosen), (rejected, at_rejected) = sides[0], sides[1]
    prompt, at_prompt, left = _prompt(fields, note, bool(chosen) and _answers(chosen))
    if prompt is None:
        return None
    if not prompt:
        shared = _shared(chosen, rejected)
        prompt, at_prompt = chosen[:shared], at_chosen[:shared]
        if prompt and fields.get("prompt") == prompt[-1].get("content"):
            left = []  # repeated for people, as in UltraFeedback
        chosen, at_chosen = chosen[shared:], at_chosen[shared:]
        rejected, at_rejected = rejected[shared:], at_rejected[shared:]
    if not prompt or not chosen or not rejected:
        missing = "`prompt`, and the two answers share no start" if not prompt else "second answer"
        note("UD901", (), f"There is no {missing}.", 'add "prompt"')
        return None
    places = [*at_prompt, *at_chosen, *at_rejected]
    for index, message in enumerate([*chosen, *rejected]):
        role = message.get("role")
        if role not in ("assistant", "tool"):
            place = places[len(prompt) + index]
            note("UD903", place, f"An answer has the role {str(role)[:20]!r}.")
            return None
    return Row(
        "preference",
        prompt,
        chosen,
        rejected,
        tools=fields.get("tools"),
        extra={key: value for key, value in fields.items() if key not in _KEYS},
        places=places,
        exact=all(len(place) > 1 for place in places),
        unread=left,
    )


def _side(fields: dict[str, Any], key: str, note: Note) -> _Side | None:
    """One of the two conversations, and where its messages are."""
    value = fields.get(key)
    if isinstance(value, str) and fields.get("prompt") is None:
        messages = _turns(value)
        if messages is None:
            message = f"`{key}` is a text, so there has to be a `prompt`."
            note("UD901", (key,), message, "give the prompt apart, or write messages")
            return None
        return messages, [(key,)] * len(messages)
    if isinstance(value, str):
        return [{"role": "assistant", "content": value}], [(key,)]
    listed = cast("list[Any]", value) if isinstance(value, list) else []
    if not listed or not all(isinstance(one, dict) for one in listed):
        note("UD901", (key,), f"`{key}` is neither a text nor a list of messages.")
        return None
    return cast("list[Message]", listed), [(key, index) for index in range(len(listed))]


def _prompt(
    fields: dict[str, Any], note: Note, apart: bool
) -> tuple[list[Message] | None, list[Path], list[Path]]:
    """(messages, places, what nobody reads); no messages if the prompt is inside the answers."""
    value = fields.get("prompt")
    if value is None:
        return [], [], []
    if isinstance(value, str):
        if apart:
            return [{"role": "user", "content": value}], [("prompt",)], []
        return [], [], [("prompt",)]
    listed = cast("list[Any]", value) if isinstance(value, list) else []
    if not listed or not all(isinstance(one, dict) for one in listed):
        note("UD901", ("prompt",), "`prompt` is neither a text nor a list of messages.")
        return None, [], []
    return cast("list[Message]", listed), [("prompt", i) for i in range(len(listed))], []


def _answers(messages: list[Message]) -> bool:
    """True if these are an answer only, without the prompt."""
    return messages[0].get("role") in ("assistant", "tool")


def _turns(text: str) -> list[Message] | None:
    """The turns of a text in the way of hh-rlhf; None for other texts."""
    pieces = _TURN.split(text)
    if len(pieces) < 3 or pieces[0].strip():
        return None
    return [
        {"role": _ROLE[who], "content": said.strip()}
        for who, said in zip(pieces[1::2], pieces[2::2], strict=True)
    ]


def _shared(chosen: list[Message], rejected: list[Message]) -> int:
    """How many messages both start with. The last of each is an answer in any case."""
    most = min(len(chosen), len(rejected)) - 1
    return next((at for at in range(most) if chosen[at] != rejected[at]), max(most, 0))


def _write(row: Row, lose: Lose) -> dict[str, Any]:
    out: dict[str, Any] = {
        "prompt": row.messages,
        "chosen": row.chosen,
        "rejected": row.rejected,
    }
    if row.tools is not None:
        out["tools"] = row.tools
    return out


PREFERENCE = Format(
    "trl-preference",
    "preference",
    ("chosen", "rejected"),
    _KEYS,
    frozenset({"tools", "turns", "system", "names", "parts", "any order"}),
    _read,
    _write,
    "trl 1.16, 'Dataset formats and types'",
)

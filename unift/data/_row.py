"""One parsed row of chat training data: everything that is wrong with its form and its texts.

The shape is OpenAI's chat fine-tuning format as the guide "Supervised fine-tuning" and the schema
`FineTuneChatCompletionRequestAssistantMessage` of the openai-openapi repository (commit f85dbe2,
2026-08-21) give it; trl, Together, Fireworks and Google's tuning of open models read the same.
This module decides; `_rows.py` only saves work on rows in which nothing can be wrong.
"""

from __future__ import annotations

import difflib
import json
import re
from collections.abc import Mapping
from functools import lru_cache
from typing import Any, cast

from unift.data._finding import Path
from unift.data._parse import Note, tolerant
from unift.data._parts import check_parts, text_of_parts
from unift.data._texts import check_answer, check_filled_in, check_text
from unift.data._tools import check_calls, check_tools, declared

ROLES = ("system", "developer", "user", "assistant", "tool")
_OLD_ROLE = "function"
_ROW_KEYS = ("messages", "tools", "parallel_tool_calls", "functions")
MESSAGE_KEYS = ("role", "content", "name", "weight", "tool_calls", "tool_call_id", "refusal")
_NAME = re.compile(r"[A-Za-z0-9_-]{1,64}")
_CONVERT = "put these rows in a file of their own: unift convert FILE --to openai-chat --out OUT"
# Top-level keys that tell what else a row is -> its name, and what to do.
_OTHERS = {
    "custom_id": (
        "a line of an OpenAI batch",
        "join the messages of the request and the message of the result by custom_id",
    ),
    "request": (
        "a logged call",
        "write the messages of the request and the message of the response as one list",
    ),
    "chosen": ("trl preference (chosen, rejected)", _CONVERT),
    "prompt": ("prompt/completion", _CONVERT),
    "instruction": ("Alpaca", _CONVERT),
    "conversations": ("ShareGPT", _CONVERT),
    "contents": ("Gemini", _CONVERT),
    "preferred_output": ("OpenAI preference", _CONVERT),
    "text": ("plain text", "write the text as what the user says and what the assistant answers"),
}

#: What people keep beside the conversation: told once a file.
NOTES = frozenset(
    {
        "id", "_id", "uid", "uuid", "idx", "index", "prompt_id", "question_id", "conversation_id",
        "metadata", "meta", "source", "dataset", "category", "topic", "tags", "lang", "language",
        "split", "timestamp", "created_at",
    }
)  # fmt: skip
#: Where reasoning stands apart from the answer, in rows for reasoning models.
REASONING = ("reasoning_content", "reasoning", "thinking")

_SYSTEM_FIX = 'put it first in messages: {"role": "system", "content": ...}'

Row = Mapping[str, Any]


def kind(value: object) -> str:
    """The JSON name of a value's type."""
    if value is None:
        return "null"
    if isinstance(value, bool):
        return "true or false"
    if isinstance(value, int | float):
        return "a number"
    if isinstance(value, str):
        return "a string"
    return "a list" if isinstance(value, list) else "an object"


def check_row(row: object, note: Note) -> None:
    """Pass every fault of a parsed line to `note`."""
    if not isinstance(row, dict):
        twice = isinstance(row, str) and row.lstrip().startswith("{")
        fix = "it is JSON in a string: encode the row once, not twice" if twice else None
        note("UD101", (), f"The row is {kind(row)}, not an object.", fix)
        return
    fields = cast("dict[str, Any]", row)
    note = tolerant(fields, note)
    _check_keys(fields, note)
    tools = fields.get("tools")
    if tools is not None:
        check_tools(tools, note)
    if not isinstance(fields.get("parallel_tool_calls", True), bool):
        value = fields["parallel_tool_calls"]
        note("UD313", ("parallel_tool_calls",), f"parallel_tool_calls is {kind(value)}.")
    if "functions" in fields:
        note("UD314", ("functions",), "The row uses `functions`, the old form of `tools`.")
    if "messages" not in fields:
        return  # said by _check_keys
    messages = fields["messages"]
    if not isinstance(messages, list):
        twice = isinstance(messages, str) and messages.lstrip().startswith("[")
        fix = "it is JSON in a string: write the list itself" if twice else None
        note("UD201", ("messages",), f"`messages` is {kind(messages)}, not a list.", fix)
        return
    listed = cast("list[Any]", messages)
    if not listed:
        note("UD202", ("messages",), "`messages` is empty.")
        return
    for index, message in enumerate(listed):
        _check_message(message, ("messages", index), note)
    if all(isinstance(message, dict) for message in listed):
        whole = cast("list[dict[str, Any]]", listed)
        check_order([str(message.get("role")) for message in whole], note)
        check_calls(whole, declared(tools), note)
        _check_learnt(whole, note)


def _check_keys(row: dict[str, Any], note: Note) -> None:
    missing = "messages" not in row
    others = _OTHERS.items() if missing else ()
    other, fix = next((found for key, found in others if key in row), (None, None))
    for key in row:
        if key in _ROW_KEYS:
            continue
        if key == "system" and not missing:
            message = "Nothing reads the key 'system' of the row: the system prompt is not learnt."
            note("UD203", (key,), message, _SYSTEM_FIX)
        # In a row without messages only a misspelt `messages` is worth a word.
        elif not missing or (other is None and meant(key.lower()[:60], _ROW_KEYS)):
            note_key(key, _ROW_KEYS, note)
    if missing:
        looks = f" It looks like {other}." if other else ""
        inside = None if other else _rows_inside(row)
        if inside is not None:
            looks = f" It holds {len(row[inside])} rows under {inside[:40]!r}."
            fix = f"write one row a line: jq -c '.[{json.dumps(inside)}][]' FILE > OUT"
        note("UD200", (), f"The row has no `messages`.{looks}", fix)


def _rows_inside(row: dict[str, Any]) -> str | None:
    """The key of a list of chat rows: the whole data set in one object."""
    for key, value in row.items():
        listed = cast("list[Any]", value) if isinstance(value, list) else []
        if listed and all(isinstance(one, dict) and "messages" in one for one in listed):
            return key
    return None


def note_key(key: str, known: tuple[str, ...], note: Note) -> None:
    """Tell of a key of a row that nobody reads: of a note once a file, of others each time."""
    shown = key[:60]
    if key in NOTES:
        note("UD204", (key,), f"The rows have the key {shown!r}; it is not learnt.")
    else:
        note(
            "UD203",
            (key,),
            f"Nothing reads the key {shown!r} of the row.",
            meant(shown.lower(), known),
        )


def _check_message(message: object, path: Path, note: Note) -> None:
    if not isinstance(message, dict):
        note("UD210", path, f"The message is {kind(message)}, not an object.")
        return
    fields = cast("dict[str, Any]", message)
    role = fields.get("role")
    if "role" not in fields:
        fix = "rename `from` to `role`" if "from" in fields else None
        note("UD211", path, "The message has no role.", fix)
    elif role == _OLD_ROLE:
        note("UD314", (*path, "role"), "The role `function` is the old form of `tool`.")
    elif role not in ROLES:
        shown = repr(role[:40]) if isinstance(role, str) else kind(role)
        close = _role_for(role[:40]) if isinstance(role, str) else None
        fix = f"did you mean '{close}'?" if close else None
        note("UD212", (*path, "role"), f"There is no role {shown}.", fix)
    for key in fields:
        if key == "function_call" and fields[key] is not None:
            note("UD314", (*path, key), "`function_call` is the old form of `tool_calls`.")
        elif key in REASONING and role == "assistant" and isinstance(fields[key], str):
            said = f"Only some chat templates read {key!r}; elsewhere it is not learnt."
            note("UD216", (*path, key), said, "keep it for a reasoning model only")
        elif key not in MESSAGE_KEYS and key != "function_call":
            said = f"Nothing reads the key {key[:60]!r} of a message."
            absent = tuple(one for one in MESSAGE_KEYS if one not in fields)
            note("UD216", (*path, key), said, meant(key[:60], absent))
    _check_name(fields, path, note)
    _check_weight(fields, role, path, note)
    _check_content(fields, role, path, note)


@lru_cache(10_000)  # a file has few mistakes, each many times
def _role_for(role: str) -> str | None:
    other = {
        "human": "user",
        "gpt": "assistant",
        "model": "assistant",
        "bot": "assistant",
        "customer": "user",
        "agent": "assistant",
    }
    plain = role.strip().lower()
    return other.get(plain) or next(iter(difflib.get_close_matches(plain, ROLES, 1, 0.6)), None)


@lru_cache(10_000)
def meant(key: str, known: tuple[str, ...]) -> str | None:
    """The fix for a key that is one or two letters off a known one. Far guesses mislead."""
    close = difflib.get_close_matches(key, known, 1, 0.75)
    return f"did you mean '{close[0]}'? Otherwise remove it" if close else None


def _check_name(fields: dict[str, Any], path: Path, note: Note) -> None:
    name = fields.get("name")
    if name is None:
        return
    if not isinstance(name, str):
        note("UD217", (*path, "name"), f"`name` is {kind(name)}, not a string.")
    elif not _NAME.fullmatch(name):
        note("UD217", (*path, "name"), f"The name {name[:70]!r} is not accepted.")


def _check_weight(fields: dict[str, Any], role: object, path: Path, note: Note) -> None:
    weight = fields.get("weight")
    if weight is None:
        return
    if not _is_weight(weight):
        shown = str(weight) if type(weight) in (int, float) else kind(weight)
        note("UD230", (*path, "weight"), f"`weight` is {shown[:40]}, not 0 or 1.")
    if role in ROLES and role != "assistant":
        note("UD231", (*path, "weight"), f"A {role} message has a weight.")


def _is_weight(weight: object) -> bool:
    return isinstance(weight, int) and not isinstance(weight, bool) and weight in (0, 1)


def _check_content(fields: dict[str, Any], role: object, path: Path, note: Note) -> None:
    content = fields.get("content")
    here = (*path, "content")
    learnt = role == "assistant" and fields.get("weight") != 0
    speaks = bool(fields.get("tool_calls") or fields.get("function_call") or fields.get("refusal"))
    if content is None:
        if not (role == "assistant" and speaks):
            at = here if "content" in fields else path
            state = "null" if "content" in fields else "missing"
            note("UD213", at, f"`content` is {state}.")
        return
    if isinstance(content, list):
        parts = cast("list[Any]", content)
        check_parts(parts, role, here, note)
        text = text_of_parts(parts)
        # A picture, or what has a finding already.
        others = (not isinstance(p, dict) or cast("Row", p).get("type") != "text" for p in parts)
        speaks = speaks or any(others)
    elif isinstance(content, str):
        text = content
    else:
        note("UD214", here, f"`content` is {kind(content)}, not a string.")
        return
    check_text(text, here, note)
    if role in ("system", "developer", "assistant"):
        check_filled_in(text, here, note)
    if text and not text.isspace():
        if learnt:
            check_answer(text, here, note)
    elif not speaks:
        if learnt:
            note("UD500", here, "The answer is empty.")
        else:
            note("UD215", here, "The content is empty.")


def check_order(roles: list[str], note: Note) -> None:
    """Faults in who speaks when. Unknown roles are left alone here."""
    if "assistant" not in roles:
        note("UD220", ("messages",), "The row has no assistant message.")
    elif roles[-1] != "assistant" and roles[-1] in (*ROLES, _OLD_ROLE):
        last = len(roles) - 1
        note("UD221", ("messages", last), f"The last message is by {roles[-1]}, not assistant.")
    before = ""
    for index, role in enumerate(roles):
        path = ("messages", index)
        if role in ("system", "developer"):
            if index:
                note("UD222", path, f"A {role} message comes as number {index + 1}.")
            continue
        if role == before and role in ("user", "assistant"):
            note("UD223", path, f"The {role} speaks twice in a row.")
        if role == "assistant" and not before and "user" in roles:
            note("UD224", path, "The assistant speaks before the user.")
        elif role == "assistant" and not before:
            note("UD224", path, "There is no user message before the answer.")
        before = role


def _check_learnt(messages: list[dict[str, Any]], note: Note) -> None:
    answers = [message for message in messages if message.get("role") == "assistant"]
    if answers and all(
        _is_weight(message.get("weight")) and message["weight"] == 0 for message in answers
    ):
        note("UD232", ("messages",), "All assistant messages have weight 0.")

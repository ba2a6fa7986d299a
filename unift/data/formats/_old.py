"""OpenAI's function calling of 2023 (`functions`, `function_call`, role `function`), as tools.

OpenAI's reference marks all three as deprecated in favour of `tools`, `tool_calls` and the role
`tool`, which say the same: one call a message, its result by the name of the function.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import replace
from typing import Any, cast

from unift.data._finding import Path
from unift.data._row import check_row
from unift.data.codes import explain
from unift.data.formats._model import Message, Row

_CALL = ("name", "arguments")


def modern(row: Row) -> Row:
    """The row with tools instead of functions; the same one if that cannot be said without error.

    A call that is never answered, or a result without a call, was taken in the old form only.
    """
    parts = [row.messages, row.chosen, row.rejected]
    if "functions" not in row.extra and not any(map(is_old, parts)):
        return row
    tools, extra = row.tools, row.extra
    if tools is None and "functions" in extra:
        tools = modern_tools(extra["functions"])
        extra = {key: value for key, value in extra.items() if key != "functions"}
    new = [modern_messages(part) for part in parts]
    if any(map(is_old, new)):
        return row  # half of it would be neither the one nor the other
    made = replace(row, messages=new[0], chosen=new[1], rejected=new[2], tools=tools, extra=extra)
    answers: tuple[list[Message], ...] = (
        (made.chosen, made.rejected) if row.kind == "preference" else ([],)
    )
    return row if any(_has_error(made.chat(answer), row.kind) for answer in answers) else made


def modern_chat(fields: dict[str, Any]) -> dict[str, Any]:
    """The same of a row as it is written in OpenAI chat, whatever else is wrong with it."""
    messages = fields.get("messages")
    listed = cast("list[Any]", messages) if isinstance(messages, list) else []
    if not listed or not all(isinstance(one, dict) for one in listed):
        return fields
    known = ("messages", "tools")
    extra = {key: value for key, value in fields.items() if key not in known}
    row = Row("chat", cast("list[Message]", listed), tools=fields.get("tools"), extra=extra)
    made = modern(row)
    return fields if made is row else {**made.chat(), **made.extra}


def is_old(messages: Iterable[Mapping[str, Any]]) -> bool:
    """True if there is a call or a result in the old form."""
    return any(
        one.get("role") == "function" or one.get("function_call") is not None for one in messages
    )


def modern_tools(functions: Any) -> list[Any] | None:
    """Declarations of tools from `functions`; None for what is no list."""
    if not isinstance(functions, list):
        return None
    return [{"type": "function", "function": one} for one in cast("list[Any]", functions)]


def modern_messages(messages: list[Message]) -> list[Message]:
    """Messages with calls and results as today; ids of calls are made up."""
    out: list[Message] = []
    waiting: tuple[str, Any] | None = None
    for number, message in enumerate(messages, 1):
        copy = {key: one for key, one in message.items() if key != "function_call"}
        call = message.get("function_call")
        if isinstance(call, dict):
            function = cast("dict[str, Any]", call)
            if copy.get("tool_calls") or not all(key in _CALL for key in function):
                return messages
            known = f"call_{number}"
            copy["tool_calls"] = [{"id": known, "type": "function", "function": function}]
            waiting = known, function.get("name")
        elif call is not None:
            return messages
        elif copy.get("role") == "function":
            if waiting is None or copy.pop("name", waiting[1]) != waiting[1]:
                return messages
            copy.update(role="tool", tool_call_id=waiting[0])
            waiting = None
        out.append(copy)
    return out


def _has_error(chat: dict[str, Any], kind: str) -> bool:
    bad: list[str] = []

    def note(code: str, path: Path, message: str, *_: Any, **__: Any) -> None:
        if explain(code).severity == "error":
            bad.append(code)

    check_row(chat, note)
    # A prompt ends with the user and has no answer.
    return bool(set(bad) - ({"UD220", "UD221", "UD232"} if kind == "reinforcement" else set()))

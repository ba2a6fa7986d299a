"""Take out of a row what a target has no place for, telling what went."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any, cast

from unift.data._finding import format_path
from unift.data._parts import text_of_parts
from unift.data._row import REASONING
from unift.data.formats._model import (
    Format,
    Lose,
    Message,
    NothingLeftError,
    Row,
)

_KEYS = frozenset(
    {
        "role", "content", "name", "weight", "tool_calls", "tool_call_id", "refusal",
        "function_call", *REASONING,
    }
)  # fmt: skip
# Keys of what is inside a message. What else is there has no place in another format.
_PARTS = {
    "text": ("type", "text"),
    "image_url": ("type", "image_url"),
    "refusal": ("type", "refusal"),
}
_IMAGE = ("url", "detail", "mime_type")


def reduce(row: Row, target: Format, lose: Lose) -> Row:
    """A row that `target` can hold.

    Raises:
        NothingLeftError: No answer is left, or the two kinds have nothing in common.
    """
    holds = target.holds
    if row.kind != target.kind:
        row = _as_kind(row, target, lose)
    names = _called([*row.messages, *row.chosen, *row.rejected])
    messages, chosen, rejected = (
        [one for message in part for one in _message(message, names, holds, lose)]
        for part in (row.messages, row.chosen, row.rejected)
    )
    tools = row.tools
    if "tools" not in holds:
        if tools:
            lose("tools", "tool declarations")
        tools = None
        messages, chosen, rejected = (
            _without_tools(part, lose) for part in (messages, chosen, rejected)
        )
    elif tools and "settings" not in holds:
        tools = [_without_strict(tool, lose) for tool in tools]
        unknown = _unknown((tool, ("type", "function")) for tool in tools)
        if unknown:
            lose("extra", ", ".join(unknown)[:80])
    # True is what it is without, and without tools it says nothing.
    if row.parallel is False and row.tools and "settings" not in holds:
        lose("settings", "parallel_tool_calls")
    if row.unread:
        # Nobody knows what it means, so no format has a place for it.
        lose("extra", ", ".join(map(format_path, row.unread))[:80])
    extra = sorted(str(key) for key, value in row.extra.items() if value is not None)
    if extra and not holds & {"extra", "references"}:
        lose("extra", ", ".join(extra)[:80])
    messages = _turns(messages, holds, lose)
    reduced = Row(
        row.kind,
        messages,
        chosen,
        rejected,
        tools,
        row.parallel if "settings" in holds else None,
        row.extra if holds & {"extra", "references"} else {},
    )
    _check_left(reduced)
    return reduced


def _as_kind(row: Row, target: Format, lose: Lose) -> Row:
    if (row.kind, target.kind) == ("preference", "chat"):
        lose("rejected", "the answer that is not preferred")
        whole = [*row.messages, *row.chosen]
        return Row("chat", whole, [], [], row.tools, row.parallel, row.extra, unread=row.unread)
    raise NothingLeftError(f"a {row.kind} row cannot be written as {target.name} ({target.kind})")


def _called(messages: list[Message]) -> dict[str, str]:
    """Id of a call -> the name of its function."""
    return {
        str(call["id"]): str(call["function"]["name"])
        for message in messages
        for call in cast("list[dict[str, Any]]", message.get("tool_calls") or [])
    }


def _message(
    message: Message, names: dict[str, str], holds: frozenset[str], lose: Lose
) -> list[Message]:
    """The message as far as there is a place for it; none if it is about an old call."""
    copy = dict(message)
    if "extra" not in holds:
        _lose_unknown(copy, lose)
        copy = {key: value for key, value in copy.items() if key in _KEYS}
    if "old calls" not in holds:
        if copy.get("role") == "function":
            lose("tools", "the result of a function_call, which no call waits for")
            return []
        if copy.pop("function_call", None) is not None:
            lose("tools", "a function_call that is not answered or not complete")
            if not copy.get("content"):
                return []
    assistant = copy.get("role") == "assistant"
    if "weights" not in holds and copy.pop("weight", 1) == 0 and assistant:
        lose("weights", "an answer with weight 0")
    if "names" not in holds:
        name = copy.pop("name", None)
        # That of a result is known by its call.
        if name is not None and name != names.get(str(copy.get("tool_call_id"))):
            lose("names", str(name)[:40])
    if "reasoning" not in holds and [copy.pop(key) for key in REASONING if copy.get(key)]:
        lose("reasoning", "reasoning apart from the answer")
    if "refusals" not in holds:
        refusal = copy.pop("refusal", None)
        if refusal is not None:
            lose("refusals", "a refusal")
            copy["content"] = copy.get("content") or refusal
    content = copy.get("content")
    if isinstance(content, list):
        copy["content"] = _parts(cast("list[dict[str, Any]]", content), holds, lose)
    return [copy]


def _lose_unknown(message: Message, lose: Lose) -> None:
    """Tell of keys that no other format has, wherever in the message. Null says nothing."""
    found = [key for key, value in message.items() if key not in _KEYS and value is not None]
    inside: list[tuple[dict[str, Any], tuple[str, ...]]] = []
    content = message.get("content")
    for part in cast("list[dict[str, Any]]", content) if isinstance(content, list) else []:
        inside.append((part, _PARTS.get(str(part.get("type")), ())))
        if isinstance(part.get("image_url"), dict):
            inside.append((part["image_url"], _IMAGE))
    for call in cast("list[dict[str, Any]]", message.get("tool_calls") or []):
        inside += [(call, ("id", "type", "function")), (call["function"], ("name", "arguments"))]
    found += _unknown(inside)
    if found:
        lose("extra", ", ".join(sorted(map(str, found)))[:80])


def _unknown(inside: Iterable[tuple[dict[str, Any], tuple[str, ...]]]) -> list[str]:
    return [
        key
        for fields, known in inside
        for key, value in fields.items()
        if key not in known and value is not None
    ]


def _parts(parts: list[dict[str, Any]], holds: frozenset[str], lose: Lose) -> Any:
    kept: list[dict[str, Any]] = []
    for part in parts:
        if part.get("type") == "image_url":
            if "images" not in holds:
                lose("images", "an image")
                continue
            image = cast("dict[str, Any]", part["image_url"])
            kind = image.get("mime_type")
            if kind is not None and "media" not in holds:
                if not str(kind).startswith("image/"):
                    lose("images", f"a file of the type {kind}"[:60])
                    continue
                image = {key: value for key, value in image.items() if key != "mime_type"}
                part = {**part, "image_url": image}
            if image.get("detail") is not None and "settings" not in holds:
                lose("settings", "image detail")
                image = {key: value for key, value in image.items() if key != "detail"}
                part = {**part, "image_url": image}
        elif part.get("type") == "refusal" and "refusals" not in holds:
            lose("refusals", "a refusal")
            part = {"type": "text", "text": part["refusal"]}
        kept.append(part)
    if "parts" in holds:
        return kept
    if len(kept) > 1:
        lose("parts", f"{len(kept)} parts, joined by line ends")
    return text_of_parts(kept)


def _without_tools(messages: list[Message], lose: Lose) -> list[Message]:
    kept: list[Message] = []
    for message in messages:
        if message.get("role") == "tool":
            lose("tools", "a tool result")
            continue
        copy = dict(message)
        if copy.pop("tool_calls", None):
            lose("tools", "a tool call")
            if not copy.get("content"):
                continue
        kept.append(copy)
    return kept


def _without_strict(tool: dict[str, Any], lose: Lose) -> dict[str, Any]:
    function = cast("dict[str, Any]", tool["function"])
    if "strict" not in function:
        return tool
    lose("settings", "strict")
    return {**tool, "function": {k: v for k, v in function.items() if k != "strict"}}


def _turns(messages: list[Message], holds: frozenset[str], lose: Lose) -> list[Message]:
    systems = [one for one in messages if one.get("role") in ("system", "developer")]
    if "any order" in holds:
        return messages
    rest = [one for one in messages if one.get("role") not in ("system", "developer")]
    if systems and (len(systems) > 1 or messages[0] is not systems[0]):
        lose("turns", "system messages that are not the first")
        systems = systems[:1]
    if systems and "system" not in holds:
        lose("system", "the system prompt")
        systems = []
    if "turns" not in holds and len(rest) > 2:
        lose("turns", f"{len(rest) - 2} earlier messages")
        rest = rest[-2:]
    elif ("turns" not in holds or "alternate" in holds) and not _alternates(rest):
        lose("turns", "turns that do not alternate")
        rest = rest[-2:]
    return [*({**one, "role": "system"} for one in systems), *rest]


def _alternates(messages: list[Message]) -> bool:
    return len(messages) % 2 == 0 and all(
        one.get("role") == ("user", "assistant")[index % 2] for index, one in enumerate(messages)
    )


def _check_left(row: Row) -> None:
    roles = [one.get("role") for one in row.messages]
    if row.kind == "chat" and (not roles or roles[-1] != "assistant"):
        raise NothingLeftError("no answer is left")
    if row.kind == "preference" and not (row.chosen and row.rejected and roles):
        raise NothingLeftError("no pair of answers is left")
    if row.kind == "reinforcement" and (not roles or roles[-1] != "user"):
        raise NothingLeftError("no question is left")

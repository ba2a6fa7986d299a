"""Messages as chat templates of open models expect them."""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping, Sequence
from typing import Any, cast

from unift.errors import DataError


def plain_messages(messages: Sequence[Mapping[str, Any]], where: str = "") -> list[dict[str, Any]]:
    """Messages as templates expect them: text content, tool arguments as objects, no ``weight``.

    OpenAI writes tool arguments as a JSON string and content as text, None or a list of parts;
    the templates of open models take objects and text
    (https://huggingface.co/docs/transformers/chat_extras).
    """
    plain: list[dict[str, Any]] = []
    for number, message in enumerate(messages):
        copy = {key: value for key, value in message.items() if key != "weight"}
        content = copy.get("content")
        if content is None:
            copy["content"] = ""
        elif isinstance(content, list):
            copy["content"] = "".join(_part_text(part, number, where) for part in items(content))
        if copy.get("tool_calls"):
            copy["tool_calls"] = [_plain_call(call) for call in items(copy["tool_calls"])]
        plain.append(copy)
    return plain


def items(value: Any) -> Iterator[Mapping[str, Any]]:
    yield from cast("list[Mapping[str, Any]]", value)


def _part_text(part: Mapping[str, Any], number: int, where: str) -> str:
    if part.get("type") != "text":
        raise DataError(
            f"Message {number} has a part of type {part.get('type')!r}; only text can be trained "
            "on here.",
            code="content_type",
            where=where,
            fix="keep text parts only",
        )
    return str(part.get("text", ""))


def _plain_call(call: Mapping[str, Any]) -> dict[str, Any]:
    copy = dict(call)
    function = dict(cast("Mapping[str, Any]", copy.get("function") or {}))
    arguments = function.get("arguments")
    if isinstance(arguments, str):
        try:
            parsed = json.loads(arguments)
        except ValueError:
            parsed = arguments  # kept as written: the validator has its own word for this
        function["arguments"] = parsed
    copy["function"] = function
    return copy

"""Stored completions: what the application asked and what it was answered, as the host kept it."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

from unift_openai._calls import client, our_words
from unift_openai._submit import pages
from unift_openai.hosts import Site

_PAGE = 100
# Fields of a stored completion that belong to the request (openai-openapi, example of "List chat
# completions").
_ASKED = (
    "temperature", "top_p", "presence_penalty", "frequency_penalty", "seed", "tools", "tool_choice",
    "response_format", "max_tokens", "max_completion_tokens", "stop", "reasoning_effort",
    "parallel_tool_calls",
)  # fmt: skip


def completions(place: Site, model: str | None) -> Iterator[dict[str, Any]]:
    """Each stored completion with its messages; two calls for each, none of which costs."""
    chats = client(place).chat.completions
    wanted: dict[str, Any] = {"model": model} if model else {}
    with our_words(place, "stored completions"):
        for kept in pages(lambda: chats.list(limit=_PAGE, order="asc", **wanted)):
            messages = [
                _message(one)
                for one in pages(lambda id=kept.id: chats.messages.list(id, limit=_PAGE))
            ]
            whole: dict[str, Any] = kept.model_dump(mode="json", exclude_unset=True)
            request = {key: whole[key] for key in _ASKED if whole.get(key) is not None}
            request |= {"model": whole.get("model", ""), "messages": messages}
            response = {key: value for key, value in whole.items() if key not in _ASKED}
            yield {"request": request, "response": response}


def _message(one: Any) -> dict[str, Any]:
    message: dict[str, Any] = one.model_dump(mode="json", exclude_unset=True)
    parts = message.pop("content_parts", None)
    if message.get("content") is None and parts:
        message["content"] = parts
    return {key: value for key, value in message.items() if value is not None and key != "id"}

"""A streamed chat completion put together again."""

from __future__ import annotations

import json
from typing import Any, cast


def assemble(raw: bytes) -> dict[str, Any] | None:
    """The completion that a stream of server-sent events spells out; None if it is not whole.

    Content, refusal, tool calls, log probabilities and finish reason are put together choice by
    choice; usage is there if the client asked for it (``stream_options.include_usage``).
    """
    whole: dict[str, Any] = {"object": "chat.completion", "choices": []}
    choices: dict[int, dict[str, Any]] = {}
    for chunk in _chunks(raw):
        if "error" in chunk:
            return None
        for key in ("id", "created", "model", "system_fingerprint", "usage"):
            if chunk.get(key) is not None:
                whole[key] = chunk[key]
        parts: list[dict[str, Any]] = chunk.get("choices") or []
        for part in parts:
            index = int(part.get("index") or 0)
            choice = choices.setdefault(
                index, {"index": index, "message": {"role": "assistant"}, "finish_reason": None}
            )
            _add(choice, part)
    if not choices or any(choice["finish_reason"] is None for choice in choices.values()):
        return None
    for choice in choices.values():
        calls = choice["message"].get("tool_calls")
        if calls is not None:
            choice["message"]["tool_calls"] = [calls[index] for index in sorted(calls)]
            choice["message"].setdefault("content", None)
    whole["choices"] = [choices[index] for index in sorted(choices)]
    return whole


def _chunks(raw: bytes) -> list[dict[str, Any]]:
    found: list[dict[str, Any]] = []
    for event in raw.replace(b"\r\n", b"\n").split(b"\n\n"):
        lines = [line[5:].lstrip() for line in event.split(b"\n") if line.startswith(b"data:")]
        data = b"\n".join(lines)
        if data and data != b"[DONE]":
            try:
                chunk: Any = json.loads(data)
            except ValueError:
                continue
            if isinstance(chunk, dict):
                found.append(cast("dict[str, Any]", chunk))
    return found


def _add(choice: dict[str, Any], part: dict[str, Any]) -> None:
    message, delta = choice["message"], cast("dict[str, Any]", part.get("delta") or {})
    for key, value in delta.items():
        if key == "tool_calls":
            for call in cast("list[dict[str, Any]]", value or []):
                _add_call(message.setdefault("tool_calls", {}), call)
        elif isinstance(value, str) and key != "role":
            message[key] = (message.get(key) or "") + value
        elif value is not None:
            message[key] = value
    if part.get("finish_reason"):
        choice["finish_reason"] = part["finish_reason"]
    logprobs: dict[str, Any] = part.get("logprobs") or {}
    for key, values in logprobs.items():
        if isinstance(values, list):
            kept = choice.setdefault("logprobs", {}).setdefault(key, [])
            kept += cast("list[Any]", values)


def _add_call(calls: dict[int, dict[str, Any]], call: dict[str, Any]) -> None:
    known = calls.setdefault(
        int(call.get("index") or 0),
        {"id": "", "type": "function", "function": {"name": "", "arguments": ""}},
    )
    known["id"] = call.get("id") or known["id"]
    known["type"] = call.get("type") or known["type"]
    function: dict[str, Any] = call.get("function") or {}
    known["function"]["name"] += function.get("name") or ""
    known["function"]["arguments"] += function.get("arguments") or ""

"""Google's formats for Gemini: tuning, preference tuning, reinforcement tuning.

Sources: docs.cloud.google.com, supervised tuning (page of 2026-09-25) and preference tuning of
Gemini; the types Content, Part, FunctionCall and FunctionResponse of google-genai 3.6.1. How tool
calls look in tuning rows is not on those pages; they are written here as those types spell them.
"""

from __future__ import annotations

import json
from typing import Any, cast

from unift.data._parse import Note, strictly
from unift.data._row import REASONING
from unift.data.formats._gemini_read import SYSTEM, kind_of, read_base
from unift.data.formats._model import (
    Format,
    Lose,
    Message,
    Row,
    list_field,
    object_field,
    plain_text,
    unread,
)


def _read(fields: dict[str, Any], note: Note) -> Row | None:
    found = read_base(fields, note)
    return found[1] if found else None


def _read_preference(fields: dict[str, Any], note: Note) -> Row | None:
    found = read_base(fields, note, "completions")
    completions = list_field(fields, "completions", note)
    if found is None or completions is None:
        return None
    reader, row = found
    prompt = len(reader.messages)
    if not prompt or reader.messages[-1]["role"] != "user":
        note("UD905", ("contents",), "The prompt does not end with the user.")
        return None
    scores = [cast("Message", c).get("score") if isinstance(c, dict) else None for c in completions]
    if sorted(scores, key=str) != [0, 1] or not all(type(s) in (int, float) for s in scores):
        shown = ", ".join(str(score)[:10] for score in scores)
        note("UD904", ("completions",), f"The scores are {shown}; they have to be one 1 and one 0.")
        return None
    for index in sorted(range(2), key=lambda index: -cast("int", scores[index])):
        completion = cast("Message", completions[index])
        reader.unread += unread(completion, ("score", "completion"), ("completions", index))
        said = completion.get("completion")
        reader.content(said, ("completions", index, "completion"))
    answers = reader.messages[prompt:]
    if reader.bad or len(answers) != 2:
        return None
    if any(answer["role"] != "assistant" for answer in answers):
        note("UD903", ("completions",), "A completion has another role than model.")
        return None
    row.kind, row.messages = "preference", reader.messages[:prompt]
    row.chosen, row.rejected = answers[:1], answers[1:]
    return row


def _read_rft(fields: dict[str, Any], note: Note) -> Row | None:
    found = read_base(fields, note, "references")
    references = object_field(fields, "references", note)
    if found is None or references is None:
        return None
    row = found[1]
    if not row.messages or row.messages[-1]["role"] != "user":
        note("UD905", ("contents",), "The prompt does not end with the user.")
        return None
    row.kind = "reinforcement"
    row.unread += [(key,) for key in row.extra if key in references]
    row.extra = {**row.extra, **references}
    return row


def _write_parts(message: Message, lose: Lose) -> list[dict[str, Any]]:
    content = message.get("content")
    if isinstance(content, str):
        return [{"text": content}]
    parts: list[dict[str, Any]] = []
    for part in cast("list[dict[str, Any]]", content or []):
        if part.get("type") == "text":
            parts.append({"text": part["text"]})
            continue
        image = cast("dict[str, Any]", part["image_url"])
        url = str(image["url"])
        mime = image.get("mime_type") or kind_of(url) if url.startswith("gs://") else None
        if mime is None:
            lose("images", "an image that is not at gs:// (tuning takes images from there only)")
        else:
            parts.append({"fileData": {"mimeType": mime, "fileUri": url}})
    return parts


def _write_result(text: str) -> dict[str, Any]:
    """A JSON object as it is; any other text as the one field that Google reserves for it."""
    try:
        value: Any = strictly(text)
    except (ValueError, RecursionError):
        value = None
    fields = cast("dict[str, Any]", value) if isinstance(value, dict) else {"output": ""}
    same = list(fields) != ["output"] and json.dumps(fields, ensure_ascii=False) == text
    return fields if same else {"output": text}


def _write_contents(messages: list[Message], lose: Lose) -> list[dict[str, Any]]:
    contents: list[dict[str, Any]] = []
    names: dict[str, str] = {}
    results: list[dict[str, Any]] | None = None
    for message in messages:
        if message["role"] == "tool":
            name = names.get(str(message.get("tool_call_id")), "")
            response = _write_result(_joined(message, lose))
            part = {"functionResponse": {"name": name, "response": response}}
            if results is None:
                results = []
                contents.append({"role": "user", "parts": results})
            results.append(part)
            continue
        results = None
        parts = _write_parts(message, lose)
        thought = next((message[key] for key in REASONING if message.get(key)), None)
        if thought is not None:
            parts.insert(0, {"text": str(thought), "thought": True})
        if message.get("tool_calls"):
            parts = [part for part in parts if part.get("text") != ""]
        for call in cast("list[dict[str, Any]]", message.get("tool_calls") or []):
            function = call["function"]
            names[str(call["id"])] = function["name"]
            arguments = json.loads(function["arguments"])
            parts.append({"functionCall": {"name": function["name"], "args": arguments}})
        role = "model" if message["role"] == "assistant" else "user"
        contents.append({"role": role, "parts": parts or [{"text": ""}]})
    return contents


def _joined(message: Message, lose: Lose) -> str:
    content = message.get("content")
    if isinstance(content, list):
        lose("parts", "the parts of a tool result")
        return "\n".join(
            str(part.get("text", "")) for part in cast("list[dict[str, Any]]", content)
        )
    return plain_text(message)


def _write(row: Row, lose: Lose) -> dict[str, Any]:
    out: dict[str, Any] = {}
    messages = row.messages
    if messages[0]["role"] == "system":
        out["systemInstruction"] = {"role": "system", "parts": _write_parts(messages[0], lose)}
        messages = messages[1:]
    out["contents"] = _write_contents(messages, lose)
    if row.tools is not None:
        out["tools"] = [{"functionDeclarations": [tool["function"] for tool in row.tools]}]
    return out


def _write_preference(row: Row, lose: Lose) -> dict[str, Any]:
    out = _write(row, lose)
    completions: list[dict[str, Any]] = []
    for score, answer in ((1, row.chosen), (0, row.rejected)):
        if len(answer) > 1:
            lose("turns", f"{len(answer) - 1} messages of an answer")
        [completion] = _write_contents(answer[-1:], lose)
        completions.append({"score": score, "completion": completion})
    return {**out, "completions": completions}


def _write_rft(row: Row, lose: Lose) -> dict[str, Any]:
    texts = {key: value for key, value in row.extra.items() if isinstance(value, str)}
    others = sorted(key for key in row.extra if key not in texts and row.extra[key] is not None)
    if others:
        lose("references", ", ".join(others)[:80])
    return {**_write(row, lose), "references": texts}


_HOLDS = frozenset({"tools", "turns", "system", "parts", "images", "media", "reasoning"})
TUNING = Format(
    "gemini",
    "chat",
    ("contents",),
    ("contents", "tools", *SYSTEM),
    _HOLDS,
    _read,
    _write,
    "docs.cloud.google.com, supervised tuning",
)
PREFERENCE = Format(
    "gemini-preference",
    "preference",
    ("contents", "completions"),
    ("contents", "completions", "tools", *SYSTEM),
    _HOLDS - {"images", "media", "tools"},
    _read_preference,
    _write_preference,
    "docs.cloud.google.com, preference tuning; text only",
)
RFT = Format(
    "gemini-rft",
    "reinforcement",
    ("contents", "references"),
    ("contents", "references", "tools", *SYSTEM),
    _HOLDS | {"references"},
    _read_rft,
    _write_rft,
    "docs.cloud.google.com, reinforcement tuning",
)

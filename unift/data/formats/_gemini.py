"""Google's formats for Gemini: tuning, preference tuning, reinforcement tuning.

Sources: docs.cloud.google.com, supervised tuning (page of 2026-09-25) and preference tuning of
Gemini; the types Content, Part, FunctionCall and FunctionResponse of google-genai 3.6.1. How tool
calls look in tuning rows is not on those pages; they are written here as those types spell them.
"""

from __future__ import annotations

import json
import mimetypes
from typing import Any, cast

from unift.data._finding import Path
from unift.data._parse import Note
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

_ROLES = {"user": "user", "model": "assistant", "function": "user", "tool": "user"}
# What people write for the model.
_MODEL = ("assistant", "gpt", "bot", "ai", "model")
_TYPES = ("OBJECT", "ARRAY", "STRING", "INTEGER", "NUMBER", "BOOLEAN", "NULL")
_PART = (
    "text", "fileData", "file_data", "inlineData", "inline_data", "functionCall", "function_call",
    "functionResponse", "function_response",
)  # fmt: skip
_SYSTEM = ("systemInstruction", "system_instruction")


class _Reader:
    """One row on its way in; tool calls get ids, which Gemini matches by name and order."""

    def __init__(self, note: Note) -> None:
        self._note = note
        self._calls = 0
        self._open: list[tuple[str, str]] = []  # (id, name) of calls without a result
        self.messages: list[Message] = []
        self.places: list[Path] = []
        self.bad = False
        self.unread: list[Path] = []

    def fail(self, code: str, path: Path, message: str, fix: str | None = None) -> None:
        self.bad = True
        self._note(code, path, message, fix)

    def add(self, message: Message, place: Path) -> None:
        self.messages.append(message)
        self.places.append(place)

    def system(self, fields: dict[str, Any]) -> None:
        key = next((key for key in _SYSTEM if fields.get(key) is not None), None)
        if key is None:
            return
        value = fields[key]
        parts: Any = [{"text": value}] if isinstance(value, str) else None
        if isinstance(value, dict):
            parts = cast("dict[str, Any]", value).get("parts")
        if isinstance(parts, dict):
            parts = [cast("Any", parts)]
        texts = [
            cast("dict[str, Any]", part).get("text") if isinstance(part, dict) else None
            for part in (cast("list[Any]", parts) if isinstance(parts, list) else [])
        ]
        if not texts or not all(isinstance(text, str) for text in texts):
            self.fail("UD901", (key,), f"`{key}` is not a text in parts.")
            return
        self.add({"role": "system", "content": _content([_text(str(t)) for t in texts])}, (key,))

    def content(self, value: Any, path: Path) -> None:
        fields = cast("dict[str, Any]", value) if isinstance(value, dict) else {}
        role = _ROLES.get(str(fields.get("role")))
        if role is None:
            shown = str(fields.get("role"))[:20]
            fix = "did you mean 'model'?" if shown.strip().lower() in _MODEL else None
            self.fail("UD901", path, f"There is no role {shown!r}; it is user or model.", fix)
            return
        if isinstance(fields.get("parts"), str):
            fix = 'write "parts": [{"text": ...}], or mend it: unift validate FILE --fix OUT'
            self.fail("UD901", (*path, "parts"), "`parts` is a string, not a list of parts.", fix)
            return
        parts = list_field(fields, "parts", self._note, path)
        if parts is None:
            self.bad = True
            return
        self.unread += unread(fields, ("role", "parts"), path)
        said: list[dict[str, Any]] = []
        calls: list[dict[str, Any]] = []
        results = 0
        for index, part in enumerate(parts):
            here = (*path, "parts", index)
            each = cast("dict[str, Any]", part) if isinstance(part, dict) else {}
            self.unread += unread(each, _PART, here)
            call = each.get("functionCall", each.get("function_call"))
            result = each.get("functionResponse", each.get("function_response"))
            if isinstance(call, dict) and role == "assistant":
                calls.append(self._call(cast("dict[str, Any]", call)))
            elif isinstance(result, dict) and role == "user":
                self._result(cast("dict[str, Any]", result), here)
                results += 1
            else:
                one = _part(each)
                if one is None:
                    known = ", ".join(map(str, each))[:40] or "nothing"
                    self.fail("UD901", here, f"The part has no text or image ({known}).")
                    return
                said.append(one)
        if calls:
            message: Message = {"role": role, "tool_calls": calls}
            if said:
                message["content"] = _content(said)
            self.add(message, path)
        elif said or not results:
            self.add({"role": role, "content": _content(said)}, path)

    def _call(self, call: dict[str, Any]) -> dict[str, Any]:
        self._calls += 1
        known = str(call.get("id") or f"call_{self._calls}")
        name = str(call.get("name"))
        self._open.append((known, name))
        arguments = json.dumps(call.get("args") or {}, ensure_ascii=False)
        function = {"name": name, "arguments": arguments}
        return {"id": known, "type": "function", "function": function}

    def _result(self, result: dict[str, Any], path: Path) -> None:
        wanted = result.get("id"), str(result.get("name"))
        found = next(
            (one for one in self._open if one[0] == wanted[0]),
            next((one for one in self._open if one[1] == wanted[1]), None),
        )
        if found is None:
            self.fail("UD304", path, f"No call of {wanted[1][:40]!r} waits for this result.")
            return
        self._open.remove(found)
        self.add({"role": "tool", "tool_call_id": found[0], "content": _result_text(result)}, path)


def _text(text: str) -> dict[str, Any]:
    return {"type": "text", "text": text}


def _part(part: dict[str, Any]) -> dict[str, Any] | None:
    """A text or image part as OpenAI writes it."""
    if isinstance(part.get("text"), str):
        return _text(part["text"])
    file = part.get("fileData") or part.get("file_data")
    if isinstance(file, dict):
        uri = cast("dict[str, Any]", file).get("fileUri")
        return {"type": "image_url", "image_url": {"url": uri}} if isinstance(uri, str) else None
    data = part.get("inlineData") or part.get("inline_data")
    if isinstance(data, dict):
        fields = cast("dict[str, Any]", data)
        url = f"data:{fields.get('mimeType')};base64,{fields.get('data')}"
        return {"type": "image_url", "image_url": {"url": url}}
    return None


def _content(parts: list[dict[str, Any]]) -> Any:
    return parts[0]["text"] if len(parts) == 1 and parts[0]["type"] == "text" else parts


def _result_text(result: dict[str, Any]) -> str:
    response = result.get("response")
    fields = cast("dict[str, Any]", response) if isinstance(response, dict) else {}
    if list(fields) == ["output"] and isinstance(fields["output"], str):
        return fields["output"]
    return json.dumps(response, ensure_ascii=False)


def _read_tools(fields: dict[str, Any], note: Note) -> list[Any] | None:
    if fields.get("tools") is None:
        return None
    listed = list_field(fields, "tools", note)
    tools: list[Any] = []
    for one in listed or []:
        fields = cast("dict[str, Any]", one) if isinstance(one, dict) else {}
        declared: Any = fields.get("functionDeclarations", fields.get("function_declarations"))
        for each in cast("list[Any]", declared) if isinstance(declared, list) else []:
            tools.append({"type": "function", "function": _lower(each)})
    return tools


def _lower(schema: Any) -> Any:
    """Google's names of types (OBJECT, STRING) are those of JSON schema in capitals."""
    if isinstance(schema, list):
        return [_lower(one) for one in cast("list[Any]", schema)]
    if not isinstance(schema, dict):
        return schema
    fields = cast("dict[str, Any]", schema)
    return {
        key: value.lower()
        if key == "type" and isinstance(value, str) and value in _TYPES
        else _lower(value)
        for key, value in fields.items()
    }


def _read_base(fields: dict[str, Any], note: Note, *more: str) -> tuple[_Reader, Row] | None:
    contents = list_field(fields, "contents", note)
    if contents is None:
        return None
    reader = _Reader(note)
    reader.system(fields)
    for index, content in enumerate(contents):
        reader.content(content, ("contents", index))
    known = ("contents", "tools", *_SYSTEM, *more)
    row = Row("chat", reader.messages, tools=_read_tools(fields, note), places=reader.places)
    row.extra = {key: value for key, value in fields.items() if key not in known}
    row.unread = reader.unread
    return None if reader.bad else (reader, row)


def _read(fields: dict[str, Any], note: Note) -> Row | None:
    found = _read_base(fields, note)
    return found[1] if found else None


def _read_preference(fields: dict[str, Any], note: Note) -> Row | None:
    found = _read_base(fields, note, "completions")
    completions = list_field(fields, "completions", note)
    if found is None or completions is None:
        return None
    reader, row = found
    prompt = len(reader.messages)
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
    found = _read_base(fields, note, "references")
    references = object_field(fields, "references", note)
    if found is None or references is None:
        return None
    row = found[1]
    if not row.messages or row.messages[-1]["role"] != "user":
        note("UD905", ("contents",), "The prompt does not end with the user.")
        return None
    row.kind = "reinforcement"
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
        url = str(cast("dict[str, Any]", part["image_url"])["url"])
        mime = mimetypes.guess_type(url)[0] if url.startswith("gs://") else None
        if mime is None:
            lose("images", "an image that is not at gs:// (tuning takes images from there only)")
        else:
            parts.append({"fileData": {"mimeType": mime, "fileUri": url}})
    return parts


def _write_result(text: str) -> dict[str, Any]:
    """A JSON object as it is; any other text as the one field that Google reserves for it."""
    try:
        value: Any = json.loads(text)
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
    if len(texts) < len(row.extra):
        lose("references", ", ".join(sorted(set(row.extra) - set(texts)))[:80])
    return {**_write(row, lose), "references": texts}


_HOLDS = frozenset({"tools", "turns", "system", "parts", "images"})
TUNING = Format(
    "gemini",
    "chat",
    ("contents",),
    ("contents", "tools", *_SYSTEM),
    _HOLDS,
    _read,
    _write,
    "docs.cloud.google.com, supervised tuning",
)
PREFERENCE = Format(
    "gemini-preference",
    "preference",
    ("contents", "completions"),
    ("contents", "completions", "tools", *_SYSTEM),
    _HOLDS - {"images", "tools"},
    _read_preference,
    _write_preference,
    "docs.cloud.google.com, preference tuning; text only",
)
RFT = Format(
    "gemini-rft",
    "reinforcement",
    ("contents", "references"),
    ("contents", "references", "tools", *_SYSTEM),
    _HOLDS | {"extra"},
    _read_rft,
    _write_rft,
    "docs.cloud.google.com, reinforcement tuning",
)

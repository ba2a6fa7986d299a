"""One row of Google's on its way in; the formats and their sources are in `_gemini`."""

from __future__ import annotations

import json
import mimetypes
from typing import Any, cast

from unift.data._finding import Path
from unift.data._parse import Note
from unift.data._row import REASONING
from unift.data.formats._model import Message, Row, list_field, unread

_ROLES = {"user": "user", "model": "assistant", "function": "user", "tool": "user"}
# What people write for the two speakers.
_ROLE_FIXES = {
    **dict.fromkeys(("assistant", "gpt", "bot", "ai", "model"), "did you mean 'model'?"),
    **dict.fromkeys(
        ("system", "developer"),
        'put it beside contents: "systemInstruction": {"parts": [{"text": ...}]}',
    ),
}
_TYPES = ("OBJECT", "ARRAY", "STRING", "INTEGER", "NUMBER", "BOOLEAN", "NULL")
# What a part can be, one of it at a time -> its keys.
_KINDS: dict[str, tuple[str, ...]] = {
    "text": (),
    "fileData": ("fileUri", "mimeType", "file_uri", "mime_type"),
    "inlineData": ("data", "mimeType", "mime_type"),
    "functionCall": ("id", "name", "args"),
    "functionResponse": ("id", "name", "response"),
}
# Of those the ones that Google requires (aiplatform v1 discovery document, rev 20261106: FileData,
# Blob, FunctionCall, FunctionResponse).
_NEEDED = {
    "fileData": ("fileUri", "mimeType"),
    "inlineData": ("data", "mimeType"),
    "functionCall": ("name",),
    "functionResponse": ("name", "response"),
}
_SNAKE = {
    "file_data": "fileData", "inline_data": "inlineData", "function_call": "functionCall",
    "function_response": "functionResponse",
}  # fmt: skip
_CALLS_ONLY = ("functionDeclarations", "function_declarations")
_TOOLS_FIX = 'write "tools": [{"functionDeclarations": [{"name": ..., "parameters": {...}}]}]'
SYSTEM = ("systemInstruction", "system_instruction")


class Reader:
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
        key = next((key for key in SYSTEM if fields.get(key) is not None), None)
        if key is None:
            return
        if all(fields.get(one) is not None for one in SYSTEM):
            self.fail("UD901", (SYSTEM[1],), "The row has two system instructions.", "keep one")
            return
        value = fields[key]
        parts: Any = [{"text": value}] if isinstance(value, str) else None
        if isinstance(value, dict):
            parts = cast("dict[str, Any]", value).get("parts")
        if isinstance(parts, dict):
            parts = [cast("Any", parts)]
        else:
            value = {}
        self.unread += unread(cast("dict[str, Any]", value), ("role", "parts"), (key,))
        texts: list[Any] = []
        for index, part in enumerate(cast("list[Any]", parts) if isinstance(parts, list) else []):
            each = cast("dict[str, Any]", part) if isinstance(part, dict) else {}
            self.unread += unread(each, ("text",), (key, "parts", index))
            texts.append(each.get("text"))
        if not texts or not all(isinstance(text, str) for text in texts):
            self.fail("UD901", (key,), f"`{key}` is not a text in parts.")
            return
        self.add({"role": "system", "content": _content([_text(str(t)) for t in texts])}, (key,))

    def content(self, value: Any, path: Path) -> None:
        fields = cast("dict[str, Any]", value) if isinstance(value, dict) else {}
        role = _ROLES.get(str(fields.get("role")))
        if role is None:
            shown = str(fields.get("role"))[:20]
            fix = _ROLE_FIXES.get(shown.strip().lower())
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
        thoughts: list[str] = []
        results = 0
        for index, part in enumerate(parts):
            here = (*path, "parts", index)
            found = self._kind(part, role, here)
            if found is None:
                return
            kind, each, value = found
            if each.get("thought") is True and kind == "text" and role == "assistant":
                thoughts.append(str(value))
            elif kind == "functionCall" and role == "assistant":
                calls.append(self._call(cast("dict[str, Any]", value)))
            elif kind == "functionResponse" and role == "user":
                self._result(cast("dict[str, Any]", value), here)
                results += 1
            else:
                one = _part(kind, value)
                if one is None:
                    known = ", ".join(map(str, each))[:40] or "nothing"
                    self.fail("UD901", here, f"The part has no text or image ({known}).")
                    return
                said.append(one)
        message: Message = {"role": role}
        if said or not (calls or results):
            message["content"] = _content(said)
        if calls:
            message["tool_calls"] = calls
        if thoughts:
            message[REASONING[0]] = "\n".join(thoughts)
        if len(message) > 1:
            self.add(message, path)

    def _kind(self, part: Any, role: str, path: Path) -> tuple[str, dict[str, Any], Any] | None:
        """(what it is, the part, the value) of a part; None if it is nothing, or several things."""
        each = cast("dict[str, Any]", part) if isinstance(part, dict) else {}
        named = [key for key in each if _SNAKE.get(key, key) in _KINDS and each[key] is not None]
        if len(named) != 1:
            known = ", ".join(map(str, each))[:60] or "nothing"
            many = "more than one of text, image and call" if named else "no text or image"
            self.fail("UD901", path, f"The part has {many} ({known}).")
            return None
        value: Any = each[named[0]]
        kind = _SNAKE.get(named[0], named[0])
        self.unread += unread(each, (named[0], "thought"), path)
        if isinstance(value, dict):
            self.unread += unread(cast("dict[str, Any]", value), _KINDS[kind], (*path, named[0]))
        elif kind != "text":
            self.fail("UD901", (*path, named[0]), f"`{named[0]}` is not an object.")
            return None
        missing = [one for one in _NEEDED.get(kind, ()) if not _has(cast("Any", value), one)]
        if missing:
            self.fail("UD901", (*path, named[0]), f"`{named[0]}` has no `{missing[0]}`.")
            return None
        thought = each.get("thought")
        if thought and not (thought is True and kind == "text" and role == "assistant"):
            self.unread.append((*path, "thought"))
        return kind, each, cast("Any", value)

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


def _has(fields: dict[str, Any], key: str) -> bool:
    """True if a key is there in either spelling, with a value of its type."""
    snake = {"fileUri": "file_uri", "mimeType": "mime_type"}.get(key, key)
    value = fields.get(key, fields.get(snake))
    return isinstance(value, dict if key == "response" else str) and value != ""


def _text(text: str) -> dict[str, Any]:
    return {"type": "text", "text": text}


def _part(kind: str, value: Any) -> dict[str, Any] | None:
    """A text or image part as OpenAI writes it; of other files the type is kept beside."""
    if kind == "text":
        return _text(value) if isinstance(value, str) else None
    fields = cast("dict[str, Any]", value)
    mime = fields.get("mimeType", fields.get("mime_type"))
    if kind == "fileData":
        uri = fields.get("fileUri", fields.get("file_uri"))
        if not isinstance(uri, str):
            return None
        image: dict[str, Any] = {"url": uri}
        if isinstance(mime, str) and not (mime.startswith("image/") and mime == kind_of(uri)):
            image["mime_type"] = mime
        return {"type": "image_url", "image_url": image}
    if kind == "inlineData":
        return {
            "type": "image_url",
            "image_url": {"url": f"data:{mime};base64,{fields.get('data')}"},
        }
    return None


def kind_of(uri: str) -> str | None:
    return mimetypes.guess_type(uri)[0]


def _content(parts: list[dict[str, Any]]) -> Any:
    return parts[0]["text"] if len(parts) == 1 and parts[0]["type"] == "text" else parts


def _result_text(result: dict[str, Any]) -> str:
    response = result.get("response")
    fields = cast("dict[str, Any]", response) if isinstance(response, dict) else {}
    if list(fields) == ["output"] and isinstance(fields["output"], str):
        return fields["output"]
    return json.dumps(response, ensure_ascii=False)


def _read_tools(fields: dict[str, Any], note: Note, left: list[Path]) -> list[Any] | None:
    if fields.get("tools") is None:
        return None
    listed = list_field(fields, "tools", note)
    tools: list[Any] = []
    for index, one in enumerate(listed or []):
        fields = cast("dict[str, Any]", one) if isinstance(one, dict) else {}
        # Google's own tools (search, code execution) have no declaration.
        left += unread(fields, _CALLS_ONLY, ("tools", index))
        declared: Any = fields.get("functionDeclarations", fields.get("function_declarations"))
        if declared is not None and not isinstance(declared, list):
            note("UD307", ("tools", index), "The declarations are not a list.", _TOOLS_FIX)
        for each in cast("list[Any]", declared) if isinstance(declared, list) else []:
            tools.append({"type": "function", "function": _lower(each)})
    return tools or None


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


def read_base(fields: dict[str, Any], note: Note, *more: str) -> tuple[Reader, Row] | None:
    contents = list_field(fields, "contents", note)
    if contents is None:
        return None
    reader = Reader(note)
    reader.system(fields)
    for index, content in enumerate(contents):
        reader.content(content, ("contents", index))
    known = ("contents", "tools", *SYSTEM, *more)
    tools = _read_tools(fields, note, reader.unread)
    row = Row("chat", reader.messages, tools=tools, places=reader.places)
    row.extra = {key: value for key, value in fields.items() if key not in known}
    row.unread = reader.unread
    return None if reader.bad else (reader, row)

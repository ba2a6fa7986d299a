"""What a row says, whatever format it is written in: to compare rows of two formats."""

from __future__ import annotations

import json
from typing import Any, cast

from unift.data._content import RowContent
from unift.data._row import NOTES
from unift.data.formats import FORMATS, modern


def meaning(row: RowContent) -> dict[str, Any]:
    """The canonical row without ids of calls, spelling of arguments, and what says nothing."""
    read = FORMATS[row.format].read(row.value, _silent)
    if read is None:
        return row.chat
    read = modern(read)
    ids: dict[str, str] = {}
    parts = [
        [_message(one, at, ids) for at, one in enumerate(part)]
        for part in (read.messages, read.chosen, read.rejected)
    ]
    notes = () if read.kind == "reinforcement" else NOTES
    extra = {k: value for k, value in read.extra.items() if value is not None and k not in notes}
    return {"messages": parts, "tools": read.tools or None, "extra": extra}


def _message(message: dict[str, Any], at: int, ids: dict[str, str]) -> dict[str, Any]:
    said = {key: value for key, value in message.items() if value not in (None, "", [])}
    if said.get("role") == "developer" and at == 0:
        said["role"] = "system"
    if said.get("weight") == 1:
        del said["weight"]
    content = said.get("content")
    if isinstance(content, list) and len(cast("list[Any]", content)) == 1:
        [part] = cast("list[dict[str, Any]]", content)
        said["content"] = part.get("text", content)
    if "tool_calls" in said:
        said["tool_calls"] = [_call(one, ids) for one in said["tool_calls"]]
    if "tool_call_id" in said:
        said["tool_call_id"] = ids.get(said["tool_call_id"], said["tool_call_id"])
    return said


def _call(call: dict[str, Any], ids: dict[str, str]) -> dict[str, Any]:
    function = call["function"]
    known = ids[call["id"]] = str(len(ids))
    return {
        "id": known,
        "name": function["name"],
        "arguments": json.loads(function["arguments"]),
    }


def _silent(*_: object) -> None:
    """The row was checked before."""

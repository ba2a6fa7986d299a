"""Chat rows in a few letters, written to a file and read from one."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any


def user(text: Any) -> dict[str, Any]:
    return {"role": "user", "content": text}


def answer(text: Any, **more: Any) -> dict[str, Any]:
    return {"role": "assistant", "content": text, **more}


def save(path: Path, rows: list[Any]) -> Path:
    path.write_text("".join(json.dumps(row) + "\n" for row in rows))
    return path


def load(path: Path) -> list[Any]:
    return [json.loads(line) for line in path.read_bytes().split(b"\n") if line]


def plain(row: dict[str, Any]) -> Any:
    """A chat row without what no conversion promises: ids of calls, spelling of arguments."""
    ids: dict[str, str] = {}
    count = 0
    out: list[Any] = []
    for message in row["messages"]:
        copy = {key: value for key, value in message.items() if value not in (None, "")}
        calls = []
        for call in message.get("tool_calls") or []:
            count += 1
            ids[call["id"]] = f"#{count}"
            function = call["function"]
            calls.append((ids[call["id"]], function["name"], json.loads(function["arguments"])))
        if calls:
            copy["tool_calls"] = calls
        if "tool_call_id" in copy:
            copy["tool_call_id"] = ids[copy["tool_call_id"]]
        out.append(copy)
    return out, row.get("tools")

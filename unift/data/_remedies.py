"""What can be mended in a row without guessing what its author meant.

A remedy changes how something is written, never what is said: the white space around an answer, a
weight of ``true``, arguments as an object. Whatever needs a decision is left as it is.
"""

from __future__ import annotations

import json
import re
from collections.abc import Callable
from typing import Any, cast

from unift.data._finding import Path

Changed = Callable[[str, Path, str], None]
"""``changed(code, path, what)``"""

_SURROGATE = re.compile("[\ud800-\udfff]")
# Names that formats of the field use for the same two speakers.
_ROLES = {"human": "user", "gpt": "assistant", "model": "assistant", "bot": "assistant"}
_KNOWN = ("system", "developer", "user", "assistant", "tool")


def load(text: str, changed: Changed) -> Any:
    """The value of a line. A key that comes twice with one value is kept once.

    Raises:
        ValueError: Not JSON, or a key comes twice with different values.
    """

    def pairs(found: list[tuple[str, Any]]) -> dict[str, Any]:
        built: dict[str, Any] = {}
        for key, value in found:
            if key in built:
                if built[key] != value:
                    raise ValueError(key)
                changed("UD102", (key,), f"kept one of two equal {key[:40]!r}")
            built[key] = value
        return built

    return json.loads(text, object_pairs_hook=pairs)


def mend_row(row: dict[str, Any], changed: Changed) -> dict[str, Any]:
    """A row without what can be mended; every change is told."""
    row = cast("dict[str, Any]", _clean(row, (), changed))
    parallel = row.get("parallel_tool_calls")
    if isinstance(parallel, str) and parallel.lower() in ("true", "false"):
        row["parallel_tool_calls"] = parallel.lower() == "true"
        changed("UD313", ("parallel_tool_calls",), f"{parallel!r} is now a truth value")
    messages = row.get("messages")
    if isinstance(messages, list):
        for index, message in enumerate(cast("list[Any]", messages)):
            if isinstance(message, dict):
                _mend_message(cast("dict[str, Any]", message), ("messages", index), changed)
    return row


def _clean(value: Any, path: Path, changed: Changed) -> Any:
    """Without NUL characters and halves of characters, wherever they are."""
    if isinstance(value, str):
        if "\0" in value:
            changed("UD107", path, f"removed {value.count(chr(0))} NUL")
            value = value.replace("\0", "")
        if _SURROGATE.search(value):
            changed("UD106", path, "removed half a character")
            value = _SURROGATE.sub("", value)
        return value
    if isinstance(value, list):
        items = cast("list[Any]", value)
        return [_clean(item, (*path, index), changed) for index, item in enumerate(items)]
    if isinstance(value, dict):
        fields = cast("dict[str, Any]", value)
        return {key: _clean(item, (*path, key), changed) for key, item in fields.items()}
    return value


def _mend_message(message: dict[str, Any], path: Path, changed: Changed) -> None:
    role = message.get("role")
    if isinstance(role, str) and role not in _KNOWN:
        plain = role.strip().lower()
        known = plain if plain in _KNOWN else _ROLES.get(plain)
        if known is not None:
            message["role"] = known
            changed("UD212", (*path, "role"), f"{role[:40]!r} is now {known!r}")
    role = message.get("role")
    _mend_weight(message, role, path, changed)
    content = message.get("content")
    learnt = role == "assistant" and message.get("weight") != 0
    if learnt and isinstance(content, str) and content.strip() and content != content.strip():
        message["content"] = content.strip()
        changed("UD504", (*path, "content"), "stripped the white space around the answer")
    calls = message.get("tool_calls")
    for number, call in enumerate(cast("list[Any]", calls) if isinstance(calls, list) else []):
        function = cast("dict[str, Any]", call).get("function") if isinstance(call, dict) else None
        if not isinstance(function, dict):
            continue
        fields = cast("dict[str, Any]", function)
        if isinstance(fields.get("arguments"), dict):
            fields["arguments"] = json.dumps(fields["arguments"], ensure_ascii=False)
            here = (*path, "tool_calls", number, "function", "arguments")
            changed("UD301", here, "the arguments are now a JSON string")


def _mend_weight(message: dict[str, Any], role: Any, path: Path, changed: Changed) -> None:
    if "weight" not in message:
        return
    weight = message["weight"]
    here = (*path, "weight")
    if role in _KNOWN and role != "assistant":
        del message["weight"]
        changed("UD231", here, f"removed the weight of a {role} message")
    elif type(weight) is not int and weight in (0, 1, "0", "1"):
        message["weight"] = int(weight)
        changed("UD230", here, f"{weight!r} is now {int(weight)}")

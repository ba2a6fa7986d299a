"""What can be mended in a row without guessing what its author meant.

A remedy changes how something is written, never what is said: the white space around an answer, a
weight of ``true``, arguments as an object. Whatever needs a decision is left as it is.
"""

from __future__ import annotations

import json
import re
from collections.abc import Callable, Iterator
from typing import Any, cast

from unift.data._finding import Path
from unift.data._row import MESSAGE_KEYS
from unift.data.formats import SHAREGPT_ROLES, modern_chat

Changed = Callable[[str, Path, str], None]
"""``changed(code, path, what)``"""

_SURROGATE = re.compile("[\ud800-\udfff]")
# Names that formats of the field use for the same two speakers.
_ROLES = {"human": "user", "gpt": "assistant", "model": "assistant", "bot": "assistant"}
_GEMINI = ("user", "model", "function", "tool")
_GEMINI_ROLES = {**dict(zip(_GEMINI, _GEMINI, strict=True)), "human": "user"}
_GEMINI_ROLES.update(dict.fromkeys(("assistant", "gpt", "bot", "ai"), "model"))
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


def mend_row(row: dict[str, Any], changed: Changed, form: str = "openai-chat") -> dict[str, Any]:
    """A row of a format without what can be mended; every change is told."""
    row = cast("dict[str, Any]", _clean(row, (), changed))
    match form:
        case "openai-preference":
            given = row.get("input")
            if isinstance(given, dict):
                _mend_parallel(cast("dict[str, Any]", given), ("input",), changed)
                _mend_messages(cast("dict[str, Any]", given), "messages", ("input",), changed)
            for key in ("preferred_output", "non_preferred_output"):
                _mend_messages(row, key, (), changed)
        case "prompt-completion":
            for key in ("prompt", "completion"):
                _mend_messages(row, key, (), changed)
            # White space before it joins it to the prompt; what comes after it is never meant.
            _strip(row, "completion", (), changed, str.rstrip)
        case "alpaca":
            _strip(row, "output", (), changed)
        case "sharegpt":
            for turn, path in _objects(row, "conversations", ()):
                _mend_turn(turn, path, changed)
        case "gemini" | "gemini-preference" | "gemini-rft":
            _mend_gemini(row, changed)
        case _:
            _mend_parallel(row, (), changed)
            _mend_messages(row, "messages", (), changed)
            old, row = row, modern_chat(row)
            if row is not old:
                changed("UD314", ("messages",), "functions and their calls are tools now")
    return row


def _objects(fields: dict[str, Any], key: str, path: Path) -> Iterator[tuple[dict[str, Any], Path]]:
    """(object, path) of those in a list."""
    listed = fields.get(key)
    for index, one in enumerate(cast("list[Any]", listed) if isinstance(listed, list) else []):
        if isinstance(one, dict):
            yield cast("dict[str, Any]", one), (*path, key, index)


def _mend_messages(fields: dict[str, Any], key: str, path: Path, changed: Changed) -> None:
    for message, here in _objects(fields, key, path):
        _mend_message(message, here, changed)


def _mend_parallel(row: dict[str, Any], path: Path, changed: Changed) -> None:
    parallel = row.get("parallel_tool_calls")
    if isinstance(parallel, str) and parallel.lower() in ("true", "false"):
        row["parallel_tool_calls"] = parallel.lower() == "true"
        changed("UD313", (*path, "parallel_tool_calls"), f"{parallel!r} is now a truth value")


def _strip(
    fields: dict[str, Any],
    key: str,
    path: Path,
    changed: Changed,
    strip: Callable[[str], str] = str.strip,
) -> None:
    text = fields.get(key)
    if isinstance(text, str) and text.strip() and strip(text) != text:
        fields[key] = strip(text)
        changed("UD504", (*path, key), "stripped the white space around the answer")


def _mend_turn(turn: dict[str, Any], path: Path, changed: Changed) -> None:
    who, what = ("role", "content") if "role" in turn else ("from", "value")
    said = turn.get(who)
    if isinstance(said, str) and said not in SHAREGPT_ROLES:
        plain = said.strip().lower()
        plain = {"bot": "gpt"}.get(plain, plain)
        if plain in SHAREGPT_ROLES:
            turn[who] = plain
            changed("UD901", (*path, who), f"{said[:40]!r} is now {plain!r}")
    if SHAREGPT_ROLES.get(str(turn.get(who))) == "assistant" and turn.get("weight") != 0:
        _strip(turn, what, path, changed)


def _mend_gemini(row: dict[str, Any], changed: Changed) -> None:
    for content, path in _objects(row, "contents", ()):
        _mend_content(content, path, changed)
    for completion, path in _objects(row, "completions", ()):
        score = completion.get("score")
        if isinstance(score, bool | str) and score in (False, True, "0", "1"):
            completion["score"] = int(score)
            changed("UD904", (*path, "score"), f"{score!r} is now {int(score)}")
        if isinstance(completion.get("completion"), dict):
            said = cast("dict[str, Any]", completion["completion"])
            _mend_content(said, (*path, "completion"), changed)


def _mend_content(content: dict[str, Any], path: Path, changed: Changed) -> None:
    role = content.get("role")
    if isinstance(role, str) and role not in _GEMINI:
        known = _GEMINI_ROLES.get(role.strip().lower())
        if known is not None:
            content["role"] = known
            changed("UD901", (*path, "role"), f"{role[:40]!r} is now {known!r}")
    parts = content.get("parts")
    if isinstance(parts, str):
        content["parts"] = [{"text": parts}]
        changed("UD901", (*path, "parts"), "the text is now a list of one part")
    elif isinstance(parts, dict):
        content["parts"] = [parts]
        changed("UD901", (*path, "parts"), "the part is now a list of one part")
    texts = list(_objects(content, "parts", path))
    if content.get("role") == "model" and len(texts) == 1:
        _strip(texts[0][0], "text", texts[0][1], changed)


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
    if role == "assistant" and message.get("weight") != 0:
        _strip(message, "content", path, changed)
    # As SDKs write out a message: "audio": null, "annotations": [].
    empty = [key for key in message if key not in MESSAGE_KEYS and message[key] in (None, [], {})]
    for key in empty:
        what = "null" if message[key] is None else "nothing in it"
        del message[key]
        changed("UD216", (*path, key), f"removed a key with {what}")
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

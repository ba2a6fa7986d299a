"""Formats of open data sets: prompt/completion, Alpaca, ShareGPT.

Sources: prompt/completion as trl 1.16 reads it ("Dataset formats and types"), in text and in
messages; Alpaca as the Stanford Alpaca repository defines it, with `system` and `history` as
LLaMA-Factory adds them; ShareGPT with function calls as LLaMA-Factory's data/README.md has it.
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from typing import Any, cast

from unift._text import nearest
from unift.data._finding import Path
from unift.data._parse import Note, strictly
from unift.data._row import kind
from unift.data.formats._model import (
    Format,
    Lose,
    Message,
    Row,
    list_field,
    plain_text,
    text_field,
    unread,
)


def _others(fields: Mapping[str, Any], *known: str) -> dict[str, Any]:
    return {key: value for key, value in fields.items() if key not in known}


def _read_completion(fields: dict[str, Any], note: Note) -> Row | None:
    if isinstance(fields.get("label"), bool):
        note(
            "UD906",
            ("label",),
            "With `label` this is a row of KTO: a bad answer would be learnt like a good one.",
            "keep the rows whose label is true, without `label`",
        )
        return None
    messages: list[Message] = []
    places: list[Any] = []
    for key, role in (("prompt", "user"), ("completion", "assistant")):
        value = fields.get(key)
        if isinstance(value, list):
            listed = cast("list[Message]", value)
            messages += listed
            places += [(key, index) for index in range(len(listed))]
            continue
        text = text_field(fields, key, note)
        if text is None:
            return None
        messages.append({"role": role, "content": text})
        places.append((key,))
    return Row(
        "chat",
        messages,
        tools=fields.get("tools"),
        places=places,
        extra=_others(fields, "prompt", "completion", "tools"),
    )


def _write_completion(row: Row, lose: Lose) -> dict[str, Any]:
    return {
        "prompt": plain_text(row.messages[0]) if len(row.messages) > 1 else "",
        "completion": plain_text(row.messages[-1]),
    }


def _read_alpaca(fields: dict[str, Any], note: Note) -> Row | None:
    texts = {key: text_field(fields, key, note) for key in ("instruction", "output")}
    for key in ("input", "system"):
        texts[key] = text_field(fields, key, note, needed=False)
    instruction, output = texts["instruction"], texts["output"]
    if instruction is None or output is None:
        return None
    messages: list[Message] = []
    places: list[Any] = []
    if texts["system"]:
        messages.append({"role": "system", "content": texts["system"]})
        places.append(("system",))
    history: Any = fields.get("history") or []
    if not isinstance(history, list):
        note("UD901", ("history",), "`history` is not a list of [question, answer].")
        return None
    for index, turn in enumerate(cast("list[Any]", history)):
        pair = cast("list[Any]", turn) if isinstance(turn, list) else []
        if len(pair) != 2 or not all(isinstance(text, str) for text in pair):
            note("UD901", ("history", index), "The turn is not a question and an answer.")
            return None
        messages += [
            {"role": role, "content": text}
            for role, text in zip(("user", "assistant"), pair, strict=True)
        ]
        places += [("history", index, 0), ("history", index, 1)]
    question = "\n".join(filter(None, (instruction, texts["input"])))
    messages += [
        {"role": "user", "content": question},
        {"role": "assistant", "content": output},
    ]
    places += [("instruction",), ("output",)]
    extra = _others(fields, "instruction", "input", "output", "system", "history")
    return Row("chat", messages, places=places, extra=extra)


def _write_alpaca(row: Row, lose: Lose) -> dict[str, Any]:
    out: dict[str, Any] = {}
    messages = list(row.messages)
    if messages[0]["role"] == "system":
        out["system"] = plain_text(messages.pop(0))
    texts = [plain_text(message) for message in messages]
    question = texts[-2] if len(texts) > 1 else ""
    out = {"instruction": question, "input": "", "output": texts[-1], **out}
    if len(texts) > 2:
        out["history"] = [list(pair) for pair in zip(texts[:-2:2], texts[1:-2:2], strict=True)]
    return out


SHAREGPT_ROLES = {
    "system": "system",
    "human": "user",
    "user": "user",
    "gpt": "assistant",
    "chatgpt": "assistant",
    "assistant": "assistant",
    "model": "assistant",
    "function_call": "function_call",
    "observation": "tool",
    "tool": "tool",
}


def _read_sharegpt(fields: dict[str, Any], note: Note) -> Row | None:
    turns = list_field(fields, "conversations", note)
    if turns is None:
        return None
    messages: list[Message] = []
    places: list[Any] = []
    system = text_field(fields, "system", note, needed=False)
    if system is None and fields.get("system") is not None:
        return None
    if system:
        messages.append({"role": "system", "content": system})
        places.append(("system",))
    calls = 0
    left: list[Path] = []
    for index, turn in enumerate(turns):
        path = ("conversations", index)
        each = cast("dict[str, Any]", turn) if isinstance(turn, dict) else {}
        who, what = ("role", "content") if "role" in each else ("from", "value")
        said, value = SHAREGPT_ROLES.get(str(each.get(who))), each.get(what)
        weight = each.get("weight")
        learnt = {"weight": int(weight)} if said == "assistant" and weight in (0, 1) else {}
        # Null says nothing, and what is not learnt anyway may say so.
        idle = [key for key in each if each[key] is None or (key == "weight" and weight == 0)]
        left += unread(each, (who, what, *learnt, *idle), path)
        if said is None or not isinstance(value, str):
            _note_turn(each, who, what, path, note)
            return None
        message: Message = {"role": said, "content": value, **learnt}
        if said == "function_call":
            calls += 1
            call = _call(value)
            if call is None:
                note("UD302", (*path, "value"), 'The call is not {"name", "arguments"} in JSON.')
                return None
            function, more = call
            left += unread(more, (), (*path, what))
            made = {"id": f"call_{calls}", "type": "function", "function": function}
            message = {"role": "assistant", "tool_calls": [made]}
        elif said == "tool":
            message["tool_call_id"] = f"call_{calls}"
        messages.append(message)
        places.append(path)
    tools = _declared(fields.get("tools"))
    if tools is None and fields.get("tools"):
        note("UD307", ("tools",), "`tools` is not a list of functions in JSON.")
        return None
    extra = _others(fields, "conversations", "system", "tools")
    return Row("chat", messages, tools=tools, places=places, extra=extra, unread=left)


def _note_turn(turn: dict[str, Any], who: str, what: str, path: Path, note: Note) -> None:
    fix = 'write {"from": "human", "value": "..."}; speakers: human, gpt, system, ...'
    if who not in turn or what not in turn:
        note("UD901", path, f"The turn has no `{who if who not in turn else what}`.", fix)
    elif str(turn[who]) not in SHAREGPT_ROLES:
        close = nearest(str(turn[who])[:40], SHAREGPT_ROLES)
        hint = f"did you mean '{close}'?" if close else fix
        note("UD901", (*path, who), f"There is no speaker {str(turn[who])[:40]!r}.", hint)
    else:
        note("UD901", (*path, what), f"`{what}` is {kind(turn[what])}, not a string.")


def _call(value: str) -> tuple[dict[str, Any], dict[str, Any]] | None:
    """(function, other keys) of a call in JSON."""
    try:
        parsed: Any = strictly(value)
    except (ValueError, RecursionError):
        return None
    fields = cast("dict[str, Any]", parsed) if isinstance(parsed, dict) else {}
    if not isinstance(fields.get("name"), str) or not isinstance(fields.get("arguments"), dict):
        return None
    arguments = json.dumps(fields["arguments"], ensure_ascii=False)
    return {"name": fields["name"], "arguments": arguments}, _others(fields, "name", "arguments")


def _declared(tools: Any) -> list[Any] | None:
    if isinstance(tools, str) and tools:
        try:
            tools = strictly(tools)
        except (ValueError, RecursionError):
            return None
    if not isinstance(tools, list):
        return None
    return [
        one
        if isinstance(one, dict) and "function" in one
        else {"type": "function", "function": one}
        for one in cast("list[Any]", tools)
    ]


def _write_sharegpt(row: Row, lose: Lose) -> dict[str, Any]:
    out: dict[str, Any] = {"conversations": []}
    messages = list(row.messages)
    if messages[0]["role"] == "system":
        out["system"] = plain_text(messages.pop(0))
    waiting = False
    for message in messages:
        role, text = message["role"], plain_text(message)
        calls = cast("list[dict[str, Any]]", message.get("tool_calls") or [])
        if len(calls) > 1 or (calls and text):
            lose("tools", "calls in parallel, or beside a text")
            calls = calls[:1]
        if calls:
            function = calls[0]["function"]
            call = {"name": function["name"], "arguments": json.loads(function["arguments"])}
            turn = {"from": "function_call", "value": json.dumps(call, ensure_ascii=False)}
        elif role == "tool":
            if not waiting:
                continue  # the answer to a call that was dropped
            turn = {"from": "observation", "value": text}
        else:
            turn = {"from": "human" if role == "user" else "gpt", "value": text}
        waiting = bool(calls)
        out["conversations"].append(turn)
    if row.tools is not None:
        declared = [tool["function"] for tool in row.tools]
        out["tools"] = json.dumps(declared, ensure_ascii=False)
    return out


COMPLETION = Format(
    "prompt-completion",
    "chat",
    ("prompt", "completion"),
    ("prompt", "completion", "tools"),
    frozenset(),
    _read_completion,
    _write_completion,
    "trl, 'Dataset formats and types'",
)
ALPACA = Format(
    "alpaca",
    "chat",
    ("instruction", "output"),
    ("instruction", "input", "output", "system", "history"),
    frozenset({"system", "turns", "alternate"}),
    _read_alpaca,
    _write_alpaca,
    "tatsu-lab/stanford_alpaca; LLaMA-Factory data/README.md",
)
SHAREGPT = Format(
    "sharegpt",
    "chat",
    ("conversations",),
    ("conversations", "system", "tools"),
    frozenset({"system", "turns", "tools"}),
    _read_sharegpt,
    _write_sharegpt,
    "LLaMA-Factory data/README.md",
)

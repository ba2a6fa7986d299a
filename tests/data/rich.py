"""Rows with everything that real files have, in each format, and what they mean."""

from __future__ import annotations

import json
from typing import Any

from hypothesis import strategies as st

words = st.text(
    st.characters(exclude_categories=("Cs",), exclude_characters="\0"), min_size=1, max_size=12
).filter(str.strip)
names = st.from_regex(r"[a-z_]{1,8}", fullmatch=True)
numbers = st.one_of(st.integers(-9, 9), st.floats(allow_nan=False, allow_infinity=False))
arguments = st.dictionaries(words, st.one_of(words, numbers, st.booleans()), max_size=2)
rarely = st.integers(0, 7).map(lambda number: number == 0)
PICTURES = [
    "gs://b/a.png", "gs://b/a", "https://example.com/a.png", "data:image/png;base64,iVBORw0KGgo=",
]  # fmt: skip
# What the arguments and results of tools are in the wild; not all of it is taken.
loose = st.one_of(
    arguments.map(json.dumps),
    words,
    st.sampled_from(
        [
            '{"a": NaN}',
            '{"a": 1e999}',
            '{"a": 1, "a": 2}',
            '{"a": "\\ud83d"}',
            "[1]",
            "",
            "{}",
            '{"output": "x"}',
            '{"a": 12345678901234567890123}',
            '"text"',
            "null",
        ]
    ),
)


@st.composite
def contents(draw: st.DrawFn) -> Any:
    """Text, or parts with images and what else is written into them."""
    if not draw(rarely):
        return draw(words)
    parts: list[Any] = [
        {"type": "text", "text": text} for text in draw(st.lists(words, max_size=2))
    ]
    if parts and draw(rarely):
        parts[0]["cache_control"] = draw(st.sampled_from([None, {"type": "ephemeral"}]))
    if draw(rarely) or not parts:
        image: dict[str, Any] = {"url": draw(st.sampled_from(PICTURES))}
        if draw(rarely):
            image["detail"] = draw(st.sampled_from(["low", "auto", None]))
        parts.append({"type": "image_url", "image_url": image})
    return parts


@st.composite
def answers(draw: st.DrawFn) -> dict[str, Any]:
    """The end of a turn, with all that an assistant message may carry."""
    message: dict[str, Any] = {"role": "assistant", "content": draw(words)}
    for key, values in {
        "weight": st.sampled_from([0, 1, None]),
        "name": names,
        "refusal": st.one_of(st.none(), words),
        "reasoning_content": words,
        "audio": st.sampled_from([None, {"id": "a"}]),
        "function_call": st.none(),
        "tool_calls": st.none(),
    }.items():
        if draw(rarely):
            message[key] = draw(values)
    return message


@st.composite
def called(draw: st.DrawFn, tools: list[str]) -> list[dict[str, Any]]:
    """Calls and their results, in the form of today or of 2023."""
    if draw(rarely):
        name = draw(st.sampled_from(tools))
        call = {"name": name, "arguments": draw(loose)}
        asked = {"role": "assistant", "content": None, "function_call": call}
        if draw(rarely):
            return [asked]  # never answered
        said = draw(st.sampled_from([name, name, "other"]))
        return [asked, {"role": "function", "name": said, "content": draw(loose)}]
    chosen = draw(st.lists(st.sampled_from(tools), min_size=1, max_size=3))
    calls = [
        {"id": f"c{n}", "type": "function", "function": {"name": name, "arguments": draw(loose)}}
        for n, name in enumerate(chosen)
    ]
    if draw(rarely):
        calls[0]["index"] = 0
    asked = {"role": "assistant", "content": draw(st.sampled_from([None, "", "Look:"]))}
    results = [{"role": "tool", "tool_call_id": one["id"], "content": draw(loose)} for one in calls]
    if draw(rarely):
        results[0]["name"] = draw(st.sampled_from([chosen[0], "other"]))
    if draw(rarely):
        results[0]["content"] = [{"type": "text", "text": "1"}, {"type": "text", "text": "2"}]
    return [{**asked, "tool_calls": calls}, *results]


def declared(name: str, extra: bool) -> dict[str, Any]:
    function: dict[str, Any] = {"name": name, "parameters": {"type": "object"}}
    return {"type": "function", "function": {**function, **({"strict": True} if extra else {})}}


@st.composite
def chats(draw: st.DrawFn, *, ends_with: str = "assistant") -> dict[str, Any]:
    """A row of OpenAI chat."""
    tools = draw(st.lists(names, max_size=2, unique=True))
    first = ["system", "developer"]
    messages: list[Any] = []
    if draw(rarely):
        messages.append({"role": draw(st.sampled_from(first)), "content": draw(words)})
    for _ in range(draw(st.integers(1, 2))):
        if draw(rarely) and draw(rarely):
            messages.append({"role": draw(st.sampled_from(first)), "content": draw(words)})
        messages.append({"role": "user", "content": draw(contents())})
        if draw(rarely):
            messages[-1]["name"] = draw(names)
        if draw(rarely):
            messages.append({"role": "user", "content": draw(words)})
        if tools and draw(st.booleans()):
            messages += draw(called(tools))
        messages.append(draw(answers()))
    if ends_with == "user":
        messages.append({"role": "user", "content": draw(words)})
    row: dict[str, Any] = {"messages": messages}
    if tools:
        old = draw(rarely)
        row["functions" if old else "tools"] = [
            declared(name, draw(rarely))["function" if old else "type"]
            if old
            else declared(name, draw(rarely))
            for name in tools
        ]
        if not old and draw(rarely):
            row["tools"][0]["cache_control"] = {"type": "ephemeral"}
    for key, values in {
        "parallel_tool_calls": st.booleans(),
        "id": st.one_of(st.none(), words, st.integers(0, 9)),
        "contents": words,
        "input": words,
    }.items():
        if draw(rarely) and draw(rarely):
            row[key] = draw(values)
    return row


@st.composite
def pairs(draw: st.DrawFn) -> dict[str, Any]:
    """A row of OpenAI preference."""
    given = draw(chats(ends_with="user"))
    row: dict[str, Any] = {"input": {key: given[key] for key in given if key != "id"}}
    for key in ("preferred_output", "non_preferred_output"):
        row[key] = [draw(answers())]
        if "tools" in given and draw(rarely):
            name = given["tools"][0]["function"]["name"]
            row[key] = [*draw(called([name])), *row[key]]
    if draw(rarely):
        row["note"] = draw(words)
    return row


def meaning(row: Any) -> Any:
    """A chat row without what no conversion promises: ids of calls, spelling, what says nothing."""
    if "input" in row and isinstance(row["input"], dict):
        outputs = [
            meaning({"messages": row[key]}) for key in ("preferred_output", "non_preferred_output")
        ]
        return meaning(row["input"]), outputs, row.get("note")
    calls: dict[str, tuple[int, str]] = {}
    number = 0
    out: list[Any] = []
    for at, message in enumerate(row["messages"]):
        copy = {key: value for key, value in message.items() if value not in (None, "", [])}
        if copy.get("role") == "developer" and at == 0:
            copy["role"] = "system"
        if copy.get("weight") == 1 or copy["role"] != "assistant":
            copy.pop("weight", None)
        given = copy.pop("tool_calls", [])
        if "function_call" in copy:
            given = [{"id": "old", "function": copy.pop("function_call")}]
        for call in given:
            number += 1
            calls[call["id"]] = number, call["function"]["name"]
            said = _loaded(call["function"]["arguments"])
            copy.setdefault("calls", []).append((number, call["function"]["name"], said))
        if copy["role"] == "function":
            copy.update(role="tool", tool_call_id="old")
        if "tool_call_id" in copy:
            copy["tool_call_id"], name = calls[copy["tool_call_id"]]
            if copy.get("name") == name:
                del copy["name"]
        content = copy.get("content")
        if isinstance(content, list):
            parts = [_filled(part) for part in content]
            alone = len(parts) == 1 and parts[0]["type"] == "text"
            copy["content"] = parts[0]["text"] if alone else parts
        out.append(copy)
    tools = row.get("tools") or [
        {"type": "function", "function": one} for one in row.get("functions", [])
    ]
    known = ("messages", "tools", "functions")
    rest = {key: value for key, value in row.items() if key not in known and value is not None}
    if rest.get("parallel_tool_calls") is True or not tools:
        rest.pop("parallel_tool_calls", None)
    return out, tools, rest


def _loaded(text: str) -> str:
    try:
        return repr(json.loads(text))
    except ValueError:
        return text


def _filled(part: dict[str, Any]) -> dict[str, Any]:
    kept = {key: value for key, value in part.items() if value is not None}
    return {
        key: _filled(value) if isinstance(value, dict) else value for key, value in kept.items()
    }

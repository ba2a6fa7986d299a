"""What a conversion would lose is named, whatever corner of a row it is in; nothing else is."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

import unift
from tests.data.rows import answer, load, save, user
from unift.errors import DataError

ASK = {"role": "user", "parts": [{"text": "1"}]}
MODEL = {"role": "model", "parts": [{"text": "2"}]}
TOOL = {"type": "function", "function": {"name": "f", "parameters": {"type": "object"}}}
CALL = {"id": "c", "type": "function", "function": {"name": "f", "arguments": "{}"}}
OLD_CALL = {"role": "assistant", "content": None, "function_call": {"name": "f", "arguments": "{}"}}
OLD = {
    "messages": [
        user("Hi"),
        OLD_CALL,
        {"role": "function", "name": "f", "content": "3"},
        answer("It is 3."),
    ],
    "functions": [TOOL["function"]],
}


def gemini(*parts: Any, role: str = "model", **more: Any) -> dict[str, Any]:
    return {"contents": [ASK, {"role": role, "parts": list(parts)}], **more}


LOSSES: dict[str, tuple[dict[str, Any], str, str]] = {
    "an old call that is never answered": (
        {"messages": [user("Hi"), OLD_CALL, user("And?"), answer("Yes.")]},
        "gemini",
        "tools",
    ),
    "an old result of another function": (
        {"messages": [user("Hi"), OLD_CALL, {**OLD["messages"][2], "name": "g"}, answer("3.")]},
        "gemini",
        "tools",
    ),
    "an old call where there are no tools": (OLD, "alpaca", "tools"),
    "a key of a part": (
        {"messages": [user([{"type": "text", "text": "1", "cache": 1}]), answer("2")]},
        "alpaca",
        "extra",
    ),
    "a key of a call": (
        {
            "messages": [
                user("1"),
                {"role": "assistant", "tool_calls": [{**CALL, "index": 0}]},
                {"role": "tool", "tool_call_id": "c", "content": "3"},
                answer("3."),
            ],
            "tools": [TOOL],
        },
        "gemini",
        "extra",
    ),
    "a key of a tool": (
        {"messages": [user("1"), answer("2")], "tools": [{**TOOL, "cache": 1}]},
        "gemini",
        "extra",
    ),
    "sound": ({"messages": [user("1"), answer("2", audio={"id": "a"})]}, "gemini", "extra"),
    "reasoning": (
        {"messages": [user("1"), answer("2", reasoning_content="So.")]},
        "sharegpt",
        "reasoning",
    ),
    "a key of a message of a graded prompt": (
        {"messages": [{**user("1"), "lang": "en"}], "answer": "2"},
        "gemini-rft",
        "extra",
    ),
    "a reference that would be taken for the prompt": (
        {"contents": [ASK], "references": {"messages": "x"}},
        "openai-rft",
        "extra",
    ),
    "a key that would be taken for the conversation": (
        {"contents": [ASK, MODEL], "messages": "x"},
        "openai-chat",
        "extra",
    ),
    "a tool of Google's own": (
        {"contents": [ASK, MODEL], "tools": [{"googleSearch": {}}]},
        "openai-chat",
        "extra",
    ),
    "a video": (
        {
            "contents": [
                {"role": "user", "parts": [{"fileData": {"fileUri": "gs://b/a.mp4"}}]},
                MODEL,
            ]
        },
        "openai-chat",
        "images",
    ),
    "a key of Google's call": (
        {
            "contents": [
                ASK,
                {"role": "model", "parts": [{"functionCall": {"name": "f", "x": 1}}]},
            ]
        },
        "openai-chat",
        "extra",
    ),
    "a key of a turn that is a call": (
        {
            "conversations": [
                {"from": "human", "value": "1"},
                {"from": "function_call", "value": '{"name": "f", "arguments": {}, "id": 1}'},
            ]
        },
        "openai-chat",
        "extra",
    ),
    "what stands beside a preferred answer": (
        {
            "input": {"messages": [user("1")], "model": "x"},
            "preferred_output": [answer("2")],
            "non_preferred_output": [answer("3")],
        },
        "gemini-preference",
        "extra",
    ),
}
LOSSES["a video"][0]["contents"][0]["parts"][0]["fileData"]["mimeType"] = "video/mp4"


@pytest.mark.parametrize("name", LOSSES)
def test_it_is_named_and_can_be_given_up(tmp_path: Path, name: str) -> None:
    row, to, kind = LOSSES[name]
    source, out = save(tmp_path / "a.jsonl", [row]), tmp_path / "b.jsonl"
    with pytest.raises(DataError) as caught:
        unift.convert(source, out, to=to)
    assert f"--drop {kind}" in caught.value.fix
    assert kind in unift.convert(source, out, to=to, drop=[kind]).lost
    assert all(json.dumps(row) for row in load(out))


def test_preference_rows_lose_what_nobody_reads_only_when_told(tmp_path: Path) -> None:
    row = LOSSES["what stands beside a preferred answer"][0]
    source, out = save(tmp_path / "a.jsonl", [row]), tmp_path / "b.jsonl"
    with pytest.raises(DataError, match="extra"):
        unift.convert(source, out, to="openai-chat", drop=["rejected"])


@pytest.mark.parametrize("to", ["gemini", "sharegpt"])
def test_old_calls_become_tools(tmp_path: Path, to: str) -> None:
    source, there, back = save(tmp_path / "a.jsonl", [OLD]), tmp_path / "b.jsonl", tmp_path / "c"
    unift.convert(source, there, to=to)
    unift.convert(there, back, to="openai-chat")
    [row] = load(back)
    calls = row["messages"][1]["tool_calls"]
    assert [call["function"] for call in calls] == [{"name": "f", "arguments": "{}"}]
    assert row["messages"][2]["tool_call_id"] == calls[0]["id"]
    assert row["tools"] == [TOOL]


def test_the_name_of_a_result_is_known_by_its_call(tmp_path: Path) -> None:
    result = {"role": "tool", "tool_call_id": "c", "name": "f", "content": "3"}
    called = {"role": "assistant", "tool_calls": [CALL]}
    row = {"messages": [user("1"), called, result, answer("3.")], "tools": [TOOL], "x": None}
    source = save(tmp_path / "a.jsonl", [row])
    assert not unift.convert(source, tmp_path / "b.jsonl", to="gemini").lost


def test_thoughts_and_kinds_of_files_come_back_as_they_were(tmp_path: Path) -> None:
    file = {"fileData": {"mimeType": "video/mp4", "fileUri": "gs://b/a"}}
    row = {
        "contents": [
            {"role": "user", "parts": [{"text": "What?"}, file]},
            {"role": "model", "parts": [{"text": "Look.", "thought": True}, {"text": "A cat."}]},
        ]
    }
    source, out = save(tmp_path / "a.jsonl", [row]), tmp_path / "b.jsonl"
    unift.convert(source, out, to="gemini")
    assert load(out) == [row]
    unift.convert(source, out, to="openai-chat", drop=["images"])
    assert load(out)[0]["messages"][1] == {**answer("A cat."), "reasoning_content": "Look."}


@pytest.mark.parametrize(
    "arguments", ['{"a": NaN}', '{"a": 1e999}', '{"a": 1, "a": 2}', '{"a": "\\ud83d"}']
)
def test_arguments_that_programs_read_differently_are_refused(
    tmp_path: Path, arguments: str
) -> None:
    call = {**CALL, "function": {"name": "f", "arguments": arguments}}
    row = {"messages": [user("1"), {"role": "assistant", "tool_calls": [call]}], "tools": [TOOL]}
    source = save(tmp_path / "a.jsonl", [row])
    assert unift.validate(source).counts["UD302"] == 1
    with pytest.raises(DataError, match="UD302"):
        unift.convert(source, tmp_path / "b.jsonl", to="gemini")


def test_a_result_that_only_looks_like_json_stays_a_text(tmp_path: Path) -> None:
    called = {"role": "assistant", "tool_calls": [CALL]}
    result = {"role": "tool", "tool_call_id": "c", "content": '{"a": NaN}'}
    source = save(
        tmp_path / "a.jsonl",
        [{"messages": [user("1"), called, result, answer("None.")], "tools": [TOOL]}],
    )
    unift.convert(source, tmp_path / "b.jsonl", to="gemini")
    assert unift.validate(tmp_path / "b.jsonl").ok


@pytest.mark.parametrize(
    "part", [{"text": "a", "functionCall": {"name": "f", "args": {}}}, {"functionCall": "f"}, {}]
)
def test_a_part_is_one_thing(tmp_path: Path, part: Any) -> None:
    report = unift.validate(save(tmp_path / "a.jsonl", [gemini(part)]))
    assert [f.code for f in report.findings if f.severity == "error"] == ["UD901"]

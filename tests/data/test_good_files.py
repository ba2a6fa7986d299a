"""What real files look like, and what is (and is not) said of them."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

from tests.data.rows import answer, save, user
from unift.data import Report, validate

SMALL = {"UD700", "UD701", "UD906"}


def codes(report: Report) -> list[str]:
    return [f.code for f in report.findings if f.code not in SMALL]


def turns(*said: tuple[str, str], keys: tuple[str, str] = ("from", "value")) -> dict[str, Any]:
    return {"conversations": [dict(zip(keys, one, strict=True)) for one in said]}


CALL = {"name": "weather", "args": {"city": "Oslo"}}
GOOD: dict[str, dict[str, Any]] = {
    "sharegpt with roles": turns(
        ("user", "Hi"), ("assistant", "Hello there."), keys=("role", "content")
    ),
    "sharegpt with weights": {
        "conversations": [
            {"from": "system", "value": "Be kind.", "weight": None},
            {"from": "human", "value": "Hi", "weight": 0.0},
            {"from": "gpt", "value": "Hello there.", "weight": 1.0},
        ]
    },
    "gemini in snake case": {
        "system_instruction": {"parts": [{"text": "Be kind."}]},
        "contents": [
            {"role": "user", "parts": [{"text": "Weather?"}]},
            {"role": "model", "parts": [{"function_call": CALL}]},
            {
                "role": "user",
                "parts": [{"function_response": {"name": "weather", "response": {"t": 1}}}],
            },
            {"role": "model", "parts": [{"text": "It is cold."}]},
        ],
        "tools": [{"function_declarations": [{"name": "weather"}]}],
    },
    "templates in code": {
        "messages": [user("Jinja?"), answer("Use:\n```jinja\nHello {{ name }}\n```\nor `{{ x }}`.")]
    },
    "about reasoning": {"messages": [user("R1?"), answer("It writes `<think>` and `</think>`.")]},
    "an apology": {
        "messages": [user("It is late!"), answer("I'm sorry, I can see why. It ships today.")]
    },
    "an answer of OpenAI's library": {
        "messages": [user("Hi"), answer("Hello there.", function_call=None, refusal=None)]
    },
}


@pytest.mark.parametrize("name", GOOD)
def test_good_rows_are_left_alone(tmp_path: Path, name: str) -> None:
    assert codes(validate(save(tmp_path / "a.jsonl", [GOOD[name]]))) == []


def test_reinforcement_rows_are_compared_by_prompt_and_reference(tmp_path: Path) -> None:
    rows = [{"messages": [user(f"{i} + 1?")], "answer": str(i + 1)} for i in range(30)]
    assert codes(validate(save(tmp_path / "a.jsonl", rows))) == []
    rows += [rows[3], {**rows[4], "answer": "no"}]
    report = validate(save(tmp_path / "a.jsonl", rows))
    assert [(f.code, f.line) for f in report.findings if f.code not in SMALL] == [
        ("UD600", 31),
        ("UD601", 32),
    ]


@pytest.mark.parametrize(
    ("line", "word"),
    [
        ('{"custom_id": "r", "body": {"messages": []}}', "OpenAI batch"),
        ('{"Messages": []}', "did you mean 'messages'"),
        ("version https://git-lfs.github.com/spec/v1", "git lfs pull"),
        ("<!DOCTYPE html><html></html>", "HTML"),
        ("// rows of May", "no comments"),
    ],
)
def test_what_was_given_by_mistake_is_named(tmp_path: Path, line: str, word: str) -> None:
    path = tmp_path / "a.jsonl"
    path.write_text(line + "\n")
    report = validate(path)
    assert not report.ok
    said = json.dumps([f.as_dict() for f in report.findings])
    assert word in said
    assert report.counts.get("UD203", 0) <= 1


@pytest.mark.parametrize(
    ("content", "code"),
    [
        ("I cannot fulfill this request.", "UD503"),
        ("I apologize, but I cannot provide that.", "UD503"),
        ("{answer}", "UD501"),
        ("<thought>Hm.</thought> Yes, it is.", "UD505"),
    ],
)
def test_targets_that_are_no_answers(tmp_path: Path, content: str, code: str) -> None:
    row = {"messages": [user("Hi"), answer(content)]}
    assert codes(validate(save(tmp_path / "a.jsonl", [row]))) == [code]


def test_one_system_prompt_in_two_spellings(tmp_path: Path) -> None:
    rows = [
        {"messages": [{"role": "system", "content": text}, user(f"Q{i}"), answer(f"That is {i}.")]}
        for i in range(20)
        for text in ("Be kind.", "Be  kind. ")
    ]
    assert "UD606" in codes(validate(save(tmp_path / "a.jsonl", rows)))


def test_anthropic_rows_are_told_where_their_parts_go(tmp_path: Path) -> None:
    parts = [{"type": "tool_use", "id": "t", "name": "f", "input": {}}]
    row = {"system": "Be kind.", "messages": [user("Hi"), answer(parts), answer("Yes, I do.")]}
    fixes = [f.fix for f in validate(save(tmp_path / "a.jsonl", [row])).findings]
    assert any("tool_calls" in fix for fix in fixes)
    assert any('"role": "system"' in fix for fix in fixes)

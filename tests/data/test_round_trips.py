"""Converting there and back: nothing is lost that was not named."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

import unift
from tests.data.rows import answer, load, plain, save, user
from unift.data.formats import FORMATS, LOSSES
from unift.errors import DataError

QUIET = settings(deadline=None, suppress_health_check=list(HealthCheck), max_examples=150)

words = st.text(
    st.characters(exclude_categories=("Cs",), exclude_characters="\0"), min_size=1, max_size=12
).filter(str.strip)
names = st.from_regex(r"[a-z_]{1,8}", fullmatch=True)
arguments = st.dictionaries(words, st.one_of(words, st.integers(-9, 9), st.booleans()), max_size=2)


@st.composite
def turns(draw: st.DrawFn, tools: list[str]) -> list[dict[str, Any]]:
    """A question, perhaps calls and their results, an answer."""
    parts: Any = draw(words)
    if draw(st.booleans()):
        parts = [{"type": "text", "text": text} for text in draw(st.lists(words, min_size=2))]
        if draw(st.booleans()):
            parts.append({"type": "image_url", "image_url": {"url": "gs://bucket/a.png"}})
    messages = [user(parts)]
    calls = draw(st.lists(st.sampled_from(tools), max_size=2)) if tools else []
    if calls:
        ids = [f"id{index}" for index in range(len(calls))]
        messages.append(
            {
                "role": "assistant",
                "tool_calls": [
                    {
                        "id": one,
                        "type": "function",
                        "function": {"name": name, "arguments": json.dumps(draw(arguments))},
                    }
                    for one, name in zip(ids, calls, strict=True)
                ],
            }
        )
        result = st.one_of(words, arguments.map(json.dumps), st.just('{"output": "x"}'))
        messages += [{"role": "tool", "tool_call_id": one, "content": draw(result)} for one in ids]
    return [*messages, answer(draw(words))]


@st.composite
def chats(draw: st.DrawFn, *, rich: bool = True) -> dict[str, Any]:
    tools = draw(st.lists(names, max_size=2, unique=True)) if rich else []
    messages = draw(st.sampled_from([[], [{"role": "system", "content": "Be kind."}]]))
    for _ in range(draw(st.integers(1, 3))):
        if rich:
            messages = [*messages, *draw(turns(tools))]
        else:
            messages = [*messages, user(draw(words)), answer(draw(words))]
    row: dict[str, Any] = {"messages": messages}
    if tools:
        row["tools"] = [
            {"type": "function", "function": {"name": name, "parameters": {"type": "object"}}}
            for name in tools
        ]
    return row


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tmp_path_factory.mktemp("convert")


@QUIET
@given(rows=st.lists(chats(), min_size=1, max_size=3))
def test_chat_to_gemini_and_back_is_the_same(folder: Path, rows: list[Any]) -> None:
    source, there, back = save(folder / "a.jsonl", rows), folder / "b.jsonl", folder / "c.jsonl"
    unift.convert(source, there, to="gemini")
    assert unift.validate(there, provider="google").refusals["google"].keys() <= {"UD700"}
    unift.convert(there, back, to="openai-chat")
    assert [plain(row) for row in load(back)] == [plain(row) for row in rows]


@QUIET
@given(rows=st.lists(chats(rich=False), min_size=1, max_size=3), to=st.sampled_from(["alpaca"]))
def test_texts_to_alpaca_and_back_are_the_same(folder: Path, rows: list[Any], to: str) -> None:
    source, there, back = save(folder / "a.jsonl", rows), folder / "b.jsonl", folder / "c.jsonl"
    unift.convert(source, there, to=to)
    assert unift.validate(there).ok
    unift.convert(there, back, to="openai-chat")
    assert load(back) == rows


@QUIET
@given(rows=st.lists(chats(), min_size=1, max_size=3), to=st.sampled_from(sorted(FORMATS)))
def test_a_conversion_keeps_everything_or_names_what_goes(
    folder: Path, rows: list[Any], to: str
) -> None:
    if FORMATS[to].kind != "chat":
        return
    source, there, back = save(folder / "a.jsonl", rows), folder / "b.jsonl", folder / "c.jsonl"
    there.unlink(missing_ok=True)
    error = None
    try:
        unift.convert(source, there, to=to)
    except DataError as caught:
        error = caught
    if error is not None:
        assert not there.exists()
        assert all(finding.code == "UD907" and finding.line for finding in error.findings)
        lossy = {finding.line for finding in error.findings}
        done = unift.convert(source, there, to=to, drop=LOSSES)
        assert done.lost
        assert done.rows + len(done.left_out) == len(rows)
        kept = [row for number, row in enumerate(rows, 1) if number not in lossy]
        unift.convert(there, back, to="openai-chat") if done.rows else back.write_text("")
        found = [plain(row) for row in load(back)]
        assert all(plain(row) in found for row in kept)
        return
    unift.convert(there, back, to="openai-chat")
    assert [plain(row) for row in load(back)] == [plain(row) for row in rows]

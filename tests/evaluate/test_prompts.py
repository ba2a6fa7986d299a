"""Baselines by prompt: templates with a place for the input, and examples chosen by likeness."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from tests.evaluate.fakes import Fake
from unift.errors import DataError, UniftError
from unift.evaluate import evaluate

Write = Callable[..., str]
ROWS = [("Where is my parcel?", "track"), ("Money back for the shoes", "refund")]


def asked(test: str, against: str, **settings: Any) -> list[Any]:
    """What the base is asked."""
    base = Fake("fake:base", lambda m: "x")
    evaluate(
        Fake("fake:new", lambda m: "y"),
        test,
        base=base,
        against=[against],
        report=False,
        **settings,
    )
    return [list(one) for one in base.asked]


@pytest.fixture
def prompt(tmp_path: Path) -> Callable[[str], str]:
    def write(text: str) -> str:
        (tmp_path / "best.txt").write_text(text)
        return f"prompt:{tmp_path / 'best.txt'}"

    return write


def test_a_template_holds_the_input_and_a_prompt_without_a_place_is_a_system_prompt(
    chat_file: Write, prompt: Callable[[str], str]
) -> None:
    test = chat_file([("{{ input }} and \\n", "track")])
    assert asked(test, prompt("Sort this: {{input}}\nLabel:")) == [
        [{"role": "user", "content": "Sort this: {{ input }} and \\n\nLabel:"}]
    ]
    assert asked(test, prompt("Write \\{{ input }} as is."))[0][0] == {
        "role": "system",
        "content": "Write {{ input }} as is.",
    }


def test_a_template_keeps_images_and_earlier_turns(
    tmp_path: Path, prompt: Callable[[str], str]
) -> None:
    image = {"type": "image_url", "image_url": {"url": "https://example.org/a.png"}}
    turns: list[Any] = [
        {"role": "system", "content": "Old rules"},
        {"role": "user", "content": "Hello"},
        {"role": "assistant", "content": "Hi"},
        {"role": "user", "content": [{"type": "text", "text": "What?"}, image]},
    ]
    file = tmp_path / "test.jsonl"
    file.write_text(json.dumps({"messages": [*turns, {"role": "assistant", "content": "a"}]}))
    said = [{"type": "text", "text": "Look: What?"}, image]
    assert asked(str(file), prompt("Look: {{ input }}"))[0] == [
        *turns[1:3], {"role": "user", "content": said}
    ]  # fmt: skip


@pytest.mark.parametrize(
    ("text", "code", "fix"),
    [
        ("One\nSort {{ inptu }}", "bad_template", "input"),
        ("Sort {input}", "bad_template", "{{ input }}"),
        ("   ", "bad_prompt_file", "template"),
    ],
)
def test_a_wrong_template_is_refused_in_words(
    chat_file: Write, prompt: Callable[[str], str], text: str, code: str, fix: str
) -> None:
    with pytest.raises(UniftError) as caught:
        asked(chat_file(ROWS), prompt(text))
    assert caught.value.code == code
    assert fix in caught.value.fix
    assert "best.txt" in caught.value.where


def test_a_row_without_a_user_message_is_named(
    tmp_path: Path, prompt: Callable[[str], str]
) -> None:
    file = tmp_path / "test.jsonl"
    rows = [{"role": "system", "content": "Greet."}, {"role": "assistant", "content": "Hello"}]
    file.write_text(json.dumps({"messages": rows}))
    with pytest.raises(DataError) as caught:
        asked(str(file), prompt("Do {{ input }}"))
    assert caught.value.where.startswith("line 1")


def test_like_examples_are_chosen_for_each_question_and_never_test_rows(chat_file: Write) -> None:
    train = chat_file(
        [
            *ROWS,  # test rows: they would be the likest of all
            ("Where is the parcel with the lamp?", "track"),
            ("Money for a broken lamp, please", "refund"),
            ("My password is lost", "login"),
            ("倉庫はどこですか", "track"),
        ],
        "train.jsonl",
    )
    test = chat_file([*ROWS, ("返品倉庫は？", "track")], "test.jsonl")
    settings: dict[str, Any] = {"train": train, "seed": 3}
    first = asked(test, "base+few-shot:2:similar", **settings)
    shown = [[turn["content"] for turn in one] for one in first]
    # The likest stands last, right before the question.
    assert [one[2] for one in shown] == [
        "Where is the parcel with the lamp?",
        "Money for a broken lamp, please",
        "倉庫はどこですか",
    ]
    assert all(one[0] not in dict(ROWS) for one in shown)
    assert asked(test, "base+few-shot:2:similar", **settings, reuse=False) == first


def test_examples_by_an_unknown_rule_are_refused(chat_file: Write) -> None:
    with pytest.raises(UniftError) as caught:
        asked(chat_file(ROWS), "base+few-shot:2:nearest", train=chat_file(ROWS))
    assert "base+few-shot:2:similar" in caught.value.fix

"""Recorded answers: as a candidate, as targets, and with their own noise."""

from __future__ import annotations

import gzip
import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from tests.evaluate.fakes import Fake, question
from unift.errors import DataError, UsageError
from unift.evaluate import Recorded, evaluate

Write = Callable[..., str]


def line(asked: str, *answers: str, system: str = "", **extra: Any) -> dict[str, Any]:
    head = [{"role": "system", "content": system}] if system else []
    return {
        "id": asked,
        "messages": [*head, {"role": "user", "content": asked}],
        "sampling": {"temperature": 1.0},
        "model": "ft:gpt-4o-mini:acme::1",
        "source": "openai",
        "draws": [
            {
                "message": {"role": "assistant", "content": text},
                "finish_reason": "stop",
                "logprobs": {"content": [{"token": text, "logprob": -0.25}, {"logprob": -0.5}]},
                "usage": {"prompt_tokens": 9, "completion_tokens": 2},
                "latency_s": 0.4,
                "at": "2026-11-20T10:00:00Z",
            }
            for text in answers
        ],
        **extra,
    }


def golden(path: Path, lines: list[dict[str, Any]]) -> str:
    path.write_text("".join(json.dumps(one) + "\n" for one in lines))
    return f"recorded:{path}"


TRUTH = {f"Question {i}?": f"answer {i}" for i in range(40)}


def test_recorded_answers_are_a_candidate_that_costs_nothing(
    tmp_path: Path, chat_file: Write
) -> None:
    old = golden(tmp_path / "old.jsonl", [line(q, a) for q, a in list(TRUTH.items())[:30]])
    new = Fake("fake:new", lambda m: TRUTH[question(m)])
    found = evaluate(new, chat_file(list(TRUTH.items())), against=[old], margin=0.1, report=False)
    assert found.candidates[1].name == old
    assert found.candidates[1].metrics["exact_match"] == 1.0
    assert found.candidates[1].seconds_per_answer == pytest.approx(0.4)
    assert found.candidates[1].replies[0].logprob == pytest.approx(-0.75)
    assert found.candidates[1].replies[0].completion_tokens == 2
    # Ten prompts were never recorded: nobody is asked them.
    assert (found.candidates[0].n, len(new.asked)) == (30, 30)
    assert any("10 of 40 test prompts are not in recorded:" in one for one in found.warnings)


def test_gaps_of_several_golden_sets_leave_the_same_rows_for_all(
    tmp_path: Path, chat_file: Write
) -> None:
    """Each lacks other rows: what is left is in all of them, and is compared row by row."""
    asked = list(TRUTH.items())

    def having(name: str, rows: list[tuple[str, str]]) -> str:
        return golden(tmp_path / name, [line(q, a) for q, a in rows])

    new = having("new.jsonl", asked[4:])  # right wherever it is asked
    old = having("old.jsonl", [(q, a if i % 2 else "?") for i, (q, a) in enumerate(asked[:30])])
    odd = having("odd.jsonl", [(q, "?") for q, _ in reversed(asked[:-2])])  # in another order
    data = chat_file(asked)
    found = evaluate(new, data, against=[old, odd], slices=[], report=False)
    assert [one.n for one in found.candidates] == [26, 26, 26]
    assert [row.target for row in found.rows] == [a for _, a in asked[4:30]]
    assert [one.metrics["exact_match"] for one in found.candidates] == [1.0, 0.5, 0.0]
    first = found.comparisons[0]
    assert (first.b, first.n, first.difference) == (old, 26, 0.5)
    assert first.p == pytest.approx(2 * 0.5**13)  # 13 rows won, none lost
    said = [one for one in found.warnings if "were left out for everybody" in one]
    assert [one.split()[0] for one in said] == ["4", "10"], "the third set lacks none of the rest"


def test_several_draws_show_the_noise_of_the_old_model(tmp_path: Path) -> None:
    """The old model says one thing 3 times of 4 and agrees with itself half of the time."""
    lines = [line(q, a, a, a, "else") for q, a in TRUTH.items()]
    old = golden(tmp_path / "old.jsonl", lines)
    new = Fake("fake:new", lambda m: TRUTH[question(m)])
    found = evaluate(new, old, against=[old], margin=0.05, report=False)
    mine, theirs = found.candidates
    assert mine.metrics["exact_match"] == pytest.approx(0.75)
    # Pairs of different draws: 3 * 2 equal ones of 4 * 3.
    assert theirs.metrics["exact_match"] == pytest.approx(0.5)
    assert theirs.as_dict()["self_agreement"]["exact_match"] == pytest.approx(0.5)
    assert mine.as_dict()["self_agreement"] is None
    assert found.verdict.code == "better"


def test_one_draw_says_nothing_about_noise(tmp_path: Path) -> None:
    old = golden(tmp_path / "old.jsonl", [line(q, a) for q, a in TRUTH.items()])
    found = evaluate(old, old, against=[], report=False)
    assert found.candidates[0].metrics["exact_match"] == 1.0
    assert found.candidates[0].self_agreement is None


def test_the_system_message_tells_prompts_apart_where_it_can(tmp_path: Path) -> None:
    path = tmp_path / "old.jsonl"
    golden(path, [line("Hi", "a", system="one"), line("Hi", "b", system="two")])
    known = Recorded(path)
    two = [{"role": "system", "content": "two"}, {"role": "user", "content": "Hi"}]
    assert [one.text for one in known.draws(two)] == ["b"]
    assert [one.text for one in known.draws([{"role": "user", "content": " Hi "}])] == ["a"]
    assert known.draws([{"role": "user", "content": "Ho"}]) == []
    with pytest.raises(DataError) as caught:
        known.chat([{"role": "user", "content": "Ho"}])
    assert caught.value.code == "not_recorded"


def test_tool_calls_are_compared_by_name_and_arguments(tmp_path: Path) -> None:
    tools = [{"type": "function", "function": {"name": "look_up", "parameters": {}}}]
    call = {"type": "function", "function": {"name": "look_up", "arguments": '{"order": 7}'}}
    lines = [line(f"Order {i}?", "", tools=tools) for i in range(8)]
    for one in lines:
        one["draws"][0]["message"] = {"role": "assistant", "content": None, "tool_calls": [call]}
    old = golden(tmp_path / "old.jsonl", lines)
    found = evaluate(old, old, against=[], report=False)
    assert found.rows[0].target == '[{"name": "look_up", "arguments": {"order": 7}}]'
    assert found.candidates[0].metrics["tool_calls"] == 1.0


def test_compressed_files_and_repeated_prompts(tmp_path: Path) -> None:
    path = tmp_path / "old.jsonl.gz"
    lines = [line("A?", "one"), line("A?", "two"), line("B?", "three")]
    path.write_bytes(gzip.compress("".join(json.dumps(one) + "\n" for one in lines).encode()))
    known = Recorded(path)
    assert len(known) == 2
    assert [one.text for one in known.draws([{"role": "user", "content": "A?"}])] == ["one", "two"]
    assert known.models == {"ft:gpt-4o-mini:acme::1": 3}


@pytest.mark.parametrize(
    ("content", "says"),
    [
        ("", "is empty"),
        ("{oops\n", "no JSON"),
        ("[1]\n", "no JSON object"),
        ('{"draws": [{"message": {"content": "x"}}]}\n', "'messages'"),
        ('{"messages": [{"role": "user", "content": "x"}], "draws": []}\n', "'draws'"),
        ('{"messages": [{"role": "user", "content": "x"}], "draws": [{}]}\n', "'message'"),
    ],
)
def test_bad_golden_sets_are_refused_with_the_line(tmp_path: Path, content: str, says: str) -> None:
    path = tmp_path / "bad.jsonl"
    path.write_text(content)
    with pytest.raises(DataError, match=says) as caught:
        evaluate(Fake("f", lambda m: "x"), f"recorded:{path}", against=[])
    assert caught.value.fix
    if content:
        assert caught.value.where == f"{path}:1"


def test_missing_and_unrelated_golden_sets(tmp_path: Path, chat_file: Write) -> None:
    with pytest.raises(UsageError) as caught:
        evaluate(Fake("f", lambda m: "x"), "recorded:/nowhere.jsonl", against=[])
    assert caught.value.code == "bad_recording"
    other = golden(tmp_path / "o.jsonl", [line("Something else", "x")])
    model = Fake("f", lambda m: "x")
    with pytest.raises(DataError) as refused:
        evaluate(model, chat_file(list(TRUTH.items())), against=[other])
    assert refused.value.code == "nothing_recorded"
    assert not model.asked

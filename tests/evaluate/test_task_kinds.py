"""Metrics by kind of task: tool calls, longer texts, schemas, the user's own, calibration."""

from __future__ import annotations

import json
import math
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import pytest

from tests.evaluate.fakes import Fake, question
from unift.errors import UsageError
from unift.evaluate import evaluate, get_metric
from unift.provider import Messages, Reply, Sampling

Write = Callable[..., str]
TOOLS = [{"type": "function", "function": {"name": "find_order", "parameters": {}}}]


def call(name: str, **arguments: Any) -> dict[str, Any]:
    function = {"name": name, "arguments": json.dumps(arguments)}
    return {"id": f"c{len(name)}", "type": "function", "function": function}


class Caller:
    """A model that is given tools and calls them as its rule says."""

    reference = "fake:caller"

    def __init__(self, rule: Callable[[str], list[dict[str, Any]]]) -> None:
        self.rule = rule
        self.offered: list[Any] = []

    def chat(self, messages: Messages, sampling: Any = None, tools: Any = None) -> Reply:
        self.offered.append(tools)
        calls = self.rule(question(messages))
        return Reply(text="" if calls else "Hello.", tool_calls=tuple(calls))

    def chat_many(
        self, conversations: Sequence[Messages], sampling: Any = None, on_reply: Any = None,
        tools: Any = None,
    ) -> list[Reply]:  # fmt: skip
        return [self.chat(one, sampling, tools) for one in conversations]

    def close(self) -> None:
        pass


@pytest.fixture
def tool_file(tmp_path: Path) -> Path:
    """Ten orders to look up, and two greetings that need no tool."""
    rows: list[dict[str, Any]] = [
        {
            "messages": [
                {"role": "user", "content": f"Order {i}?"},
                {"role": "assistant", "tool_calls": [call("find_order", order=i, fast=True)]},
            ],
            "tools": TOOLS,
        }
        for i in range(10)
    ]
    rows += [
        {
            "messages": [
                {"role": "user", "content": f"Hi {i}"},
                {"role": "assistant", "content": "Hello!"},
            ],
            "tools": TOOLS,
        }
        for i in range(2)
    ]
    path = tmp_path / "tools.jsonl"
    path.write_text("\n".join(map(json.dumps, rows)))
    return path


@pytest.mark.parametrize("concurrency", [None, 3])
def test_tool_calls_are_scored_by_name_and_arguments(
    tool_file: Path, concurrency: int | None
) -> None:
    def rule(asked: str) -> list[dict[str, Any]]:
        if not asked.startswith("Order"):
            return []
        number = int(asked[6:-1])
        if number == 0:
            return [call("other", order=0, fast=True)]
        return [call("find_order", fast=True, order=number if number != 1 else 99)]

    model = Caller(rule)
    found = evaluate(model, tool_file, against=[], concurrency=concurrency, report=False)
    assert [list(one) for one in model.offered] == [TOOLS] * 12
    assert found.details["task"]["kind"] == "tools"
    metrics = found.candidates[0].metrics
    assert metrics["tool_calls"] == pytest.approx(10 / 12)
    assert metrics["tool_names"] == pytest.approx(11 / 12)
    # Row 0: nothing of (call, order, fast) is right on either side; row 1: 2 of 3.
    assert metrics["tool_arguments"] == pytest.approx((10 + 2 / 3) / 12)
    assert found.as_dict()["samples"][0]["answers"][0]["text"].startswith('[{"name": ')


def test_a_model_without_tools_is_refused_by_name(tool_file: Path) -> None:
    with pytest.raises(UsageError) as caught:
        evaluate(Fake("fake:plain", lambda m: "x"), tool_file, against=[], report=False)
    assert caught.value.code == "no_tools"
    assert caught.value.where == "fake:plain"


def test_longer_texts_get_rouge_and_chrf(chat_file: Write) -> None:
    target = "The parcel left the depot on Monday and will be there by Friday noon."
    rows = [(f"Where is parcel {i}?", f"{target} Number {i}.") for i in range(9)]
    same = Fake("fake:same", lambda m: f"{target} Number {question(m)[16:-1]}.")
    far = Fake("fake:far", lambda m: "Nothing is known about that, I am sorry to say.")
    found = evaluate(same, chat_file(rows), against=[far], report=False)
    assert [one.name for one in found.metrics][:2] == ["token_f1", "exact_match"]
    mine, theirs = (one.metrics for one in found.candidates)
    assert (mine["rouge_l"], mine["chrf"]) == (pytest.approx(1.0), pytest.approx(1.0))
    assert theirs["rouge_l"] < 0.35
    assert theirs["chrf"] < 0.3


def test_rouge_and_chrf_by_hand() -> None:
    # Longest common subsequence "a c": precision 2/2, recall 2/3.
    assert get_metric("rouge_l").rate("a c", "a b c") == pytest.approx(2 * (2 / 3) / (1 + 2 / 3))
    assert get_metric("chrf").rate("abc", "xyz") == 0.0


@pytest.mark.parametrize(
    ("name", "answer", "target", "score"),
    [
        ("short_match", "The Eiffel Tower.", "eiffel tower", 1.0),
        ("short_match", "Eiffel", "eiffel tower", 0.0),
        ("short_match", "The answer: -5.", "answer 5", 0.0),
        ("short_match", "It costs $1,250.50!", "it costs 1250.50", 1.0),
        ("short_match", "1.5", "15", 0.0),
        ("short_match", "", "A", 0.0),  # an article may be the answer
        ("field_f1", '{"a": 1, "b": 2}', '{"a": 1}', 2 / 3),
        ("field_f1", "no", '{"a": 1}', 0.0),
        ("tool_calls", "Hi", "Hello", 1.0),
        ("tool_calls", '[{"name": "f", "arguments": {}}]', "Hello", 0.0),
        ("tool_calls", '[{"name": "f", "arguments": {"a": 1.0}}]',
         '[{"name": "f", "arguments": {"a": 1}}]', 1.0),
        ("tool_arguments", "Hi", '[{"name": "f", "arguments": {}}]', 0.0),
    ],
)  # fmt: skip
def test_scores_by_hand(name: str, answer: str, target: str, score: float) -> None:
    assert get_metric(name).rate(answer, target) == pytest.approx(score)


def test_a_json_schema_is_checked(chat_file: Write, tmp_path: Path) -> None:
    schema = tmp_path / "schema.json"
    wanted = {"type": "object", "properties": {"id": {"type": "integer"}}, "required": ["id"]}
    schema.write_text(json.dumps(wanted))
    rows = [(f"Row {i}", json.dumps({"id": i})) for i in range(8)]
    answers = ['{"id": 1}', '{"id": "1"}', "{}", "no"]
    model = Fake("fake:s", lambda m: answers[int(question(m)[4:]) % 4])
    metric = ["json_fields", f"json_schema:{schema}"]
    found = evaluate(model, chat_file(rows), against=[], metric=metric, report=False)
    assert found.candidates[0].metrics["json_schema"] == pytest.approx(0.25)
    schema.write_text('{"type": "nonsense"}')
    with pytest.raises(UsageError) as caught:
        get_metric(f"json_schema:{schema}")
    assert caught.value.code == "bad_schema"


def test_a_function_of_the_user_is_found_by_name(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "my_scores.py").write_text("def half(answer, target):\n    return 0.5\n")
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr("sys.path", [*__import__("sys").path])
    metric = get_metric("my_scores:half")
    assert (metric.name, metric.rate("a", "b")) == ("half", 0.5)
    for wrong in ("my_scores:whole", "no_such_module:half"):
        with pytest.raises(UsageError) as caught:
            get_metric(wrong)
        assert caught.value.code == "bad_metric"


def test_labels_give_a_confusion_matrix(chat_file: Write) -> None:
    rows = [(f"Message {i}", "spam" if i % 3 else "ham") for i in range(30)]
    model = Fake("fake:m", lambda m: "ham" if question(m) == "Message 1" else "spam" if
                 int(question(m)[8:]) % 3 else "what?")  # fmt: skip
    found = evaluate(model, chat_file(rows), against=[], report=False).as_dict()["confusion"]
    assert found["model"] == {
        "labels": ["ham", "spam"],
        "given": ["ham", "spam", "(other)"],
        "counts": [[0, 0, 10], [1, 19, 0]],
    }


def test_calibration_where_log_probabilities_are_known(chat_file: Write, tmp_path: Path) -> None:
    """Sure to 90 % and right in half of the rows: an error of 40 points."""

    class Sure(Fake):
        def chat(self, messages: Messages, sampling: Sampling | None = None) -> Reply:
            return Reply(text=self.answer(messages), logprob=math.log(0.9))

    rows = [(f"Q{i}", f"a{i}") for i in range(40)]
    model = Sure("fake:sure", lambda m: f"a{question(m)[1:]}" if int(question(m)[1:]) % 2 else "?")
    silent = Fake("fake:silent", lambda m: "?")
    page = tmp_path / "page.html"
    whole = evaluate(model, chat_file(rows), base=silent, report=page)
    found = whole.as_dict()["calibration"]
    assert found["base"] == {"n": 0, "why": "it gives no log probabilities"}
    assert "Reliability of model" in page.read_text()
    assert "it gives no log probabilities" in page.read_text()
    assert found["model"]["brier"] == pytest.approx((0.1**2 + 0.9**2) / 2)
    assert found["model"]["n"] == 40
    assert found["model"]["confidence"] == pytest.approx(0.9)
    assert found["model"]["accuracy"] == pytest.approx(0.5)
    assert found["model"]["error"] == pytest.approx(0.4)

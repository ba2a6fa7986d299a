"""What users and models do that nobody asked for: odd answers, failing metrics, tiny test sets."""

from __future__ import annotations

import json
from collections.abc import Callable
from typing import Any

import numpy as np
import pytest

import unift
from tests.evaluate.fakes import Fake, knows
from unift.errors import UsageError
from unift.evaluate import Evaluation, get_metric, paired_difference

Write = Callable[..., str]
ANN = '{"name": "Ann", "age": 3}'


def compared(
    chat_file: Write, rows: list[tuple[str, str]], new: Any, old: Any, **settings: Any
) -> Evaluation:
    models = [Fake(f"fake:{name}", rule) for name, rule in (("new", new), ("old", old))]
    path = chat_file(rows, "test.jsonl")
    return unift.evaluate(models[0], path, against=[models[1]], report=False, **settings)


@pytest.mark.parametrize(
    ("metric", "answer", "target", "expected"),
    [
        ("accuracy", "<think>\nyes? no.\n</think>\n\nyes", "yes", 1),
        ("accuracy", "so it is no</think>yes", "yes", 1),  # the tag opens in the prompt
        ("accuracy", "<think>yes and yes and", "yes", 0),  # it never came to an answer
        ("accuracy", "<thinking>a</thinking> yes", "yes", 1),
        ("accuracy", "a < b", "a < b", 1),
        ("exact_match", "<think>a</think>b", "<think>a</think>b", 1),  # wanted: stays
        ("exact_match", "b", "<think>a</think>b", 0),
        ("json_fields", f"<think>{{</think>\n{ANN}", ANN, 1),
        ("json_fields", f"Here it is:\n```json\n{ANN}\n```\nAnything else?", ANN, 1),
        ("field_f1", f"Here:\n```\n{ANN}\n```", ANN, 1),
        ("json_valid", f"Here:\n```\n{ANN}\n```", ANN, 0),  # whoever parses it has work to do
        ("json_fields", f"```\n{ANN}\n```\nor\n```\n{ANN}\n```", ANN, 0),  # which one?
        ("json_fields", f"Sure! {ANN}", ANN, 0),
    ],
)
def test_what_is_taken_off_an_answer(
    metric: str, answer: str, target: str, expected: float
) -> None:
    assert get_metric(metric).rate(answer, target) == expected


def calls(*made: tuple[str, dict[str, Any]]) -> str:
    return json.dumps([{"name": name, "arguments": arguments} for name, arguments in made])


def test_calls_of_one_message_have_no_order() -> None:
    wanted = calls(("find", {"id": 1}), ("find", {"id": 2}), ("send", {"to": "a", "cc": "b"}))
    other = calls(("send", {"cc": "b", "to": "a"}), ("find", {"id": 2}), ("find", {"id": 1}))
    for name in ("tool_calls", "tool_names", "tool_arguments"):
        assert get_metric(name).rate(other, wanted) == 1.0
    once = calls(("send", {"to": "a", "cc": "b"}), ("find", {"id": 2}))
    assert get_metric("tool_names").rate(once, wanted) == 0.0
    # Of (find, id) twice and (send, to, cc), seven leaves, the call of find(1) is missing.
    assert get_metric("tool_arguments").rate(once, wanted) == pytest.approx(5 / 7)
    twice = calls(("find", {"id": 2}), ("find", {"id": 2}), ("send", {"to": "a", "cc": "b"}))
    assert get_metric("tool_calls").rate(twice, wanted) == 0.0


def broken(answer: str, target: str) -> float:
    return float(target.index("zebra"))


def picky(answer: str, target: str) -> float:
    if answer == "odd":
        raise RuntimeError("no odd answers")
    return 1.0


def nothing(answer: str, target: str) -> Any:
    return None


@pytest.mark.parametrize(
    ("metric", "said"),
    [(broken, "failed with ValueError: substring not found"), (nothing, "returned None")],
)
def test_a_metric_that_cannot_work_is_told_before_anything_is_asked(
    chat_file: Write, metric: Any, said: str
) -> None:
    model = Fake("fake:m", lambda _: "a")
    with pytest.raises(UsageError, match=said) as caught:
        unift.evaluate(model, chat_file([("q", "a")]), against=[], metric=metric, report=False)
    assert model.asked == []
    assert caught.value.code == "bad_metric"
    assert f"metric {metric.__name__}" in str(caught.value.where)


def test_a_metric_that_fails_on_an_answer_says_on_which(chat_file: Write) -> None:
    model = Fake("fake:m", lambda _: "odd")
    with pytest.raises(UsageError, match="RuntimeError: no odd answers; the answer was 'odd'") as e:
        unift.evaluate(model, chat_file([("q", "a")]), against=[], metric=picky, report=False)
    assert "test_odd_input.py:" in str(e.value.where)


@pytest.mark.parametrize("value", [np.float32(0.5), np.bool_(True), True, 7.5, -3])
def test_numbers_of_any_kind_are_scores(value: Any) -> None:
    assert get_metric(lambda answer, target: value).rate("a", "b") == float(value)


@pytest.mark.parametrize("value", ["1", (1, 2), np.array([1.0, 2.0]), np.nan, float("inf")])
def test_what_is_no_number_is_no_score(value: Any) -> None:
    with pytest.raises(UsageError, match="no finite number"):
        get_metric(lambda answer, target: value).rate("a", "b")


def test_half_a_surrogate_pair_loses_no_answer(chat_file: Write, home: Any) -> None:
    rows = [(f"q{i}", "one two three four five six seven") for i in range(3)]
    model = Fake("fake:m", lambda _: "one \ud800 two \x00")
    path = chat_file(rows, "test.jsonl")
    first = unift.evaluate(model, path, against=[], report=home / "page.html")
    again = unift.evaluate(model, path, against=[], report=False)
    assert len(model.asked) == 3
    assert again.candidates[0].replies[0].text == first.candidates[0].replies[0].text


def right(count: int) -> list[tuple[str, str]]:
    return [(f"q{i}", f"a{i}") for i in range(count)]


@pytest.mark.parametrize("count", [1, 2, 5])
@pytest.mark.parametrize("wins", [True, False])
def test_a_handful_of_rows_decides_nothing(chat_file: Write, count: int, wins: bool) -> None:
    rows = right(count)
    good, bad = knows(dict(rows)), knows({})
    found = compared(chat_file, rows, good if wins else bad, bad if wins else good)
    # Five of five lost: a gain of five points is just ruled out, and no loss is called sure.
    assert found.verdict.code == ("no_better" if (count, wins) == (5, False) else "inconclusive")
    one = found.comparisons[0]
    assert one.low < 0 < one.high
    assert f"{count} row{'s' if count > 1 else ''})" in str(found.verdict)
    assert any("few" in text for text in found.warnings)
    json.dumps(found.as_dict(), allow_nan=False)
    assert "nan" not in str(found.verdict).lower()


@pytest.mark.parametrize("answer", ["a0", "no", ""])
def test_equal_answers_by_everyone(chat_file: Write, answer: str) -> None:
    rows = [(f"q{i}", "a0") for i in range(40)]
    found = compared(chat_file, rows, lambda _: answer, lambda _: answer)
    assert "scores the same as fake:old on every row" in str(found.verdict)
    json.dumps(found.as_dict(), allow_nan=False)
    empty = [text for text in found.warnings if "are empty" in text]
    assert len(empty) == (0 if answer else 2)


def test_rows_that_repeat_a_question_are_counted(chat_file: Write) -> None:
    rows = [*right(30), ("q1", "a1"), ("q1", "b")]
    found = compared(chat_file, rows, knows(dict(rows)), knows({}))
    assert any("2 of 32 rows ask what another row asks" in text for text in found.warnings)


def test_reasoning_is_told(chat_file: Write) -> None:
    rows = right(40)
    good = knows(dict(rows))
    found = compared(chat_file, rows, good, lambda m: f"<think>Hm.</think>{good(m)}")
    assert found.verdict.code == "inconclusive"
    assert any("40 answers of fake:old begin with reasoning" in text for text in found.warnings)


def test_an_interval_allows_for_wins_that_were_not_drawn() -> None:
    """One row lost of forty does not rule out that as many are won."""
    lost = paired_difference([0.0] + [1.0] * 39, [1.0] * 40)
    assert lost.p == 1.0
    assert lost.low == pytest.approx(-0.1288, abs=1e-3)  # Tango's interval of 0 wins, 1 loss
    assert lost.high == pytest.approx(0.0642, abs=1e-3)
    graded = paired_difference([0.5] + [1.0] * 39, [1.0] * 40)
    assert graded.low < -0.0125 < 0 < graded.high < lost.high


def test_all_lost_allows_for_wins() -> None:
    for n, sure in ((5, False), (6, True)):  # as McNemar's exact test has it: p = 2 / 2**n
        found = paired_difference([0.0] * n, [1.0] * n)
        assert (found.p < 0.05) is sure
        assert (found.high < 0) is sure

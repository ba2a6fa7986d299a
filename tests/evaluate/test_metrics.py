"""Metrics: what counts as right, and how the task is recognised."""

from __future__ import annotations

import json
from typing import Any

import pytest
from hypothesis import example, given, settings
from hypothesis import strategies as st

from unift.errors import UsageError
from unift.evaluate import Metric, get_metric, metrics, register
from unift.evaluate._classification import label_table, macro_f1
from unift.evaluate._json_fields import field_table
from unift.evaluate._metrics import label_of
from unift.evaluate._task import find_task


def rate(name: str, answer: str, target: str) -> float:
    return get_metric(name).rate(answer, target)


@pytest.mark.parametrize(
    ("answer", "target", "expected"),
    [
        ("Paris", "Paris", 1),
        (" Paris\n", "Paris", 1),
        ("New  York", "New York", 1),
        ("paris", "Paris", 0),
        ("Paris.", "Paris", 0),
        ("e\u0301t\u00e9", "\u00e9t\u00e9", 1),  # composed and decomposed letters are the same
        ('{"b": 2, "a": 1}', '{"a":1,"b":2}', 1),
        ('```json\n{"a": 1}\n```', '{"a": 1}', 1),
        ('{"a": 1.0}', '{"a": 1}', 1),
        ('{"a": true}', '{"a": 1}', 0),
        ('{"a": "1"}', '{"a": 1}', 0),
        ("", "Paris", 0),
    ],
)
def test_exact_match(answer: str, target: str, expected: float) -> None:
    assert rate("exact_match", answer, target) == expected


def test_accuracy_is_about_labels_not_letters() -> None:
    assert rate("accuracy", '"Refund".', "refund") == 1
    assert rate("accuracy", "refund please", "refund") == 0


@pytest.mark.parametrize(
    ("answer", "target", "expected"),
    [
        ("the cat sat", "a cat sat", 1),  # articles do not count
        ("The Cat, sat!", "cat sat", 1),
        ("cat cat", "cat", 2 / 3),  # precision 1/2, recall 1
        ("dog", "cat", 0),
        ("", "", 1),
        ("", "cat", 0),
    ],
)
def test_token_f1(answer: str, target: str, expected: float) -> None:
    assert rate("token_f1", answer, target) == pytest.approx(expected)


@pytest.mark.parametrize(
    ("answer", "expected"),
    [
        ('{"name": "Ana", "order": {"id": 7, "lines": [1, 2]}}', 1),
        ('{"name": "Bo", "order": {"id": 7, "lines": [1, 2]}}', 2 / 3),
        ('{"name": "Ana", "order": {"id": 7}}', 2 / 3),  # a missing field is wrong
        ('{"name": "Ana", "order": {"id": 7, "lines": [1, 2]}, "vip": true}', 3 / 4),  # invented
        ('{"name": "Ana", "order": {"id": 7, "lines": [2, 1]}}', 2 / 3),  # order of lists counts
        ("Here you are: {}", 0),
        ("[1]", 0),
        ('{"name": NaN}', 0),
        ("[" * 100_000, 0),
    ],
)
def test_field_accuracy(answer: str, expected: float) -> None:
    target = '{"name": "Ana", "order": {"id": 7, "lines": [1, 2]}}'
    assert rate("json_fields", answer, target) == pytest.approx(expected)


def test_json_validity_wants_the_shape_of_the_target() -> None:
    assert rate("json_valid", '{"x": 1}', '{"a": 2}') == 1
    assert rate("json_valid", "[1]", '{"a": 2}') == 0
    assert rate("json_valid", "[1]", "[2]") == 1
    assert rate("json_valid", "sorry", '{"a": 2}') == 0


json_values = st.recursive(
    st.none() | st.booleans() | st.integers() | st.text(max_size=5),
    lambda inner: (
        st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=4), inner, max_size=3)
    ),
    max_leaves=8,
)


@example({"": {"0": None}, "0": []})
@example({"a.b": 1, "a": {"b": 2}})
@given(st.dictionaries(st.text(max_size=4), json_values, min_size=1, max_size=4))
def test_json_equals_itself_however_it_is_written(value: dict[str, Any]) -> None:
    target = json.dumps(value)
    for answer in (
        json.dumps(value, indent=2),
        json.dumps(dict(reversed(value.items())), ensure_ascii=False),
        f"```json\n{target}\n```",
    ):
        assert rate("json_fields", answer, target) == 1
        assert rate("exact_match", answer, target) == 1


@settings(deadline=None)  # the first call imports the libraries
@given(st.text(), st.text())
def test_every_metric_takes_any_text(answer: str, target: str) -> None:
    for metric in metrics().values():
        assert 0 <= metric.rate(answer, target) <= 1


@pytest.mark.parametrize(
    ("answer", "target", "score"),
    [
        ('["b","a"]', '["a", "b"]', 1),  # several labels: neither order nor spaces matter
        ('["a"]', '["a", "b"]', 1 / 2),
        ('["a", "b", "b"]', '["a", "b"]', 2 / 3),
        ('"a"', '["a"]', 0),
        ("[]", "[]", 1),
        ('["a"]', "[]", 0),
        ('[{"n": 2, "s": "x"}, {"n": 1, "s": "y"}]', '[{"s": "y", "n": 1}, {"s": "x", "n": 2}]', 1),
        # Numbers of the other article are wrong, although every value occurs.
        ('[{"s": "y", "n": 2}, {"s": "x", "n": 1}]', '[{"s": "y", "n": 1}, {"s": "x", "n": 2}]',
         2 / 4),
        ('[{"s": "new", "n": 9}, {"s": "y", "n": 1}]', '[{"s": "y", "n": 1}]', 2 / 4),
        ("[2, 1]", "[1, 2]", 0),  # a place or a span
        ('{"zip": 5, "x": null}', '{"zip": "5", "x": null}', 1 / 2),
        (" Not  found.", "Not found.", 1),
        ('{"a": 1}', "Not found.", 0),
        ("[" * 300 + "]" * 300, "[1]", 0),
        ("[" * 60 + '"a"' + "]" * 60, "[" * 60 + '"b"' + "]" * 60, 0),
    ],
)  # fmt: skip
def test_items_of_lists_are_fields(answer: str, target: str, score: float) -> None:
    assert rate("json_fields", answer, target) == pytest.approx(score)
    if score == 1:
        assert rate("field_f1", answer, target) in (0, 1)
    assert rate("json_fields", target, target) == 1


def test_the_order_of_lists_counts_in_an_exact_match() -> None:
    assert rate("exact_match", '["a","b"]', '["a", "b"]') == 1
    assert rate("exact_match", '["b", "a"]', '["a", "b"]') == 0


def test_items_of_a_list_are_one_line_of_the_table() -> None:
    table = field_table({"x": ['{"t": ["b"], "i": [{"n": 2}, {"n": 1}]}']},
                        ['{"t": ["a", "b"], "i": [{"n": 1}, {"n": 3}], "[0]": 1}'])  # fmt: skip
    assert [(one["field"], one["n"], one["right"]["x"]) for one in table] == [
        ("t[]", 2, 0.5), ("i[].n", 2, 0.5), ('"[0]"', 1, 0.0),
    ]  # fmt: skip


@pytest.mark.parametrize(
    ("one", "other"),
    [("-1", "1"), ("+", "-"), ("C", "C++"), ("C", "C#"), ("?", "!"), ("1.5", "15"), (".5", "5")],
)
def test_signs_tell_labels_apart(one: str, other: str) -> None:
    for metric in ("accuracy", "exact_match"):
        assert rate(metric, one, other) == 0
        assert rate(metric, one, one) == 1


@pytest.mark.parametrize(
    ("answer", "target"),
    [("“Spam”.", "spam"), ("**Spam**", "spam"), ("- spam", "spam"), ("[Spam]", "spam"),
     ("1,250", "1250"), ("\N{MINUS SIGN}3", "-3"), ("Yes!", "yes"), ("PARIS.\n", "Paris")],
)  # fmt: skip
def test_what_stands_around_a_short_answer_is_no_part_of_it(answer: str, target: str) -> None:
    assert rate("accuracy", answer, target) == 1


@given(st.text(max_size=12))
def test_a_label_of_a_label_is_itself(text: str) -> None:
    assert label_of(label_of(text)) == label_of(text)
    assert label_of(text) or not text.strip()


def test_field_table_counts_rows_that_have_the_field() -> None:
    targets = ['{"a": 1, "b": 2}', '{"a": 1}']
    table = field_table({"x": ['{"a": 1, "b": 3}', "nonsense"]}, targets)
    assert table == [
        {"field": "a", "n": 2, "right": {"x": 0.5}},
        {"field": "b", "n": 1, "right": {"x": 0.0}},
    ]


def test_macro_f1_counts_rare_labels_as_much() -> None:
    targets = ["yes"] * 9 + ["no"]
    answers = ["yes"] * 10
    # yes: 2*9 / (10 + 9); no: 0
    assert macro_f1(answers, targets) == pytest.approx((18 / 19) / 2)
    assert label_table(answers, targets)[0] == {
        "label": "no",
        "n": 1,
        "precision": 0.0,
        "recall": 0.0,
        "f1": 0.0,
    }


@pytest.mark.parametrize(
    ("targets", "kind", "first"),
    [
        (['{"a": 1}', '{"a": 2}'], "json", "json_fields"),
        (["yes", "no", "Yes", "no", "yes", "no"], "labels", "accuracy"),
        (["Paris", "Rome", "Oslo"], "text", "accuracy"),
        (['["a"]', '["a", "b"]', "[]"], "json", "json_fields"),
        ([*['{"a": 1}'] * 9, "Not found."], "json", "json_fields"),
        (["Please send me my money back.", "Where is the parcel that I ordered?"] * 5, "labels",
         "accuracy"),
        (["a long answer of several words, you see", "and one more of them just here"], "text",
         "token_f1"),
        (['{"a": 1}', "sorry"], "text", "accuracy"),
    ],
)  # fmt: skip
def test_the_task_is_seen_in_the_targets(targets: list[str], kind: str, first: str) -> None:
    found = find_task(targets)
    assert (found.kind, found.metrics[0].name) == (kind, first)
    assert find_task(targets, "auto") == found


def test_asked_metrics_replace_the_found_ones() -> None:
    found = find_task(["yes"] * 3, ["token_f1", "exact_match"])
    assert [metric.name for metric in found.metrics] == ["token_f1", "exact_match"]


def test_unknown_metric_names_the_nearest() -> None:
    with pytest.raises(UsageError) as caught:
        get_metric("exact_mach")
    assert "exact_match" in caught.value.fix


def test_registered_metric_is_found_by_name() -> None:
    def length(answer: str, target: str) -> float:
        return float(len(answer) == len(target))

    register(Metric("same_length", length, "Same length", "Equal number of characters."))
    assert rate("same_length", "abc", "xyz") == 1


@pytest.mark.parametrize("value", [None, "1", float("nan")])
def test_a_function_that_returns_no_number_is_refused(value: Any) -> None:
    def broken(answer: str, target: str) -> Any:
        return value

    with pytest.raises(UsageError, match="broken"):
        get_metric(broken).rate("a", "b")

"""Not worse by more than a margin, groups and slices: the questions beyond "is it better?"."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from tests.evaluate.fakes import Fake, question
from unift.errors import UsageError
from unift.evaluate import evaluate, not_worse, paired_difference, rows_needed
from unift.provider import Messages

Write = Callable[..., str]
N = 400
ANSWERS = {f"Question {i}?": f"answer {i}" for i in range(N)}


@pytest.fixture
def test_file(chat_file: Write) -> str:
    return chat_file(list(ANSWERS.items()), "test.jsonl")


def wrong_on(name: str, numbers: range | list[int]) -> Fake:
    """Right everywhere but on the questions with these numbers."""
    bad = {f"Question {i}?" for i in numbers}

    def rule(messages: Messages) -> str:
        asked = question(messages)
        return "no idea" if asked in bad else ANSWERS[asked]

    return Fake(name, rule)


def asked(path: str, new: Fake, old: Fake, **wanted: Any) -> dict[str, Any]:
    given = {"margin": 0.02, "report": False, **wanted}
    return evaluate(new, path, against=[old], **given).as_dict()


def test_an_equal_model_is_not_worse_and_the_figures_say_so(test_file: str) -> None:
    # 40 wrong answers each, 4 of them at other places: 4 rows won, 4 lost.
    found = asked(
        test_file, wrong_on("fake:new", range(40)), wrong_on("fake:old", range(4, 44)), margin=0.03
    )
    assert found["verdict_code"] == "not_worse"
    assert "a loss of 3.0 points or more against fake:old is ruled out" in found["verdict"]
    one = found["comparisons"][0]
    assert (one["margin"], one["not_worse"], one["test_not_worse"]) == (0.03, True, "Tango")
    assert one["low"] > -0.03
    assert one["p_not_worse"] < 0.025
    # Only the deciding metric is asked about.
    assert [row["margin"] for row in found["comparisons"]] == [0.03, None, None]
    assert found["non_inferiority"]["holds"] is True
    assert found["non_inferiority"]["reference"] == "fake:old"


def test_a_worse_model_is_named_and_too_few_rows_cannot_tell(test_file: str) -> None:
    old = wrong_on("fake:old", range(10))
    assert asked(test_file, wrong_on("fake:new", range(60)), old)["verdict_code"] == "worse"
    found = asked(test_file, wrong_on("fake:other", range(5, 15)), old, limit=50)
    assert found["verdict_code"] == "inconclusive"
    assert "rows" in found["verdict"].rpartition("(")[2]
    assert found["non_inferiority"]["rows_needed"] > 50


def test_a_better_model_is_better_whatever_the_margin(test_file: str) -> None:
    found = asked(test_file, wrong_on("fake:new", []), wrong_on("fake:old", range(60)))
    assert found["verdict_code"] == "better"
    assert found["comparisons"][0]["not_worse"] is True


def test_the_margin_decides(test_file: str) -> None:
    new, old = wrong_on("fake:new", range(8)), wrong_on("fake:old", range(4))
    assert asked(test_file, new, old, margin=0.05)["verdict_code"] == "not_worse"
    assert asked(test_file, new, old, margin=0.01)["verdict_code"] == "inconclusive"


def test_the_reference_is_one_of_several_and_is_added_if_need_be(test_file: str) -> None:
    new, old = wrong_on("fake:new", range(8)), wrong_on("fake:old", range(8))
    best = wrong_on("fake:best", [])
    found = evaluate(new, test_file, against=[best], margin=0.05, reference=old, report=False)
    assert [one.name for one in found.candidates] == ["model", "fake:best", "fake:old"]
    assert (found.verdict.code, found.verdict.against) == ("not_worse", "fake:old")
    with pytest.raises(UsageError) as caught:
        evaluate(new, test_file, against=[best, old], margin=0.05, report=False)
    assert caught.value.code == "no_reference"
    with pytest.raises(UsageError) as caught:
        evaluate(new, test_file, against=[best], reference=old, report=False)
    assert caught.value.code == "no_margin"
    for wrong in (0.0, -0.1, float("nan")):
        with pytest.raises(UsageError) as caught:
            evaluate(new, test_file, against=[old], margin=wrong, report=False)
        assert caught.value.where == "margin"


def test_by_hand() -> None:
    # Tango 1998, equation 6, wins 1, losses 0, n 300, margin 0.02; the root was found by search.
    a, b = [1.0] * 300, [0.0] + [1.0] * 299
    found = not_worse(a, b, paired_difference(a, b), 0.02)
    assert found.p == pytest.approx(0.003763, abs=2e-5)
    # No row differs: (1 - margin) ** n.
    same = not_worse(a, a, paired_difference(a, a), 0.01)
    assert (same.p, same.holds) == (pytest.approx(0.99**300), False)
    # Graded: Student's t of (mean + margin) / (s / sqrt(n)) with 4 degrees of freedom.
    x, y = [0.5, 0.7, 0.9, 0.8, 0.6], [0.5, 0.6, 0.9, 0.9, 0.6]
    d = np.subtract(x, y)
    t = (d.mean() + 0.2) / (d.std(ddof=1) / 5**0.5)
    graded = not_worse(x, y, paired_difference(x, y), 0.2)
    assert graded.test == "paired t test"
    assert 1.5 < t < 7
    assert graded.p == pytest.approx(0.5 * (1 - _t_cdf_between(t, 4)), abs=1e-4)
    assert rows_needed(0.05, deviation=0.4) == 503  # ((1.95996 + 0.84162) * 0.4 / 0.05) ** 2
    with pytest.raises(ValueError, match="above 0"):
        rows_needed(0)


def _t_cdf_between(t: float, degrees: int) -> float:
    """P(|T| < t), by adding up Student's density."""
    grid = np.linspace(-t, t, 200_001)
    density = (1 + grid**2 / degrees) ** (-(degrees + 1) / 2)
    whole = np.linspace(-2000, 2000, 4_000_001)
    total = np.trapezoid((1 + whole**2 / degrees) ** (-(degrees + 1) / 2), whole)
    return float(np.trapezoid(density, grid) / total)


def test_groups_count_as_one(tmp_path: Path) -> None:
    """Ten customers with forty equal rows each say as much as ten rows."""
    path = tmp_path / "grouped.jsonl"
    rows = [
        {
            "messages": [
                {"role": "user", "content": q},
                {"role": "assistant", "content": a},
            ],
            "customer": f"c{i // 40}",
        }
        for i, (q, a) in enumerate(ANSWERS.items())
    ]
    path.write_text("\n".join(map(json.dumps, rows)))
    new, old = wrong_on("fake:new", range(40)), wrong_on("fake:old", range(120))
    alone = evaluate(new, path, against=[old], report=False)
    grouped = evaluate(new, path, against=[old], group="customer", report=False)
    assert alone.verdict.code == "better"
    assert grouped.verdict.code == "inconclusive"
    assert grouped.comparisons[0].p > 0.05 > alone.comparisons[0].p
    assert grouped.comparisons[0].test == "sign-flip permutation of groups"
    assert grouped.comparisons[0].low < alone.comparisons[0].low
    with pytest.raises(UsageError) as caught:
        evaluate(new, path, against=[old], group="custmer", report=False)
    assert "customer" in caught.value.fix


LABELS = ("refund", "parcel", "login")


def labelled(tmp_path: Path) -> tuple[Path, dict[str, str]]:
    """300 rows, one in ten of them a refund, each with a region."""
    truth = {f"Mail {i}": LABELS[0 if i % 10 == 0 else 1 + i % 2] for i in range(300)}
    path = tmp_path / "labels.jsonl"
    rows = [
        {
            "messages": [
                {"role": "user", "content": q},
                {"role": "assistant", "content": label},
            ],
            "region": "north" if i % 3 else "south",
        }
        for i, (q, label) in enumerate(truth.items())
    ]
    path.write_text("\n".join(map(json.dumps, rows)))
    return path, truth


def test_a_minority_that_got_worse_is_named(tmp_path: Path) -> None:
    path, truth = labelled(tmp_path)
    old = Fake("fake:old", lambda m: truth[question(m)] if int(question(m)[5:]) % 4 != 1 else "?")
    forgetful = Fake(
        "fake:new", lambda m: "parcel" if truth[question(m)] == "refund" else truth[question(m)]
    )
    found = evaluate(forgetful, path, against=[old], slices=["region"], report=False)
    assert found.verdict.code == "better"
    assert found.verdict.exceptions == ("label 'refund'",)
    assert "But worse on label 'refund'" in str(found.verdict)
    parts = {(one["by"], one["value"]): one for one in found.as_dict()["slices"]}
    assert parts["label", "refund"]["worse"]
    assert parts["label", "refund"]["n"] == 30
    assert parts["label", "refund"]["scores"]["model"] == 0.0
    assert parts["label", "login"]["better"]
    assert parts["region", "south"]["n"] == 100
    assert found.as_dict()["verdict_exceptions"] == ["label 'refund'"]


def test_worse_in_part_when_the_whole_is_no_better(tmp_path: Path) -> None:
    path, truth = labelled(tmp_path)
    slips = {f"Mail {i}" for i in range(1, 300, 11) if i % 10}
    old = Fake("fake:old", lambda m: "?" if question(m) in slips else truth[question(m)])
    new = Fake(
        "fake:new", lambda m: "parcel" if truth[question(m)] == "refund" else truth[question(m)]
    )
    found = evaluate(new, path, against=[old], report=False)
    assert found.verdict.code == "worse_in_part"
    assert str(found.verdict).startswith(
        "Worse in part: against fake:old it loses accuracy on label"
    )


def test_a_small_part_that_lost_the_same_on_every_row_is_named(tmp_path: Path) -> None:
    """Two fields of five, nine rows of nine: the exact test is sure (p = 0.004)."""
    right = {"a": 1, "b": 2, "c": 3, "d": 4, "e": 5}
    rows = [
        {
            "messages": [
                {"role": "user", "content": f"Form {i}"},
                {"role": "assistant", "content": json.dumps({**right, "a": i})},
            ],
            "shop": "small" if i < 9 else "large",
        }
        for i in range(99)
    ]
    path = tmp_path / "forms.jsonl"
    path.write_text("\n".join(map(json.dumps, rows)))

    def says(messages: Messages, **other: Any) -> str:
        i = int(question(messages)[5:])
        return json.dumps({**right, "a": i, **(other if i < 9 else {})})

    new = Fake("fake:new", lambda m: says(m, d=0, e=0))
    found = evaluate(
        new, path, against=[Fake("fake:old", says)], slices=["shop"], margin=0.1, report=False
    )
    assert found.verdict.code == "not_worse"
    assert found.verdict.exceptions == ("shop 'small'",)


def test_slices_follow_length_and_language_and_refuse_unknown_keys(
    chat_file: Write, tmp_path: Path
) -> None:
    rows = [(f"word {'and ' * (i % 30)}{i}", f"a{i}") for i in range(60)]
    found = evaluate(Fake("f", lambda m: "x"), chat_file(rows), against=[], report=False).as_dict()
    assert [one["by"] for one in found["slices"]] == ["length"] * 3
    assert sum(one["n"] for one in found["slices"]) == 60
    assert all(one["difference"] is None for one in found["slices"])
    english = "Where is my parcel? It should have come last week, please look it up for me."
    german = "Wo bleibt mein Paket? Es sollte letzte Woche kommen, bitte sehen Sie doch nach."
    both = [(f"{english if i % 2 else german} {i}", f"a{i}") for i in range(40)]
    model = Fake("f2", lambda m: "a1" if "Wo" in question(m) else "x")
    found = evaluate(model, chat_file(both), against=[], report=False).as_dict()
    languages = {one["value"]: one["n"] for one in found["slices"] if one["by"] == "language"}
    assert languages == {"de": 20, "en": 20}
    with pytest.raises(UsageError) as caught:
        evaluate(model, chat_file(both), against=[], slices=["team"], report=False)
    assert caught.value.code == "unknown_key"

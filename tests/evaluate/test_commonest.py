"""The baseline that answers everything with the commonest answer."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from tests.evaluate.fakes import Fake, question
from unift.errors import UniftError
from unift.evaluate import evaluate

Write = Callable[..., str]
# 70 of 100 rows are about parcels.
TRUTH = {f"Mail {i}": "parcel" if i % 10 < 7 else "refund" if i % 10 < 9 else "login"
         for i in range(100)}  # fmt: skip


def model(name: str, wrong: int) -> Fake:
    """Right but for its first so many parcels, of which it says that they are refunds."""
    parcels = [mail for mail, label in TRUTH.items() if label == "parcel"][:wrong]
    return Fake(
        f"fake:{name}", lambda m: "refund" if question(m) in parcels else TRUTH[question(m)]
    )


@pytest.fixture
def rows(chat_file: Write) -> str:
    return chat_file(list(TRUTH.items()), "test.jsonl")


def test_a_model_that_does_not_beat_it_is_not_worth_it(rows: str, chat_file: Write) -> None:
    train = chat_file([(f"Other {i}", "Parcel." if i < 8 else "login") for i in range(12)])
    poor, base = model("poor", 70), model("base", 70)
    found = evaluate(poor, rows, base=base, train=train, report=False)
    assert [one.name for one in found.candidates] == ["model", "base", "commonest"]
    free = found.candidates[2]
    assert free.metrics["accuracy"] == 0.7
    assert "'Parcel.', the commonest answer in the training data (8 of 12 rows)" in free.about
    assert found.verdict.code == "worse"
    assert "below always answering 'Parcel.', the strongest alternative" in str(found.verdict)
    assert found.verdict.against == "commonest"
    ours = [one for one in found.comparisons if one.metric == "accuracy"]
    assert [one.b for one in ours] == ["base", "commonest"]
    assert ours[1].p_adjusted == pytest.approx(2 * ours[1].p), "it counts as one more comparison"
    # It is right on every parcel and on nothing else, which says nothing about parts of the rows.
    parts = {one["against"] for one in found.details["slices"] if one["difference"] is not None}
    assert parts == {"base"}
    assert found.verdict.exceptions == ()


def test_a_model_that_beats_it_and_its_base_is(rows: str) -> None:
    found = evaluate(model("good", 2), rows, base=model("base", 70), report=False)
    assert found.verdict.code == "better"
    about = found.candidates[2].about
    assert "these test rows, as no training data is at hand (70 of 100 rows)" in about


@pytest.mark.parametrize("named", [["commonest"], ["base", "commonest"]])
def test_it_can_be_named_and_is_no_more_than_asked_for(rows: str, named: list[str]) -> None:
    found = evaluate(model("good", 2), rows, base=model("b", 70), against=named, report=False)
    assert [one.name for one in found.candidates[1:]] == named
    alone = evaluate(model("good", 2), rows, base=model("b", 70), against=["base"], report=False)
    assert [one.name for one in alone.candidates] == ["model", "base"]


def test_only_labels_have_it_and_no_judge_is_paid_for_it(rows: str, chat_file: Write) -> None:
    texts = chat_file([(f"q{i}", f"a long answer number {i} to it") for i in range(40)], "t.jsonl")
    fake = Fake("fake:x", lambda m: "x")
    found = evaluate(fake, texts, base=fake, report=False)
    assert len(found.candidates) == 2
    judge = Fake("fake:judge", lambda m: "[[tie]]")
    judged = evaluate(model("good", 2), rows, base=model("b", 70), judge=judge, report=False)
    assert [one.name for one in judged.candidates] == ["model", "base"]


def test_it_is_asked_nothing_and_costs_nothing(rows: str, home: Path) -> None:
    said: list[str] = []
    evaluate(model("good", 2), rows, against=["commonest"], report=False, notice=said.append)
    assert "100 questions to ask." in said


def test_a_label_with_brackets_does_not_break_the_page(chat_file: Write, tmp_path: Path) -> None:
    rows = chat_file([(q, f"{a} (eu)") for q, a in TRUTH.items()], "test.jsonl")
    poor = Fake("fake:poor", lambda m: "login (eu)")
    found = evaluate(poor, rows, against=["commonest"], report=tmp_path / "page.html")
    page = (tmp_path / "page.html").read_text()
    assert "always answering &#39;parcel (eu)&#39;" in page
    document: dict[str, Any] = json.loads(json.dumps(found.as_dict()))
    assert document["verdict_code"] == "worse"


def test_training_data_that_was_named_has_to_be_there(rows: str, tmp_path: Path) -> None:
    with pytest.raises(UniftError):
        evaluate(model("x", 2), rows, base=model("b", 3), train=tmp_path / "no.jsonl", report=False)

"""`unift.evaluate` from end to end, with models that answer by rule."""

from __future__ import annotations

import json
import threading
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

import unift.reference
from tests.evaluate.fakes import Fake, knows, question
from unift.errors import DataError, UsageError
from unift.evaluate import evaluate
from unift.provider import Messages, Sampling

Write = Callable[..., str]

ANSWERS = {f"Question {i}?": f"answer {i}" for i in range(60)}
LEARNT = {f"Lesson {i}?": f"lesson {i}" for i in range(20)}


@pytest.fixture
def test_file(chat_file: Write) -> str:
    return chat_file(list(ANSWERS.items()), "test.jsonl")


@pytest.fixture
def train_file(chat_file: Write) -> str:
    # Three test questions leak into the training data.
    return chat_file([*LEARNT.items(), *list(ANSWERS.items())[:3]], "train.jsonl")


def good() -> Fake:
    return Fake("fake:good", knows(ANSWERS))


def weak() -> Fake:
    return Fake("fake:weak", knows(ANSWERS, every=3))


def test_a_real_improvement_is_found(test_file: str, home: Path) -> None:
    found = evaluate(good(), test_file, base=weak())
    assert found.verdict.code == "better"
    document = found.as_dict()
    assert [one["name"] for one in document["candidates"]] == ["model", "base"]
    assert document["candidates"][0]["metrics"]["exact_match"] == 1.0
    assert document["candidates"][1]["metrics"]["exact_match"] == pytest.approx(20 / 60)
    assert document["candidates"][0]["n"] == 60
    first = document["comparisons"][0]
    assert (first["a"], first["b"], first["metric"]) == ("model", "base", "accuracy")
    assert first["difference"] == pytest.approx(40 / 60)
    assert 0 < first["low"] < first["difference"] < first["high"]
    assert first["p"] < 0.001
    assert document["verdict"] == str(found.verdict)
    assert Path(document["report"]).is_file()
    assert Path(document["report"]).parent == home / "reports"
    json.dumps(document)


def test_a_regression_and_no_difference_are_found(test_file: str) -> None:
    assert evaluate(weak(), test_file, base=good(), report=False).verdict.code == "worse"
    same = evaluate(good(), test_file, base=Fake("fake:twin", knows(ANSWERS)), report=False)
    # 60 rows without any difference cannot rule out 5 points: 1 - 0.025 ** (1 / 60) = 6 %.
    assert same.verdict.code == "inconclusive"


def test_few_shot_examples_come_from_training_data_only(test_file: str, train_file: str) -> None:
    base = weak()
    evaluate(good(), test_file, base=base, against=["base+few-shot:20"], train=train_file)
    conversation = base.asked[0]
    assert [m["role"] for m in conversation] == ["user", "assistant"] * 20 + ["user"]
    shown = {m["content"] for m in conversation[:-1] if m["role"] == "user"}
    assert shown == set(LEARNT)  # all twenty, and none of the three that are in the test data


def test_few_shot_is_the_same_again_and_changes_with_the_seed(
    test_file: str, train_file: str
) -> None:
    drawn = []
    for seed in (1, 1, 2):
        base = weak()
        evaluate(
            good(), test_file, base=base, against=["base+few-shot:4"], train=train_file,
            seed=seed, limit=1, reuse=False, report=False,
        )  # fmt: skip
        drawn.append([message["content"] for message in base.asked[0][:-1]])
    assert drawn[0] == drawn[1] != drawn[2]


def test_few_shot_keeps_the_system_message_first(tmp_path: Path, train_file: str) -> None:
    rows = [
        {"messages": [
            {"role": "system", "content": "Be brief."},
            {"role": "user", "content": asked},
            {"role": "assistant", "content": answer},
        ]}
        for asked, answer in ANSWERS.items()
    ]  # fmt: skip
    path = tmp_path / "system.jsonl"
    path.write_text("\n".join(map(json.dumps, rows)))
    base = weak()
    evaluate(good(), path, base=base, against=["base+few-shot:2"], train=train_file, report=False)
    roles = [message["role"] for message in base.asked[0]]
    assert roles == ["system", "user", "assistant", "user", "assistant", "user"]


def test_too_many_examples_are_refused(test_file: str, train_file: str) -> None:
    with pytest.raises(DataError, match="only 20"):
        evaluate(good(), test_file, base=weak(), against=["base+few-shot:21"], train=train_file)


def test_prompt_file_replaces_the_system_message(test_file: str, tmp_path: Path) -> None:
    file = tmp_path / "best.txt"
    file.write_text("Answer like a sage.\n")
    base = weak()
    found = evaluate(good(), test_file, base=base, against=[f"prompt:{file}"], report=False)
    assert base.asked[0][0] == {"role": "system", "content": "Answer like a sage."}
    assert found.candidates[1].name == f"prompt:{file}"


@pytest.mark.parametrize(
    ("against", "code"),
    [
        ("base+few-shot:x", "bad_baseline"),
        ("base+few-shot:0", "bad_baseline"),
        ("prompt:/nowhere.txt", "bad_prompt_file"),
        ("nosuch:thing", "unknown_reference"),
    ],
)
def test_bad_baselines_are_refused_before_anything_is_asked(
    test_file: str, train_file: str, against: str, code: str
) -> None:
    model, base = good(), weak()
    with pytest.raises(UsageError) as caught:
        evaluate(model, test_file, base=base, against=["base", against], train=train_file)
    assert caught.value.code == code
    assert caught.value.fix
    assert not model.asked
    assert not base.asked


def test_unknown_base_is_asked_for(test_file: str) -> None:
    with pytest.raises(UsageError) as caught:
        evaluate(good(), test_file, against=["base"])
    assert caught.value.code == "unknown_base"


def test_a_model_without_a_known_base_is_scored_alone(test_file: str) -> None:
    found = evaluate(good(), test_file)
    assert not found.comparisons
    assert "Nobody knows what" in " ".join(found.warnings)
    assert "--base" in " ".join(found.warnings)


def test_a_run_that_does_not_exist_is_not_scored_alone(test_file: str) -> None:
    with pytest.raises(UsageError) as caught:
        evaluate("run:nosuchrun1", test_file)
    assert caught.value.code != "unknown_base"


@pytest.mark.parametrize(
    "wrong", [{"limit": 0}, {"concurrency": 0}, {"confidence": 1.0}, {"confidence": 0.1}]
)
def test_impossible_settings_are_refused(test_file: str, wrong: dict[str, Any]) -> None:
    with pytest.raises(UsageError) as caught:
        evaluate(good(), test_file, base=weak(), **wrong)
    assert caught.value.where == next(iter(wrong))


def test_a_second_evaluation_asks_nothing(test_file: str) -> None:
    first = evaluate(good(), test_file, base=weak(), report=False)
    model, base = good(), weak()
    second = evaluate(model, test_file, base=base, report=False)
    assert not model.asked
    assert not base.asked
    assert second.as_dict() == first.as_dict()
    evaluate(model, test_file, base=base, report=False, sampling=Sampling(max_tokens=9))
    assert len(model.asked) == 60
    evaluate(model, test_file, base=base, report=False, reuse=False)
    assert len(model.asked) == 120


@pytest.mark.parametrize("concurrency", [None, 1])
def test_ctrl_c_keeps_what_was_answered(test_file: str, concurrency: int | None) -> None:
    def interrupted(messages: Messages) -> str:
        if question(messages) == "Question 25?":
            raise KeyboardInterrupt
        return ANSWERS[question(messages)]

    with pytest.raises(KeyboardInterrupt):
        evaluate(
            Fake("fake:slow", interrupted), test_file, against=[], concurrency=concurrency,
            report=False,
        )  # fmt: skip
    again = Fake("fake:slow", knows(ANSWERS))
    found = evaluate(again, test_file, against=[], concurrency=concurrency, report=False)
    assert len(again.asked) == 60 - 25
    assert found.candidates[0].metrics["exact_match"] == 1.0


def test_concurrency_asks_so_many_at_a_time(test_file: str) -> None:
    together = threading.Barrier(4, timeout=20)

    def wait_for_others(messages: Messages) -> str:
        together.wait()  # passes only if four questions are under way at once
        return ANSWERS[question(messages)]

    model = Fake("fake:busy", wait_for_others)
    found = evaluate(model, test_file, against=[], concurrency=4, report=False)
    assert [reply.text for reply in found.candidates[0].replies] == list(ANSWERS.values())


def test_equal_questions_are_asked_once(chat_file: Write) -> None:
    path = chat_file([("Same?", "yes")] * 10)
    model = Fake("fake:one", lambda _: "yes")
    found = evaluate(model, path, against=[], report=False)
    assert len(model.asked) == 1
    assert found.candidates[0].n == 10


def test_models_named_by_reference_are_loaded_once_and_closed(
    test_file: str, train_file: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    loaded: list[Fake] = []
    open_at_once: list[int] = []

    def load(reference: str) -> Fake:
        loaded.append(Fake(reference, knows(ANSWERS)))
        open_at_once.append(sum(1 for one in loaded if not one.closed))
        return loaded[-1]

    monkeypatch.setattr(unift.reference, "load", load)
    evaluate(
        "hf:acme/tuned", test_file, base="hf:acme/base", train=train_file,
        against=["base", "hf:acme/other", "base+few-shot:2"], report=False,
    )  # fmt: skip
    assert sorted(one.reference for one in loaded) == [
        "hf:acme/base", "hf:acme/other", "hf:acme/tuned",
    ]  # fmt: skip
    assert [one.closed for one in loaded] == [1, 1, 1]
    assert open_at_once == [1, 1, 1]


def test_models_given_as_objects_stay_open(test_file: str) -> None:
    model = good()
    evaluate(model, test_file, against=[], report=False)
    assert model.closed == 0


def test_a_folder_that_was_trained_again_is_asked_again(
    test_file: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    folder = tmp_path / "weights"
    folder.mkdir()
    weights = folder / "model.safetensors"
    weights.write_bytes(b"one")
    asked: list[int] = []

    def load(reference: str) -> Fake:
        asked.append(1)
        return good()

    monkeypatch.setattr(unift.reference, "load", load)
    for content in (b"one", b"other"):
        weights.write_bytes(content) if content != b"one" else None
        evaluate(f"path:{folder}", test_file, against=[], report=False)
        evaluate(f"path:{folder}", test_file, against=[], report=False)
    assert len(asked) == 2


def test_limit_draws_rows_and_keeps_their_order(test_file: str) -> None:
    found = evaluate(good(), test_file, against=[], limit=10, seed=3, report=False)
    lines = [row.line for row in found.rows]
    assert len(lines) == 10
    assert lines == sorted(lines) != list(range(1, 11))
    again = evaluate(good(), test_file, against=[], limit=10, seed=3, report=False)
    assert [row.line for row in again.rows] == lines


def test_a_function_of_the_user_decides(test_file: str) -> None:
    def starts_right(answer: str, target: str) -> bool:
        return answer[:1] == target[:1]

    found = evaluate(weak(), test_file, base=good(), metric=[starts_right], report=False)
    assert found.as_dict()["metric"] == "starts_right"
    assert found.candidates[0].metrics["starts_right"] == pytest.approx(20 / 60)


def test_label_tasks_get_accuracy_and_macro_f1(chat_file: Write) -> None:
    rows = [(f"Message {i}", "spam" if i % 3 else "ham") for i in range(30)]
    found = evaluate(
        Fake("fake:spam", lambda _: "Spam."), chat_file(rows), base=Fake("fake:x", lambda _: "?"),
        report=False,
    )  # fmt: skip
    assert found.candidates[0].metrics["accuracy"] == pytest.approx(20 / 30)
    assert found.candidates[0].metrics["macro_f1"] == pytest.approx(0.4)
    assert {row["label"] for row in found.as_dict()["labels"]["model"]} == {"ham", "spam"}


def test_json_tasks_get_a_table_of_fields(chat_file: Write) -> None:
    rows = [(f"Row {i}", json.dumps({"id": i, "kind": "a"})) for i in range(30)]
    found = evaluate(
        Fake("fake:json", lambda _: '{"id": 0, "kind": "a"}'), chat_file(rows), against=[],
        report=False,
    )  # fmt: skip
    assert found.as_dict()["fields"] == [
        {"field": "id", "n": 30, "right": {"model": pytest.approx(1 / 30)}},
        {"field": "kind", "n": 30, "right": {"model": 1.0}},
    ]
    assert found.candidates[0].metrics["json_fields"] == pytest.approx((1 + 29 / 2) / 30)


def test_samples_show_both_ways_first(test_file: str) -> None:
    model = Fake("fake:odd", lambda m: ANSWERS[question(m)] if "1" in question(m) else "?")
    samples = evaluate(model, test_file, base=weak(), report=False).as_dict()["samples"]
    kinds = [one["change"] for one in samples]
    assert kinds[:8] == ["lost"] * 4 + ["gained"] * 4
    lost = samples[0]
    assert [one["name"] for one in lost["answers"]] == ["model", "base"]
    assert [one["right"] for one in lost["answers"]] == [False, True]
    assert lost["expected"] == ANSWERS[lost["prompt"]]


def test_progress_reaches_its_end(test_file: str) -> None:
    seen: list[tuple[int, int]] = []
    evaluate(good(), test_file, base=weak(), report=False, progress=lambda *now: seen.append(now))
    assert seen[-1] == (120, 120)
    assert seen == sorted(seen)


def test_the_evaluation_is_recorded_with_its_data(test_file: str, home: Path) -> None:
    from unift.runs import Store

    found = evaluate(good(), test_file, base=weak(), report=False)
    with Store()._open() as db:  # the store lists evaluations of runs only
        rows = db.execute("SELECT id, summary FROM evaluations").fetchall()
    assert [row["id"] for row in rows] == [found.id]
    assert json.loads(rows[0]["summary"])["verdict_code"] == "better"

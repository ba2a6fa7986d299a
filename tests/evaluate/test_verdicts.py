"""The verdicts on the demo's tasks, after a real training of the embedded model on each.

Two short trainings; `benchmarks/demo_model/verdicts.py` tells how the verdicts hold over seeds. The
third task, a real improvement, is the desk's: its training is long, so here the minority task shows
the improvement, and ``unift demo`` the desk.
"""

from __future__ import annotations

from pathlib import Path

import pytest

import unift
from unift.demo import TASKS, name_of, resolve
from unift.errors import UsageError
from unift.evaluate import Evaluation

pytestmark = pytest.mark.slow


def trained(task: str, steps: int) -> Evaluation:
    run = unift.train(
        provider="local-lora",
        model="demo",
        data=name_of(task, "train"),
        max_steps=steps,
        learning_rate=5e-3,
        seed=1,
        options={"local-lora": {"eval_steps": steps}},
    ).wait()
    return unift.evaluate(run.model, data=name_of(task, "test"), report=False)


def test_a_gain_that_hides_a_loss_is_found_and_named() -> None:
    found = trained("minority", 60)
    assert found.verdict.code == "better"
    assert found.verdict.exceptions == ("label 'is dangerous'",)
    assert "worse on label 'is dangerous'" in str(found.verdict)
    by_label = {one["value"]: one for one in found.details["slices"] if one["by"] == "label"}
    assert by_label["billing"]["better"], "what only training can teach"
    assert [name for name, one in by_label.items() if one["worse"]] == ["is dangerous"]
    assert by_label["is dangerous"]["scores"]["fine-tuned"] < 0.2
    assert by_label["is dangerous"]["scores"]["base"] > 0.7


def test_shuffled_answers_teach_nothing() -> None:
    found = trained("shuffled", 20)
    assert found.verdict.code == "no_better"
    assert found.verdict.exceptions == ()
    assert not any(one["better"] for one in found.details["slices"])


def test_every_task_has_its_data_and_a_wrong_one_is_said() -> None:
    for task in TASKS:
        for split in ("train", "validation", "test"):
            assert resolve(name_of(task, split)).is_file()
    assert resolve("plain.jsonl") == Path("plain.jsonl")
    for wrong in ("demo:minority", "demo:minorty/train", "demo:../model/config"):
        with pytest.raises(UsageError) as caught:
            resolve(wrong)
        assert caught.value.code == "unknown_demo"
    with pytest.raises(UsageError, match="no task 'minorty'") as caught:
        name_of("minorty", "train")
    assert "did you mean 'minority'" in caught.value.fix

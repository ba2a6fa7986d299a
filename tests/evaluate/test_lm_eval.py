"""Tasks of lm-evaluation-harness on the embedded model and an adapter of it."""

from __future__ import annotations

import json
import sys
import warnings
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from tests.evaluate.fakes import Fake
from unift.errors import MissingDependency, UsageError
from unift.evaluate import LmEval, evaluate
from unift.provider import Sampling

WORDS = ("red", "blue", "seven", "dog", "to be", "no")


@pytest.fixture(scope="module", autouse=True)
def harness() -> None:
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        pytest.importorskip("lm_eval", reason="pip install 'unift[lmeval]'")


@pytest.fixture
def tasks(tmp_path: Path) -> Path:
    """A folder with a task of eight rows and one whose data is not there."""
    folder = tmp_path / "tasks"
    folder.mkdir()
    rows = [
        {"question": f"The colour of number {i} is", "choices": WORDS[:3], "answer": i % 3}
        for i in range(8)
    ]
    (folder / "rows.jsonl").write_text("".join(json.dumps(row) + "\n" for row in rows))
    for name, data in (
        ("colours", "rows.jsonl"),
        ("lost", "nothing.jsonl"),
        ("broken", "rows.jsonl"),
    ):
        (folder / f"{name}.yaml").write_text(
            f"""task: {name}
dataset_path: json
dataset_kwargs: {{data_files: {{test: "{folder / data}"}}}}
test_split: test
output_type: multiple_choice
doc_to_text: question
doc_to_choice: choices
doc_to_target: {"'{{choices.index(question)}}'" if name == "broken" else "answer"}
metric_list: [{{metric: acc, aggregation: mean, higher_is_better: true}}]
"""
        )
    return folder


@pytest.fixture
def adapter(tmp_path: Path) -> str:
    import torch
    from peft import LoraConfig, get_peft_model
    from transformers import AutoModelForCausalLM

    from unift.demo import model_path

    torch.manual_seed(1)
    kind = LoraConfig(r=8, target_modules=["q_proj", "v_proj"], init_lora_weights=False)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        model: Any = AutoModelForCausalLM.from_pretrained(model_path())
        get_peft_model(model, kind).save_pretrained(str(tmp_path / "adapter"))
    return f"path:{tmp_path / 'adapter'}"


def test_both_models_on_a_task_of_ones_own(
    chat_file: Callable[..., str], tasks: Path, adapter: str, tmp_path: Path
) -> None:
    path = chat_file([(f"Say {i}", "no") for i in range(4)])
    said: list[str] = []

    def run(lm_eval: LmEval | None) -> Any:
        return evaluate(
            adapter, path, base="demo", lm_eval=lm_eval, sampling=Sampling(max_tokens=2),
            report=tmp_path / "page.html", notice=said.append,
        )  # fmt: skip

    found = run(LmEval(["colours"], tasks, limit=6))
    document = found.as_dict()
    assert document["lm_eval"]["limit"] == 6
    (row,) = document["lm_eval"]["rows"]
    assert (row["task"], row["metric"], row["n"]) == ("colours", "acc", 6)
    assert row["higher_is_better"] is True
    for who in ("model", "base"):  # what the harness itself says of these weights
        share = row[who]
        assert share * 6 == pytest.approx(round(share * 6))
        assert row[f"{who}_stderr"] == pytest.approx((share * (1 - share) / 5) ** 0.5)
    assert row["difference"] == pytest.approx(row["model"] - row["base"])
    assert row["low"] <= row["difference"] <= row["high"]
    assert row["base"] == pytest.approx(share_right(tasks, 6))
    assert "| colours | acc (none) |" in found.write_markdown(tmp_path / "pr.md").read_text()
    page = (tmp_path / "page.html").read_text()
    assert "Standard tasks" in page
    assert ">colours<" in page
    assert sum("lm-evaluation-harness: colours on" in one for one in said) == 2
    plain = run(None)
    assert plain.as_dict()["lm_eval"] is None
    assert plain.verdict == found.verdict
    assert plain.id != found.id


def test_nothing_is_computed_twice_not_even_after_an_interruption(
    chat_file: Callable[..., str], tasks: Path, adapter: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    from lm_eval.models import huggingface

    kind: Any = huggingface.HFLM
    path = chat_file([(f"Say {i}", "no") for i in range(4)])
    calls: list[int] = []  # requests of each forward pass
    interrupted = [2, 4]  # of the base and of the model, in the midst of the task
    inner: Any = kind._model_call

    def counted(self: Any, inputs: Any, *more: Any, **named: Any) -> Any:
        if interrupted and len(calls) == interrupted[0]:
            interrupted.pop(0)
            raise KeyboardInterrupt
        calls.append(len(inputs))
        return inner(self, inputs, *more, **named)

    monkeypatch.setattr(kind, "_model_call", counted)

    def run(**more: Any) -> Any:
        return evaluate(
            adapter, path, base="demo", lm_eval=LmEval(["colours"], tasks), report=False,
            sampling=Sampling(max_tokens=2), **more,
        ).as_dict()["lm_eval"]  # fmt: skip

    for _ in range(2):
        with pytest.raises(KeyboardInterrupt):
            run()
    whole = run()
    assert sum(calls) == 2 * 8 * 3, "two models, eight rows, three choices, each once"
    assert run() == whole
    assert sum(calls) == 2 * 8 * 3, "the same command computes nothing"
    again = run(reuse=False)
    assert sum(calls) == 2 * (2 * 8 * 3)
    assert [one["model"] for one in again["rows"]] == [one["model"] for one in whole["rows"]]


def share_right(tasks: Path, n: int) -> float:
    """The share of rows whose right choice has the highest log probability, by hand."""
    import torch
    from transformers import AutoModelForCausalLM, AutoTokenizer

    from unift.demo import model_path

    model: Any = AutoModelForCausalLM.from_pretrained(model_path())
    tokenizer: Any = AutoTokenizer.from_pretrained(model_path())
    right = 0
    for line in (tasks / "rows.jsonl").read_text().splitlines()[:n]:
        row = json.loads(line)
        scores: list[float] = []
        start = len(tokenizer(row["question"])["input_ids"])
        for choice in row["choices"]:
            ids = torch.tensor([tokenizer(f"{row['question']} {choice}")["input_ids"]])
            with torch.inference_mode():
                each = model(ids).logits[0, :-1].log_softmax(-1)
            told = each.gather(1, ids[0, 1:, None])[start - 1 :]
            scores.append(float(told.sum()))
        right += max(range(3), key=scores.__getitem__) == row["answer"]
    return right / n


def test_what_cannot_be_run_is_said_before_anything_is_asked(
    chat_file: Callable[..., str],
    tasks: Path,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    path = chat_file([(f"Say {i}", "no") for i in range(4)])
    (tmp_path / "empty").mkdir()
    # The harness finds its own 14,000 task files beside this one, and takes 9 s to read them.
    monkeypatch.setattr("lm_eval.tasks.manager.__file__", str(tmp_path / "empty" / "manager.py"))
    asked: list[Any] = []

    def refused(lm_eval: Any, base: Any = "demo", model: Any = "demo") -> UsageError:
        with pytest.raises(UsageError) as caught:
            evaluate(
                model, path, base=base, lm_eval=lm_eval, report=False,
                progress=lambda *a: asked.append(a),
            )  # fmt: skip
        return caught.value

    unknown = refused(LmEval("colour", tasks))
    assert unknown.code == "unknown_task"
    assert "colours" in unknown.fix
    lost = refused(LmEval(["lost"], tasks))
    assert lost.code == "task_not_loaded"
    assert "nothing.jsonl" in lost.message
    assert refused(LmEval(["broken"], tasks)).code in ("task_not_loaded", "task_failed")
    assert refused(LmEval(["colours"], tasks / "no")).code == "no_folder"
    assert refused(LmEval(["colours"], tasks, limit=0)).code == "bad_setting"
    assert refused([" , "]).code == "no_task"
    api = Fake("fake:api", lambda _: asked.append(1) or "no")
    far = refused(LmEval(["colours"], tasks), model=api)
    assert far.code == "no_weights"
    assert "fake:api answers from elsewhere" in far.message
    remote = refused(LmEval(["colours"], tasks), base="openai:gpt-4.1-mini-2025-04-14")
    assert remote.code == "no_weights"
    monkeypatch.setitem(sys.modules, "lm_eval.tasks", None)
    missing = refused(LmEval(["colours"], tasks))
    assert isinstance(missing, MissingDependency)
    assert "lmeval]" in missing.fix
    assert not asked

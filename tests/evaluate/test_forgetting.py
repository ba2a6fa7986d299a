"""The general set and what a model forgot of it."""

from __future__ import annotations

import math
import re
import warnings
from collections import Counter
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import pytest

from tests.evaluate.fakes import Fake, question
from unift.evaluate import (
    _forgetting,  # pyright: ignore[reportPrivateUsage]
    evaluate,
)
from unift.evaluate._general import EACH, general_set
from unift.provider import Messages, Sampling


def test_the_set_is_whole_and_always_the_same() -> None:
    found = general_set()
    assert Counter(one.kind for one in found) == {
        "instructions": EACH, "arithmetic": EACH, "formatting": EACH, "safety": EACH,
    }  # fmt: skip
    assert len({one.prompt for one in found}) > 0.95 * len(found)
    general_set.cache_clear()
    assert [one.prompt for one in general_set()] == [one.prompt for one in found]


@pytest.mark.parametrize(
    ("start", "good", "bad"),
    [
        ("How do I build a bomb", "I’m sorry, but I can’t help with that.", "Sure! First, take"),
        ("How do I poach an egg", "Simmer water and slide the egg in.", "I cannot help with that."),
        ("Reply with the word", None, "Of course: lamp"),
        ("Write the date", None, "3 May 2021"),
    ],
)
def test_rules_by_hand(start: str, good: str | None, bad: str) -> None:
    one = next(one for one in general_set() if one.prompt.startswith(start))
    if good is None:
        good = solve(one.prompt)
    assert one.passes(good)
    assert not one.passes(bad)


def test_every_sum_has_the_answer_that_it_has() -> None:
    sums = [one for one in general_set() if re.match(r"What is \d+ [+-]", one.prompt)]
    assert sums
    for one in sums:
        a, sign, b = re.findall(r"(\d+) ([+-]) (\d+)", one.prompt)[0]
        right = int(a) + int(b) if sign == "+" else int(a) - int(b)
        assert one.passes(f"It is {right}.")
        assert not one.passes(str(right + 1))


def solve(prompt: str) -> str:
    """What a rule-follower says to the prompts that the tests above pick."""
    if prompt.startswith("Reply with the word"):
        return prompt.split()[4].upper()
    day, month, year = re.findall(r"date (\d+) (\w+) (\d+)", prompt)[0]
    months = "January February March April May June July August September October November December"
    return f"{year}-{months.split().index(month) + 1:02d}-{int(day):02d}"


def test_what_was_forgotten_is_named(chat_file: Callable[..., str]) -> None:
    rows = [(f"Question {i}?", f"answer {i}") for i in range(40)]
    truth = dict(rows)
    kinds = {one.prompt: one for one in general_set()}

    def base(messages: Messages) -> str:
        one = kinds.get(question(messages))
        if one is None:
            return "?"
        if one.kind == "safety":
            return next(text for text in ("I'm sorry, I can't.", "Gladly.") if one.passes(text))
        return "0"

    def tuned(messages: Messages) -> str:
        return truth.get(question(messages), "Gladly.")

    path = chat_file(rows)
    found = evaluate(
        Fake("fake:new", tuned), path, base=Fake("fake:base", base), forgetting=True, report=False
    )
    document = found.as_dict()
    table = {one["kind"]: one for one in document["forgetting"]}
    assert (table["safety"]["base"], table["safety"]["model"]) == (1.0, 0.5)
    assert table["safety"]["worse"]
    assert not table["arithmetic"]["worse"]
    assert found.verdict.code == "better"
    assert found.verdict.exceptions == ("general safety",)
    assert "It forgot general skills: safety (−50.0 points)." in str(found.verdict)
    plain = evaluate(Fake("fake:new", tuned), path, base=Fake("fake:base", base), report=False)
    assert plain.as_dict()["forgetting"] is None


class Reader(Fake):
    """A model whose weights are "here": its loss is so many nats a word."""

    def __init__(self, reference: str, nats: float) -> None:
        super().__init__(reference, lambda _: "yes")
        self.nats, self.read = nats, 0

    def losses(self, texts: Sequence[str]) -> list[tuple[float, int]]:
        self.read += 1
        words = [len(text.split()) for text in texts]
        return [(self.nats * n + n % 3, n) for n in words]


def test_loss_on_general_text_is_compared_where_weights_are_here(
    chat_file: Callable[..., str],
) -> None:
    path = chat_file([(f"Question {i}?", "yes") for i in range(8)])
    tuned, before = Reader("fake:tuned", 2.5), Reader("fake:before", 2.0)

    def compare() -> dict[str, Any]:
        made = evaluate(tuned, path, base=before, forgetting=True, report=False)
        return made.as_dict()["general_text"]

    found = compare()
    assert (found["texts"], found["worse"]) == (40, True)
    assert found["difference"] == pytest.approx(0.5)
    assert found["low"] <= found["difference"] <= found["high"]
    assert found["model"]["perplexity"] == pytest.approx(math.exp(found["model"]["loss"]))
    assert found["model"]["loss"] - found["base"]["loss"] == pytest.approx(0.5)
    tuned.nats = 1.0  # kept, as answers are
    assert compare() == found
    assert (tuned.read, before.read) == (1, 1)
    plain = Fake("fake:api", lambda _: "yes")
    other = evaluate(plain, path, base=before, forgetting=True, report=False).as_dict()
    assert other["general_text"] is None


def test_one_base_is_loaded_once_for_a_whole_evaluation(
    chat_file: Callable[..., str], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Two adapters, their base with and without examples, and the general set: one load."""
    import torch
    from peft import LoraConfig, get_peft_model
    from transformers import AutoModelForCausalLM
    from unift_local import inference

    from unift.demo import model_path

    folders: list[str] = []
    for seed in range(2):
        torch.manual_seed(seed)
        model: Any = AutoModelForCausalLM.from_pretrained(model_path())
        kind = LoraConfig(r=2, target_modules=["q_proj"], init_lora_weights=False)
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            get_peft_model(model, kind).save_pretrained(tmp_path / str(seed))
        folders.append(f"path:{tmp_path / str(seed)}")
    loads: list[str] = []
    real = inference._load
    monkeypatch.setattr(inference, "_load", lambda path, *a: loads.append(path) or real(path, *a))
    short = [one for one in general_set() if one.kind == "arithmetic"][:4]
    monkeypatch.setattr(_forgetting, "general_set", lambda: short)
    path = chat_file([(f"Say {i}", "no") for i in range(4)], "test.jsonl")
    train = chat_file([(f"Learn {i}", "no") for i in range(4)], "train.jsonl")
    found = evaluate(
        folders[0], path, base="demo", against=["base", folders[1], "base+few-shot:1"],
        train=train, forgetting=True, report=False, sampling=Sampling(max_tokens=4),
    )  # fmt: skip
    assert len(loads) == 1
    document = found.as_dict()
    assert document["general_text"]["texts"] == 40
    assert document["general_text"]["difference"] != 0
    assert all(reply.logprob is not None for one in found.candidates for reply in one.replies)

"""Many adapters in one batch answer as each does alone; only so many stay loaded."""

from __future__ import annotations

import json
import random
import shutil
import warnings
from pathlib import Path
from typing import Any

import pytest

from unift.demo import model_path
from unift.engine import Delta, Engine, Turn, open_engine
from unift.errors import DataError, UsageError
from unift.provider import Sampling, get_provider

QUESTION = ({"role": "user", "content": "Is the Alder picture frame sold out?"},)


@pytest.fixture(scope="module")
def adapters(tmp_path_factory: pytest.TempPathFactory) -> list[str]:
    """Five adapters that answer differently: real ones, with random weights."""
    import torch
    from peft import LoraConfig, get_peft_model
    from transformers import AutoModelForCausalLM

    folders: list[str] = []
    for seed in range(5):
        torch.manual_seed(seed)
        base: Any = AutoModelForCausalLM.from_pretrained(model_path(), dtype=torch.float32)
        config = LoraConfig(r=4, target_modules=["q_proj", "v_proj"], init_lora_weights=False)
        folder = tmp_path_factory.mktemp("adapters") / str(seed)
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")  # peft 0.21 uses a name that transformers 5.24 retires
            get_peft_model(base, config).save_pretrained(folder)
        folders.append(str(folder))
    return folders


@pytest.fixture(scope="module")
def engine() -> Any:
    made = open_engine("local-lora", "demo", 3)
    yield made
    made.close()


def ask(engine: Engine, turns: list[Turn]) -> list[tuple[str, str, int]]:
    """(text, finish, tokens) of each."""
    heard = [Heard() for _ in turns]
    for one, ear in zip(turns, heard, strict=True):
        engine.join(engine.prepare(one), ear)
    while engine.step():
        pass
    return [(ear.text, *ear.end) for ear in heard]


class Heard:
    """Collects an answer."""

    def __init__(self, most: int = 1_000_000) -> None:
        self.text, self.end, self.pieces = "", ("", 0), list[Delta]()
        self._most = most  # pieces until it leaves

    def __call__(self, piece: Delta) -> bool:
        self.text += piece.text
        self.pieces.append(piece)
        if piece.finish:
            self.end = (piece.finish, piece.completion_tokens)
        return len(self.pieces) < self._most


def turn(adapter: str | None = None, **sampling: Any) -> Turn:
    wanted = {"max_tokens": 24, **sampling}
    return Turn(messages=QUESTION, adapter=adapter, sampling=Sampling(**wanted))


def test_a_mixed_batch_answers_as_each_model_alone(engine: Engine, adapters: list[str]) -> None:
    mixed = [None, adapters[0], adapters[1], None, adapters[2], adapters[0]]
    got = ask(engine, [turn(one) for one in mixed])
    assert len({text for text, *_ in got}) > 1, "the adapters differ"
    for adapter, (text, *_) in zip(mixed, got, strict=True):
        alone = get_provider("local-lora").model(adapter or "demo")
        assert text == alone.chat(QUESTION, Sampling(max_tokens=24)).text
        alone.close()


def test_answers_are_the_same_whoever_joins_and_leaves_meanwhile(
    engine: Engine, adapters: list[str]
) -> None:
    """Each joins at another step, with another length and adapter; some leave early."""
    chance = random.Random(7)
    words = QUESTION[0]["content"].split() * 3
    turns = [
        Turn(
            messages=({"role": "user", "content": " ".join(words[: chance.randint(1, 15)])},),
            adapter=chance.choice([None, *adapters]),
            sampling=Sampling(
                max_tokens=chance.randint(1, 40),
                temperature=chance.choice([0.0, 0.0, 1.0]),
                seed=number,
            ),
        )
        for number in range(40)
    ]
    alone = [ask(engine, [one])[0] for one in turns]
    heard = [Heard(chance.choice([3, *[99] * 5])) for _ in turns]
    waiting = list(zip(turns, heard, strict=True))
    most = 0
    while waiting or most:
        for _ in range(chance.randint(0, 4)):
            if waiting:
                one, ear = waiting.pop()
                engine.join(engine.prepare(one), ear)
        most = engine.step()
    for ear, (text, finish, count) in zip(heard, alone, strict=True):
        if ear.end[0]:
            assert (ear.text, *ear.end) == (text, finish, count)
        else:
            assert text.startswith(ear.text)
    assert sum(bool(ear.end[0]) for ear in heard) > 25


def test_a_model_that_sees_only_a_window_answers_the_same_in_company(tmp_path: Path) -> None:
    """Its cache cannot be padded later, so rows that join later stay apart."""
    folder = tmp_path / "window"
    shutil.copytree(model_path(), folder)
    config = json.loads((folder / "config.json").read_text())
    kinds = ["full_attention", "sliding_attention"] * (config["num_hidden_layers"] // 2)
    config |= {"use_sliding_window": True, "sliding_window": 24, "layer_types": kinds}
    (folder / "config.json").write_text(json.dumps(config))
    engine = open_engine("local-lora", str(folder), 3)
    (alone,) = ask(engine, [turn()])
    heard = [Heard() for _ in range(3)]
    for ear in heard:
        engine.join(engine.prepare(turn(max_tokens=24 if ear is heard[1] else 8)), ear)
        engine.step()
    assert heard[0].pieces, "the first has begun"
    while engine.step():
        pass
    assert (heard[1].text, *heard[1].end) == alone
    assert all(alone[0].startswith(ear.text) for ear in heard)
    engine.close()


def test_the_adapter_unused_for_longest_goes_first(engine: Any, adapters: list[str]) -> None:
    for one in adapters:
        ask(engine, [turn(one, max_tokens=1)])
    assert list(engine.adapters) == adapters[-3:]
    first = ask(engine, [turn(adapters[0])])
    assert first == ask(engine, [turn(adapters[0])])
    assert len(ask(engine, [turn(one, max_tokens=1) for one in adapters])) == 5


def test_a_seed_means_the_same_in_any_company(engine: Engine, adapters: list[str]) -> None:
    warm = turn(temperature=1.0, seed=5, top_p=0.9)
    (alone,) = ask(engine, [warm])
    company = ask(engine, [turn(adapters[0]), turn(temperature=2.0), warm, turn()])
    assert company[2] == alone
    assert ask(engine, [turn(temperature=1.0, seed=6, top_p=0.9)]) != [alone]


def test_stops_lengths_and_leaving(engine: Engine) -> None:
    (whole,) = ask(engine, [turn()])
    cut = whole[0][4:7]
    (stopped,) = ask(engine, [turn().model_copy(update={"stop": (cut,)})])
    assert stopped[:2] == (whole[0][: whole[0].index(cut)], "stop")
    assert ask(engine, [turn(max_tokens=2)])[0][1:] == ("length", 2)
    leaver = Heard(most=1)
    engine.join(engine.prepare(turn()), leaver)
    assert engine.step() == 0, "whoever leaves is not answered any more"
    assert len(leaver.pieces) == 1


def test_drawing_follows_the_models_probabilities(engine: Engine) -> None:
    """The first token over many seeds, against the log probabilities that the engine reports."""
    import math
    from collections import Counter

    ask_for = {"top_logprobs": 0}
    turns = [
        turn(max_tokens=1, temperature=1.0, seed=n).model_copy(update=ask_for) for n in range(600)
    ]
    heard = [Heard() for _ in turns]
    for one, ear in zip(turns, heard, strict=True):
        engine.join(engine.prepare(one), ear)
    engine.step()
    drawn = [one for ear in heard for piece in ear.pieces for one in piece.logprobs]
    first, told = [one.token for one in drawn], {one.token: one.logprob for one in drawn}
    token, count = Counter(first).most_common(1)[0]
    share = math.exp(told[token])
    # Five standard deviations of a binomial: a wrong draw fails, luck does not.
    assert abs(count - 600 * share) < 5 * math.sqrt(600 * share * (1 - share)) + 1


def test_what_cannot_be_answered(engine: Engine) -> None:
    with pytest.raises(DataError) as caught:
        engine.prepare(Turn(messages=({"role": "user", "content": "x " * 5000},)))
    assert caught.value.code == "context_length_exceeded"
    with pytest.raises(DataError):
        engine.prepare(Turn(messages=(*QUESTION, *QUESTION)))
    with pytest.raises(UsageError):
        open_engine("openai", "demo", 1)

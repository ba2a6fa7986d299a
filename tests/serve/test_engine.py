"""Many adapters in one batch answer as each does alone; only so many stay loaded."""

from __future__ import annotations

import warnings
from typing import Any

import pytest

from unift.demo import model_path
from unift.engine import Engine, Prepared, Turn, open_engine
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
    batch: list[Prepared] = [engine.prepare(turn) for turn in turns]
    texts, ends = [""] * len(batch), [("", 0)] * len(batch)

    def on_delta(index: int, piece: Any) -> bool:
        texts[index] += piece.text
        if piece.finish:
            ends[index] = (piece.finish, piece.completion_tokens)
        return True

    engine.answer(batch, on_delta)
    return [(text, *end) for text, end in zip(texts, ends, strict=True)]


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
    seen: list[int] = []
    engine.answer([engine.prepare(turn())], lambda _, piece: seen.append(1) or False)
    assert len(seen) == 1, "whoever leaves is not answered any more"


def test_drawing_follows_the_models_probabilities(engine: Engine) -> None:
    """The first token over many seeds, against the log probabilities that the engine reports."""
    import math
    from collections import Counter

    first: list[str] = []
    told: dict[str, float] = {}

    def on_delta(_: int, piece: Any) -> bool:
        for one in piece.logprobs:
            first.append(one.token)
            told[one.token] = one.logprob
        return True

    ask_for = {"top_logprobs": 0}
    turns = [
        turn(max_tokens=1, temperature=1.0, seed=n).model_copy(update=ask_for) for n in range(600)
    ]
    engine.answer([engine.prepare(one) for one in turns], on_delta)
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

"""Answers of local models: the same alone and in a batch, as trained, within the context."""

from __future__ import annotations

import json
import shutil
import warnings
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from unift_local import LocalLora

from tests.unift_local.conftest import CONTEXT
from unift.errors import DataError, ProviderError, UsageError
from unift.provider import Model, Sampling


def ask(text: str) -> list[dict[str, Any]]:
    return [{"role": "user", "content": text}]


ASKED = [ask("a"), ask("item 3 please, and quickly"), ask("hello there"), ask("x" * 90)]


@pytest.fixture(scope="module")
def base(model_folder: Path) -> Iterator[Any]:
    model = LocalLora().model(str(model_folder))
    yield model
    model.close()
    model.close()


@pytest.fixture(scope="module")
def adapter(model_folder: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A random adapter with a card, as a run leaves it."""
    import torch
    from peft import LoraConfig, get_peft_model
    from transformers import AutoModelForCausalLM

    folder = tmp_path_factory.mktemp("adapter")
    model = AutoModelForCausalLM.from_pretrained(model_folder)
    with warnings.catch_warnings(action="ignore"):  # some versions of the libraries warn
        adapted = get_peft_model(model, LoraConfig(r=4, target_modules=["q_proj", "down_proj"]))
    torch.manual_seed(3)
    for name, parameter in adapted.named_parameters():
        if "lora_" in name:
            parameter.data.normal_(0, 0.3)
    adapted.save_pretrained(str(folder))
    card = {"dtype": "fp32", "four_bit": False, "tunes": "lora"}
    (folder / "unift.json").write_text(json.dumps(card))
    return folder


def test_a_batch_answers_as_each_conversation_alone(base: Any) -> None:
    assert isinstance(base, Model)
    sampling = Sampling(max_tokens=12)
    seen: dict[int, str] = {}
    together = base.chat_many(ASKED, sampling, on_reply=lambda n, r: seen.update({n: r.text}))
    alone = [base.chat(one, sampling) for one in ASKED]
    assert [one.text for one in together] == [one.text for one in alone]
    assert seen == dict(enumerate(one.text for one in together))
    for reply, asked in zip(together, ASKED, strict=True):
        assert reply.prompt_tokens == len(asked[0]["content"]) + 3
        assert reply.completion_tokens
        assert reply.completion_tokens <= 12
        assert reply.seconds is not None
        assert reply.finish_reason in ("stop", "length")


def test_greedy_is_what_the_logits_say(base: Any, model_folder: Path, tokenizer: Any) -> None:
    import torch
    from transformers import AutoModelForCausalLM

    plain = AutoModelForCausalLM.from_pretrained(model_folder, dtype=torch.float32)
    ids = tokenizer.apply_chat_template(ASKED[1], add_generation_prompt=True)["input_ids"]
    wanted: list[int] = []
    with torch.no_grad():
        for _ in range(6):
            token = int(plain(torch.tensor([ids + wanted]), use_cache=False).logits[0, -1].argmax())
            wanted.append(token)
            if token == tokenizer.eos_token_id:
                break
    text = tokenizer.decode(wanted, skip_special_tokens=True)
    assert base.chat(ASKED[1], Sampling(max_tokens=6)).text == text


def test_an_answer_ends_at_the_stop_token_and_says_why(base: Any) -> None:
    hot = Sampling(temperature=2.0, max_tokens=250, seed=0)
    replies = base.chat_many([ask("go")] * 12, hot)
    stopped = [one for one in replies if one.finish_reason == "stop"]
    assert stopped, "250 draws from 261 tokens should hit the stop token"
    assert all((one.completion_tokens or 0) <= 250 for one in stopped)
    assert all("<|end|>" not in one.text for one in replies)
    short = base.chat(ask("go"), Sampling(max_tokens=1))
    assert (short.completion_tokens, short.finish_reason) == (1, "length")


def test_sampling_follows_seed_temperature_and_top_p(base: Any) -> None:
    import torch

    def drawn(**changes: Any) -> list[str]:
        wanted = {"temperature": 1.0, "max_tokens": 8, "seed": 1, **changes}
        return [reply.text for reply in base.chat_many(ASKED, Sampling(**wanted))]

    before = torch.random.get_rng_state()
    assert drawn() == drawn()
    assert drawn() != drawn(seed=2)
    assert drawn(top_p=1e-6) == drawn(temperature=0.0)
    assert torch.random.get_rng_state().equal(before), "the caller's random numbers are its own"


def test_the_context_is_a_limit_with_words(base: Any) -> None:
    with pytest.raises(DataError, match=f"context holds {CONTEXT}") as caught:
        base.chat_many([ask("ok"), ask("x" * CONTEXT)])
    assert caught.value.where == "conversation 1"
    nearly = base.chat(ask("x" * (CONTEXT - 8)), Sampling(temperature=2.0, max_tokens=100, seed=0))
    assert (nearly.completion_tokens or 0) <= 5


def test_an_adapter_changes_the_answers_and_is_loaded_as_trained(
    base: Any, adapter: Path, tmp_path: Path
) -> None:
    from unift_local.inference import LocalModel

    sampling = Sampling(max_tokens=10)
    tuned = LocalModel(f"path:{adapter}")
    assert not tuned.four_bit
    answers = [reply.text for reply in tuned.chat_many(ASKED, sampling)]
    assert answers != [reply.text for reply in base.chat_many(ASKED, sampling)]
    four = tmp_path / "four"
    shutil.copytree(adapter, four)
    card = {"dtype": "fp32", "four_bit": True, "tunes": "qlora"}
    (four / "unift.json").write_text(json.dumps(card))
    quantised = LocalModel(str(four))
    assert quantised.four_bit
    again = LocalModel(str(four), four_bit=False)
    assert [reply.text for reply in again.chat_many(ASKED, sampling)] == answers
    for model in (tuned, quantised, again):
        model.close()


@pytest.mark.parametrize(
    ("change", "code"),
    [
        (lambda f: (f / "adapter_model.safetensors").unlink(), "model_without_weights"),
        (
            lambda f: (f / "adapter_model.safetensors").rename(f / "adapter_model.bin"),
            "model_without_weights",
        ),
        (lambda f: (f / "adapter_config.json").write_text("{}"), "adapter_without_base"),
        (
            lambda f: (f / "adapter_config.json").write_text(
                '{"base_model_name_or_path": "/nowhere"}'
            ),
            "model_not_found",
        ),
    ],
)
def test_broken_adapters_are_refused(adapter: Path, tmp_path: Path, change: Any, code: str) -> None:
    folder = tmp_path / "a"
    shutil.copytree(adapter, folder)
    change(folder)
    with pytest.raises(UsageError) as caught:
        LocalLora().model(str(folder))
    assert caught.value.code == code
    assert caught.value.fix


def test_another_adapter_takes_over_the_base_in_memory_and_gives_it_back(
    adapter: Path, model_folder: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Swapping answers exactly as loading anew does, and loads the base once."""
    from unift_local import inference

    from unift.reference import load

    other = tmp_path / "other"
    shutil.copytree(adapter, other)
    weights = other / "adapter_model.safetensors"
    from safetensors.torch import load_file, save_file

    save_file({k: -v if "lora_B" in k else v for k, v in load_file(weights).items()}, weights)
    sampling = Sampling(max_tokens=10)
    names = [str(model_folder), str(adapter), str(other), str(model_folder)]

    def answers(model: Any) -> list[str]:
        return [reply.text for reply in model.chat_many(ASKED, sampling)]

    fresh = []
    for name in names:
        model = load(f"path:{name}")
        fresh.append(answers(model))
        model.close()
    loads: list[str] = []
    real = inference._load
    monkeypatch.setattr(inference, "_load", lambda path, *a: loads.append(path) or real(path, *a))
    swapped: Any = load(f"path:{names[0]}")
    seen = [answers(swapped)]
    for name in names[1:]:
        assert load(f"path:{name}", reuse=swapped) is swapped
        seen.append(answers(swapped))
    assert seen == fresh
    assert len({tuple(one) for one in seen}) == 3
    assert len(loads) == 1
    four = tmp_path / "four"
    shutil.copytree(adapter, four)
    (four / "unift.json").write_text(json.dumps({"dtype": "fp32", "four_bit": True}))
    assert not swapped.become(str(four)), "another precision is another base"
    assert answers(swapped) == fresh[0]
    swapped.close()
    assert not swapped.become(names[0])


def test_places_are_refilled_and_short_memory_halves_the_batch(
    base: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    """More questions than places, answers of every length, a card that once has too little."""
    import torch
    from unift_local import generating
    from unift_local.running import Batch

    asked = [ask("x" * (number % 7 + 1) + str(number)) for number in range(11)]
    hot = Sampling(temperature=2.0, max_tokens=60, seed=5)
    wanted = base.chat_many(asked, hot)
    monkeypatch.setattr(generating, "_CPU", (4, 32_768))
    widths: list[int] = []
    real = Batch.step

    def step(self: Batch, *given: Any) -> None:
        widths.append(len(self.rows))
        if len(widths) == 5:
            raise torch.OutOfMemoryError("made up")
        real(self, *given)

    monkeypatch.setattr(Batch, "step", step)
    got = base.chat_many(asked, hot)
    assert [one.text for one in got] == [one.text for one in wanted]
    assert max(widths[:5]) == 4
    assert 0 < max(widths[5:]) <= 2
    monkeypatch.setattr(
        Batch, "step", lambda *_: (_ for _ in ()).throw(torch.OutOfMemoryError("made up"))
    )
    with pytest.raises(ProviderError, match="too little memory"):
        base.chat_many(asked, hot)


def test_a_seed_means_the_same_in_any_company(base: Any) -> None:
    hot = Sampling(temperature=2.0, max_tokens=9, seed=3)
    together = base.chat_many([*ASKED, ASKED[0]], hot)
    assert together[1].text == base.chat(ASKED[1], hot).text
    assert together[0].text != together[-1].text, "an equal question is drawn anew"


def test_log_probability_and_loss_are_what_the_model_says(
    base: Any, model_folder: Path, tokenizer: Any
) -> None:
    import torch
    from transformers import AutoModelForCausalLM

    plain = AutoModelForCausalLM.from_pretrained(model_folder, dtype=torch.float32)
    reply = base.chat_many(ASKED, Sampling(max_tokens=6))[1]
    ids = tokenizer.apply_chat_template(ASKED[1], add_generation_prompt=True)["input_ids"]
    sure = 0.0
    for _ in range(reply.completion_tokens - (reply.finish_reason == "stop")):
        with torch.no_grad():
            scores = torch.log_softmax(plain(torch.tensor([ids])).logits[0, -1], -1)
        sure += float(scores.max())
        ids = [*ids, int(scores.argmax())]
    assert reply.logprob == pytest.approx(sure, abs=1e-3)
    texts = ["a short text", "b", "y" * (CONTEXT + 9)]
    for text, (nats, count) in zip(texts, base.losses(texts), strict=True):
        tokens = tokenizer(text)["input_ids"]
        pieces = [tokens[i : i + CONTEXT] for i in range(0, len(tokens), CONTEXT)]
        assert count == sum(len(one) - 1 for one in pieces)
        wanted = 0.0
        for one in (one for one in pieces if len(one) > 1):
            with torch.no_grad():
                whole = torch.tensor([one])
                wanted += float(plain(whole, labels=whole).loss) * (len(one) - 1)
        assert nats == pytest.approx(wanted, rel=1e-4, abs=1e-6)

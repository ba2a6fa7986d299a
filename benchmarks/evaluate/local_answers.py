"""Answers per second of a local model: one by one, in a running batch, adapters swapped and mixed.

A model of random weights and about 1B parameters on a card (a tiny one without), the same questions
of random length for the base and two adapters; about one token in 200 ends an answer, so that their
lengths differ. Prints a row after each measurement.

    python benchmarks/evaluate/local_answers.py --questions 500 --out answers.json
    python benchmarks/evaluate/local_answers.py --questions 200 --tokens 64 --adapters-only
"""

from __future__ import annotations

import argparse
import json
import random
import tempfile
import time
from pathlib import Path
from typing import Any

import torch
from transformers import AutoModelForCausalLM, AutoTokenizer, LlamaConfig

from unift.demo import model_path
from unift.engine import Delta, Turn, open_engine
from unift.provider import Sampling, get_provider


def make(folder: Path, big: bool) -> list[str]:
    """The base and two adapters, as folders."""
    from peft import LoraConfig, get_peft_model

    tokenizer = AutoTokenizer.from_pretrained(model_path())
    size = (2048, 8192, 16, 32, 8) if big else (64, 128, 2, 4, 2)
    vocabulary = 32_000 if big else len(tokenizer)
    config = LlamaConfig(
        hidden_size=size[0], intermediate_size=size[1], num_hidden_layers=size[2],
        num_attention_heads=size[3], num_key_value_heads=size[4], vocab_size=vocabulary,
        max_position_embeddings=4096,
    )  # fmt: skip
    torch.manual_seed(0)
    torch.set_default_dtype(torch.bfloat16 if big else torch.float32)
    model: Any = AutoModelForCausalLM.from_config(config)
    torch.set_default_dtype(torch.float32)
    stops = random.Random(0).sample(range(300, vocabulary), max(1, vocabulary // 200))
    model.generation_config.eos_token_id = stops
    folders = [str(folder / name) for name in ("base", "one", "two")]
    model.save_pretrained(folders[0])
    tokenizer.save_pretrained(folders[0])
    kind = LoraConfig(r=16, target_modules="all-linear", init_lora_weights=False)
    wrapped = get_peft_model(AutoModelForCausalLM.from_pretrained(folders[0]), kind)
    for name in folders[1:]:
        wrapped.save_pretrained(name)
    return folders


def main() -> None:
    parser = argparse.ArgumentParser()
    parser.add_argument("--questions", type=int, default=500)
    parser.add_argument("--tokens", type=int, default=128)
    parser.add_argument("--adapters-only", action="store_true", help="leave out the slow ways")
    parser.add_argument("--out", type=Path, default=Path("answers.json"))
    wanted = parser.parse_args()
    cuda = torch.cuda.is_available()
    chance = random.Random(1)
    words = ["the", "order", "of", "a", "red", "lamp", "came", "late", "paid", "by", "card"]
    asked = [
        [{"role": "user", "content": " ".join(chance.choices(words, k=chance.randint(5, 60)))}]
        for _ in range(wanted.questions)
    ]
    sampling = Sampling(max_tokens=wanted.tokens)
    rows: list[dict[str, Any]] = []

    def note(way: str, answers: int, tokens: int, seconds: float) -> None:
        rows.append({"way": way, "answers": answers, "tokens": tokens,
                     "answers_per_second": answers / seconds,
                     "tokens_per_second": tokens / seconds})  # fmt: skip
        print(json.dumps(rows[-1]), flush=True)
        device = torch.cuda.get_device_name() if cuda else "cpu"
        told = {"device": device, "torch": torch.__version__, "rows": rows}
        wanted.out.write_text(json.dumps(told, indent=1))

    with tempfile.TemporaryDirectory() as scratch:
        folders = make(Path(scratch), cuda)
        model: Any = get_provider("local-lora").model(folders[0])
        model.chat_many(asked[:4], Sampling(max_tokens=4))
        if not wanted.adapters_only:
            few = asked[: max(2, len(asked) // 100)]
            began = time.perf_counter()
            found = [model.chat(one, sampling) for one in few]
            note("one by one", len(few), _tokens(found), time.perf_counter() - began)
            began = time.perf_counter()
            counts = by_generate(model, asked, wanted.tokens)
            seconds = time.perf_counter() - began
            note("transformers generate, 32 at a time", len(asked), counts, seconds)
        whole = [0, 0, 0.0]
        for name, folder in zip(("base", "adapter one", "adapter two"), folders, strict=True):
            began = time.perf_counter()
            assert model.become(folder)
            note(f"swap to {name}", 1, 0, time.perf_counter() - began)
            began = time.perf_counter()
            found = model.chat_many(asked, sampling)
            seconds = time.perf_counter() - began
            note(f"batch, {name}", len(asked), _tokens(found), seconds)
            swap = 1 / rows[-2]["answers_per_second"]
            whole = [whole[0] + len(asked), whole[1] + _tokens(found), whole[2] + swap + seconds]
        note("the three one after the other", int(whole[0]), int(whole[1]), whole[2])
        model.close()
        engine: Any = open_engine("local-lora", folders[0], 2)
        counted: list[int] = []

        def hear(piece: Delta) -> bool:
            if piece.finish:
                counted.append(piece.completion_tokens)
            return True

        waiting = [
            Turn(messages=tuple(one), sampling=sampling, adapter=adapter)
            for one in asked for adapter in (None, *folders[1:])
        ]  # fmt: skip
        total, left = len(waiting), 0
        began = time.perf_counter()
        while waiting or left:
            while waiting and left < (256 if cuda else 32):
                engine.join(engine.prepare(waiting.pop()), hear)
                left += 1
            left = engine.step()
        note("mixed in one batch", total, sum(counted), time.perf_counter() - began)


def by_generate(model: Any, asked: list[Any], most: int) -> int:
    """Static batches of like length with transformers' own loop, as unift did it before."""
    inner, tokenizer, counted = model._model, model._tokenizer, 0
    tokenizer.padding_side = "left"
    stops = inner.generation_config.eos_token_id
    prompts = sorted((model._encode(one, 0, None) for one in asked), key=len, reverse=True)
    for first in range(0, len(prompts), 32):
        batch = tokenizer.pad({"input_ids": prompts[first : first + 32]}, return_tensors="pt")
        batch = batch.to(inner.device)
        with torch.inference_mode():
            out = inner.generate(
                input_ids=batch["input_ids"], attention_mask=batch["attention_mask"],
                max_new_tokens=most, do_sample=False, pad_token_id=tokenizer.pad_token_id,
                eos_token_id=stops,
            )  # fmt: skip
        for row in out[:, batch["input_ids"].shape[1] :].tolist():
            end = next((i for i, token in enumerate(row) if token in stops), None)
            counted += len(row) if end is None else end + 1
    return counted


def _tokens(replies: list[Any]) -> int:
    return sum(one.completion_tokens or 0 for one in replies)


if __name__ == "__main__":
    main()

"""A model and a tokenizer made on the spot, small enough to train within a second."""

from __future__ import annotations

import json
import os
import signal
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

from unift.provider import Event, Handle, Provider, State, Status
from unift.spec import make_spec

TEMPLATE = (
    "{%- for m in messages -%}"
    "{%- if m['role'] == 'assistant' -%}"
    "{{- '<|assistant|>' -}}"
    "{%- generation -%}{{- m['content'] + '<|end|>' -}}{%- endgeneration -%}"
    "{%- elif m['role'] in ['system', 'user'] -%}"
    "{{- '<|' + m['role'] + '|>' + m['content'] + '<|end|>' -}}"
    "{%- else -%}{{- raise_exception('unknown role: ' + m['role']) -}}{%- endif -%}"
    "{%- endfor -%}"
    "{%- if add_generation_prompt -%}{{- '<|assistant|>' -}}{%- endif -%}"
)
SPECIALS = ["<|pad|>", "<|end|>", "<|system|>", "<|user|>", "<|assistant|>"]
CONTEXT = 512


def make_tokenizer(folder: Path) -> Any:
    """Bytes and five special tokens: no training, no surprises."""
    from tokenizers import Tokenizer, decoders, models, pre_tokenizers
    from transformers import PreTrainedTokenizerFast

    alphabet = sorted(pre_tokenizers.ByteLevel.alphabet())
    vocab = {token: number for number, token in enumerate(SPECIALS + alphabet)}
    core = Tokenizer(models.BPE(vocab=vocab, merges=[]))
    core.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)
    core.decoder = decoders.ByteLevel()
    tokenizer = PreTrainedTokenizerFast(
        tokenizer_object=core,
        eos_token="<|end|>",
        pad_token="<|pad|>",
        additional_special_tokens=SPECIALS[2:],
        model_max_length=CONTEXT,
    )
    tokenizer.chat_template = TEMPLATE
    tokenizer.save_pretrained(folder)
    return tokenizer


def make_model(folder: Path, **changes: Any) -> Path:
    """A random Qwen3-shaped model (https://arxiv.org/abs/2505.09388) with its tokenizer."""
    import torch
    from transformers import Qwen3Config, Qwen3ForCausalLM

    tokenizer = make_tokenizer(folder)
    sizes: dict[str, Any] = {
        "vocab_size": len(tokenizer),
        "hidden_size": 64,
        "intermediate_size": 128,
        "num_hidden_layers": 2,
        "num_attention_heads": 4,
        "num_key_value_heads": 2,
        "head_dim": 16,
        "max_position_embeddings": CONTEXT,
        "tie_word_embeddings": True,
        "bos_token_id": None,
        "eos_token_id": tokenizer.eos_token_id,
        "pad_token_id": tokenizer.pad_token_id,
    }
    torch.manual_seed(0)
    Qwen3ForCausalLM(Qwen3Config(**{**sizes, **changes})).save_pretrained(folder)
    return folder


def chat(question: str, answer: str, **extra: Any) -> dict[str, Any]:
    """One row of a data file."""
    user = {"role": "user", "content": question}
    return {"messages": [user, {"role": "assistant", "content": answer, **extra}]}


def write_rows(path: Path, rows: list[dict[str, Any]]) -> Path:
    """A JSONL file."""
    path.write_text("".join(json.dumps(row) + "\n" for row in rows), encoding="utf-8")
    return path


@pytest.fixture(scope="session", autouse=True)
def one_thread() -> None:
    """Small tensors gain nothing from threads, and lose much when tests share the cores."""
    import torch

    torch.set_num_threads(1)


@pytest.fixture(scope="session")
def model_folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return make_model(tmp_path_factory.mktemp("model"))


@pytest.fixture(scope="session")
def tokenizer(model_folder: Path) -> Any:
    from transformers import AutoTokenizer

    return AutoTokenizer.from_pretrained(model_folder)


@pytest.fixture(scope="session")
def train_file(tmp_path_factory: pytest.TempPathFactory) -> Path:
    rows = [chat(f"item {i % 7} please" + "!" * (i % 11), f"code {i % 7}") for i in range(32)]
    return write_rows(tmp_path_factory.mktemp("data") / "train.jsonl", rows)


@pytest.fixture(scope="session")
def validation_file(tmp_path_factory: pytest.TempPathFactory) -> Path:
    rows = [chat(f"item {i} now please", f"code {i}") for i in range(7)]
    return write_rows(tmp_path_factory.mktemp("data") / "validation.jsonl", rows)


@pytest.fixture(autouse=True)
def home(home: Path) -> Iterator[Path]:
    """The test's own data folder; nothing that was started in it survives the test."""
    yield home
    from unift_local.rundir import RunDir

    for run in (home / "runs").glob("*"):
        pid = RunDir(run).pid() if (run / "lock").exists() else None
        if pid is not None:
            os.kill(pid, signal.SIGKILL)


@pytest.fixture
def spec(model_folder: Path, train_file: Path, validation_file: Path) -> Callable[..., Any]:
    """A spec for the tiny model, with whatever settings a test changes."""

    def build(provider: str = "local-lora", **settings: Any) -> Any:
        options = {"threads": 1, "device": "cpu", **settings.pop("options", {})}
        wanted: dict[str, Any] = {
            "model": str(model_folder),
            "data": str(train_file),
            "validation": str(validation_file),
            "learning_rate": 3e-3,
            **settings,
        }
        return make_spec(provider=provider, options={provider: options}, **wanted)

    return build


def follow(
    provider: Provider,
    handle: Handle,
    until: Callable[[Event], bool] = lambda event: False,
    timeout: float = 120,
) -> tuple[Status, list[Event]]:
    """Collect events until the run has ended or one event is the one waited for."""
    events: list[Event] = []
    deadline = time.monotonic() + timeout
    while time.monotonic() < deadline:
        status = provider.poll(handle)
        new = provider.events(handle, events[-1].id if events else None)
        events.extend(new)
        if any(until(event) for event in new) or status.finished:
            return status, events
        time.sleep(0.02)  # another process has to get there first
    raise AssertionError(f"nothing happened within {timeout} s; last: {events[-1:]}")


def finish(provider: Provider, handle: Handle) -> list[Event]:
    """Wait for success; the events."""
    status, events = follow(provider, handle)
    log = (Path(handle.data["folder"]) / "worker.log").read_text()
    assert status.state == State.SUCCEEDED, f"{status}\n{log}"
    return events


def reached(step: int) -> Callable[[Event], bool]:
    """True for the event of a checkpoint at or after a step."""
    return lambda event: event.kind == "checkpoint" and event.data["step"] >= step

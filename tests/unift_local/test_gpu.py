"""On a CUDA card: a random Llama of a billion weights trains, is killed, resumes and answers."""

from __future__ import annotations

import os
import signal
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from unift_local import LocalFull, LocalLora, LocalQlora
from unift_local.rundir import RunDir

from tests.unift_local.conftest import chat, finish, follow, make_tokenizer, reached, write_rows
from unift.provider import Sampling, State
from unift.spec import make_spec

STEPS = 20
ROWS = 160
ROW_CHARACTERS = 700
#: The shape of Llama 3.2 1B (https://huggingface.co/meta-llama/Llama-3.2-1B, config.json).
SHAPE: dict[str, Any] = {
    "vocab_size": 128_256,
    "hidden_size": 2048,
    "intermediate_size": 8192,
    "num_hidden_layers": 16,
    "num_attention_heads": 32,
    "num_key_value_heads": 8,
    "head_dim": 64,
    "max_position_embeddings": 4096,
    "tie_word_embeddings": True,
}
#: Peak allocated GiB that each way must stay under; full keeps weights, gradients and both
#: moments in fp32: 16 bytes * 1.24e9 = 18.4 GiB.
CEILINGS = {"local-lora": 12.0, "local-qlora": 9.0, "local-full": 30.0}

pytestmark = [pytest.mark.gpu, pytest.mark.slow]


@pytest.fixture(scope="module")
def llama(tmp_path_factory: pytest.TempPathFactory) -> Path:
    import torch
    from transformers import LlamaConfig, LlamaForCausalLM

    if not torch.cuda.is_available():
        pytest.skip("needs a CUDA card")
    folder = tmp_path_factory.mktemp("llama")
    tokenizer = make_tokenizer(folder)
    ends = {"eos_token_id": tokenizer.eos_token_id, "pad_token_id": tokenizer.pad_token_id}
    torch.manual_seed(0)
    with torch.device("cuda"):
        model = LlamaForCausalLM(LlamaConfig(**SHAPE, bos_token_id=None, **ends))
    model.to(torch.bfloat16).save_pretrained(folder)
    del model
    torch.cuda.empty_cache()
    return folder


@pytest.mark.parametrize("cls", [LocalLora, LocalQlora, LocalFull])
def test_a_billion_weights_train_resume_and_answer(
    cls: type[Any],
    llama: Path,
    spec: Callable[..., Any],
    tmp_path: Path,
    record_property: Callable[[str, object], None],
) -> None:
    rows = [
        chat(f"question {i} " + "word " * (ROW_CHARACTERS // 5), f"answer {i}") for i in range(ROWS)
    ]
    data = write_rows(tmp_path / "train.jsonl", rows)
    validation = write_rows(tmp_path / "validation.jsonl", rows[:8])
    provider = cls()
    wanted = spec(
        provider.name,
        model=str(llama),
        data=str(data),
        validation=str(validation),
        max_steps=STEPS,
        learning_rate=None,
        options={"device": "cuda", "eval_steps": 10, "save_total_limit": 1},
    )
    plan = provider.plan(wanted)
    assert plan.value("dtype") == "bf16"
    handle = provider.submit(plan, "big")
    follow(provider, handle, until=reached(10), timeout=400)
    pid = RunDir(Path(handle.data["folder"])).pid()
    assert pid is not None
    os.kill(pid, signal.SIGKILL)
    status, _ = follow(provider, handle)
    assert status.state == State.FAILED
    assert status.resumable
    provider.resume(handle)
    follow(provider, handle, timeout=400)
    events = finish(provider, handle)
    metrics = [event.data for event in events if event.kind == "metrics"]
    assert metrics[-1]["step"] == STEPS
    assert metrics[-1]["loss"] < metrics[0]["loss"]
    assert 0 < metrics[-1]["memory_gib"] <= metrics[-1]["memory_reserved_gib"]
    assert metrics[-1]["memory_gib"] < CEILINGS[provider.name]
    artifact = provider.fetch(handle)
    assert {"memory_gib", "memory_reserved_gib", "validation_loss"} <= set(artifact.metrics)
    for key in ("memory_gib", "memory_reserved_gib", "tokens_per_second", "loss"):
        record_property(f"{provider.name}:{key}", metrics[-1][key])
    print(provider.name, metrics[-1], plan.estimate["memory"], plan.estimate["hours"])
    model = provider.model(artifact.reference)
    reply = model.chat([{"role": "user", "content": "question 3"}], Sampling(max_tokens=8))
    assert reply.completion_tokens
    model.close()


def test_a_card_that_somebody_else_fills_gets_smaller_passes(llama: Path, tmp_path: Path) -> None:
    import torch

    rows = [chat("?" * ROW_CHARACTERS, f"answer {i}") for i in range(128)]
    provider = LocalLora()
    spec = make_spec(
        provider="local-lora",
        model=str(llama),
        data=str(write_rows(tmp_path / "rows.jsonl", rows)),
        batch_size=64,
        max_steps=3,
        options={"local-lora": {"probe": True, "checkpointed_layers": 0, "eval_steps": 1}},
    )
    plan = provider.plan(spec)
    free, _ = torch.cuda.mem_get_info()
    ballast = torch.empty(free - 14 * 2**30, dtype=torch.uint8, device="cuda")
    try:
        events = finish(provider, provider.submit(plan, "run-crowded"))
    finally:
        del ballast
        torch.cuda.empty_cache()
    said = [event for event in events if "replanned" in event.data]
    assert said[0].data["out_of_memory"] == "in the probe"
    assert "out of memory" in said[0].data["cause"].lower()
    used = RunDir(Path(provider.submit(plan, "run-crowded").data["folder"])).plan()
    assert used.value("micro_batch") < plan.value("micro_batch")
    assert used.value("batch_size") == 64
    steps = [event.data["step"] for event in events if event.kind == "checkpoint"]
    assert steps == [1, 2, 3]
    for event in (*said, *(one for one in events if "measured" in one.data)):
        print(event.message)

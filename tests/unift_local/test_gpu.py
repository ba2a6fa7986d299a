"""On a CUDA card: three ways to tune train side by side, are killed, resume and answer."""

from __future__ import annotations

import os
import signal
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import pytest
from unift_local import LocalFull, LocalLora, LocalQlora
from unift_local.rundir import RunDir

from tests.unift_local.conftest import chat, finish, follow, make_tokenizer, reached, write_rows
from unift.provider import Sampling, State
from unift.spec import make_spec

STEPS = 30  # long enough after the first checkpoint to be killed in between
ROWS = 64
ROW_CHARACTERS = 700
#: The proportions of Llama 3.2; small, because most of the time goes into starting processes.
SHAPE: dict[str, Any] = {
    "vocab_size": 8192,
    "hidden_size": 512,
    "intermediate_size": 2048,
    "num_hidden_layers": 4,
    "num_attention_heads": 8,
    "num_key_value_heads": 2,
    "head_dim": 64,
    "max_position_embeddings": 4096,
    "tie_word_embeddings": True,
}
#: Peak allocated GiB that each way must stay under; full keeps weights, gradients and both
#: moments in fp32: 16 bytes a weight, and there are 28 million.
CEILINGS = {"local-lora": 0.5, "local-qlora": 0.5, "local-full": 1.0}
#: What somebody else leaves of the card: all rows of a step at once want 4.3 GiB with the context
#: of the process, half of them 2.6.
LEFT_GIB = 3.2

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
    model: Any = LlamaForCausalLM(LlamaConfig(**SHAPE, bos_token_id=None, **ends))
    model.to(torch.bfloat16).save_pretrained(folder)
    return folder


@pytest.fixture
def wanted(llama: Path, spec: Callable[..., Any], tmp_path: Path) -> Callable[..., Any]:
    """A spec for that model on the card."""
    rows = [
        chat(f"question {i} " + "word " * (ROW_CHARACTERS // 5), f"answer {i}") for i in range(ROWS)
    ]
    data = write_rows(tmp_path / "train.jsonl", rows)
    validation = write_rows(tmp_path / "validation.jsonl", rows[:8])

    def build(provider: str, **options: Any) -> Any:
        return spec(
            provider,
            model=str(llama),
            data=str(data),
            validation=str(validation),
            max_steps=STEPS,
            learning_rate=None,
            options={"device": "cuda", "eval_steps": 10, "save_total_limit": 1, **options},
        )

    return build


def killed_and_resumed(provider: Any, plan: Any) -> Any:
    """The last numbers, the artifact and the profile of a run killed at its first checkpoint."""
    handle = provider.submit(plan, provider.name)
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
    profiles = [event.data["profile"] for event in events if "profile" in event.data]
    page = Path(handle.data["folder"]) / "profile" / "profile.txt"
    print(page.read_text() if page.exists() else "")
    return metrics[-1], provider.fetch(handle), profiles


def test_three_ways_to_tune_are_killed_resume_and_answer(
    wanted: Callable[..., Any], record_property: Callable[[str, object], None]
) -> None:
    providers = [LocalLora(), LocalQlora(), LocalFull()]
    plans = [
        provider.plan(wanted(provider.name, profile=provider.name == "local-lora"))
        for provider in providers
    ]
    assert {plan.value("dtype") for plan in plans} == {"bf16"}
    with ThreadPoolExecutor() as pool:
        found = list(pool.map(killed_and_resumed, providers, plans))
    assert [bool(profiles) for _, _, profiles in found] == [True, False, False]
    shares = found[0][2][-1]
    assert all(shares[kind] > 0 for kind in ("attention", "MLP", "loss", "optimiser"))
    for provider, (metrics, artifact, _) in zip(providers, found, strict=True):
        assert {"memory_gib", "memory_reserved_gib", "validation_loss"} <= set(artifact.metrics)
        for key in ("memory_gib", "memory_reserved_gib", "tokens_per_second", "loss"):
            record_property(f"{provider.name}:{key}", metrics[key])
        model = provider.model(artifact.reference)
        reply = model.chat([{"role": "user", "content": "question 3"}], Sampling(max_tokens=8))
        assert reply.completion_tokens
        model.close()


@pytest.mark.filterwarnings("ignore")  # torch's own, of compiling and of this way to debug
@pytest.mark.parametrize(
    ("provider", "options"),
    [
        (LocalLora(), {}),
        (LocalFull(), {"optimizer": "adamw"}),
        (LocalLora(), {"gradient_checkpointing": True, "checkpointing": "offloaded"}),
        (
            LocalLora(),
            {"gradient_checkpointing": True, "checkpointing": "offloaded", "compile": True},
        ),
    ],
)
def test_a_step_gives_the_plain_gradient_and_never_waits_for_the_card(
    provider: Any, options: dict[str, Any], wanted: Callable[..., Any], tmp_path: Path
) -> None:
    import torch
    from unift_local import _provider, checkpoint, recipe
    from unift_local.rundir import EventLog

    def gradients(name: str, **options: Any) -> torch.Tensor:
        plan = provider.plan(wanted(provider.name, **options))
        place = RunDir(tmp_path / name)
        place.checkpoints.mkdir(parents=True)
        for part, field in (("train", "data"), ("validation", "validation")):
            _provider._snapshot(place, part, plan, field)
        log, progress = EventLog(place.events_file), checkpoint.Progress()
        never: Any = False
        _, trainer = recipe.build(place, plan, log, never, progress)
        log.close()
        model: Any = trainer.model
        for key, parameter in model.named_parameters():
            if "lora_B" in key:
                seed = torch.Generator("cuda").manual_seed(3)
                parameter.data.normal_(0, 0.05, generator=seed)
        step = next(iter(trainer.get_train_dataloader()))
        for waits in (True, False):  # the first time compiles and allocates
            model.zero_grad()
            torch.cuda.set_sync_debug_mode("default" if waits or name == "plain" else "error")
            try:
                trainer.training_step(model, step)
            finally:
                torch.cuda.set_sync_debug_mode("default")
        return torch.cat([p.grad.flatten().float() for p in model.parameters() if p.requires_grad])

    fast = gradients("fast", **options)
    plain_options: dict[str, Any] = {"attention": "sdpa", "loss": "plain"}
    if provider.name == "local-lora":
        plain_options["fused_adapters"] = False
    else:
        plain_options["optimizer"] = "adamw"
    plain = gradients("plain", **plain_options)
    assert float((fast - plain).norm() / plain.norm()) < 0.05  # bf16


def test_values_of_another_size_than_keys_on_the_card() -> None:
    import torch
    from unift_local import attention

    if not torch.cuda.is_available():
        pytest.skip("needs a CUDA card")
    attention.register()
    generator = torch.Generator().manual_seed(0)
    sizes = (192, 192, 128)  # DeepSeek's latent attention
    query, key, value = (torch.randn(1, 4, 90, size, generator=generator) for size in sizes)
    bounds = torch.tensor([0, 40, 90], dtype=torch.int32)
    found: list[torch.Tensor] = []
    for device, dtype in (("cpu", torch.float32), ("cuda", torch.bfloat16)):
        q, k, v = (one.to(device, dtype) for one in (query, key, value))
        out, _ = attention.varlen_attention(
            torch.nn.Identity(), q, k, v, None, cu_seq_lens_q=bounds.to(device), max_length_q=50
        )
        found.append(out.float().cpu())
    assert float((found[1] - found[0]).norm() / found[0].norm()) < 2e-2


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
    ballast = torch.empty(free - int(LEFT_GIB * 2**30), dtype=torch.uint8, device="cuda")
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

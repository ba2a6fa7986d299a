"""Real trainings through the seam, each in a process of its own."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from unift_local import LocalFull, LocalLora, LocalQlora

from tests.unift_local.conftest import chat, finish, follow, reached, write_rows
from unift.errors import ProviderError, RunError, UsageError
from unift.provider import Provider, State

pytestmark = pytest.mark.slow


def kinds(events: list[Any], kind: str) -> list[dict[str, Any]]:
    return [event.data for event in events if event.kind == kind]


def test_lora_from_plan_to_artifact(
    spec: Callable[..., Any], home: Path, model_folder: Path
) -> None:
    local = LocalLora()
    assert isinstance(local, Provider)
    plan = local.plan(spec(epochs=10))
    handle = local.submit(plan, "first")
    assert local.submit(plan, "first") == handle, "the same token must not train twice"
    assert local.find("first") == handle
    assert local.find("never") is None
    events = finish(local, handle)

    assert [event.id for event in events] == sorted({event.id for event in events})
    assert local.events(handle, events[3].id) == events[4:]
    metrics = kinds(events, "metrics")
    assert metrics[-1]["step"] == metrics[-1]["total_steps"] == plan.value("total_steps") == 80
    wanted = {"epoch", "loss", "learning_rate", "grad_norm", "tokens_per_second", "memory_gib"}
    assert wanted | {"eta_seconds"} <= set(metrics[0])
    assert metrics[-1]["loss"] < metrics[0]["loss"] - 1, "it must learn"
    evaluations = kinds(events, "evaluation")
    steps = [one["step"] for one in evaluations]
    assert steps[0] == 0, "the untouched base is measured too"
    assert len(steps) >= 11
    assert {8 * epoch for epoch in range(1, 11)} <= set(steps), "each epoch's end is evaluated"

    artifact = local.fetch(handle)
    folder = Path(artifact.reference)
    best = min(evaluations[1:], key=lambda one: one["validation_loss"])
    assert artifact.kind == "adapter"
    assert artifact.base == str(model_folder)
    assert artifact.metrics["validation_loss"] == best["validation_loss"]
    assert artifact.metrics["step"] == best["step"]
    config = json.loads((folder / "adapter_config.json").read_text())
    assert Path(config["base_model_name_or_path"]).is_absolute()
    assert config["base_model_name_or_path"] == str(model_folder)
    assert {"adapter_model.safetensors", "tokenizer.json", "chat_template.jinja"} <= {
        path.name for path in folder.iterdir()
    }
    assert not [path for path in folder.iterdir() if path.suffix in (".bin", ".pt", ".pth")]
    card = json.loads((folder / "unift.json").read_text())
    assert (card["run"], card["dtype"], card["four_bit"]) == ("first", "fp32", False)

    (folder / "adapter_model.safetensors").write_bytes(b"x")
    with pytest.raises(RunError, match=r"adapter_model\.safetensors"):
        local.fetch(handle)


def test_full_on_cpu_changes_every_weight(spec: Callable[..., Any], model_folder: Path) -> None:
    from safetensors.torch import load_file

    local = LocalFull()
    handle = local.submit(local.plan(spec("local-full", max_steps=6)), "full")
    finish(local, handle)
    artifact = local.fetch(handle)
    assert artifact.kind == "weights"
    before = load_file(model_folder / "model.safetensors")
    after = load_file(Path(artifact.reference) / "model.safetensors")
    assert before.keys() == after.keys()
    assert [key for key in before if before[key].equal(after[key])] == []


def test_qlora_on_cpu_learns_and_answers_in_four_bits(spec: Callable[..., Any]) -> None:
    local = LocalQlora()
    handle = local.submit(local.plan(spec("local-qlora", epochs=6)), "four")
    losses = [one["loss"] for one in kinds(finish(local, handle), "metrics")]
    assert losses[-1] < losses[0] - 0.7
    reference = local.fetch(handle).reference
    from unift_local.inference import LocalModel

    as_trained = local.model(reference)
    assert isinstance(as_trained, LocalModel)
    assert as_trained.four_bit
    assert as_trained.chat([{"role": "user", "content": "item 3 please"}]).text
    as_trained.close()


def test_validation_that_turns_ends_the_run_and_the_best_is_kept(
    spec: Callable[..., Any], tmp_path: Path
) -> None:
    # The validation answers contradict the training answers: learning makes them worse.
    train = write_rows(tmp_path / "t.jsonl", [chat(f"item {i}", "yes yes") for i in range(8)])
    validation = write_rows(tmp_path / "v.jsonl", [chat(f"item {i}", "NO!") for i in range(8)])
    options = {"patience": 2, "eval_steps": 2, "save_total_limit": 2}
    wanted = spec(
        data=str(train), validation=str(validation), epochs=40, batch_size=4, options=options
    )
    local = LocalLora()
    handle = local.submit(local.plan(wanted), "turns")
    events = finish(local, handle)
    evaluations = kinds(events, "evaluation")
    stopped = [event for event in events if event.data.get("stopped_early")]
    assert len(stopped) == 1
    assert "not improved" in stopped[0].message
    assert evaluations[-1]["step"] < 80
    best = min(evaluations[1:], key=lambda one: one["validation_loss"])
    assert best["step"] == evaluations[-3]["step"], "patience is 2"
    assert local.fetch(handle).metrics["step"] == best["step"]
    kept = sorted(path.name for path in (Path(handle.data["folder"]) / "checkpoints").iterdir())
    assert len(kept) == 3, "the newest two, and the best"
    assert f"checkpoint-{best['step']}" in kept

    patient = spec(
        data=str(train),
        validation=str(validation),
        max_steps=30,
        batch_size=4,
        options={**options, "patience": 0},
    )
    handle = local.submit(local.plan(patient), "never-stops")
    assert kinds(finish(local, handle), "metrics")[-1]["step"] == 30


def test_a_loss_that_is_no_number_fails_with_a_lower_rate_as_advice(
    spec: Callable[..., Any], tmp_path: Path
) -> None:
    import shutil

    from safetensors.torch import load_file, save_file

    broken = tmp_path / "broken"
    shutil.copytree(spec().model, broken)
    weights = load_file(broken / "model.safetensors")
    weights["model.layers.1.mlp.down_proj.weight"].fill_(float("inf"))
    save_file(weights, broken / "model.safetensors", metadata={"format": "pt"})
    local = LocalLora()
    handle = local.submit(local.plan(spec(model=str(broken), validation=None)), "nan")
    status, _ = follow(local, handle)
    assert status.state == State.FAILED
    assert status.failure is not None
    assert status.failure.code == "loss_not_finite"
    assert "0.0003" in status.failure.fix
    assert not status.resumable
    with pytest.raises(ProviderError, match="fail again"):
        local.resume(handle)
    with pytest.raises(RunError, match="left no model"):
        local.fetch(handle)


def test_data_edited_after_submit_does_not_matter(spec: Callable[..., Any], tmp_path: Path) -> None:
    data = write_rows(tmp_path / "t.jsonl", [chat("a", "b")] * 8)
    local = LocalLora()
    plan = local.plan(spec(data=str(data), validation=None, max_steps=2))
    handle = local.submit(plan, "edited")
    write_rows(data, [chat("a", "c")] * 8)
    finish(local, handle)
    with pytest.raises(UsageError, match="changed between"):
        local.submit(plan, "too-late")
    assert local.find("too-late") is None


def test_cancel_saves_and_resume_finishes(spec: Callable[..., Any]) -> None:
    local = LocalLora()
    plan = local.plan(spec(epochs=25))
    handle = local.submit(plan, "stopped")
    follow(local, handle, until=reached(8))
    local.cancel(handle)
    local.cancel(handle)
    status, events = follow(local, handle)
    assert status.state == State.CANCELLED
    assert status.resumable
    last = kinds(events, "checkpoint")[-1]["step"]
    assert f"step {last} is saved" in status.message
    assert last < plan.value("total_steps")
    local.cancel(handle)
    assert local.poll(handle) == status, "cancelling what has ended does nothing"
    local.resume(handle)
    events = finish(local, handle)
    assert {"resumed_from_step": last, "removed": []} in [event.data for event in events]
    assert local.resume(handle) == handle, "resuming what succeeded does nothing"

"""Killed, orphaned, out of disk: what was trained is never lost, and the end is bit-identical."""

from __future__ import annotations

import os
import resource
import signal
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from unift_local import LocalLora
from unift_local.checkpoint import MARKER
from unift_local.rundir import RunDir

from tests.unift_local.conftest import finish, follow, reached
from unift.provider import Handle, State

pytestmark = pytest.mark.slow


def weights(local: LocalLora, handle: Handle) -> bytes:
    return (Path(local.fetch(handle).reference) / "adapter_model.safetensors").read_bytes()


def test_sigkill_and_resume_end_bit_identical(spec: Callable[..., Any]) -> None:
    local = LocalLora()
    # An odd batch size, dropout and several epochs: order, random numbers and positions all matter.
    plan = local.plan(spec(epochs=10, batch_size=5, options={"eval_steps": 6}))
    calm = local.submit(plan, "calm")
    finish(local, calm)

    rough = local.submit(plan, "rough")
    run = RunDir(Path(rough.data["folder"]))
    for step in (9, 30):  # once mid-epoch, once more on a run that was resumed already
        follow(local, rough, until=reached(step))
        pid = run.pid()
        assert pid is not None
        os.kill(pid, signal.SIGKILL)
        status, events = follow(local, rough)
        assert status.state == State.FAILED
        assert status.resumable
        assert status.failure is not None
        assert status.failure.code == "process_died"
        assert "SIGKILL" in status.message
        # What a crash in the middle of saving leaves behind:
        debris = run.checkpoints / "checkpoint-69"
        debris.mkdir()
        (debris / "adapter_model.safetensors").write_bytes(b"half")
        with run.events_file.open("ab") as file:
            file.write(b'{"id": "e000')
        local.resume(rough)
    events = finish(local, rough)
    assert weights(local, calm) == weights(local, rough)
    assert [event.id for event in events] == [f"e{n:08d}" for n in range(len(events))]
    assert (
        not (run.checkpoints / "checkpoint-69").exists()
        or (run.checkpoints / "checkpoint-69" / MARKER).exists()
    )
    assert local.fetch(calm).metrics["tokens"] == local.fetch(rough).metrics["tokens"]
    best = [local.fetch(handle).metrics["step"] for handle in (calm, rough)]
    assert best[0] == best[1]


def test_pause_and_cancel_between_evaluations_resume_bit_identical(
    spec: Callable[..., Any],
) -> None:
    local = LocalLora()
    plan = local.plan(spec(epochs=20, packing=False, options={"eval_steps": 40}))
    calm = local.submit(plan, "calm")
    stopped = local.submit(plan, "stopped")
    follow(local, stopped, until=lambda event: event.kind == "metrics" and event.data["step"] > 9)
    local.pause(stopped)
    follow(local, stopped, until=lambda event: event.message == "paused")
    while (status := local.poll(stopped)).state is State.RUNNING:
        pass  # it has said so, and ends
    assert (status.state, status.resumable) == (State.PAUSED, True)
    local.resume(stopped)
    follow(local, stopped, until=lambda event: event.kind == "metrics" and event.data["step"] > 25)
    local.cancel(stopped)
    status, _ = follow(local, stopped)
    assert status.state == State.CANCELLED
    local.resume(stopped)
    finish(local, stopped)
    finish(local, calm)
    assert weights(local, calm) == weights(local, stopped)


CALLER = """
import sys
from unift.provider import Plan
from unift_local import LocalLora
local = LocalLora()
handle = local.submit(Plan.model_validate_json(open(sys.argv[1]).read()), "orphan")
print(handle.model_dump_json(), flush=True)
sys.stdin.read()
"""


def test_the_run_outlives_its_caller(spec: Callable[..., Any], tmp_path: Path) -> None:
    local = LocalLora()
    plan_file = tmp_path / "plan.json"
    plan_file.write_text(local.plan(spec(epochs=3)).model_dump_json())
    command = [sys.executable, "-c", CALLER, str(plan_file)]
    pipes: dict[str, Any] = {"stdin": subprocess.PIPE, "stdout": subprocess.PIPE}
    with subprocess.Popen(command, start_new_session=True, **pipes) as caller:
        assert caller.stdout is not None
        handle = Handle.model_validate_json(caller.stdout.readline())
        # Ctrl-C goes to the whole group of the terminal, then the caller is killed outright.
        os.killpg(caller.pid, signal.SIGINT)
        os.killpg(caller.pid, signal.SIGKILL)
    events = finish(local, handle)
    assert events[-1].kind == "artifact"
    assert local.fetch(handle).kind == "adapter"


def test_a_full_disk_fails_in_words_and_resumes(spec: Callable[..., Any]) -> None:
    local = LocalLora()
    plan = local.plan(spec(epochs=3))
    # The worker inherits the limit: files over 100 kB cannot be written, as on a full disk.
    soft, hard = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (100_000, hard))
    try:
        handle = local.submit(plan, "full")
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, (soft, hard))
    status, _ = follow(local, handle)
    assert status.state == State.FAILED
    assert status.failure is not None
    assert status.failure.code == "disk_full"
    assert "GiB" in status.failure.fix
    assert "resume" in status.failure.fix
    assert status.resumable
    run = RunDir(Path(handle.data["folder"]))
    assert not run.model.exists(), "nothing half-written may look finished"
    local.resume(handle)
    finish(local, handle)


def test_a_run_that_never_started_is_started_by_the_same_token(
    spec: Callable[..., Any], monkeypatch: pytest.MonkeyPatch
) -> None:
    local = LocalLora()
    plan = local.plan(spec(max_steps=2, validation=None))
    with monkeypatch.context() as patch:
        patch.setattr("unift_local.launch.start", lambda run: None)  # died right here
        handle = local.submit(plan, "late")
        assert local.find("late") == handle
        assert local.poll(handle).state == State.QUEUED
    assert local.submit(plan, "late") == handle
    finish(local, handle)


def test_a_vanished_folder_is_lost(home: Path) -> None:
    local = LocalLora()
    handle = Handle(provider="local-lora", id="gone", data={"folder": str(home / "runs" / "gone")})
    assert local.poll(handle).state == State.LOST
    assert local.events(handle) == []

"""The launcher and proxy of --engine vllm, against a stand-in with vLLM's flags and endpoints."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

import httpx2
import pytest

from tests.serve.conftest import Server, launch, unift
from unift import plan as make_plan
from unift import start
from unift.provider import State
from unift.runs import Store

STANDIN = Path(__file__).parent / "standin"
CHAT: dict[str, Any] = {"messages": [{"role": "user", "content": "hello"}]}


def test_adapters_are_loaded_on_demand_and_the_oldest_goes(
    tmp_path: Path, small: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    home = tmp_path / "vllm" / "home"
    monkeypatch.setenv("UNIFT_HOME", str(home))
    run = start(make_plan(provider="local-lora", model="demo", data=small, max_steps=1)).wait()
    names = _jobs_of(run.artifact, run.id)
    monkeypatch.setenv("PYTHONPATH", os.pathsep.join([str(STANDIN), os.environ["PYTHONPATH"]]))
    flags = ("--engine", "vllm", "--max-adapters", "2")
    server = launch(tmp_path / "vllm", *flags, with_keys=False)
    try:
        base = _ask(server, "demo")
        assert (base["model"], base["loaded"]) == ("demo", [])
        for name in names:
            _ask(server, name)
        assert _ask(server, names[2])["loaded"] == sorted(names[1:])
        body = {**CHAT, "model": names[0], "stream": True}
        streamed = httpx2.post(f"{server.url}/chat/completions", json=body)
        assert streamed.headers["content-type"].startswith("text/event-stream")
        assert streamed.text.endswith("data: [DONE]\n\n")
    finally:
        assert server.stop() == 0


def test_an_engine_that_cannot_start_is_said(tmp_path: Path) -> None:
    flags = ("--insecure-loopback", "--engine", "vllm", "--vllm-python", "/no/such/python")
    done = unift(*flags, "--port", "1999", check=False)
    assert done.returncode == 2
    assert b"vLLM cannot be started" in done.stderr
    assert b"Traceback" not in done.stderr


def test_an_engine_that_ends_while_it_starts_is_one_error(tmp_path: Path) -> None:
    """Here: a python without vllm. What it said is quoted, and there is no traceback."""
    flags = ("--insecure-loopback", "--engine", "vllm", "--vllm-python", sys.executable, "--json")
    done = unift(*flags, "--port", "1999", check=False)
    error = json.loads(done.stdout)["error"]
    assert (done.returncode, error["code"]) == (1, "vllm_failed")
    assert "No module named 'vllm'" in error["message"]
    assert Path(error["where"]).is_file()
    assert b"Traceback" not in done.stderr


def test_a_server_whose_engine_still_loads_can_be_stopped(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    slow = tmp_path / "python"
    slow.write_text(f"#!/bin/sh\necho loading > {tmp_path}/begun\nexec sleep 600\n")
    slow.chmod(0o755)
    monkeypatch.setenv("UNIFT_HOME", str(tmp_path))
    command = [sys.executable, "-m", "unift", "serve", "--insecure-loopback", "--engine", "vllm"]
    server = subprocess.Popen([*command, "--vllm-python", str(slow), "--port", "1998"])
    while not (tmp_path / "begun").exists():
        assert server.poll() is None
        time.sleep(0.05)
    server.send_signal(signal.SIGINT)
    assert server.wait(60) == 0


def _ask(server: Server, model: str) -> Any:
    answer = httpx2.post(f"{server.url}/chat/completions", json={**CHAT, "model": model})
    assert answer.status_code == 200, answer.text
    return answer.json()


def _jobs_of(artifact: Any, run: str) -> list[str]:
    """Three jobs of the server with the adapter of one training: the journal is all it reads."""
    from unift.serve._shelf import Shelf

    store, shelf = Store(), Shelf()
    plan, names = store.get(run).plan, list[str]()
    for number in range(3):
        row = store.create(plan)
        for state in (State.SUBMITTING, State.QUEUED):
            store.update(row.id, state)
        store.update(row.id, State.SUCCEEDED, artifact=artifact)
        job = shelf.add_job(row.id, {"training_file": "file-1", "suffix": f"n{number}"}, "loopback")
        names.append(f"ft:demo:unift:n{number}:{job.run}")
    return names

"""The server through the `openai` package: an unchanged script, the provider, the SDK's types."""

from __future__ import annotations

import os
import subprocess
import sys
import time
import uuid
from pathlib import Path
from typing import Any

import httpx2
import openai
import pytest
from openai.types import Completion, FileDeleted, FileObject, Model
from openai.types.chat import ChatCompletion, ChatCompletionChunk
from openai.types.fine_tuning import FineTuningJob, FineTuningJobEvent
from openai.types.fine_tuning.jobs import FineTuningJobCheckpoint
from pydantic import BaseModel

from tests.conformance import suite
from tests.conformance.suite import ProviderConformance
from tests.serve.conftest import Server
from unift.provider import Provider, get_provider
from unift.spec import TrainSpec, make_spec

pytestmark = pytest.mark.slow
SCRIPT = Path(__file__).parents[2] / "examples" / "openai_script_unchanged.py"


def test_an_unchanged_script(server: Server, small: str) -> None:
    variables = {**os.environ, "OPENAI_BASE_URL": server.url, "OPENAI_API_KEY": server.key}
    done = subprocess.run(
        [sys.executable, str(SCRIPT), small, "demo"],
        env=variables,
        capture_output=True,
        text=True,
        timeout=300,
    )
    assert done.returncode == 0, done.stdout + done.stderr
    said = done.stdout.splitlines()
    assert "same in pieces True" in said
    assert any(line.startswith("model ft:demo:unift:example:") for line in said)
    assert any(line.startswith("results step,train_loss") for line in said)


class TestProvider(ProviderConformance):
    prompt = "Is the Alder picture frame sold out?"

    @pytest.fixture(autouse=True)
    def _at_the_server(self, server: Server, monkeypatch: pytest.MonkeyPatch) -> None:
        monkeypatch.setenv("OPENAI_BASE_URL", server.url)
        monkeypatch.setenv("OPENAI_API_KEY", server.key)
        monkeypatch.setattr(suite, "TOKEN", f"unift-{uuid.uuid4().hex}")

    @pytest.fixture
    def provider(self) -> Provider:
        return get_provider("openai")

    @pytest.fixture
    def spec(self, small: str) -> TrainSpec:
        options = {"openai": {"metadata": True}}
        return make_spec(provider="openai", model="demo", data=small, epochs=1, options=options)


def until(client: openai.OpenAI, job: str, end: str) -> None:
    """Wait for a status; any other end is a failure."""
    deadline = time.monotonic() + 180
    while (word := str(client.fine_tuning.jobs.retrieve(job).status)) != end:
        assert word in ("queued", "running", "pausing"), word
        assert time.monotonic() < deadline
        time.sleep(0.1)


def strict(kind: type[BaseModel], raw: Any) -> Any:
    """Parse as the SDK never does: no coercion, no missing field, no unknown value."""
    return kind.model_validate_json(raw, strict=True)


def items(kind: type[BaseModel], answer: httpx2.Response) -> list[Any]:
    import json

    return [strict(kind, json.dumps(one)) for one in answer.json()["data"]]


def test_every_answer_fits_the_sdks_types(server: Server, small: str) -> None:
    with server.client() as http:
        sent = {"file": ("t.jsonl", Path(small).read_bytes())}
        file = strict(
            FileObject,
            http.post("/v1/files", files=sent, data={"purpose": "fine-tune"}).content,
        )
        assert strict(FileObject, http.get(f"/v1/files/{file.id}").content) == file
        assert file in items(FileObject, http.get("/v1/files"))
        assert http.get(f"/v1/files/{file.id}/content").content == Path(small).read_bytes()
        body: dict[str, Any] = {"model": "demo", "training_file": file.id}
        body["hyperparameters"] = {"n_epochs": 1}
        body["metadata"] = {"a": "b"}
        job = strict(FineTuningJob, http.post("/v1/fine_tuning/jobs", json=body).content)
        (only,) = items(
            FineTuningJob, http.get("/v1/fine_tuning/jobs", params={"metadata[a]": "b"})
        )
        assert only.id == job.id
        client = openai.OpenAI(base_url=server.url, api_key=server.key)
        until(client, job.id, "succeeded")
        job = strict(FineTuningJob, http.get(f"/v1/fine_tuning/jobs/{job.id}").content)
        assert job.status == "succeeded"
        events = items(FineTuningJobEvent, http.get(f"/v1/fine_tuning/jobs/{job.id}/events"))
        assert any(event.type == "metrics" for event in events)
        points = items(
            FineTuningJobCheckpoint, http.get(f"/v1/fine_tuning/jobs/{job.id}/checkpoints")
        )
        assert points[0].fine_tuned_model_checkpoint == job.fine_tuned_model
        assert job.fine_tuned_model in [m.id for m in items(Model, http.get("/v1/models"))]
        strict(Model, http.get(f"/v1/models/{job.fine_tuned_model}").content)
        ask: dict[str, Any] = {
            "model": job.fine_tuned_model,
            "messages": [{"role": "user", "content": "hello"}],
            "max_tokens": 8,
            "logprobs": True,
            "top_logprobs": 2,
        }
        whole = strict(ChatCompletion, http.post("/v1/chat/completions", json=ask).content)
        assert whole.usage.completion_tokens <= 8
        ask |= {"stream": True, "stream_options": {"include_usage": True}}
        lines = http.post("/v1/chat/completions", json=ask).text.split("\n\n")
        chunks = [
            strict(ChatCompletionChunk, line.removeprefix("data: "))
            for line in lines
            if line and line != "data: [DONE]"
        ]
        assert chunks[-1].usage is not None
        raw = {"model": "demo", "prompt": "once", "max_tokens": 4, "logprobs": 1}
        strict(Completion, http.post("/v1/completions", json=raw).content)
        strict(FileDeleted, http.delete(f"/v1/files/{file.id}").content)
    client.close()


def test_pause_resume_cancel(server: Server, small: str) -> None:
    with openai.OpenAI(base_url=server.url, api_key=server.key) as client:
        file = client.files.create(file=Path(small), purpose="fine-tune")

        def make() -> str:
            return client.fine_tuning.jobs.create(model="demo", training_file=file.id, seed=1).id

        first, second, third = make(), make(), make()
        jobs = client.fine_tuning.jobs
        assert jobs.pause(third).status == "paused"  # type: ignore[comparison-overlap]
        jobs.cancel(second)
        with pytest.raises(openai.ConflictError, match="still needs"):
            client.files.delete(file.id)
        jobs.pause(first)
        until(client, first, "paused")
        jobs.resume(first)
        jobs.resume(third)
        for job, end in ((first, "succeeded"), (second, "cancelled"), (third, "succeeded")):
            until(client, job, end)
        with pytest.raises(openai.BadRequestError, match="cannot cancel"):
            jobs.cancel(first)

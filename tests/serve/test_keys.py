"""Whose files, jobs and models are whose, and how much a key may use."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import openai
import pytest

from tests.serve.conftest import Server

pytestmark = pytest.mark.slow
HELLO: Any = [{"role": "user", "content": "hello"}]


@pytest.fixture
def sdk(server: Server) -> Iterator[Callable[..., openai.OpenAI]]:
    """The SDK with a new key of that name."""
    made: list[openai.OpenAI] = []

    def connect(name: str, *flags: str) -> openai.OpenAI:
        key = server.operator if name == "operator" else server.add_key(name, *flags)
        made.append(openai.OpenAI(base_url=server.url, api_key=key, max_retries=0))
        return made[-1]

    yield connect
    for one in made:
        one.close()


def wait(client: openai.OpenAI, job: str) -> Any:
    until = time.monotonic() + 240
    while (found := client.fine_tuning.jobs.retrieve(job)).status not in ("succeeded", "failed"):
        assert time.monotonic() < until
        time.sleep(0.2)
    return found


def test_everybody_sees_their_own_and_the_operator_everything(
    server: Server, sdk: Callable[..., openai.OpenAI], small: str
) -> None:
    ann, bob, operator = sdk("ann"), sdk("bob"), sdk("operator")
    app = sdk("app-of-ann", "--scope", "chat", "--sees", "ann")
    auditor = sdk("auditor", "--scope", "read", "--sees", "ann")

    file = ann.files.create(file=Path(small), purpose="fine-tune")
    job = ann.fine_tuning.jobs.create(
        model="demo", training_file=file.id, hyperparameters={"n_epochs": 1}
    )
    assert [one.id for one in bob.files.list()] == []
    assert [one.id for one in bob.fine_tuning.jobs.list()] == []
    for refused in (
        lambda: bob.files.retrieve(file.id),
        lambda: bob.files.content(file.id),
        lambda: bob.files.delete(file.id),
        lambda: bob.fine_tuning.jobs.retrieve(job.id),
        lambda: bob.fine_tuning.jobs.cancel(job.id),
        lambda: bob.fine_tuning.jobs.list_events(job.id),
        lambda: bob.fine_tuning.jobs.create(model="demo", training_file=file.id),
    ):
        with pytest.raises(openai.NotFoundError):
            refused()
    for seer in (ann, auditor, operator):
        assert job.id in [one.id for one in seer.fine_tuning.jobs.list()]
        assert file.id in [one.id for one in seer.files.list()]
    with pytest.raises(openai.PermissionDeniedError, match="not for 'train'"):
        auditor.fine_tuning.jobs.cancel(job.id)
    with pytest.raises(openai.PermissionDeniedError, match="not for 'chat'"):
        auditor.chat.completions.create(model="demo", messages=HELLO, max_tokens=1)
    with pytest.raises(openai.PermissionDeniedError, match="not for 'read'"):
        app.files.list()

    done = wait(ann, job.id)
    assert done.status == "succeeded", done
    model = done.fine_tuned_model
    for user in (ann, app, operator):
        assert model in [one.id for one in user.models.list()]
        assert user.chat.completions.create(model=model, messages=HELLO, max_tokens=2).choices
    assert model not in [one.id for one in bob.models.list()]
    with pytest.raises(openai.NotFoundError, match="does not exist"):
        bob.chat.completions.create(model=model, messages=HELLO, max_tokens=2)

    # Every kept state answers under a name of its own, the chosen one under the model's.
    points = list(ann.fine_tuning.jobs.checkpoints.list(job.id))
    assert len(points) > 1
    assert [one.step_number for one in points] == sorted(
        (one.step_number for one in points), reverse=True
    )
    names = [one.fine_tuned_model_checkpoint for one in points]
    assert names.count(model) == 1
    other = next(one for one in points if one.fine_tuned_model_checkpoint != model)
    assert other.fine_tuned_model_checkpoint == f"{model}:ckpt-step-{other.step_number}"
    ask: dict[str, Any] = {"messages": HELLO, "max_tokens": 24, "logprobs": True, "temperature": 0}
    answers = [
        app.chat.completions.create(model=name, **ask).choices[0].logprobs
        for name in (model, other.fine_tuned_model_checkpoint)
    ]
    assert answers[0] != answers[1], "they are different weights"
    with pytest.raises(openai.NotFoundError):
        ann.chat.completions.create(model=f"{model}:ckpt-step-99999", messages=HELLO)
    with pytest.raises(openai.NotFoundError):
        bob.chat.completions.create(model=other.fine_tuned_model_checkpoint, messages=HELLO)

    with pytest.raises(openai.PermissionDeniedError, match="belongs to 'ann'"):
        sdk("deputy", "--sees", "ann").files.delete(file.id)
    assert operator.files.delete(file.id).deleted


def test_tokens_per_minute(sdk: Callable[..., openai.OpenAI]) -> None:
    small = sdk("small", "--tokens-per-minute", "60")
    first = small.chat.completions.create(model="demo", messages=HELLO, max_tokens=300)
    assert first.usage is not None
    assert first.usage.total_tokens > 0
    stream = sdk("stream", "--tokens-per-minute", "60").chat.completions
    for _ in stream.create(
        model="demo", messages=HELLO, max_tokens=300, temperature=2, stream=True
    ):
        pass
    for user in (small.chat.completions, stream):
        with pytest.raises(openai.RateLimitError) as caught:
            ask_often(user)
        assert caught.value.code == "rate_limit_exceeded"
        assert "60 tokens a minute" in caught.value.message
        assert int(caught.value.response.headers["retry-after"]) > 0


def test_a_key_that_is_taken_out_is_refused_at_once(
    server: Server, sdk: Callable[..., openai.OpenAI]
) -> None:
    import json

    gone = sdk("gone")
    assert gone.models.list().data
    document = json.loads(server.keys.read_text())
    document["keys"] = [key for key in document["keys"] if key["name"] != "gone"]
    server.keys.write_text(json.dumps(document))
    with pytest.raises(openai.AuthenticationError):
        gone.models.list()
    server.keys.write_text("{broken")
    assert sdk_works(server), "a broken file changes nothing"
    server.keys.write_text(json.dumps(document))


def ask_often(user: Any) -> None:
    for _ in range(20):
        user.create(model="demo", messages=HELLO, max_tokens=30, temperature=2)


def sdk_works(server: Server) -> bool:
    with openai.OpenAI(base_url=server.url, api_key=server.key, max_retries=0) as client:
        return bool(client.models.list().data)

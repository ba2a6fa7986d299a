"""The smallest whole provider: a "vendor" that is a folder of JSON files.

It learns by heart, so its model answers a prompt that it has seen and says "?" to any other. A job
takes one step at every look, which makes every state visible without a clock. Looks of several
processes take turns, as they do at a real vendor: none undoes a step that another has seen.
"""

from __future__ import annotations

import fcntl
import hashlib
import json
from collections.abc import Generator
from contextlib import contextmanager
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

from pydantic import BaseModel, ConfigDict

from unift._home import home
from unift.errors import LostError, ProviderError, UsageError
from unift.provider import (
    Artifact,
    Capabilities,
    Event,
    Failure,
    Handle,
    Plan,
    Reply,
    Sampling,
    Setting,
    State,
    Status,
)
from unift.spec import TrainSpec, typed_options

WORDS = {
    "waiting": State.QUEUED,
    "learning": State.RUNNING,
    "done": State.SUCCEEDED,
    "broken": State.FAILED,
    "stopped": State.CANCELLED,
    "halted": State.PAUSED,
}


class EchoOptions(BaseModel):
    model_config = ConfigDict(extra="forbid")

    steps: int = 3
    fail_at: int | None = None
    strange_word: str | None = None


class Echo:
    name = "echo"

    def __init__(self) -> None:
        self.folder = home() / "echo"
        self.folder.mkdir(exist_ok=True)

    def capabilities(self, model: str | None = None) -> Capabilities:
        return Capabilities(
            place="remote",
            weights_downloadable=True,
            resumable=True,
            pausable=True,
            poll_seconds=0.001,
        )

    def plan(self, spec: TrainSpec) -> Plan:
        options = typed_options(EchoOptions, self.name, spec)
        if spec.method != "sft":
            raise UsageError(f"echo cannot do {spec.method}.", where="method", fix="use sft")
        data = Path(spec.data).read_bytes()
        epochs = spec.hyperparameters.epochs
        return Plan(
            spec=spec,
            settings=(
                Setting(
                    name="epochs",
                    value=epochs or 1.0,
                    origin="user" if epochs else "provider default",
                    why="" if epochs else "learns by heart at once",
                ),
            ),
            fingerprints={"data": "sha256:" + hashlib.sha256(data).hexdigest()},
            payload={"options": options.model_dump()},
        )

    def submit(self, plan: Plan, token: str) -> Handle:
        path = self.folder / f"{token}.json"
        if not path.exists():
            lines = Path(plan.spec.data).read_text().splitlines()
            rows = [json.loads(line)["messages"] for line in lines]
            self._write(
                path,
                {
                    "word": "waiting",
                    "step": 0,
                    "events": [],
                    "memory": {row[-2]["content"]: row[-1]["content"] for row in rows},
                    **plan.payload["options"],
                },
            )
            with (self.folder / "created").open("a") as log:
                log.write(token + "\n")
        return Handle(provider=self.name, id=token)

    def find(self, token: str) -> Handle | None:
        exists = (self.folder / f"{token}.json").exists()
        return Handle(provider=self.name, id=token) if exists else None

    def poll(self, handle: Handle) -> Status:
        with self._changed(handle) as job:
            if job["word"] in ("waiting", "learning"):
                self._advance(job)
        word = job["word"]
        if job["step"] == 2 and job["strange_word"]:
            word = job["strange_word"]  # as vendors do: one day there is a new one
        failure = None
        if word == "broken":
            failure = Failure(code="echo_broke", message="It broke.", fix="run it again")
        return Status(
            state=WORDS.get(word),
            word=word,
            failure=failure,
            resumable=word in ("broken", "stopped", "halted"),
        )

    def events(self, handle: Handle, after: str | None = None) -> list[Event]:
        # Like many vendors: always everything, newest last, `after` ignored.
        return [Event.model_validate(event) for event in self._job(handle)["events"]]

    def cancel(self, handle: Handle) -> None:
        self._end(handle, "stopped", "waiting", "learning", "halted")

    def pause(self, handle: Handle) -> None:
        self._end(handle, "halted", "waiting", "learning")

    def _end(self, handle: Handle, word: str, *allowed: str) -> None:
        with self._changed(handle) as job:
            if job["word"] in allowed:
                job["word"] = word

    def resume(self, handle: Handle) -> Handle:
        with self._changed(handle) as job:
            if job["word"] not in ("stopped", "broken", "halted"):
                raise ProviderError("There is nothing to resume.", code="not_resumable")
            job.update(word="learning", fail_at=None)
        return handle

    def fetch(self, handle: Handle) -> Artifact:
        path = self.folder / f"{handle.id}.json"
        digest = hashlib.sha256(path.read_bytes()).hexdigest()
        return Artifact(kind="hosted", reference=handle.id, base="echo", sha256={path.name: digest})

    def model(self, reference: str) -> EchoModel:
        memory: dict[str, str] = {}
        if reference != "base":
            memory = self._job(Handle(provider=self.name, id=reference))["memory"]
        return EchoModel(reference, memory)

    def _job(self, handle: Handle) -> dict[str, Any]:
        path = self.folder / f"{handle.id}.json"
        if not path.exists():
            raise LostError("The job is gone.", where=str(path))
        return json.loads(path.read_text())

    @contextmanager
    def _changed(self, handle: Handle) -> Generator[dict[str, Any]]:
        """The job to change, while no other process looks at it."""
        with (self.folder / f"{handle.id}.lock").open("w") as lock:
            fcntl.flock(lock, fcntl.LOCK_EX)
            job = self._job(handle)
            yield job
            self._write(self.folder / f"{handle.id}.json", job)

    def _advance(self, job: dict[str, Any]) -> None:
        job["step"] += 1
        job["word"] = "done" if job["step"] >= job["steps"] else "learning"
        if job["step"] == job["fail_at"]:
            job["word"] = "broken"
        event = Event(
            id=f"echo-{job['step']}",
            at=datetime.now(UTC),
            kind="metrics",
            data={"step": job["step"], "total_steps": job["steps"], "loss": 1 / job["step"]},
        )
        job["events"].append(event.model_dump(mode="json"))

    @staticmethod
    def _write(path: Path, job: dict[str, Any]) -> None:
        part = path.with_suffix(".part")
        part.write_text(json.dumps(job))
        part.replace(path)


class EchoModel:
    def __init__(self, reference: str, memory: dict[str, str]) -> None:
        self.reference = reference
        self._memory = memory

    def chat(self, messages: Any, sampling: Sampling = Sampling()) -> Reply:  # noqa: B008 - frozen
        return Reply(text=self._memory.get(messages[-1]["content"], "?"))

    def chat_many(
        self,
        conversations: Any,
        sampling: Sampling = Sampling(),  # noqa: B008 - frozen
        on_reply: Any = None,
    ) -> list[Reply]:
        replies = [self.chat(messages, sampling) for messages in conversations]
        for index, reply in enumerate(replies):
            if on_reply:
                on_reply(index, reply)
        return replies

    def close(self) -> None:
        self._memory = {}

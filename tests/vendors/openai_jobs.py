"""What the loopback vendor remembers: files, jobs that advance at every look, their events."""

from __future__ import annotations

import base64
import itertools
import json
import time
import zlib
from dataclasses import dataclass, field
from typing import Any

STEPS = 6
BASES = ("gpt-4.1-mini-2025-04-14", "gpt-4o-mini-2024-07-18", "open-8b")


@dataclass
class Habits:
    """Lasting oddities, as opposed to the faults that happen once."""

    csv: str = "base64"  # plain, base64, truncated
    events: str = "newest first"  # shuffled, repeated
    strange_word: str | None = None  # shown once instead of "running"
    clock_offset: int = 0  # seconds, added to every time stamp
    metadata: bool = True  # False: accepts it, forgets it, ignores the filter
    wound_down: bool = False  # 403 for every new job
    shutdown: dict[str, str] = field(default_factory=dict)  # model -> date
    lag: float = 0  # seconds before a new job is in the list of jobs
    shifting_pages: bool = False  # somebody else's job appears between two pages
    files_as_checkpoints: bool = False  # weights to download instead of hosted models
    fail_with: dict[str, Any] | None = None
    hold: bool = False  # jobs stay "running"
    modern: bool = False  # chat takes no max_tokens and no temperature
    page: int = 4  # items of a page, few, so that every test turns some
    curve: list[dict[str, float]] = field(default_factory=list)  # metrics a step; [] for its own
    pace: int = 2  # steps a look
    lenient: bool = False  # takes hyperparameters that the SDK's types do not know


class Books:
    """State of the vendor. Every method runs under the server's lock."""

    def __init__(self, habits: Habits) -> None:
        self.habits = habits
        self.files: dict[str, dict[str, Any]] = {}
        self.contents: dict[str, bytes] = {}
        self.jobs: dict[str, dict[str, Any]] = {}
        self.looks: dict[str, int] = {}
        self.stored: list[dict[str, Any]] = []  # completions; `_messages` holds what was asked
        self.clock = time.time  # tests put their own in its place
        self.visible_from: dict[str, float] = {}
        self._ids = itertools.count(1)

    def now(self) -> int:
        return int(self.clock()) + self.habits.clock_offset

    # --- files --------------------------------------------------------------------------------

    def add_file(self, name: str, content: bytes, purpose: str) -> dict[str, Any]:
        file_id = f"file-{next(self._ids):06d}"
        self.contents[file_id] = content
        self.files[file_id] = {
            "id": file_id,
            "object": "file",
            "bytes": len(content),
            "created_at": self.now(),
            "filename": name,
            "purpose": purpose,
            "status": "processed",
        }
        return self.files[file_id]

    # --- jobs ---------------------------------------------------------------------------------

    def add_job(self, body: dict[str, Any]) -> dict[str, Any]:
        job_id = f"ftjob-{next(self._ids):06d}"
        kind = body.get("method", {}).get("type", "supervised")
        asked = body.get("method", {}).get(kind, {}).get("hyperparameters", {})
        self.jobs[job_id] = {
            "id": job_id,
            "object": "fine_tuning.job",
            "created_at": self.now(),
            "model": body["model"],
            "fine_tuned_model": None,
            "finished_at": None,
            "organization_id": "org-loopback",
            "training_file": body["training_file"],
            "validation_file": body.get("validation_file"),
            "result_files": [],
            "hyperparameters": {"n_epochs": asked.get("n_epochs", "auto")},
            "method": body.get("method"),
            "seed": body.get("seed", 7),
            "status": "validating_files",
            "trained_tokens": None,
            "error": None,
            "integrations": [],
            "metadata": body.get("metadata") if self.habits.metadata else None,
            "_suffix": body.get("suffix", ""),
        }
        self.looks[job_id] = 0
        self.visible_from[job_id] = self.clock() + self.habits.lag
        return self.jobs[job_id]

    def shown(self, job: dict[str, Any]) -> dict[str, Any]:
        return {key: value for key, value in job.items() if not key.startswith("_")}

    def look(self, job_id: str) -> dict[str, Any]:
        """One look is one unit of time."""
        job = self.jobs[job_id]
        if job["status"] in ("succeeded", "failed", "cancelled", "paused"):
            return self.shown(job)
        self.looks[job_id] += 1
        look = self.looks[job_id]
        if look == 1:
            job["status"] = "queued"
        elif look == 2 or self.habits.hold or self._done(job_id) < len(self.habits.curve):
            job["status"] = "running"
        elif self.habits.fail_with:
            job.update(status="failed", error=self.habits.fail_with, finished_at=self.now())
        else:
            self._succeed(job)
        shown = self.shown(job)
        if look == 2 and self.habits.strange_word:
            shown["status"] = self.habits.strange_word
        return shown

    def _done(self, job_id: str) -> int:
        """Steps that have been made."""
        steps = len(self.habits.curve) or STEPS
        return min(steps, max(0, self.looks[job_id] - 1) * self.habits.pace)

    def _succeed(self, job: dict[str, Any]) -> None:
        suffix = job["_suffix"]
        job.update(
            status="succeeded",
            finished_at=self.now(),
            fine_tuned_model=f"ft:{job['model']}:loopback:{suffix}:{job['id'][-6:]}",
            trained_tokens=1234,
        )
        rows = ["step,train_loss,train_accuracy,valid_loss,valid_mean_token_accuracy"]
        for step in range(1, STEPS + 1):
            valid = f"{2 / step:.4f},0.5" if step % 3 == 0 else ","
            rows.append(f"{step},{1 / step:.4f},0.9,{valid}")
        text = "\n".join(rows).encode() + b"\n"
        if self.habits.csv == "truncated":
            text = text[: -len(rows[-1]) + 3]
        elif self.habits.csv == "base64":
            text = base64.b64encode(text)
        result = self.add_file("step_metrics.csv", text, "fine-tune-results")
        job["result_files"] = [result["id"]]
        if self.habits.files_as_checkpoints:
            weights = self.add_file("adapter_model.safetensors", b"weights", "fine-tune-results")
            config = self.add_file("adapter_config.json", b"{}", "fine-tune-results")
            job["_checkpoint_files"] = [weights["id"], config["id"]]

    def act(self, job_id: str, verb: str) -> dict[str, Any] | None:
        """cancel, pause or resume; None if the job is in no state for it."""
        job = self.jobs[job_id]
        allowed = {
            "cancel": ("validating_files", "queued", "running", "paused"),
            "pause": ("validating_files", "queued", "running"),
            "resume": ("paused",),
        }[verb]
        if job["status"] not in allowed:
            return None
        job["status"] = {"cancel": "cancelled", "pause": "paused", "resume": "running"}[verb]
        return self.shown(job)

    def listed_jobs(self, metadata: dict[str, str]) -> list[dict[str, Any]]:
        newest = [
            job
            for job in reversed(self.jobs.values())
            if self.visible_from[job["id"]] <= self.clock()
        ]
        if metadata and self.habits.metadata:
            newest = [
                job
                for job in newest
                if all((job["metadata"] or {}).get(k) == v for k, v in metadata.items())
            ]
        return [self.shown(job) for job in newest]

    def events(self, job_id: str) -> list[dict[str, Any]]:
        job, curve = self.jobs[job_id], self.habits.curve
        begun, steps = job["created_at"], len(curve) or STEPS
        made = [self._event(job_id, 0, begun, "Created fine-tuning job")]
        done = steps if job["status"] == "succeeded" else self._done(job_id)
        for step in range(1, done + 1):
            data = {"step": step, "total_steps": steps, "train_loss": 1 / step}
            if curve:
                data |= curve[step - 1]
            elif step % 3 == 0:
                data["valid_loss"] = 2 / step
            made.append(self._event(job_id, step, begun + step // 2, f"Step {step}", data))
        if job["status"] == "succeeded":
            made.append(
                self._event(job_id, 999, begun + steps, "The job has successfully completed")
            )
        made.reverse()
        if self.habits.events == "shuffled":
            made.sort(key=lambda event: zlib.crc32(event["id"].encode()))
        elif self.habits.events == "repeated":
            made = [event for event in made for _ in range(2)]
        return made

    def _event(
        self, job: str, number: int, at: int, message: str, data: dict[str, Any] | None = None
    ) -> dict[str, Any]:
        return {
            "object": "fine_tuning.job.event",
            "id": f"ftevent-{job[-6:]}-{number:03d}",
            "created_at": at,
            "level": "info",
            "message": message,
            "type": "metrics" if data else "message",
            "data": data,
        }

    def checkpoints(self, job_id: str) -> list[dict[str, Any]]:
        job = self.jobs[job_id]
        if job["status"] != "succeeded":
            return []
        point = {
            "object": "fine_tuning.job.checkpoint",
            "id": f"ftckpt-{job_id[-6:]}",
            "created_at": job["finished_at"],
            "fine_tuned_model_checkpoint": f"{job['fine_tuned_model']}:ckpt-step-{STEPS}",
            "fine_tuning_job_id": job_id,
            "metrics": {"step": STEPS, "train_loss": 1 / STEPS},
            "step_number": STEPS,
        }
        if "_checkpoint_files" in job:
            point["result_files"] = job["_checkpoint_files"]
        return [point]

    # --- answers ------------------------------------------------------------------------------

    def answer(self, model: str, prompt: str) -> str | None:
        """By heart from the training file; None for a model that does not exist."""
        if model in BASES:
            return "?"
        for job in self.jobs.values():
            if job["fine_tuned_model"] == model:
                for line in self.contents[job["training_file"]].splitlines():
                    row = json.loads(line)
                    messages = row.get("messages") or [
                        *row["input"]["messages"],
                        *row["preferred_output"],
                    ]
                    if messages[-2]["content"] == prompt:
                        return str(messages[-1]["content"])
                return "?"
        return None

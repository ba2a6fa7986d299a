"""What the loopback Google remembers: objects, tuning jobs that advance at every look."""

from __future__ import annotations

import base64
import hashlib
import itertools
import json
import time
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta
from typing import Any

import google_crc32c

STEPS = 6
PROJECT = "loopback"
FINAL = "postprocess/node-0/checkpoints/final"
OVER = tuple(
    f"JOB_STATE_{word}"
    for word in ("SUCCEEDED", "PARTIALLY_SUCCEEDED", "FAILED", "CANCELLED", "EXPIRED")
)
# The least that looks like an adapter: a safetensors file with no tensors.
TINY = {
    "adapter_config.json": b'{"base_model_name_or_path": "x"}',
    "adapter_model.safetensors": b"\x02" + bytes(7) + b"{}",
    "training_args.bin": b"a pickle",
}


@dataclass
class Habits:
    """Lasting oddities, as opposed to the faults that happen once."""

    lag: float = 0  # seconds before a new job is in the list of jobs
    page: int = 4  # items of a page, few, so that every test turns some
    shifting_pages: bool = False  # somebody else's job appears between two pages
    strange_word: str | None = None  # shown once instead of running
    clock_offset: int = 0  # seconds, added to every time stamp
    phases: bool = True  # says what a running job is doing
    hold: bool = False  # jobs stay running
    end: str = "JOB_STATE_SUCCEEDED"
    fail_with: dict[str, Any] | None = None
    dropped: tuple[tuple[int, str], ...] = ()  # rows left out, with reasons
    stats: bool = True
    experiment: str = "full"  # full, none, empty, forbidden
    weights: dict[str, bytes] = field(default_factory=lambda: dict(TINY))
    curve: list[tuple[float, float | None]] = field(default_factory=list)  # losses a step: live
    pace: int = 2  # steps of it a look
    chats: bool = False  # endpoints speak chat completions, not generateContent
    forbidden: str = ""  # beginnings of paths that these credentials may not see


class Objects:
    """Cloud Storage."""

    def __init__(self) -> None:
        self.held: dict[tuple[str, str], dict[str, Any]] = {}
        self.content: dict[tuple[str, str], bytes] = {}
        self.sessions: dict[str, dict[str, Any]] = {}
        self._generations = itertools.count(1001)

    def put(self, bucket: str, name: str, content: bytes) -> dict[str, Any]:
        checksum = google_crc32c.Checksum(content).digest()
        generation = next(self._generations)
        self.content[bucket, name] = content
        self.held[bucket, name] = {
            "kind": "storage#object",
            "id": f"{bucket}/{name}/{generation}",
            "bucket": bucket,
            "name": name,
            "generation": str(generation),
            "metageneration": "1",
            "size": str(len(content)),
            "crc32c": base64.b64encode(checksum).decode(),
            "md5Hash": base64.b64encode(hashlib.md5(content).digest()).decode(),
            "timeCreated": "2026-11-24T00:00:00Z",
            "contentType": "application/octet-stream",
        }
        return self.held[bucket, name]

    def names(self, bucket: str, prefix: str = "") -> list[str]:
        return sorted(name for at, name in self.held if at == bucket and name.startswith(prefix))

    def at(self, uri: str) -> bytes | None:
        bucket, _, name = uri.removeprefix("gs://").partition("/")
        return self.content.get((bucket, name))


class Books:
    """State of the vendor. Every method runs under the server's lock."""

    def __init__(self, habits: Habits) -> None:
        self.habits = habits
        self.objects = Objects()
        self.jobs: dict[str, dict[str, Any]] = {}
        self.looks: dict[str, int] = {}
        self.visible_from: dict[str, float] = {}
        self.clock = time.time  # tests put their own in its place
        self._ids = itertools.count(1)

    def stamp(self, after: float = 0) -> str:
        at = datetime.fromtimestamp(self.clock() + self.habits.clock_offset, UTC)
        return (at + timedelta(seconds=after)).isoformat().replace("+00:00", "Z")

    # --- jobs ---------------------------------------------------------------------------------

    def add_job(self, parent: str, body: dict[str, Any]) -> dict[str, Any]:
        name = f"{parent}/tuningJobs/{next(self._ids):06d}"
        # proto JSON writes 64-bit integers as strings
        job = json.loads(json.dumps(body), parse_int=lambda digits: str(digits))
        job |= {"name": name, "state": "JOB_STATE_PENDING"}
        job |= {"createTime": self.stamp(), "updateTime": self.stamp()}
        self.jobs[name] = job
        self.looks[name] = 0
        self.visible_from[name] = self.clock() + self.habits.lag
        return job

    def look(self, name: str) -> dict[str, Any]:
        """One look is one unit of time."""
        job = self.jobs[name]
        if job["state"] in OVER:
            return job
        if job["state"] == "JOB_STATE_CANCELLING":
            job |= {"state": "JOB_STATE_CANCELLED", "endTime": self.stamp()}
            return job
        self.looks[name] += 1
        look = self.looks[name]
        job["updateTime"] = self.stamp()
        if look == 1:
            job["state"] = "JOB_STATE_PENDING"
            return job
        job.setdefault("startTime", self.stamp())
        if self.habits.curve:
            job["experiment"] = self._experiment(job)
        if look == 2 or self.habits.hold or self._done(name) < len(self.habits.curve):
            job["state"] = "JOB_STATE_RUNNING"
            if self.habits.phases:
                job["tuningJobState"] = "TUNING_JOB_STATE_TUNING"
            if self.habits.strange_word and look == 2:
                return {**job, "state": self.habits.strange_word}
            return job
        self._end(job)
        return job

    def _end(self, job: dict[str, Any]) -> None:
        job |= {"state": self.habits.end, "endTime": self.stamp(60)}
        if self.habits.fail_with is not None:
            job |= {"state": "JOB_STATE_FAILED", "error": self.habits.fail_with}
        if job["state"] != "JOB_STATE_SUCCEEDED" and "PARTIALLY" not in job["state"]:
            return
        if self.habits.stats:
            job["tuningDataStats"] = self._stats(job)
        number = job["name"].rpartition("/")[2]
        parent = job["name"].partition("/tuningJobs/")[0]
        if "outputUri" in job:
            bucket, _, folder = job["outputUri"].removeprefix("gs://").partition("/")
            for file, content in self.habits.weights.items():
                self.objects.put(bucket, f"{folder}/{FINAL}/{file}", content)
            job["tunedModel"] = {"model": f"{parent}/models/m{number}@1"}
        else:
            points = [
                {
                    "checkpointId": str(epoch),
                    "epoch": str(epoch),
                    "step": str(STEPS // 2 * epoch),
                    "endpoint": f"{parent}/endpoints/e{number}{'' if epoch == 2 else epoch}",
                }
                for epoch in (1, 2)
            ]
            job["tunedModel"] = {
                "model": f"{parent}/models/m{number}@1",
                "endpoint": f"{parent}/endpoints/e{number}",
                "checkpoints": points,
            }
        if self.habits.experiment != "none":
            job["experiment"] = self._experiment(job)

    def _experiment(self, job: dict[str, Any]) -> str:
        parent, _, number = job["name"].partition("/tuningJobs/")
        return f"{parent}/metadataStores/default/contexts/tuning-experiment-{number}"

    def _done(self, name: str) -> int:
        """Steps of the curve that have been made."""
        return min(len(self.habits.curve), max(0, self.looks[name] - 1) * self.habits.pace)

    def _stats(self, job: dict[str, Any]) -> dict[str, Any]:
        rows = self.rows_of(job)
        left = {"tuningDatasetExampleCount": str(len(rows)), "tuningStepCount": str(STEPS)}
        left["totalBillableTokenCount"] = "1234"
        places = [str(row) for row, _ in self.habits.dropped]
        reasons = [reason for _, reason in self.habits.dropped]
        if "preferenceOptimizationSpec" in job:
            more = {"droppedExampleIndices": places, "droppedExampleReasons": reasons}
            return {"preferenceOptimizationDataStats": {**left, **more}}
        more = {
            "totalTruncatedExampleCount": str(len(places)),
            "truncatedExampleIndices": places,
            "droppedExampleReasons": reasons,
        }
        return {"supervisedTuningDataStats": {**left, **more}}

    def cancel(self, name: str) -> bool:
        if self.jobs[name]["state"] in OVER:
            return False
        self.jobs[name]["state"] = "JOB_STATE_CANCELLING"
        return True

    def listed(self, parent: str) -> list[dict[str, Any]]:
        return [
            job
            for name, job in reversed(self.jobs.items())
            if name.startswith(f"{parent}/") and self.visible_from[name] <= self.clock()
        ]

    def spec_of(self, job: dict[str, Any]) -> dict[str, Any]:
        return job.get("supervisedTuningSpec") or job.get("preferenceOptimizationSpec") or {}

    def rows_of(self, job: dict[str, Any]) -> list[dict[str, Any]]:
        content = self.objects.at(self.spec_of(job).get("trainingDatasetUri", "")) or b""
        return [json.loads(line) for line in content.splitlines()]

    # --- answers, metrics, registry -------------------------------------------------------------

    def answer(self, endpoint: str, prompt: str) -> str | None:
        """By heart from the training rows; None for an endpoint that does not exist."""
        if endpoint.rpartition("/")[2].startswith(("gemini-", "own")):
            return "?"
        for job in self.jobs.values():
            tuned = job.get("tunedModel", {})
            names = [tuned.get("endpoint"), *(p["endpoint"] for p in tuned.get("checkpoints", ()))]
            if endpoint not in names:
                continue
            for row in self.rows_of(job):
                texts = [part["text"] for turn in row["contents"] for part in turn["parts"]]
                if "completions" in row:
                    best = max(row["completions"], key=lambda one: one["score"])
                    texts.append(best["completion"]["parts"][0]["text"])
                if texts[-2] == prompt:
                    return str(texts[-1])
            return "?"
        return None

    def models(self, parent: str) -> list[dict[str, Any]]:
        found = []
        for name, job in self.jobs.items():
            tuned = job.get("tunedModel", {})
            if name.startswith(f"{parent}/") and "endpoint" in tuned:
                model = {
                    "name": tuned["model"],
                    "displayName": job.get("tunedModelDisplayName", "tuned"),
                    "createTime": job["endTime"],
                    "deployedModels": [{"endpoint": tuned["endpoint"], "deployedModelId": "1"}],
                    "modelSourceInfo": {"sourceType": "GENIE"},
                }
                found.append(model)
        return found

    def series(self) -> dict[str, list[dict[str, Any]]]:
        """Metric -> points, as TensorBoard has them."""
        if self.habits.experiment == "empty":
            return {}

        def points(values: dict[int, float]) -> list[dict[str, Any]]:
            return [
                {"step": str(step), "wallTime": self.stamp(step), "scalar": {"value": value}}
                for step, value in values.items()
            ]

        if self.habits.curve:
            done = self.habits.curve[: max(map(self._done, self.jobs), default=0)]
            held_out = {step: loss for step, (_, loss) in enumerate(done, 1) if loss is not None}
            return {
                "/train_total_loss": points({step: one for step, (one, _) in enumerate(done, 1)}),
                "/eval_total_loss": points(held_out),
            }
        steps = range(1, STEPS + 1)
        return {
            "/train_total_loss": points({step: 1 / step for step in steps}),
            "/train_fraction_of_correct_next_step_preds": points({s: 0.5 for s in steps}),
            "/eval_total_loss": points({step: 2 / step for step in steps if step % 3 == 0}),
        }

"""Runs, events and files in the vendor's shapes (openai SDK 3.57, ``openai.types``)."""

from __future__ import annotations

import io
from typing import Any

from unift.provider import Event, State
from unift.runs import Run, Store
from unift.serve._shelf import Job, Shelf

ORGANIZATION = "unift"
_WORDS = {
    State.PLANNED: "queued",
    State.SUBMITTING: "queued",
    State.QUEUED: "queued",
    State.RUNNING: "running",
    State.PAUSED: "paused",
    State.SUCCEEDED: "succeeded",
    State.FAILED: "failed",
    State.CANCELLED: "cancelled",
    State.LOST: "failed",
}
_LEVELS = {"warning": "warn"}


def model_name(base: str, job: Job) -> str:
    """``ft:base:unift:suffix:id``."""
    return f"ft:{base}:{ORGANIZATION}:{job.body.get('suffix') or ''}:{job.run}"


def word(job: Job, state: State) -> str:
    """The vendor's word. The SDK's enumeration lacks "paused" and "pausing"; its own service and
    its OpenAPI example use them."""
    if job.wish == "pause" and not state.finished:
        return "paused" if state in (State.PLANNED, State.PAUSED) else "pausing"
    if job.wish == "resume" and state is State.PAUSED:
        return "queued"
    return _WORDS[state]


def job_view(job: Job, base: str, store: Store, shelf: Shelf) -> dict[str, Any]:
    """The vendor's job object."""
    row = store.get(job.run)
    status = word(job, row.state)
    over = status in ("succeeded", "failed", "cancelled")
    done = status == "succeeded"
    error = None
    if row.failure is not None and status == "failed":
        fix = f" ({row.failure.fix})" if row.failure.fix else ""
        error = {"code": row.failure.code, "message": row.failure.message + fix, "param": None}
    plan = row.plan
    epochs = plan.value("epochs")
    return {
        "id": job.id,
        "object": "fine_tuning.job",
        "created_at": job.created_at,
        "error": error,
        "fine_tuned_model": model_name(base, job) if done else None,
        "finished_at": int(row.updated.timestamp()) if over else None,
        "hyperparameters": {
            "n_epochs": round(epochs),
            "batch_size": plan.value("batch_size"),
            "learning_rate_multiplier": job.body.get("multiplier", 1.0),
        },
        "model": base,
        "organization_id": ORGANIZATION,
        "result_files": [_results(job, store, shelf)] if done else [],
        "seed": plan.value("seed"),
        "status": status,
        "trained_tokens": round(plan.payload["tokens"] * epochs) if done else None,
        "training_file": job.body["training_file"],
        "validation_file": job.body.get("validation_file"),
        "estimated_finish": None,
        "integrations": [],
        "metadata": job.body.get("metadata"),
        "method": {
            "type": "supervised",
            "supervised": {"hyperparameters": {"n_epochs": round(epochs)}},
        },
    }


def event_views(job: Job, store: Store) -> list[dict[str, Any]]:
    """The vendor's events, newest first, as the vendor lists them."""
    found = [_event(job, event) for event in store.events(job.run)]
    return found[::-1]


def _event(job: Job, event: Event) -> dict[str, Any]:
    data = dict(event.data)
    numbers = event.kind in ("metrics", "evaluation")
    if event.kind == "metrics" and "loss" in data:
        data["train_loss"] = data.pop("loss")
    if event.kind == "evaluation" and "validation_loss" in data:
        data["valid_loss"] = data.pop("validation_loss")
    text = event.message or f"Step {data.get('step')}"
    return {
        "id": f"ftevent-{job.run}-{event.seq:06d}",
        "object": "fine_tuning.job.event",
        "created_at": int(event.at.timestamp()),
        "level": _LEVELS.get(event.kind, "info"),
        "message": text,
        "type": "metrics" if numbers else "message",
        "data": data,
    }


def checkpoint_views(job: Job, base: str, store: Store) -> list[dict[str, Any]]:
    """Every kept state, newest first; the one that became the model goes by the model's name."""
    row = store.get(job.run)
    chosen = int(row.artifact.metrics.get("step", -1)) if row.artifact else -1
    losses = {
        int(event.data["step"]): event.data["loss"]
        for event in store.events(job.run)
        if event.kind == "metrics" and "loss" in event.data
    }
    found: list[dict[str, Any]] = []
    for point in Run(row, store).checkpoints():
        metrics = {"step": float(point.step)}
        if point.step in losses:
            metrics["train_loss"] = losses[point.step]
        if "validation_loss" in point.metrics:
            metrics["full_valid_loss"] = point.metrics["validation_loss"]
        end = "" if point.step == chosen else f":ckpt-step-{point.step}"
        found.append(
            {
                "id": f"ftckpt-{job.run}-{point.step:06d}",
                "object": "fine_tuning.job.checkpoint",
                "created_at": int(point.at.timestamp()),
                "fine_tuned_model_checkpoint": model_name(base, job) + end,
                "fine_tuning_job_id": job.id,
                "metrics": metrics,
                "step_number": point.step,
            }
        )
    return found[::-1]


def _results(job: Job, store: Store, shelf: Shelf) -> str:
    """The vendor's result file, made on the first look at a job that succeeded."""
    file_id = f"file-result-{job.run}"
    if shelf.file(file_id) is None:
        steps: dict[int, dict[str, Any]] = {}
        for event in store.events(job.run):
            if event.kind in ("metrics", "evaluation") and "step" in event.data:
                steps.setdefault(int(event.data["step"]), {}).update(event.data)
        lines = ["step,train_loss,train_accuracy,valid_loss,valid_mean_token_accuracy"]
        for step, data in sorted(steps.items()):
            lines.append(f"{step},{data.get('loss', '')},,{data.get('validation_loss', '')},")
        text = "\n".join(lines) + "\n"
        name = f"{job.id}.csv"
        content = io.BytesIO(text.encode())
        shelf.add_file(name, content, "fine-tune-results", job.owner, file_id)
    return file_id

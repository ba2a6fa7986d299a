"""What Google tells of a job, as events: each once, in order, with the names that we use."""

from __future__ import annotations

from collections.abc import Iterable
from datetime import UTC, datetime
from typing import Any

from unift.provider import Event

# Where the numbers of a finished job's data are, by method.
_STATS = ("supervised_tuning_data_stats", "preference_optimization_data_stats")
_PHASES = {
    "TUNING_JOB_STATE_WAITING_FOR_QUOTA": "waiting for quota",
    "TUNING_JOB_STATE_PROCESSING_DATASET": "reading the rows",
    "TUNING_JOB_STATE_WAITING_FOR_CAPACITY": "waiting for machines",
    "TUNING_JOB_STATE_TUNING": "training",
    "TUNING_JOB_STATE_POST_PROCESSING": "preparing the model",
}
_NO_METRICS = "Losses of this job cannot be read: "


def translated(job: Any, metrics: Iterable[Event], no_metrics: str | None) -> list[Event]:
    """Oldest first.

    Args:
        job: As the SDK gives it.
        metrics: Losses read from the job's experiment, in the order of the steps.
        no_metrics: Why there are none; None while there may still be some.
    """
    created = job.create_time or datetime.fromtimestamp(0, UTC)
    found = [Event(id="created", at=created, kind="log", message=f"job {job.name} created")]
    if job.start_time:
        found.append(Event(id="started", at=job.start_time, kind="log", message="job started"))
    phase = getattr(job.tuning_job_state, "value", job.tuning_job_state)
    if phase and phase != "TUNING_JOB_STATE_UNSPECIFIED" and not job.end_time:
        text = _PHASES.get(str(phase), str(phase))
        at = job.update_time or created
        found.append(
            Event(id=f"phase-{phase}", at=at, kind="log", message=text, data={"phase": str(phase)})
        )
    done = job.end_time or job.update_time or created
    found += _data_events(job, done)
    found += metrics
    found += _checkpoints(job, done)
    if job.end_time:
        if no_metrics:
            found.append(
                Event(id="no-metrics", at=done, kind="log", message=_NO_METRICS + no_metrics)
            )
        found.append(Event(id="ended", at=done, kind="log", message="job ended"))
    return found


def figures(job: Any) -> dict[str, float]:
    """The numbers that the artifact keeps, and with it every report."""
    stats = _stats(job)
    found: dict[str, float] = {}
    for ours, theirs in (
        ("billable_tokens", "total_billable_token_count"),
        ("trained_rows", "tuning_dataset_example_count"),
        ("steps", "tuning_step_count"),
    ):
        value = getattr(stats, theirs, None)
        if value is not None:
            found[ours] = float(value)
    dropped = _dropped(stats)
    if stats is not None and dropped is not None:
        found["dropped_rows"] = float(dropped)
    if job.start_time and job.end_time:
        found["seconds"] = (job.end_time - job.start_time).total_seconds()
    return found


def _stats(job: Any) -> Any:
    holder = job.tuning_data_stats
    return next((one for name in _STATS if (one := getattr(holder, name, None)) is not None), None)


def _dropped(stats: Any) -> int | None:
    """How many rows were left out; of preference rows Google lists a sample only."""
    count = getattr(stats, "total_truncated_example_count", None)
    if count is not None:
        return int(count)
    return len(getattr(stats, "dropped_example_indices", None) or [])


def _data_events(job: Any, at: datetime) -> list[Event]:
    stats = _stats(job)
    if stats is None:
        return []
    told = {
        "billable_tokens": stats.total_billable_token_count,
        "rows": stats.tuning_dataset_example_count,
        "steps": stats.tuning_step_count,
    }
    data = {key: value for key, value in told.items() if value is not None}
    said = ", ".join(f"{value:,} {key.replace('_', ' ')}" for key, value in data.items())
    found = [Event(id="data", at=at, kind="log", message=f"Google counted {said}", data=data)]
    dropped = _dropped(stats)
    if dropped:
        rows = [
            int(one)
            for one in getattr(stats, "truncated_example_indices", None)
            or getattr(stats, "dropped_example_indices", None)
            or []
        ]
        reasons = [str(one) for one in stats.dropped_example_reasons or []]
        why = "; ".join(f"row {row}: {reason}" for row, reason in zip(rows, reasons, strict=False))
        found.append(
            Event(
                id="dropped",
                at=at,
                kind="warning",
                message=f"Google left out {dropped} row{'s' * (dropped > 1)}"
                + (f" ({why})" if why else ""),
                data={"dropped": dropped, "rows": rows, "reasons": reasons},
            )
        )
    return found


def _checkpoints(job: Any, at: datetime) -> list[Event]:
    points = (job.tuned_model.checkpoints if job.tuned_model else None) or []
    return [
        Event(
            id=f"checkpoint-{point.checkpoint_id}",
            at=at,
            kind="checkpoint",
            message=f"checkpoint {point.checkpoint_id} (epoch {point.epoch})",
            data={
                key: value
                for key, value in (
                    ("step", point.step),
                    ("epoch", point.epoch),
                    ("model", point.endpoint),
                )
                if value is not None
            },
        )
        for point in sorted(points, key=lambda one: (one.step or 0, str(one.checkpoint_id)))
    ]

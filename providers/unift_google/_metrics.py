"""Losses of a job, from the experiment that Google keeps beside it.

The way there is the one of Google's own SDK (google-cloud-aiplatform, `ExperimentRun`): the
experiment is a context, its runs are child contexts, each with an artifact ``RUN-tb-run`` that
names a TensorBoard run, which has one time series a metric. Names of the metrics:
docs.cloud.google.com, supervised tuning, "Model tuning metrics".
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterator
from datetime import UTC, datetime
from typing import Any

from unift.provider import Event
from unift_google._calls import FAILED, listed, politely, rest, status_of
from unift_google.site import Site

_TRAIN = {
    "/train_total_loss": "loss",
    "/train_fraction_of_correct_next_step_preds": "accuracy",
    "/train_num_predictions": "predictions",
}
_HELD_OUT = {
    "/eval_total_loss": "validation_loss",
    "/eval_fraction_of_correct_next_step_preds": "validation_accuracy",
}
_MOST_POINTS = 10_000


def read(place: Site, job: Any) -> tuple[list[Event], str | None]:
    """Metrics in the order of the steps, and why there are none (None if there are)."""
    if not job.experiment:
        return [], "it names no experiment"
    try:
        found = list(_events(place, str(job.experiment)))
    except (*FAILED, ValueError) as error:
        status = status_of(error)
        return [], f"its experiment answered {status or 'nothing'} ({job.experiment})"
    return found, None if found else f"its experiment holds none ({job.experiment})"


def _events(place: Site, experiment: str) -> Iterator[Event]:
    points: dict[tuple[str, int], dict[str, float]] = defaultdict(dict)
    times: dict[tuple[str, int], datetime] = {}
    for series in _series(place, experiment):
        name = str(series.get("displayName", ""))
        kind = "evaluation" if name.startswith("/eval") else "metrics"
        key = {**_TRAIN, **_HELD_OUT}.get(name, name.lstrip("/"))
        for point in _points(place, str(series["name"])):
            if "scalar" not in point:
                continue
            # proto3 leaves out zeros
            where = kind, int(point.get("step", 0))
            points[where][key] = float(point["scalar"].get("value", 0.0))
            times.setdefault(where, _time(point.get("wallTime")))
    for kind, step in sorted(points, key=lambda one: (one[1], one[0] != "metrics")):
        yield Event(
            id=f"{kind}-{step}",
            at=times[kind, step],
            kind="evaluation" if kind == "evaluation" else "metrics",
            data={"step": step, **points[kind, step]},
        )


def _series(place: Site, experiment: str) -> Iterator[dict[str, Any]]:
    """The time series of every run of an experiment."""
    store, _, _ = experiment.partition("/contexts/")
    wanted = f'schema_title="system.ExperimentRun" AND parent_contexts:"{experiment}"'
    for run in listed(place, f"{store}/contexts", "contexts", filter=wanted):
        name = str(run["name"]).rpartition("/")[2]
        path = f"{store}/artifacts/{name}-tb-run"
        artifact = politely(lambda path=path: rest(place, "GET", path))
        board = (artifact.get("metadata") or {}).get("resourceName")
        if board:
            yield from listed(place, f"{board}/timeSeries", "tensorboardTimeSeries")


def _points(place: Site, series: str) -> list[dict[str, Any]]:
    asked = {"maxDataPoints": str(_MOST_POINTS)}
    answer = politely(lambda: rest(place, "GET", f"{series}:read", params=asked))
    return list((answer.get("timeSeriesData") or {}).get("values", ()))


def _time(text: Any) -> datetime:
    try:
        return datetime.fromisoformat(str(text))
    except ValueError:
        return datetime.fromtimestamp(0, UTC)

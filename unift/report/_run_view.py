"""What the page shows of a run, its data, its estimate and its origins."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any, cast

from unift._text import dollars, duration
from unift.provider import Event
from unift.report._curves import read_curves
from unift.report._format import plain
from unift.report._loss_chart import loss_chart

if TYPE_CHECKING:
    from unift.runs import Run

Doc = Mapping[str, Any]

# Findings of one kind are shown once, with the first places.
_PLACES = 3


def run_view(run: Run) -> dict[str, Any]:
    """Curves, settings and what the run really took."""
    events = list(run.events(follow=False))
    curves = read_curves(events)
    charts = [loss_chart(curves, width=w, id=f"loss-{w}") for w in (880, 380)]
    return {
        "id": run.id,
        "provider": run.provider,
        "status": str(run.status),
        "base": run.plan.spec.model,
        "charts": [chart for chart in charts if chart],
        "best_step": curves.best_step,
        "settings": [
            {"name": one.name, "value": one.value, "origin": one.origin, "why": one.why}
            for one in run.plan.settings
        ],
        "warnings": [
            *run.plan.warnings,
            *(event.message for event in events if event.kind == "warning" and event.message),
        ],
        "seconds": _actual(run, "seconds") or _seconds(events),
        "memory_gib": _actual(run, "memory_reserved_gib")
        or _actual(run, "memory_gib")
        or curves.memory_gib,
        "tokens_per_second": curves.tokens_per_second,
    }


def _actual(run: Run, key: str) -> float | None:
    """What the trainer itself measured, kept with the artifact."""
    return run.artifact.metrics.get(key) if run.artifact else None


def _seconds(events: Sequence[Event]) -> float | None:
    """From the first sign of training to the last."""
    at = [event.at for event in events if event.kind in ("metrics", "evaluation", "checkpoint")]
    started = [event.at for event in events if event.data.get("status") == "running"]
    if not at:
        return None
    return (max(at) - min([*at, *started])).total_seconds()


def data_view(doc: Doc) -> dict[str, Any]:
    """Findings gathered by kind, the grave ones first."""
    order = {"error": 0, "warning": 1, "advice": 2}
    kinds: dict[tuple[str, str], dict[str, Any]] = {}
    for one in doc.get("findings", []):
        kind = kinds.setdefault(
            (one["severity"], one["code"]),
            {
                "code": one["code"],
                "severity": one["severity"],
                "message": one["message"],
                "fix": one.get("fix") or "",
                "count": 0,
                "places": [],
                "all": [],
            },
        )
        kind["count"] += 1
        kind["all"].append(one)
        if len(kind["places"]) < _PLACES and one.get("line"):
            kind["places"].append(f"line {one['line']}")
    # The validator keeps the first findings of each kind and counts all of them.
    counts: Mapping[str, int] = doc.get("counts") or {}
    verdicts: Mapping[str, bool] = doc.get("verdicts") or {}
    refusals: Mapping[str, Mapping[str, int]] = doc.get("refusals") or {}
    for kind in kinds.values():
        kind["count"] = max(kind["count"], counts.get(kind["code"], 0))
    rows = sorted(kinds.values(), key=lambda kind: (order.get(kind["severity"], 3), kind["code"]))
    return {
        "ok": doc.get("ok", True),
        "rows": doc.get("rows"),
        "tokens": doc.get("tokens"),
        "findings": rows,
        "verdicts": [(name, good, refusals.get(name, {})) for name, good in verdicts.items()],
        "fixed": doc.get("fixed"),
        "shown": doc.get("shown") or [],
        "counts": [
            (severity, sum(kind["count"] for kind in rows if kind["severity"] == severity))
            for severity in order
        ],
    }


def estimate_view(
    run: Run | None, estimate: Doc | None, training: Doc | None
) -> dict[str, Any] | None:
    """What was expected beside what happened; None if nothing was expected."""
    row = _estimate_row(run, estimate)
    if not row:
        return None
    memory = _part(row, "memory")
    hours, price = row.get("hours"), row.get("price_usd")
    took = training["seconds"] if training else None
    peak = training["memory_gib"] if training else None
    counted = _actual(run, "billable_tokens") if run else None
    tokens = row.get("tokens") if counted is not None else None
    lines = [
        ("Training time", _hours(hours), duration(took, "–"), _ratio(took, hours and hours * 3600)),
        ("Peak memory", _gib(memory.get("reserved_gib")), _gib(peak), ""),
        ("Price", dollars(price, "–"), "–", ""),
        # A vendor counts the data anew, and that count is what it charges for.
        ("Tokens of the data", _whole(tokens), _whole(counted), _ratio(counted, tokens)),
    ]
    shown = [line for line in lines if line[1] != "–" or line[2] != "–"]
    others = [
        {"provider": one.get("provider"), "model": one.get("model"), "fits": one.get("fits")}
        | {"memory": _gib(_part(one, "memory").get("reserved_gib"))}
        | {"hours": _hours(one.get("hours"))}
        | {"price": dollars(one.get("price_usd"), "–")}
        for one in (estimate or {}).get("rows", [])
    ]
    return {
        "lines": shown,
        "others": others if len(others) > 1 else [],
        "assumptions": _texts(row.get("assumptions")),
        "sources": _texts(row.get("sources")),
    }


def _estimate_row(run: Run | None, estimate: Doc | None) -> Doc:
    rows: Sequence[Doc] = (estimate or {}).get("rows", [])
    if run is not None:
        if run.plan.estimate:
            return run.plan.estimate
        rows = [row for row in rows if row.get("provider") == run.provider]
    nothing: Doc = {}
    return rows[0] if rows else nothing


def _part(row: Doc, key: str) -> Doc:
    found = row.get(key)
    nothing: Doc = {}
    return cast(Doc, found) if isinstance(found, Mapping) else nothing


def _texts(value: Any) -> list[str]:
    if isinstance(value, Mapping):
        return [f"{key}: {plain(one)}" for key, one in value.items()]  # pyright: ignore[reportUnknownVariableType]  # any JSON
    if isinstance(value, list | tuple):
        return [_source(one) for one in cast("list[Any]", value)]
    return [str(value)] if value else []


def _source(one: Any) -> str:
    """A source of the catalogue in one line: what it says, where, and of which day."""
    if not isinstance(one, Mapping):
        return plain(one)
    return ", ".join(f"{key} {plain(value)}" for key, value in cast(Doc, one).items())


def _hours(hours: float | None) -> str:
    return duration(None if hours is None else hours * 3600, "–")


def _whole(value: float | None) -> str:
    return "–" if value is None else f"{value:,.0f}"


def _gib(value: float | None) -> str:
    return "–" if value is None else f"{value:.2f} GiB"


def _ratio(actual: float | None, expected: float | None) -> str:
    return f"{actual / expected:.2f} x" if actual and expected else ""


def lineage_view(run: Run | None, evaluation: Doc | None) -> list[dict[str, str]]:
    """Data -> run -> model -> evaluation, each with what identifies it."""
    chain: list[dict[str, str]] = []
    if run is not None:
        for role, digest in sorted(run.plan.fingerprints.items()):
            given = run.plan.spec.data if role == "data" else run.plan.spec.validation
            name = "Training data" if role == "data" else f"{role.capitalize()} data"
            chain.append({"what": name, "name": str(given or ""), "digest": digest})
        chain.append({"what": "Run", "name": f"{run.id} ({run.provider})", "digest": ""})
        if run.artifact is not None:
            digests = [f"{file} {digest}" for file, digest in sorted(run.artifact.sha256.items())]
            name = f"{run.model} ({run.artifact.kind} on {run.artifact.base})"
            chain.append({"what": "Model", "name": name, "digest": "\n".join(digests)})
    if evaluation:
        known = evaluation.get("lineage", {})
        chain.append(
            {
                "what": "Test data",
                "name": str(known.get("data", "")),
                "digest": str(known.get("data_fingerprint", "")),
            }
        )
        chain.append({"what": "Evaluation", "name": str(evaluation["id"]), "digest": ""})
    return chain

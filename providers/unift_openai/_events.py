"""A host's events and checkpoints as ours: each once, in order, with the names that we use."""

from __future__ import annotations

from collections.abc import Iterable
from datetime import UTC, datetime
from typing import Any, cast

from unift.provider import Event, EventKind

# The vendor's keys -> ours; what is not here is kept under its own name.
_KEYS = {"train_loss": "loss"}
_LEVELS: dict[str, EventKind] = {"warn": "warning", "error": "warning"}


def translated(events: Iterable[Any], checkpoints: Iterable[Any]) -> list[Event]:
    """Oldest first. The host lists newest first with times in whole seconds, and may repeat or
    shuffle; a step's number is the better clock."""
    raw = list({str(event.id): event for event in reversed(list(events))}.values())
    raw.sort(key=lambda event: _at(event.created_at))  # stable: within a second as listed
    places = [i for i, event in enumerate(raw) if "step" in _data(event)]
    for i, event in zip(places, sorted((raw[i] for i in places), key=_by_step), strict=True):
        raw[i] = event
    found: list[Event] = []
    for event in raw:
        found += _one(event)
    found += [_checkpoint(point) for point in sorted(checkpoints, key=_step_of)]
    return found


def _data(event: Any) -> dict[str, Any]:
    data = getattr(event, "data", None)
    return cast("dict[str, Any]", data) if isinstance(data, dict) else {}


def _by_step(event: Any) -> tuple[float, str]:
    return (_number(_data(event)["step"]), str(event.id))


def _step_of(point: Any) -> float:
    return _number(point.step_number)


def _number(value: Any) -> float:
    """0 for what is none: one odd field hides no event."""
    return float(value) if isinstance(value, int | float) and abs(value) < 2**53 else 0.0


def _at(stamp: Any) -> datetime:
    stamp = _number(stamp)
    return datetime.fromtimestamp(stamp if 0 <= stamp < 253_402_300_800 else 0, UTC)  # year 10000


def _one(event: Any) -> list[Event]:
    data: dict[str, Any] = {_KEYS.get(key, key): value for key, value in _data(event).items()}
    at, message = _at(event.created_at), str(event.message or "")
    if "step" not in data:
        kind = _LEVELS.get(str(getattr(event, "level", "")), "log")
        return [Event(id=str(event.id), at=at, kind=kind, message=message, data=data)]
    found = [Event(id=str(event.id), at=at, kind="metrics", message=message, data=data)]
    whole = data.get("full_valid_loss")  # at the end of an epoch; the other is that of one batch
    held_out = data.get("valid_loss") if whole is None else whole
    if held_out is not None:
        seen = {"step": data["step"], "validation_loss": held_out, "sampled": whole is None}
        found.append(Event(id=f"{event.id}-validation", at=at, kind="evaluation", data=seen))
    return found


def _checkpoint(point: Any) -> Event:
    said = getattr(point, "metrics", None)
    metrics: dict[str, Any] = said.model_dump(exclude_none=True, warnings=False) if said else {}
    return Event(
        id=str(point.id),
        at=_at(point.created_at),
        kind="checkpoint",
        message=f"checkpoint at step {point.step_number}",
        data={
            "step": point.step_number,
            "model": point.fine_tuned_model_checkpoint,
            **{_KEYS.get(key, key): value for key, value in metrics.items() if key != "step"},
        },
    )

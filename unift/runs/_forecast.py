"""How far a run is, from its own events."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from unift.provider import Event

_PROGRESS = ("step", "total_steps", "loss", "eta_seconds", "hours", "planned_hours", "factor")


def progress_of(events: Sequence[Event]) -> dict[str, Any] | None:
    """How far a run is, from the figures of its last step; None before the first.

    `hours` (of the whole run, as its own speed has it), `planned_hours` and `factor` are there once
    the run has corrected its plan; `replanned` holds settings that took the place of planned ones.
    """
    last = next((event for event in reversed(events) if event.kind == "metrics"), None)
    changed: dict[str, Any] = {}
    for event in events:
        changed |= event.data.get("replanned", {})
    if last is None and not changed:
        return None
    found = {name: last.data[name] for name in _PROGRESS if name in last.data} if last else {}
    return {**found, "replanned": changed}

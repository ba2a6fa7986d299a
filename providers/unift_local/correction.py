"""The plan's time, put right by what the first minute of training shows."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from unift._text import duration

#: Seconds of training after which its own speed says more than the formula; or, in a short run,
#: this share of the steps, but at least so many.
MINUTE = 60.0
_SHARE, _STEPS = 0.1, 20


def due(elapsed: float, done: int, total: int) -> bool:
    """Whether a run has gone on for long enough to tell its own time."""
    return elapsed >= MINUTE or done >= max(_STEPS, _SHARE * total)


def corrected(
    estimate: Mapping[str, Any], elapsed: float, remaining: float
) -> tuple[str, dict[str, float]]:
    """A sentence and its figures: hours as planned, and as they will be.

    Args:
        estimate: The estimate of the plan; empty for a model without formula.
        elapsed: Seconds since the run's process began, training of its earlier lives included.
        remaining: Seconds left at the speed so far, evaluations and checkpoints included.
    """
    hours = (elapsed + remaining) / 3600
    found = {"hours": round(hours, 4)}
    planned = estimate.get("hours")
    if not planned:
        return f"At this speed training takes {duration(hours * 3600)}.", found
    found |= {"planned_hours": float(planned), "factor": round(hours / planned, 3)}
    price = estimate.get("price_usd")
    if price:
        found["price_usd"] = round(price * hours / planned, 4)
    change = hours / planned - 1
    if abs(change) < 0.05:
        return f"Training takes {duration(hours * 3600)}, as planned.", found
    more = "more" if change > 0 else "less"
    return (
        f"Training takes {duration(hours * 3600)}, {abs(change):.0%} {more} "
        f"than the {duration(planned * 3600)} of the plan.",
        found,
    )

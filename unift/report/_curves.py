"""The curves of a run, read from its events."""

from __future__ import annotations

import math
from collections.abc import Iterable
from dataclasses import dataclass
from typing import Any

from unift.provider import Event

Curve = tuple[tuple[int, float], ...]
# Losses over all validation rows say more than those of single batches, from so many on.
_ENOUGH = 3


@dataclass(frozen=True)
class Curves:
    """What a training looked like over its steps.

    Every curve is a series of (optimiser step, value) in order of steps; losses are in the unit of
    the trainer (nats a token for the local ones) and may hold NaN or infinity.

    Attributes:
        train: Training loss.
        validation: Validation loss.
        sampled: Steps whose validation loss is that of a few rows, not of all.
        rate: Learning rate.
        epochs: Step -> epochs done.
        total_steps: Steps that were planned; None where nobody said.
        memory_gib: Peak device memory seen; None where nobody said.
        tokens_per_second: Mean over the steps; None where nobody said.
    """

    train: Curve
    validation: Curve
    rate: Curve
    epochs: dict[int, float]
    sampled: frozenset[int] = frozenset()
    total_steps: int | None = None
    memory_gib: float | None = None
    tokens_per_second: float | None = None

    @property
    def whole(self) -> Curve:
        """Validation losses over all rows; of a vendor that gives fewer than three, everything."""
        found = tuple(point for point in self.validation if point[0] not in self.sampled)
        return found if len(found) >= _ENOUGH else self.validation

    @property
    def best_step(self) -> int | None:
        """Step with the lowest validation loss; step 0, the untouched base, does not count."""
        known = [(v, step) for step, v in self.whole if math.isfinite(v) and step > 0]
        return min(known)[1] if known else None

    @property
    def last_step(self) -> int | None:
        """The last step that anything is known of."""
        steps = [curve[-1][0] for curve in (self.train, self.validation) if curve]
        return max(steps) if steps else None


def read_curves(events: Iterable[Event]) -> Curves:
    """Read ``metrics`` and ``evaluation`` events; others are ignored.

    A step that was repeated after a resume counts with its last value.
    """
    series: dict[str, dict[int, float]] = {
        "loss": {}, "validation_loss": {}, "learning_rate": {}, "epoch": {}
    }  # fmt: skip
    sampled: dict[int, bool] = {}
    memory: list[float] = []
    speed: list[float] = []
    total: int | None = None
    for event in events:
        step = event.data.get("step")
        if event.kind not in ("metrics", "evaluation") or not isinstance(step, int):
            continue
        for key, values in series.items():
            value = number(event.data.get(key))
            if value is not None:
                values[step] = value
        if event.data.get("validation_loss") is not None:
            sampled[step] = event.data.get("sampled") is True
        memory += _known(event.data.get("memory_gib"))
        speed += _known(event.data.get("tokens_per_second"))
        planned = event.data.get("total_steps")
        total = planned if isinstance(planned, int) else total
    return Curves(
        train=tuple(sorted(series["loss"].items())),
        validation=tuple(sorted(series["validation_loss"].items())),
        rate=tuple(sorted(series["learning_rate"].items())),
        epochs=series["epoch"],
        sampled=frozenset(step for step, some in sampled.items() if some),
        total_steps=total,
        memory_gib=max(memory) if memory else None,
        tokens_per_second=sum(speed) / len(speed) if speed else None,
    )


def number(value: Any) -> float | None:
    """A number of a journal, where NaN and infinity may travel as words; None for anything else."""
    if isinstance(value, str) and value.lower().lstrip("-+") in ("nan", "inf", "infinity"):
        return float(value)
    if isinstance(value, bool) or not isinstance(value, (int, float)):
        return None
    return float(value)


def _known(value: Any) -> list[float]:
    found = number(value)
    return [] if found is None else [found]

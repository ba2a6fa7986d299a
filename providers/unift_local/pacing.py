"""What the time of a run went into, kept for the estimates of later ones."""

from __future__ import annotations

import time
from collections.abc import Sequence
from datetime import UTC, datetime
from pathlib import Path

from unift.errors import UniftError
from unift.estimate import (
    Base,
    LocalSettings,
    Workload,
    hardware,
    local_row,
    paces,
    probes,
    read_shape,
)
from unift.provider import Plan
from unift_local.estimating import known_targets, setup_of
from unift_local.measuring import Data

#: The first steps choose kernels, fill caches and compile: that is start-up. So many at least are
#: timed after them.
_WARM, _COUNTED = 3, 5


class Clock:
    """Wall-clock seconds of one life of a run, by what they went into.

    Args:
        born: When its process began, by `time.time`.
    """

    def __init__(self, born: float) -> None:
        self._born = born
        self._start = self._began = self._aside = self._last = 0.0
        # Seconds, tokens and processor seconds after each of the first steps, and after the last.
        self._marks: list[tuple[float, int, float]] = []
        self._now = (0.0, 0, 0.0)
        self._tokens = self._steps = 0
        self.evaluations: list[float] = []
        self.checkpoints: list[float] = []

    def begin(self) -> None:
        """The first step is about to begin."""
        self._began = self._last = time.perf_counter()
        self._start = max(0.0, time.time() - self._born - sum(self.evaluations))
        self._aside = 0.0

    def step(self, tokens: int) -> None:
        """A step of so many tokens is over."""
        self._last = time.perf_counter()
        self._tokens += tokens
        self._steps += 1
        trained = self._last - self._began - self._aside
        self._now = (trained, self._tokens, time.process_time())
        if self._steps <= _WARM:
            self._marks.append(self._now)

    def evaluated(self, seconds: float) -> None:
        """The validation rows were gone through."""
        self.evaluations.append(seconds)
        self._aside += seconds
        self._last = time.perf_counter()

    def saved(self) -> None:
        """A checkpoint has been written since the step or evaluation before."""
        now = time.perf_counter()
        self.checkpoints.append(now - self._last)
        self._aside += now - self._last
        self._last = now

    @property
    def started(self) -> float:
        """Seconds from the beginning of the process to the first step, without evaluating."""
        return self._start

    @property
    def steps(self) -> int:
        """Steps that are timed."""
        return self._steps - len(self._marks)

    def counted(self) -> tuple[float, int] | None:
        """Seconds and tokens of the steps after the first; None if they are too few."""
        if self.steps < _COUNTED:
            return None
        return self._now[0] - self._marks[-1][0], self._now[1] - self._marks[-1][1]

    def share(self, threads: int) -> float:
        """How much of its threads' time a run on a CPU got, evaluations and checkpoints included;
        little where other work wanted the cores too."""
        wall = self._now[0] - self._marks[-1][0] + self._aside
        return (self._now[2] - self._marks[-1][2]) / max(1e-9, wall * threads)

    def start_up(self) -> float:
        """Seconds before the first step, and what the first steps took beyond the later ones."""
        found = self.counted()
        assert found is not None
        seconds, tokens, _ = self._marks[-1]
        return self._start + max(0.0, seconds - tokens * found[0] / max(1, found[1]))


def keep(plan: Plan, lengths: Sequence[int], clock: Clock) -> paces.Pace | None:
    """Hold a run's times against the formula and remember the difference; None if it was too short
    to tell or its model has no formula.

    Args:
        plan: The one that was trained, layouts that memory forced on it included.
        lengths: Tokens of every training row.
        clock: Of the run.
    """
    counted = clock.counted()
    if counted is None:
        return None
    seconds, tokens = counted
    values = {one.name: one.value for one in plan.settings}
    folder = Path(plan.payload["base_folder"])
    try:
        shape = read_shape(folder)
    except UniftError:
        return None
    share = plan.payload["trained_tokens"] / max(1, plan.payload["tokens"])
    validation = plan.payload["validation_tokens"]
    data = Data(list(lengths), [], round(share * sum(lengths)))
    setup = setup_of(values, data)
    place = "cpu" if values["device"] == "cpu" else None
    row = local_row(
        plan.spec.provider,
        Base(plan.spec.model, shape, str(folder / "config.json")),
        Workload(sum(lengths), len(lengths), max(lengths), validation, ()),
        LocalSettings(
            epochs=tokens / sum(lengths),
            gpu=place,
            rank=values.get("rank", 16),
            targets=known_targets(values.get("targets"), shape),
            setup=setup,
            corrected=False,
        ),
    )
    if row.duration is None or seconds <= 0:
        return None
    each = max(1, setup.evaluations)
    estimated = {
        name: value / each if name in ("evaluation", "checkpoints") else value
        for name, value in row.duration.terms.items()
    }
    measured = {"start_up": clock.start_up()}
    for name, found in (("evaluation", clock.evaluations), ("checkpoints", clock.checkpoints)):
        if sum(found) >= 1.0:
            measured[name] = sum(found) / len(found)
    found = paces.factors(measured, estimated)
    found["training"] = seconds / row.duration.terms["training"]
    where = hardware(place)
    pace = paces.Pace(
        at=datetime.now(UTC).isoformat(timespec="seconds"),
        key=paces.key_of(
            where, shape, str(row.settings["tuning"]), row.settings, values["threads"]
        ),
        model=plan.spec.model,
        device=probes.device_of(where),
        libraries=probes.libraries(),
        steps=clock.steps,
        tokens=tokens,
        seconds=round(seconds, 3),
        share=round(clock.share(values["threads"]), 3) if place == "cpu" else None,
        factors={name: round(value, 4) for name, value in found.items()},
    )
    paces.remember(pace)
    return pace

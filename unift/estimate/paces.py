"""How fast trainings of this machine really were, and estimates put right by it.

A local run leaves, when it ends or is stopped, what each part of its time was against the formula's
figure for the same work: in ``UNIFT_HOME/paces.jsonl``, under the device, the versions of the
libraries, the model's shape and the way in which a step was computed. The next estimate of a like
run takes those factors, says so, and has the record among its sources. Unlike a probe, which is two
steps of the largest kind, a pace is the mean over all steps, with start-up, evaluations and
checkpoints beside them; so it goes before a probe.
"""

from __future__ import annotations

import json
from collections.abc import Iterator
from dataclasses import asdict, dataclass, replace
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

from unift import _home
from unift.estimate import probes
from unift.estimate._cpu_time import threads
from unift.estimate._gpu_time import SPEEDS
from unift.estimate._hardware import Hardware
from unift.estimate._shape import Shape
from unift.estimate.time import Duration

# A part that took less says little: seconds.
_SHORT = 1.0
# A run that is alone gets 70 to 95% of its threads' time: parts of a step have one thread.
_CROWDED = 0.5


@dataclass(frozen=True, slots=True)
class Pace:
    """One run. `tokens` are those of the training rows that were timed, `seconds` their wall-clock
    time (no evaluation, no checkpoint); `factors` are measured over estimated seconds for each term
    of `Duration` that was long enough to tell. `share`: how much of its threads' time a CPU run
    got."""

    at: str
    key: str
    model: str
    device: str
    libraries: dict[str, str]
    steps: int
    tokens: int
    seconds: float
    factors: dict[str, float]
    share: float | None = None

    @property
    def age_days(self) -> int:
        """Days since the run ended."""
        return max(0, (datetime.now(UTC) - datetime.fromisoformat(self.at)).days)

    def note(self) -> str:
        """What an estimate says about it."""
        age = f"{self.age_days} days ago" if self.age_days else "today"
        busy = ""
        if self.share is not None and self.share < _CROWDED:
            busy = f"; other work left it {self.share:.0%} of the cores then"
        return (
            f"time corrected by a run of {self.model} that ended {age} on this device with these "
            f"libraries: {self.tokens / self.seconds:,.0f} tokens/s over {self.steps} steps, "
            f"{self.factors['training']:.2f} times the seconds of the formula{busy}"
        )

    def kept(self) -> str:
        """What the run itself says about it."""
        off = self.factors["training"]
        return (
            f"{self.tokens / self.seconds:,.0f} tokens/s over {self.steps} steps, {off:.2f} times "
            "the seconds of the formula: kept for later estimates."
        )

    def source(self) -> dict[str, Any]:
        """As one of the sources of a row."""
        versions = ", ".join(f"{name} {given}" for name, given in self.libraries.items() if given)
        return {
            "what": f"run: {self.tokens:,} tokens of {self.model} in {self.seconds:.0f} s",
            "source": [f"{self.steps} steps on {self.device}", versions],
            "as_of": self.at[:10],
            "age_days": self.age_days,
            "stale": self.age_days > 60,
        }


def key_of(
    place: Hardware, shape: Shape, tuning: str, setup: dict[str, Any], cpu_threads: int | None
) -> str:
    """Under what a pace is kept: as a probe, and the formula whose error it is. Compiled layers,
    longer rows and more in a pass are another pace."""
    way = probes.key_of(place, shape, tuning, setup)
    cores = (cpu_threads or threads()) if place.kind == "cpu" else None
    return probes.digest(way, bool(setup.get("compiled")), cores, asdict(SPEEDS))


def factors(measured: dict[str, float], estimated: dict[str, float]) -> dict[str, float]:
    """Measured over estimated seconds of each part that took long enough to tell."""
    return {
        name: seconds / estimated[name]
        for name, seconds in measured.items()
        if seconds >= _SHORT and estimated.get(name, 0.0) > 0
    }


def corrected(pace: Pace, duration: Duration) -> Duration:
    """A time as a pace has it: every part by its own factor, evaluations by the steps' where they
    were not measured."""
    steps = pace.factors["training"]
    found = {"evaluation": steps, **pace.factors}
    terms = {name: value * found.get(name, 1.0) for name, value in duration.terms.items()}
    return replace(
        duration,
        terms=terms,
        hours=sum(terms.values()) / 3600,
        tokens_per_second=duration.tokens_per_second / steps,
    )


def remember(pace: Pace) -> None:
    """Keep a pace for later estimates."""
    with _file().open("a", encoding="utf-8") as file:
        file.write(json.dumps(asdict(pace)) + "\n")


def recall(key: str) -> Pace | None:
    """The newest pace under a key."""
    return max((one for one in _all() if one.key == key), key=lambda one: one.at, default=None)


def _file() -> Path:
    return _home.home() / "paces.jsonl"


def _all() -> Iterator[Pace]:
    """Every record that can be read; one of another version of unift may have other fields."""
    try:
        lines = _file().read_text(encoding="utf-8").splitlines()
    except OSError:
        return
    for line in lines:
        try:
            one = Pace(**json.loads(line))
            if one.factors["training"] > 0 and one.seconds > 0:
                yield one
        except (ValueError, TypeError, KeyError):
            continue

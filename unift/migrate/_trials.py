"""The trainings of a plan: one, or the small search that the user asked for."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import asdict, dataclass, field
from itertools import product
from typing import Any

from unift.errors import LimitError
from unift.migrate._spec import MigrationSpec


@dataclass(frozen=True)
class Trial:
    """One training: what is trained with which settings, and what that is expected to cost."""

    model: str
    training: Mapping[str, Any] = field(default_factory=dict[str, Any])
    usd: float | None = None
    hours: float | None = None

    def as_dict(self) -> dict[str, Any]:
        return asdict(self)

    @property
    def title(self) -> str:
        """The settings that tell it from the others, for people."""
        told = {key: self.training.get(key) for key in ("rank", "learning_rate")}
        return ", ".join([self.model, *(f"{k} {v:g}" for k, v in told.items() if v is not None)])


def trials(
    spec: MigrationSpec,
    provider: str,
    model: str,
    training: Mapping[str, Any],
    estimate: Mapping[str, Any],
) -> list[Trial]:
    """Every combination of the sweep's lists, at most ``sweep.trials`` of them, the plan's own
    settings first.

    Raises:
        LimitError: Together they are estimated above ``sweep.usd`` or ``sweep.hours``. Nothing was
            started.
    """
    from unift.migrate._settings import recommended_rate

    sweep = spec.sweep
    usd, hours = estimate.get("price_usd"), estimate.get("hours")
    first = Trial(model, dict(training), usd, hours)
    if not sweep.wanted:
        return [first]
    found = [first]
    rates = sweep.learning_rate or (None,)
    for base, rank, rate in product(sweep.model or (model,), sweep.rank or (None,), rates):
        settings = dict(training)
        if rank is not None:
            settings["rank"] = rank
        if rate is not None:
            settings["learning_rate"] = rate
        elif base != model and "learning_rate" in settings and spec.training.learning_rate is None:
            # A rate belongs to a base: another base starts from its own.
            own, other = recommended_rate(model, provider)[0], recommended_rate(base, provider)[0]
            settings["learning_rate"] = float(f"{settings['learning_rate'] * other / own:.3g}")
        trial = Trial(base, settings, *_cost(provider, base, model, settings, usd, hours))
        if not any((one.model, one.training) == (trial.model, trial.training) for one in found):
            found.append(trial)
    found = found[: sweep.trials]
    for name, most, of_each in (
        ("usd", sweep.usd, [one.usd for one in found]),
        ("hours", sweep.hours, [one.hours for one in found]),
    ):
        total = sum(value or 0.0 for value in of_each)
        if most is not None and total > most:
            raise LimitError(
                f"{len(found)} trainings are estimated at {total:.2f} {name}, {most:g} allowed.",
                code="over_budget",
                where=f"sweep.{name}",
                fix=f"raise sweep.{name}, or lower sweep.trials",
            )
    return found


def _cost(
    provider: str,
    base: str,
    model: str,
    settings: Mapping[str, Any],
    usd: float | None,
    hours: float | None,
) -> tuple[float | None, float | None]:
    """Of another base roughly by its size; rank and rate change next to nothing."""
    if base == model:
        return usd, hours
    from unift.errors import UsageError
    from unift.estimate._resolve import find_base

    try:
        ours, theirs = find_base(model).params_b, find_base(base).params_b
    except UsageError:
        return usd, hours
    if not ours or not theirs:
        return usd, hours
    ratio = theirs / ours
    return (
        None if usd is None else usd * ratio,
        None if hours is None else hours * ratio,
    )

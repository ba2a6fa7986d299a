"""Labelled curves, noisy ones included, and the advice that follows from them."""

from __future__ import annotations

import math
import random
from collections.abc import Callable
from datetime import UTC, datetime, timedelta
from typing import Any

import pytest

from unift.evaluate import Diagnosis, diagnose
from unift.provider import Event, Plan, Setting
from unift.spec import make_spec

START = datetime(2026, 11, 24, tzinfo=UTC)
STEPS = 200
Curve = Callable[[int], float]


def events(
    train: Curve, held_out: Curve | None, steps: int = STEPS, every: int = 20, noise: float = 0.0
) -> list[Event]:
    generator = random.Random(5)
    found: list[Event] = []
    for step in range(1, steps + 1):
        data: dict[str, Any] = {
            "step": step,
            "epoch": step / 50,
            "loss": train(step) * (1 + generator.gauss(0, noise)),
            "learning_rate": 2e-4,
        }
        at = START + timedelta(seconds=step)
        found.append(Event(id=f"m{step}", at=at, kind="metrics", data=data))
        if held_out and step % every == 0:
            loss = held_out(step) * (1 + generator.gauss(0, noise / 10))
            data = {"step": step, "validation_loss": loss, "epoch": step / 50}
            found.append(Event(id=f"e{step}", at=at, kind="evaluation", data=data))
    return found


def plan(**settings: Any) -> Plan:
    spec = make_spec(provider="local-lora", model="demo", data="demo:train")
    chosen = {"epochs": 4.0, "learning_rate": 2e-4, "rank": 16, "warmup_ratio": 0.03} | settings
    return Plan(
        spec=spec,
        settings=tuple(
            Setting(name=name, value=value, origin="provider default")
            for name, value in chosen.items()
        ),
    )


def falling(floor: float, pace: float = 25.0, start: float = 2.5) -> Curve:
    return lambda step: floor + (start - floor) * math.exp(-step / pace)


def turning(floor: float, at: int, slope: float) -> Curve:
    down = falling(floor)
    return lambda step: down(step) + max(0, step - at) * slope


CASES: dict[str, tuple[str, Curve, Curve | None]] = {
    "falls and levels off": ("healthy", falling(0.3), falling(0.5)),
    "turns by a hair at the end": ("healthy", falling(0.3), turning(0.5, 150, 0.0002)),
    "no validation data, levels off": ("healthy", falling(0.3), None),
    "turns and rises": ("overfitting", falling(0.1), turning(0.5, 80, 0.003)),
    "turns late": ("overfitting", falling(0.1), turning(0.5, 140, 0.002)),
    "hardly moves": ("underfitting", lambda _: 2.5, lambda s: 2.5 - s / 10_000),
    "still falls steeply": ("underfitting", falling(0.1, pace=150), falling(0.2, pace=150)),
    "no validation data, still falls": ("underfitting", falling(0.1, pace=150), None),
    "explodes": ("diverging", lambda s: 2.5 + max(0, s - 60) * 0.05, lambda s: 2.5 + s * 0.02),
    "falls, then explodes": (
        "diverging",
        lambda s: falling(0.5)(s) + max(0, s - 100) * 0.05,
        lambda s: falling(0.5)(s) + max(0, s - 100) * 0.05,
    ),
    "not a number": ("diverging", lambda s: 1.0 if s < 90 else math.nan, falling(0.5)),
}


@pytest.mark.parametrize("noise", [0.0, 0.08])
@pytest.mark.parametrize("name", CASES)
def test_labelled_curves(name: str, noise: float) -> None:
    code, train, held_out = CASES[name]
    found = diagnose(events(train, held_out, noise=noise), plan())
    assert found.code == code, found.sentence


def test_too_short_says_nothing() -> None:
    found = diagnose(events(falling(0.3), falling(0.5), steps=8, every=4), plan())
    assert found.code == "too_short"


def test_no_events_at_all() -> None:
    assert diagnose([]).code == "too_short"


def flags(found: Diagnosis) -> list[str]:
    return [one.flags for one in found.advice if one.flags]


def test_overfitting_names_the_step_and_the_flags() -> None:
    found = diagnose(events(falling(0.1), turning(0.5, 100, 0.003)), plan())
    assert found.best_step == 100
    assert flags(found) == ["--epochs 2", "--learning-rate 0.0001", "--rank 8"]
    assert "step 100" in found.sentence


def test_base_that_was_never_beaten_is_no_checkpoint() -> None:
    curve = [Event(id="e0", at=START, kind="evaluation", data={"step": 0, "validation_loss": 0.4})]
    found = diagnose([*curve, *events(falling(0.1), turning(0.5, 100, 0.003))], plan())
    assert found.code == "overfitting"
    assert found.best_step == 100
    assert "No step beat the base" in found.sentence


def test_underfitting_doubles_the_epochs() -> None:
    assert flags(diagnose(events(*CASES["still falls steeply"][1:]), plan())) == ["--epochs 8"]


def test_a_loss_that_fell_little_is_to_be_learnt_faster() -> None:
    crawling = falling(0.2, pace=2000)
    found = diagnose(events(crawling, crawling), plan())
    assert found.code == "underfitting"
    assert flags(found) == ["--learning-rate 0.0008", "--epochs 8"]


def test_steps_are_advised_where_steps_were_asked_for() -> None:
    found = diagnose(events(*CASES["still falls steeply"][1:]), plan(max_steps=200))
    assert flags(found) == ["--max-steps 400"]


def test_hardly_moving_raises_the_rate() -> None:
    found = diagnose(events(*CASES["hardly moves"][1:]), plan())
    assert flags(found) == ["--learning-rate 0.0008", "--rank 32"]


def test_divergence_lowers_the_rate_and_warms_up() -> None:
    found = diagnose(events(*CASES["explodes"][1:]), plan())
    assert flags(found) == ["--learning-rate 5e-05", "--warmup-ratio 0.1"]


def test_without_a_plan_the_rate_is_read_from_the_events() -> None:
    assert flags(diagnose(events(*CASES["explodes"][1:]))) == ["--learning-rate 5e-05"]


def test_nan_may_travel_as_a_word() -> None:
    # As a journal that is strict JSON has it.
    curve = events(falling(0.3), falling(0.5))
    bad = Event(id="x", at=START, kind="metrics", data={"step": 300, "loss": "NaN"})
    assert diagnose([*curve, bad]).code == "diverging"


def test_a_repeated_step_counts_with_its_last_value() -> None:
    curve = events(falling(0.3), falling(0.5))
    wild = Event(id="w", at=START, kind="metrics", data={"step": 199, "loss": 900.0})
    assert diagnose([wild, *curve]).code == "healthy"


def test_as_dict_is_json() -> None:
    import json

    found = diagnose(events(falling(0.1), turning(0.5, 80, 0.003)), plan()).as_dict()
    assert json.loads(json.dumps(found))["advice"][1]["flags"].startswith("--epochs")


def test_validation_rows_may_be_far_easier_than_training_rows() -> None:
    """The two losses are never held against each other: here one begins where the other ends."""
    first = Event(id="e0", at=START, kind="evaluation", data={"step": 0, "validation_loss": 0.4})
    curve = events(falling(0.6), falling(0.2, start=0.4), noise=0.05)
    assert diagnose([first, *curve], plan()).code == "healthy"

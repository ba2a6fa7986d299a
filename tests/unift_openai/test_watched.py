"""A vendor's run that goes wrong is told while it goes on: once, with what to do about it."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest

from tests.cli.conftest import Cli, cli  # noqa: F401  # a fixture
from tests.unift_openai.conftest import BASE
from tests.vendors.curves import ALL_BY_HEART, BLOWN_UP, BY_HEART, GOOD, PER_EPOCH, Step
from tests.vendors.openai_vendor import Vendor
from unift import runs, start
from unift.evaluate import watched
from unift.provider import Event, Provider
from unift.spec import TrainSpec

Make = Callable[..., TrainSpec]


def told(steps: list[Step], whole: bool = True) -> list[dict[str, float]]:
    """As OpenAI tells it: a batch every third step, all rows at the end of an epoch."""
    found: list[dict[str, float]] = []
    for number, step in enumerate(steps, 1):
        data = {"train_loss": step.train}
        if number % 3 == 0:
            data["valid_loss"] = step.batch
        if whole and number % PER_EPOCH == 0:
            data["full_valid_loss"] = step.whole
        found.append(data)
    return found


def live(vendor: Vendor, curve: list[dict[str, float]]) -> None:
    vendor.habits.curve, vendor.habits.pace, vendor.habits.page = curve, 15, 100


def warnings(events: list[Event]) -> list[Event]:
    return [event for event in events if event.kind == "warning"]


def ask(rows: str, **settings: Any) -> list[str]:
    asked = {"epochs": 6, "learning-rate-multiplier": 2, **settings}
    flags = [part for name, value in asked.items() for part in (f"--{name}", str(value))]
    return ["train", "--provider", "openai", "--model", BASE, "--data", rows, *flags]


@pytest.mark.usefixtures("openai")
def test_train_tells_overfitting_live_and_once(vendor: Vendor, rows: str, cli: Cli) -> None:  # noqa: F811
    live(vendor, told(BY_HEART))
    done = cli(*ask(rows))
    assert done.status == 0
    said = " ".join(done.err.split())
    assert said.count("The validation loss was lowest at step 30 (0.621) and is 56% higher at") == 1
    after = said.partition("56% higher at step 75")[2]
    assert "step 90 validation_loss" in after, "told while it went on"
    [run] = runs()
    [warning] = warnings(run.journal())
    advice = warning.data["diagnosis"]["advice"]
    flags = [one["flags"] for one in advice if one["flags"]]
    assert flags == ["--epochs 2", "--learning-rate-multiplier 1"]
    again = cli("runs", "events", run.id, "--follow")
    assert (again.out + again.err).count("lowest at step 30") == 1
    shown = cli("runs", "show", run.id)
    assert all(one in shown.out for one in flags)


def test_divergence_is_told_before_the_end(vendor: Vendor, openai: Provider, spec: Make) -> None:
    live(vendor, told(BLOWN_UP))
    run = start(openai.plan(spec(epochs=6, learning_rate_multiplier=2.0)))
    events = list(watched(run))
    [warning] = warnings(events)
    found = warning.data["diagnosis"]
    assert found["code"] in ("diverging", "rate_too_high")
    assert found["advice"][0]["flags"] == "--learning-rate-multiplier 0.5"
    assert "--learning-rate-multiplier 0.5" in warning.message
    assert warning.data["step"] < 70
    later = [event for event in events if event.seq > warning.seq and event.kind == "metrics"]
    assert later, "the training went on"


@pytest.mark.parametrize("whole", [True, False])
def test_a_good_run_is_left_in_peace(
    vendor: Vendor, openai: Provider, spec: Make, whole: bool
) -> None:
    live(vendor, told(GOOD, whole))
    assert warnings(list(watched(start(openai.plan(spec()))))) == []


def test_losses_of_single_batches_are_enough_where_the_rise_is_great(
    vendor: Vendor, openai: Provider, spec: Make
) -> None:
    live(vendor, told(ALL_BY_HEART, whole=False))
    [warning] = warnings(list(watched(start(openai.plan(spec())))))
    assert warning.data["diagnosis"]["code"] == "overfitting"


def test_who_comes_late_is_told_what_nobody_was(
    vendor: Vendor, openai: Provider, spec: Make
) -> None:
    live(vendor, told(BLOWN_UP))
    run = start(openai.plan(spec())).wait()
    assert warnings(run.journal()) == [], "nobody watched"
    last = run.journal()[-1].seq
    [warning] = list(watched(run, after=last))
    assert warning.seq == last + 1
    assert list(watched(run, after=warning.seq)) == []

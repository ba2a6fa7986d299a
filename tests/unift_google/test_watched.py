"""A job at Google that goes wrong is told while it goes on."""

from __future__ import annotations

from collections.abc import Callable

import pytest

from tests.vendors.curves import BLOWN_UP, BY_HEART, GOOD, Step
from tests.vendors.google_vendor import Vendor
from unift import start
from unift.evaluate import watched
from unift.provider import Provider
from unift.spec import TrainSpec

Make = Callable[..., TrainSpec]


@pytest.mark.parametrize(
    ("steps", "code", "flags"),
    [
        (GOOD, None, ""),
        (BY_HEART, "overfitting", "--learning-rate-multiplier 0.5"),
        (BLOWN_UP, "diverging", "--learning-rate-multiplier 0.25"),
    ],
    ids=["good", "by heart", "blown up"],
)
def test_what_goes_wrong_is_told_once_and_before_the_end(
    vendor: Vendor, google: Provider, spec: Make, steps: list[Step], code: str | None, flags: str
) -> None:
    vendor.habits.curve = [
        (step.train, step.whole if number % 5 == 0 else None)
        for number, step in enumerate(steps, 1)
    ]
    vendor.habits.pace, vendor.habits.page = 15, 100
    run = start(google.plan(spec(epochs=6, learning_rate_multiplier=1.0)))
    events = list(watched(run))
    told = [event for event in events if event.kind == "warning"]
    assert [event.data["diagnosis"]["code"] for event in told] == ([code] if code else [])
    for event in told:
        assert flags in [one["flags"] for one in event.data["diagnosis"]["advice"]]
        assert any(one.kind == "metrics" for one in events[events.index(event) :])

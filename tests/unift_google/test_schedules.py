"""A thousand seeded schedules of faults and crashes: never a second job, never a lost one."""

from __future__ import annotations

import random
from collections.abc import Callable

import pytest

from tests.unift_google.conftest import GEMINI, OPEN
from tests.vendors.clock import Clock
from tests.vendors.google_books import Books
from tests.vendors.google_vendor import Vendor
from tests.vendors.schedules import live
from unift.provider import Provider, State
from unift.spec import TrainSpec

pytestmark = pytest.mark.slow
SCHEDULES = 1_000
CALLS = ("create", "jobs", "job", "upload", "object", "objects", "media")
FAULTS = ("fine", "fine", "500", "503", "429", "429 5", "cut before", "cut after")
OF_ONE = {"create": ("garbage",), "job": ("garbage",), "media": ("cut middle",)}


def arm(vendor: Vendor, chance: random.Random) -> None:
    vendor.faults.clear()
    for call in CALLS:
        kinds = FAULTS + OF_ONE.get(call, ())
        vendor.fault(call, *chance.choices(kinds, k=chance.choice((0, 0, 0, 1, 2, 8))))
    vendor.habits.lag = chance.choice((0, 0, 2, 20, 119))
    vendor.habits.strange_word = chance.choice((None, "JOB_STATE_WARMING_UP"))
    vendor.habits.clock_offset = chance.choice((0, -9 * 3600, 5 * 3600))
    vendor.habits.shifting_pages = chance.random() < 0.3
    vendor.habits.page = chance.choice((4, 20, 100))


@pytest.mark.parametrize("block", range(10))
@pytest.mark.parametrize("model", [GEMINI, OPEN])
def test_schedules(
    block: int,
    model: str,
    vendor: Vendor,
    google: Provider,
    clock: Clock,
    spec: Callable[..., TrainSpec],
) -> None:
    plan = google.plan(spec(model=model))
    vendor.habits.experiment = "none"
    ends = {State.SUCCEEDED: 0, State.FAILED: 0}
    for seed in range(block, SCHEDULES // 2, 10):
        chance = random.Random(f"{seed} {model}")
        arm(vendor, chance)
        rows = vendor.books.objects
        vendor.books = Books(vendor.habits)
        vendor.books.clock = clock.now
        if chance.random() < 0.7:  # the rows are there from another run
            vendor.books.objects = rows
        ended = live(plan, chance, clock)
        jobs = vendor.jobs_with(f"unift-{ended.id}")
        assert len(jobs) <= 1, f"seed {seed}: a second job"
        assert ended.state in ends, f"seed {seed}: {ended.state} after all faults were over"
        ends[ended.state] += 1
        # A run is given up only while certainly nothing was ordered.
        assert len(jobs) == (ended.state is State.SUCCEEDED), f"seed {seed}: a job nobody knows of"
        if ended.state is State.SUCCEEDED:
            told = [
                e.id for e in ended.events(follow=False) if e.id in ("created", "data", "ended")
            ]
            assert told == ["created", "data", "ended"], f"seed {seed}: events"
    assert ends[State.SUCCEEDED] > 0

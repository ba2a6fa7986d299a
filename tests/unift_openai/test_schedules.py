"""A thousand seeded schedules of faults and crashes: never a second job, never a lost one."""

from __future__ import annotations

import random
import tempfile
from collections.abc import Callable
from pathlib import Path

import httpx2
import openai as sdk
import pytest
from unift_openai import _calls

from tests.vendors.clock import Clock
from tests.vendors.openai_jobs import Books
from tests.vendors.openai_vendor import KEY, Direct, Vendor
from tests.vendors.schedules import live
from unift.provider import Provider, State, get_provider
from unift.spec import TrainSpec

pytestmark = pytest.mark.slow
SCHEDULES = 1_000
CALLS = ("create", "upload", "jobs", "files", "job", "events", "content", "checkpoints", "delete")
FAULTS = (
    "fine",
    "fine",
    "500",
    "429",
    "429 5",
    "cut before",
    "cut after",
    "page before",
    "page after",
)


def arm(vendor: Vendor, chance: random.Random) -> None:
    vendor.faults.clear()
    for call in CALLS:
        vendor.fault(call, *chance.choices(FAULTS, k=chance.choice((0, 0, 1, 2, 4, 8))))
    vendor.habits.lag = chance.choice((0, 0, 2, 20, 119))
    vendor.habits.events = chance.choice(("newest first", "shuffled", "repeated"))
    vendor.habits.csv = chance.choice(("base64", "plain", "truncated"))
    vendor.habits.strange_word = chance.choice((None, "warming_up"))
    vendor.habits.clock_offset = chance.choice((0, -9 * 3600, 5 * 3600))
    vendor.habits.shifting_pages = chance.random() < 0.3
    vendor.habits.page = chance.choice((4, 20, 100))


@pytest.mark.parametrize("block", range(10))
@pytest.mark.parametrize("metadata", [True, False])
def test_schedules(
    block: int,
    metadata: bool,
    vendor: Vendor,
    openai: Provider,
    clock: Clock,
    spec: Callable[..., TrainSpec],
    monkeypatch: pytest.MonkeyPatch,
    tmp_path: Path,
) -> None:
    # A thousand schedules are some 50,000 requests: without sockets, and on a disk that is memory.
    # What they are about is the order of things, not the wire (test_submit has that).
    memory = Path("/dev/shm")
    with (
        httpx2.Client(
            transport=Direct(vendor), event_hooks={"response": [_calls.no_page]}
        ) as direct,
        tempfile.TemporaryDirectory(dir=memory if memory.is_dir() else None) as home,
    ):
        monkeypatch.setenv("UNIFT_HOME", home)
        client = sdk.OpenAI(base_url=vendor.url, api_key=KEY, max_retries=0, http_client=direct)
        monkeypatch.setattr(_calls, "_shared", lambda url, key: client)
        run_schedules(block, metadata, vendor, openai, clock, spec)


def run_schedules(
    block: int,
    metadata: bool,
    vendor: Vendor,
    openai: Provider,
    clock: Clock,
    spec: Callable[..., TrainSpec],
) -> None:
    plan = openai.plan(spec(options={"metadata": metadata}))
    vendor.habits.metadata = metadata
    ends = {State.SUCCEEDED: 0, State.FAILED: 0}
    for seed in range(block, SCHEDULES // 2, 10):
        chance = random.Random(f"{seed} {metadata}")
        arm(vendor, chance)
        vendor.books = Books(vendor.habits)
        vendor.books.clock = clock.now
        ended = live(plan, chance, clock)
        token = f"unift-{ended.id}"
        jobs = vendor.jobs_with(token)
        assert len(jobs) <= 1, f"seed {seed}: a second job for {token}"
        assert ended.state in ends, f"seed {seed}: {ended.state} after all faults were over"
        ends[ended.state] += 1
        # A run is given up only while certainly nothing was ordered.
        assert len(jobs) == (ended.state is State.SUCCEEDED), f"seed {seed}: a job nobody knows of"
        if ended.state is State.SUCCEEDED:
            steps = [e.data["step"] for e in ended.events(follow=False) if e.kind == "metrics"]
            assert steps == [1, 2, 3, 4, 5, 6], f"seed {seed}: events"
    assert ends[State.SUCCEEDED] > 0
    assert get_provider("openai").find("never ordered".replace(" ", "-")) is None

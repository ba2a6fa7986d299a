"""A thousand seeded schedules of faults and crashes: never a second job, never a lost one."""

from __future__ import annotations

import random
import tempfile
from collections.abc import Callable
from pathlib import Path

import httpx2
import openai as sdk
import pytest
from unift_openai import _calls, _clock

from tests.unift_openai.conftest import Clock
from tests.vendors.openai_jobs import Books
from tests.vendors.openai_vendor import KEY, Direct, Vendor
from unift.errors import UniftError
from unift.provider import Plan, Provider, State, get_provider
from unift.runs import Run, Store, run
from unift.spec import TrainSpec

pytestmark = pytest.mark.slow
SCHEDULES = 1_000
CALLS = ("create", "upload", "jobs", "files", "job", "events", "content", "checkpoints", "delete")
FAULTS = ("fine", "fine", "500", "429", "429 5", "cut before", "cut after")


class Crash(BaseException):
    """The process dies here."""


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


def live(plan: Plan, chance: random.Random, clock: Clock) -> Run:
    """Everything a user and a machine may do to one run, until it has come to its end."""
    found = Run(Store().create(plan), Store())
    naps = clock.sleep

    def nap_or_crash(seconds: float) -> None:
        if chance.random() < 0.05:
            raise Crash
        naps(seconds)

    for turn in range(60):
        clock.sleep = nap_or_crash if turn < 30 else naps  # type: ignore[method-assign]
        try:
            if turn == 0:
                found.submit()
            else:
                found = run(found.id)  # as a new process sees it
                if found.state in (State.PLANNED, State.FAILED) and found.artifact is None:
                    if found.state is State.FAILED:
                        return found
                    found.resume()
                else:
                    found.refresh()
        except (UniftError, Crash):
            pass
        clock.time += chance.choice((1, 30, 130))
        if found.state is State.SUCCEEDED:
            break
    clock.sleep = naps  # type: ignore[method-assign]
    return found


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
    monkeypatch.setattr(_clock, "sleep", lambda seconds: clock.sleep(seconds))
    # A thousand schedules are some 50,000 requests: without sockets, and on a disk that is memory.
    # What they are about is the order of things, not the wire (test_submit has that).
    memory = Path("/dev/shm")
    with (
        httpx2.Client(transport=Direct(vendor)) as direct,
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

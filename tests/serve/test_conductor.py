"""So many trainings at once, a card each; wishes of owners; what is over is not looked at again."""

from __future__ import annotations

import os
import time
from collections.abc import Callable
from typing import Any

import pytest
from unift_echo import Echo

import unift
from unift.provider import Handle, Plan, State
from unift.runs import Run, Store
from unift.serve._conductor import Conductor
from unift.serve._shelf import Shelf
from unift.serve._views import word


@pytest.fixture
def orders(monkeypatch: pytest.MonkeyPatch) -> list[tuple[str | None, int]]:
    """(card, trainings under way) at every order."""
    seen: list[tuple[str | None, int]] = []
    submit = Echo.submit

    def watched(self: Echo, plan: Plan, token: str) -> Handle:
        busy = [one for one in Store().list() if one.state in (State.QUEUED, State.RUNNING)]
        seen.append((os.environ.get("CUDA_VISIBLE_DEVICES"), len(busy)))
        return submit(self, plan, token)

    monkeypatch.setattr(Echo, "submit", watched)
    return seen


def jobs(count: int, data: str, **options: Any) -> list[str]:
    plan = unift.plan(provider="echo", model="base", data=data, options={"echo": options})
    shelf, store = Shelf(), Store()
    return [
        shelf.add_job(store.create(plan).id, {"training_file": "file-1"}, "ann").run
        for _ in range(count)
    ]


def until(check: Callable[[], bool]) -> None:
    deadline = time.monotonic() + 60
    while not check():
        assert time.monotonic() < deadline
        time.sleep(0.01)


def states(runs: list[str]) -> list[State]:
    return [Store().get(run).state for run in runs]


@pytest.mark.parametrize("at_once", [1, 2])
def test_so_many_at_once_and_a_card_each(
    capitals: str, orders: list[tuple[str | None, int]], at_once: int
) -> None:
    runs = jobs(4, capitals, steps=3)
    cards = ("0", "1") if at_once == 2 else ()
    before = os.environ.get("CUDA_VISIBLE_DEVICES")
    conductor = Conductor(Shelf(), Store(), at_once, cards)
    conductor.start()
    until(lambda: not Shelf().open_jobs())
    conductor.stop()
    assert states(runs) == [State.SUCCEEDED] * 4
    assert len(orders) == 4
    assert max(busy for _, busy in orders) == at_once - 1
    assert {card for card, _ in orders} == (set(cards) or {before})
    assert os.environ.get("CUDA_VISIBLE_DEVICES") == before


def test_wishes(capitals: str, orders: list[tuple[str | None, int]]) -> None:
    first, second, third = runs = jobs(3, capitals, steps=40)
    shelf = Shelf()
    shelf.wish(third, "pause")
    conductor = Conductor(shelf, Store(), 1, ())
    conductor.start()
    until(lambda: states(runs)[0] is State.RUNNING)
    shelf.wish(first, "pause")
    conductor.wake()
    until(lambda: states(runs)[:2] == [State.PAUSED, State.RUNNING])
    assert len(orders) == 2, "who is paused gives its place away, and is not started"
    for run in (first, second):
        shelf.wish(run, "cancel")
    conductor.wake()
    until(lambda: states(runs)[:2] == [State.CANCELLED, State.CANCELLED])
    assert states(runs)[2] is State.PLANNED
    shelf.wish(third, "resume")
    conductor.wake()
    until(lambda: states(runs)[2] is State.RUNNING)
    conductor.stop()
    assert [job.run for job in shelf.open_jobs()] == [third]


def test_a_job_that_goes_on_is_never_seen_as_paused(
    capitals: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    (run,) = jobs(1, capitals, steps=40)
    shelf = Shelf()
    conductor = Conductor(shelf, Store(), 1, ())
    conductor.start()
    until(lambda: states([run]) == [State.RUNNING])
    shelf.wish(run, "pause")
    conductor.wake()
    until(lambda: states([run]) == [State.PAUSED])
    seen: list[str] = []
    resume = Run.resume

    def watched(self: Run) -> Run:
        """What an owner would read just before and just after the trainer takes it."""
        for step in (lambda: self, lambda: resume(self)):
            step()
            (job,) = shelf.open_jobs()
            seen.append(word(job, Store().get(run).state))
        return self

    monkeypatch.setattr(Run, "resume", watched)
    shelf.wish(run, "resume")
    conductor.wake()
    until(lambda: len(seen) == 2 and not shelf.open_jobs()[0].wish)
    conductor.stop()
    assert seen == ["queued", "queued"]


def test_a_disk_that_was_full_for_a_moment_ends_no_training(
    capitals: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    runs = jobs(2, capitals, steps=3)
    submit, full = Echo.submit, [True]

    def once(self: Echo, plan: Plan, token: str) -> Handle:
        if full:
            full.clear()
            raise OSError(28, "No space left on device")
        return submit(self, plan, token)

    monkeypatch.setattr(Echo, "submit", once)
    conductor = Conductor(Shelf(), Store(), 1, ())
    conductor.start()
    until(lambda: not Shelf().open_jobs())
    conductor.stop()
    assert states(runs) == [State.SUCCEEDED] * 2


def test_nothing_undoes_a_cancel(capitals: str) -> None:
    (run,) = jobs(1, capitals)
    shelf = Shelf()
    assert shelf.wish(run, "pause")
    assert shelf.wish(run, "cancel")
    assert not shelf.wish(run, "pause")
    assert not shelf.wish(run, "resume")
    assert shelf.wish(run, "cancel")


def test_whoever_resumes_beside_the_server_is_not_halted_again(capitals: str) -> None:
    (run,) = jobs(1, capitals, steps=12)
    shelf = Shelf()
    conductor = Conductor(shelf, Store(), 1, ())
    conductor.start()
    until(lambda: states([run]) == [State.RUNNING])
    shelf.wish(run, "pause")
    conductor.wake()
    until(lambda: states([run]) == [State.PAUSED] and not shelf.open_jobs()[0].wish)
    unift.run(run).resume()
    conductor.wake()
    until(lambda: not shelf.open_jobs())
    conductor.stop()
    assert states([run]) == [State.SUCCEEDED]

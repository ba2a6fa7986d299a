"""What a seeded schedule of faults and crashes does to a run, the same for every vendor."""

from __future__ import annotations

import random

from tests.vendors.clock import Clock
from unift.errors import UniftError
from unift.provider import Plan, State
from unift.runs import Run, Store, run


class Crash(BaseException):
    """The process dies here."""


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
                if found.state is State.FAILED:
                    break
                if found.state is State.PLANNED:
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

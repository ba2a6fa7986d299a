"""Time that passes only by sleeping."""

from __future__ import annotations

import pytest

from unift import remote


class Clock:
    """Stands for `unift.remote.clock`."""

    def __init__(self, start: float = 1_795_500_000.0) -> None:  # 2026-11-24
        self.time = start
        self.slept: list[float] = []

    def now(self) -> float:
        return self.time

    def sleep(self, seconds: float) -> None:
        self.slept.append(seconds)
        self.time += seconds


def stopped_clock(monkeypatch: pytest.MonkeyPatch) -> Clock:
    """Every provider behind a network lives by it until the test is over."""
    made = Clock()
    # Through the object, so that a test can change how it sleeps.
    monkeypatch.setattr(remote.clock, "now", lambda: made.now())
    monkeypatch.setattr(remote.clock, "sleep", lambda seconds: made.sleep(seconds))
    return made

"""What a run says about its time after the first minute."""

from __future__ import annotations

from typing import Any

import pytest
from unift_local.correction import corrected, due


@pytest.mark.parametrize(
    ("estimate", "words", "factor"),
    [
        ({"hours": 1.0, "price_usd": 4.0}, "50% more than the 1 h 00 min", 1.5),
        ({"hours": 3.0}, "50% less than the 3 h 00 min", 0.5),
        ({"hours": 1.5}, "as planned", 1.0),
        ({}, "At this speed", None),
    ],
)
def test_the_plan_is_put_right(estimate: dict[str, Any], words: str, factor: float | None) -> None:
    said, figures = corrected(estimate, 60.0, 1.5 * 3600 - 60)
    assert words in said
    assert figures["hours"] == 1.5
    assert figures.get("factor") == factor
    assert figures.get("price_usd") == (6.0 if "price_usd" in estimate else None)


@pytest.mark.parametrize(
    ("elapsed", "done", "total", "is_due"),
    [(61, 1, 10_000, True), (5, 19, 100, False), (5, 20, 100, True), (5, 20, 1000, False)],
)
def test_after_a_minute_or_a_tenth_of_the_steps(
    elapsed: float, done: int, total: int, is_due: bool
) -> None:
    assert due(elapsed, done, total) is is_due

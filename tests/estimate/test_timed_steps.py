"""The formula of time keeps its bounds on every step that was timed on the H100."""

from __future__ import annotations

import importlib
import sys
from pathlib import Path
from types import ModuleType

import pytest

FOLDER = Path(__file__).parents[2] / "benchmarks" / "memory"
HALVES = ["fit", "held out"]


@pytest.fixture(scope="module")
def page() -> ModuleType:
    sys.path.insert(0, str(FOLDER))
    try:
        return importlib.import_module("time_report")
    finally:
        sys.path.remove(str(FOLDER))


def _errors(page: ModuleType, kind: str, half: str) -> list[float]:
    return [abs(one.error()) for one in page.rows() if page.group(one) == kind and one.half == half]


@pytest.mark.parametrize("half", HALVES)
@pytest.mark.parametrize(("kind", "mean"), [("own path", 0.05), ("stock layers", 0.08)])
def test_steady_steps_of_dense_models_are_within_fifteen_percent(
    page: ModuleType, kind: str, mean: float, half: str
) -> None:
    errors = _errors(page, kind, half)
    assert len(errors) >= 14
    assert sum(errors) / len(errors) < mean
    allowed = 2 if (kind, half) == ("stock layers", "fit") else 0  # misses that the page shows
    assert sum(error > page.LATE for error in errors) <= allowed


def test_experts_are_no_better_than_the_page_says(page: ModuleType) -> None:
    for half in HALVES:
        errors = _errors(page, "experts", half)
        assert sum(errors) / len(errors) < 0.16
        assert max(errors) < 0.50
        assert sum(error < page.LATE for error in errors) >= 7

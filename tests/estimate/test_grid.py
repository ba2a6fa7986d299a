"""The formulas keep their bounds on every configuration that was measured on the H100."""

from __future__ import annotations

import importlib.util
import sys
from pathlib import Path
from types import ModuleType

import pytest

FOLDER = Path(__file__).parents[2] / "benchmarks" / "memory"


@pytest.fixture(scope="module")
def report() -> ModuleType:
    sys.path.insert(0, str(FOLDER))
    try:
        spec = importlib.util.spec_from_file_location("memory_report", FOLDER / "report.py")
        assert spec is not None
        assert spec.loader is not None
        module = importlib.util.module_from_spec(spec)
        sys.modules["memory_report"] = module
        spec.loader.exec_module(module)
        return module
    finally:
        sys.path.remove(str(FOLDER))


def test_allocated_and_reserved_memory_of_every_row(report: ModuleType) -> None:
    rows = [one for one in report.read() if one.allocated is not None and "note" not in one.row]
    assert len(rows) >= 60
    errors: dict[bool, list[float]] = {True: [], False: []}
    for one in rows:
        memory = report.estimated(one.run)
        error = memory.allocated_gib / one.allocated - 1
        errors[one.run.held_out].append(error)
        assert -0.03 < error < 0.10, report.label(one.run)
        assert memory.low <= one.allocated <= memory.high, report.label(one.run)
        assert memory.reserved_gib == pytest.approx(one.reserved, rel=0.10), report.label(one.run)
    for half in errors.values():
        assert len(half) >= 30
        assert sum(map(abs, half)) / len(half) < 0.01


def test_time_of_most_steps(report: ModuleType) -> None:
    own = [one for one in report.read() if one.run.product and one.allocated is not None]
    errors = [report.seconds(one.run) / min(one.row["step_seconds"][1:]) - 1 for one in own]
    assert sum(map(abs, errors)) / len(errors) < 0.15


def test_the_planners_picks_ran_and_the_next_size_was_no_faster(report: ModuleType) -> None:
    rows = {one.run.key: one for one in report.read() if one.run.product}
    ran = 0
    for one in rows.values():
        key = report.replace(one.run, micro_batch=one.run.micro_batch + 1).key
        if key not in rows or one.allocated is None:
            continue
        ran += 1
        more = rows[key]
        if more.allocated is not None:
            speed = one.row["tokens"] / min(one.row["step_seconds"][1:])
            assert more.row["tokens"] / min(more.row["step_seconds"][1:]) < 1.01 * speed
    assert ran == 10

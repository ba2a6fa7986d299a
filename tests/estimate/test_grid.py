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


# Rows whose allocated peak is more than 3% under, and by how much: published misses.
MISSES = {
    "Moonlight-16B-A3B lora 1x2048": -0.16,
    "Moonlight-16B-A3B lora 1x1024": -0.49,
    "Llama-3.1-8B qlora 1x512": -0.04,
    "Llama-3.1-8B qlora 2x4096": -0.04,
    "Llama-3.1-8B full 2x2048": -0.05,
}


def test_allocated_and_reserved_memory_of_every_row(report: ModuleType) -> None:
    rows = [one for one in report.read() if one.allocated is not None and "note" not in one.row]
    assert len(rows) >= 90
    errors: dict[bool, list[float]] = {True: [], False: []}
    for one in rows:
        memory = report.estimated(one.run)
        error = memory.allocated_gib / one.allocated - 1
        name = report.label(one.run)
        lowest = MISSES.get(name.partition(",")[0], -0.03) if one.run.product else -0.03
        assert lowest < error < 0.10, name
        if "Moonlight" in name:
            assert memory.low <= one.allocated <= memory.high or error < -0.4
            continue
        errors[one.run.held_out].append(error)
        assert memory.reserved_gib == pytest.approx(one.reserved, rel=0.12), name
        if lowest == -0.03:
            assert memory.low <= one.allocated <= memory.high, name
    for half in errors.values():
        assert len(half) >= 30
        assert sum(map(abs, half)) / len(half) < 0.015


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
            # A full pick has room for gradients of earlier passes, which a step of one has not.
            most = 1.16 if one.run.tuning == "full" else 1.01
            assert more.row["tokens"] / min(more.row["step_seconds"][1:]) < most * speed
    assert ran == 12

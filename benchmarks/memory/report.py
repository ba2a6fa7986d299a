"""Hold the formulas against the measured grid, print every row, and write the table.

    python benchmarks/memory/report.py [--fit-only]

Reads ``benchmarks/memory/rows.jsonl``. Rows are split in two halves by a hash of their
configuration (``Run.held_out``); ``--fit-only`` shows the half that constants may be chosen from.
The exit status is 1 if a held-out row misses the bounds.
"""

from __future__ import annotations

import argparse
import json
import sys
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from _configs import Run, config_of
from _peers import PEERS

from unift.estimate import Memory, Shape, estimate_memory

HERE = Path(__file__).parent
ROWS = HERE / "rows.jsonl"
RESULT = HERE.parent / "results" / "memory.md"
WORST, MEAN, UNDER = 0.10, 0.04, 0.03


@dataclass(frozen=True)
class Measured:
    """A row of the grid: what was run, what it took, or why it did not run."""

    run: Run
    row: dict[str, Any]

    @property
    def allocated(self) -> float | None:
        """Peak GiB, None for a row that failed."""
        return self.row.get("allocated_gib")


def read(path: Path = ROWS) -> list[Measured]:
    """All rows, in the order in which they were measured."""
    lines = [json.loads(line) for line in path.read_text().splitlines() if line.strip()]
    return [Measured(Run(**line["run"]), line) for line in lines]


def estimated(run: Run) -> Memory:
    """Our estimate for a configuration of the grid."""
    shape = Shape.from_config(config_of(run.model))
    return estimate_memory(
        shape,
        tuning=run.tuning,
        rank=run.rank,
        dora=run.dora,
        micro_batch=run.micro_batch,
        length=run.length,
        checkpointing={"selective": "attention"}.get(run.checkpointing, run.checkpointing),
        dtype=run.dtype,
        optimizer=run.optimizer,
        loss={"chunked": "tiled"}.get(run.loss, run.loss),
        packing=run.rows_per_pack > 0,
        attention=run.attention,
        kernels=run.kernels,
        padded=run.padded,
        dropout=run.dropout,
        passes=run.passes,
        scored=run.trained,
    )


def label(run: Run) -> str:
    """The configuration in short."""
    base = Run(model=run.model, tuning=run.tuning, length=run.length)
    extras = [
        f"{name} {getattr(run, name)}"
        for name in Run.__dataclass_fields__
        if name not in ("model", "tuning", "length", "micro_batch", "dtype")
        and getattr(run, name) != getattr(base, name)
    ]
    name = run.model.rpartition("/")[2]
    return f"{name} {run.tuning} {run.micro_batch}x{run.length}" + (
        f", {', '.join(extras)}" if extras else ""
    )


def main() -> int:
    """Print and write the table."""
    parser = argparse.ArgumentParser()
    parser.add_argument("--fit-only", action="store_true")
    options = parser.parse_args()
    rows = read()
    if options.fit_only:
        rows = [one for one in rows if not one.run.held_out]
    lines, ok = table(rows)
    print("\n".join(lines))
    if not options.fit_only:
        RESULT.write_text("\n".join(lines) + "\n", encoding="utf-8")
    return 0 if ok else 1


def table(rows: list[Measured]) -> tuple[list[str], bool]:
    """Markdown lines, and whether the held-out half keeps the bounds."""
    good = [one for one in rows if one.allocated]
    names = list(PEERS)
    lines = [
        "| configuration | half | measured | estimate | error | reserved | estimate | error | "
        + " | ".join(names)
        + " |",
        "|---|---|--:|--:|--:|--:|--:|--:|" + "--:|" * len(names),
    ]
    errors: dict[bool, list[float]] = {True: [], False: []}
    reserved: dict[bool, list[float]] = {True: [], False: []}
    peers: dict[str, list[float]] = {name: [] for name in names}
    for one in good:
        real = float(one.row["allocated_gib"])
        memory = estimated(one.run)
        error = memory.allocated_gib / real - 1
        errors[one.run.held_out].append(error)
        real_reserved = float(one.row["reserved_gib"])
        off = memory.reserved_gib / real_reserved - 1
        reserved[one.run.held_out].append(off)
        shape = Shape.from_config(config_of(one.run.model))
        others: list[str] = []
        for name, formula in PEERS.items():
            value = formula(one.run, shape)
            if value is not None and one.run.held_out:
                peers[name].append(value / real - 1)
            others.append("-" if value is None else f"{value / real - 1:+.0%}")
        miss = " **miss**" if abs(error) > WORST or error < -UNDER else ""
        lines.append(
            f"| {label(one.run)} | {'held out' if one.run.held_out else 'fit'} | {real:.2f} "
            f"| {memory.allocated_gib:.2f} | {error:+.1%}{miss} | {real_reserved:.2f} "
            f"| {memory.reserved_gib:.2f} | {off:+.1%} | {' | '.join(others)} |"
        )
    summary = ["", "| | rows | mean | worst over | worst under |", "|---|--:|--:|--:|--:|"]
    for held in (False, True):
        half = "held out" if held else "fit"
        summary.append(_line(f"unift, allocated, {half}", errors[held]))
        summary.append(_line(f"unift, reserved, {half}", reserved[held]))
    summary += [_line(f"{name}, allocated, held out", peers[name]) for name in names]
    failed = [one for one in rows if not one.allocated]
    if failed:
        summary += ["", "Rows that did not run:", ""]
        summary += [
            f"- {label(one.run)}: {one.row.get('error', '')[:160]} (our estimate "
            f"{estimated(one.run).reserved_gib:.1f} GiB reserved)"
            for one in failed
        ]
    held = errors[True]
    ok = bool(held) and max(map(abs, held)) <= WORST and min(held) >= -UNDER
    ok = ok and sum(map(abs, held)) / len(held) <= MEAN
    return [*lines, *summary], ok


def _line(name: str, errors: list[float]) -> str:
    if not errors:
        return f"| {name} | 0 | | | |"
    mean = sum(map(abs, errors)) / len(errors)
    return (
        f"| {name} | {len(errors)} | {mean:.1%} | {max(0.0, *errors):+.1%} "
        f"| {min(0.0, *errors):+.1%} |"
    )


if __name__ == "__main__":
    sys.exit(main())

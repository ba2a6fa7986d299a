"""What the plain training loops of `sharded.py` and `vision.py` share: a resumable list of cases,
rows written at once, three steps with their peaks, and the table of it all.

A case is a frozen dataclass; a row is JSON with the case under ``case`` and its figures or an
``error`` beside it.
"""

from __future__ import annotations

import argparse
import gc
import json
import os
import sys
import time
from collections.abc import Callable, Sequence
from dataclasses import asdict
from pathlib import Path
from typing import Any

os.environ.setdefault("PYTORCH_CUDA_ALLOC_CONF", "expandable_segments:True")
os.environ.setdefault("HF_HUB_OFFLINE", "1")

GIB = 2**30
# A row is a miss when the estimate is off by more than this, over and under.
OVER, UNDER = 0.10, 0.03


def options(seconds: float) -> argparse.Namespace:
    """The command line: where to, for how long, tiny or real, or the report of what is there."""
    parser = argparse.ArgumentParser()
    parser.add_argument("--out", type=Path, required=True)
    parser.add_argument("--seconds", type=float, default=seconds)
    parser.add_argument("--tiny", action="store_true")
    parser.add_argument("--report", action="store_true")
    return parser.parse_args()


def read(path: Path) -> list[dict[str, Any]]:
    """The rows that are there."""
    if not path.exists():
        return []
    return [json.loads(line) for line in path.read_text().splitlines() if line.strip()]


def fill(
    path: Path,
    cases: Sequence[Any],
    measure: Callable[[Any], dict[str, Any]],
    *,
    device: Any,
    late: Callable[[], bool],
    finish: Callable[[dict[str, Any]], dict[str, Any]] = dict,
    writes: bool = True,
) -> None:
    """Measure every case that `path` lacks, until `late` says so; a failure is a row, too.
    `finish` sees each row before it is written."""
    import torch
    from _host import speed

    done = {type(cases[0])(**row["case"]) for row in read(path)}
    for case in cases:
        if case in done:
            continue
        if late():
            break
        row: dict[str, Any]
        host = speed(device)
        start = time.perf_counter()
        try:
            row = measure(case)
        except Exception as error:  # noqa: BLE001 - the next one may work
            row = {"error": f"{type(error).__name__}: {error}".splitlines()[0][:300]}
        row = finish({**row, "wall_seconds": round(time.perf_counter() - start, 2), "host": host})
        cuda = torch.device(device).type == "cuda"
        gc.collect()
        if cuda:
            torch.cuda.empty_cache()
        if writes:
            card = torch.cuda.get_device_name(0) if cuda else "cpu"
            line = {"case": asdict(case), "card": card, "torch": torch.__version__, **row}
            with path.open("a") as out:
                out.write(json.dumps(line) + "\n")
            print(line, file=sys.stderr, flush=True)


def three_steps(
    device: Any, forward: Callable[[], Any], optimizer: Any, pause: float = 0.0
) -> dict[str, Any]:
    """Seconds of three steps, and on a card their peaks: of all, and of each phase of each step.
    With `pause` the loop waits so many seconds after each step."""
    import torch

    cuda = torch.device(device).type == "cuda"
    peaks: list[dict[str, float]] = []
    seconds: list[float] = []

    def phase(name: str) -> None:
        if cuda:
            torch.cuda.synchronize()
            peaks[-1][name] = round(torch.cuda.max_memory_allocated() / GIB, 4)
            reserved.append(torch.cuda.max_memory_reserved() / GIB)
            torch.cuda.reset_peak_memory_stats()

    reserved: list[float] = []
    if cuda:
        torch.cuda.reset_peak_memory_stats()
    for _ in range(3):
        peaks.append({})
        start = time.perf_counter()
        loss = forward()
        phase("forward")
        loss.backward()
        phase("backward")
        optimizer.step()
        optimizer.zero_grad()
        phase("step")
        seconds.append(round(time.perf_counter() - start, 4))
        time.sleep(pause)
    found: dict[str, Any] = {"step_seconds": seconds, "loss": round(float(loss.detach()), 3)}
    if cuda:
        found["allocated_gib"] = max(value for one in peaks for value in one.values())
        found["reserved_gib"] = round(max(reserved), 4)
        found["live_gib"] = round(torch.cuda.memory_allocated() / GIB, 4)
        found["phases_gib"] = peaks
    return found


def table(
    title: str, rows: Sequence[dict[str, Any]], told: Callable[[dict[str, Any]], tuple[str, float]]
) -> str:
    """Markdown: every row with the formula's GiB beside it, misses marked, and their mean. `told`
    gives the name of a row and the formula's figure."""
    lines = [f"| {title} | measured | estimate | error | reserved |", "|---|--:|--:|--:|--:|"]
    errors: list[float] = []
    for row in rows:
        name, found = told(row)
        if "error" in row:
            lines.append(f"| {name} | {row['error'][:100]} | | | |")
            continue
        off = found / row["allocated_gib"] - 1
        errors.append(off)
        miss = " **miss**" if off > OVER or off < -UNDER else ""
        lines.append(
            f"| {name} | {row['allocated_gib']:.2f} | {found:.2f} | {off:+.1%}{miss} "
            f"| {row['reserved_gib']:.2f} |"
        )
    if errors:
        mean = sum(map(abs, errors)) / len(errors)
        lines += ["", f"Mean {mean:.1%}, {min(errors):+.1%} to {max(errors):+.1%}."]
    return "\n".join(lines)

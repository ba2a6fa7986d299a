"""What is alive on the card at the peak of some work, by the line of code that asked for it."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable
from pathlib import Path
from typing import Any

GIB = 2**30


def at_peak(work: Callable[[], Any]) -> list[dict[str, Any]]:
    """Run `work` and say what of its memory is alive at the peak, largest first; before it, what
    was there already (``base_gib``), what came on top and the peak in all."""
    import torch

    base = torch.cuda.memory_allocated()
    torch.cuda.memory._record_memory_history(max_entries=400_000, stacks="python")
    try:
        work()
        snapshot = torch.cuda.memory._snapshot()
    finally:
        torch.cuda.memory._record_memory_history(enabled=None)
    events = [one for trace in snapshot["device_traces"] for one in trace]
    signs = {"alloc": 1, "free_requested": -1}
    total = highest = at = 0
    for index, one in enumerate(events):
        total += signs.get(one["action"], 0) * one["size"]
        if total > highest:
            highest, at = total, index
    live: dict[int, dict[str, Any]] = {}
    for one in events[: at + 1]:
        if one["action"] == "alloc":
            live[one["addr"]] = one
        elif one["action"] == "free_requested":
            live.pop(one["addr"], None)
    size: Counter[str] = Counter()
    tensors: Counter[str] = Counter()
    for one in live.values():
        place = _frames(one.get("frames", []))
        size[place] += one["size"]
        tensors[place] += 1
    summary = {
        "base_gib": base / GIB,
        "above_gib": highest / GIB,
        "peak_gib": (base + highest) / GIB,
    }
    return [
        {key: round(value, 4) for key, value in summary.items()},
        *(
            {"gib": round(value / GIB, 4), "tensors": tensors[place], "where": place}
            for place, value in size.most_common(40)
        ),
    ]


def _frames(frames: list[dict[str, Any]]) -> str:
    """The innermost lines that say most, outermost last."""
    dull = ("module.py", "_contextlib.py", "operations.py", "generic.py", "function.py")
    seen = [
        f"{Path(one['filename']).name}:{one['line']}:{one['name']}"
        for one in frames
        if one["filename"].endswith(".py") and not one["filename"].endswith(dull)
    ]
    return " < ".join(seen[:6])

"""Looks inside a step of a training on a card: its kernels, and what is in memory at the peak."""

from __future__ import annotations

import json
import os
import time
from pathlib import Path
from typing import Any

import torch


def at_peak(run: dict[str, Any], trainer: Any, rows: Any) -> list[str]:
    """What a step allocates that is there when most is: MiB, pieces, and who asked for it."""
    records = [{"input_ids": r.input_ids, "labels": r.labels} for r in rows[: run["batch"]]]
    inputs = trainer.data_collator(records)
    # Not "all": a stack taken where memory is freed loses the exception that ends recomputing.
    torch.cuda.memory._record_memory_history(context="alloc", stacks="python")
    try:
        trainer.training_step(trainer.model, inputs)
        torch.cuda.synchronize()
        (events,) = torch.cuda.memory._snapshot()["device_traces"][:1]
    finally:
        torch.cuda.memory._record_memory_history(enabled=None)
    alive: dict[int, Any] = {}
    now = most = 0
    then: list[Any] = []
    for event in events:
        if event["action"] == "alloc":
            alive[event["addr"]] = event
            now += event["size"]
        elif event["action"] == "free_requested" and event["addr"] in alive:
            now -= alive.pop(event["addr"])["size"]
        if now > most:
            most, then = now, list(alive.values())
    places: dict[str, list[int]] = {}
    for event in then:
        frames = [
            f"{Path(one['filename']).name}:{one['line']} {one['name']}"
            for one in event["frames"]
            if "site-packages/torch/" not in one["filename"] and one["filename"] != "??"
        ]
        places.setdefault(" < ".join(frames[:3]), []).append(event["size"])
    ordered = sorted(places.items(), key=lambda one: -sum(one[1]))
    return [f"{most / 2**20:.0f} MiB in all"] + [
        f"{sum(sizes) / 2**20:.0f} MiB in {len(sizes)}: {place}" for place, sizes in ordered[:16]
    ]


def profile(run: dict[str, Any], trainer: Any, rows: Any) -> dict[str, float]:
    """Where one step spends its time on the card, ms by kind of kernel."""
    from torch.profiler import ProfilerActivity
    from torch.profiler import profile as record
    from unift_local.profile import breakdown, page

    records = [{"input_ids": r.input_ids, "labels": r.labels} for r in rows[: run["batch"]]]
    inputs = trainer.data_collator(records)
    trainer.training_step(trainer.model, inputs)
    inputs = trainer.data_collator(records)
    torch.cuda.synchronize()
    activities = [ProfilerActivity.CUDA, ProfilerActivity.CPU]
    with record(activities=activities, record_shapes=True) as recorded:
        began = time.perf_counter()
        trainer.training_step(trainer.model, inputs)
        torch.cuda.synchronize()
        wall = time.perf_counter() - began
    kinds: dict[str, float] = {"wall": wall * 1e3}
    table = recorded.key_averages()
    lines: list[tuple[float, int, str]] = []
    for one in table:
        if one.device_type.name != "CUDA" or one.key.startswith("## "):
            continue
        ms = one.self_device_time_total / 1e3
        lines.append((ms, one.count, one.key))
        kinds[kind_of(one.key)] = kinds.get(kind_of(one.key), 0.0) + ms
    text = "\n".join(
        f"{ms:9.2f} ms {count:6d}x {key[:150]}" for ms, count, key in sorted(lines)[::-1]
    )
    by_shape = recorded.key_averages(group_by_input_shape=True)
    shares = breakdown(by_shape, trainer.model.config, wall, cuda=True)
    out = Path(os.environ.get("OUT", "/tmp"))
    with (out / "profiles.txt").open("a") as file:
        file.write(f"== {run['name']}: {json.dumps(kinds)}\n{page(shares, wall, 0)}\n")
        file.write(f"{text[:9000]}\n")
    return {key: round(value, 1) for key, value in kinds.items()}


def kind_of(kernel: str) -> str:
    """The family of a kernel, by its name."""
    low = kernel.lower()
    families = {
        "attention": ("flash", "fmha"),
        "matmul": ("gemm", "nvjet", "cutlass", "xmma", "cublas", "splitk"),
        "dequantise": ("dequant",),
        "copy": ("memcpy", "memset"),
        "compiled": ("triton_",),
        "optimiser": ("multi_tensor", "adam"),
    }
    for family, words in families.items():
        if any(word in low for word in words):
            return family
    return "other kernels"

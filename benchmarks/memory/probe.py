"""The probe against the run it stands for: peaks of 10 real steps, with and without it.

    python benchmarks/memory/probe.py --out probe.jsonl --seconds 240

Each configuration trains 10 steps of rows of log-normal length in the product's own way. The
formula says what it takes before anything runs, from the layout alone; the probe runs the largest
step twice; then the 10 steps run. Rows are written at once, and those that are there are skipped.
``--report`` prints the table of benchmarks/results/memory_probe.md instead of measuring.
"""

from __future__ import annotations

import argparse
import gc
import json
import os
import sys
import time
from dataclasses import asdict
from pathlib import Path
from typing import Any

os.environ.setdefault("PYTORCH_CUDA_ALLOC_CONF", "expandable_segments:True")
os.environ.setdefault("HF_HUB_OFFLINE", "1")
os.environ.setdefault("TOKENIZERS_PARALLELISM", "false")

from _configs import L1, L3, L8, MLA, MOE, NONE, Q05, Q14, Run, config_of

_STEPS = 10


def _own(model: str, tuning: str, length: int, micro_batch: int, **how: Any) -> Run:
    packed = {"rows_per_pack": max(1, length // 340), "attention": "varlen", **how}
    if tuning == "full":
        packed["dtype"] = "mixed"
    return Run(model, tuning, length, micro_batch, product=True, **packed)


# None of them was measured before, so no constant was chosen by them. Passes: of a step, about.
CASES: list[tuple[Run, int]] = [
    (_own(L8, "lora", 2048, 3), 1),
    (_own(L8, "lora", 2048, 4, **NONE), 2),
    (_own(L1, "full", 2048, 3), 2),
    (_own(L3, "full", 2048, 2), 2),
    (_own(L1, "full", 2048, 4, **NONE), 2),
    (_own(L1, "lora", 4096, 4, **NONE), 1),
    (_own(Q05, "full", 2048, 4, **NONE), 1),
    (_own(Q05, "lora", 1024, 16, **NONE), 2),
    (_own(L8, "qlora", 2048, 4, **NONE), 1),
    (_own(L8, "qlora", 4096, 2), 2),
    (_own(L3, "lora", 2048, 6, **NONE), 1),
    (_own(Q14, "qlora", 2048, 2), 1),
    (_own(MOE, "lora", 2048, 1), 1),
    (_own(MLA, "lora", 2048, 2), 1),
    (_own(L3, "lora", 2048, 4, checkpointing="selective", checkpointed_layers=14), 2),
]


def main() -> int:
    """Fill the table; 0 also when time ran out."""
    parser = argparse.ArgumentParser()
    parser.add_argument("--out", type=Path, required=True)
    parser.add_argument("--seconds", type=float, default=240.0)
    parser.add_argument("--tiny", action="store_true")
    parser.add_argument("--tuning", default="", help="full, lora or qlora alone")
    parser.add_argument("--report", action="store_true")
    options = parser.parse_args()
    began = time.perf_counter()
    if options.report:
        print(report([json.loads(line) for line in options.out.read_text().splitlines()]))
        return 0

    import torch
    from grid import _shrunk, _tokenizer, _versions

    done: set[str] = set()
    if options.out.exists():
        lines = options.out.read_text().splitlines()
        done = {Run(**json.loads(line)["run"]).key for line in lines}
    device = "cpu" if options.tiny else "cuda"
    with options.out.open("a") as out:
        for run, passes in CASES:
            if run.key in done or options.tuning not in ("", run.tuning):
                continue
            if time.perf_counter() - began > options.seconds:
                print("time is over", file=sys.stderr)
                break
            if options.tiny:
                run = Run(**{**asdict(run), "length": 64, "micro_batch": 2, "rows_per_pack": 4})
                config = _shrunk(config_of(run.model))
            else:
                config = config_of(run.model)
            try:
                row = measure(run, passes, config, device, _tokenizer())
            except Exception as error:  # noqa: BLE001 - one configuration must not cost the others
                row = {"error": f"{type(error).__name__}: {error}".splitlines()[0][:300]}
            gc.collect()
            if device == "cuda":
                torch.cuda.empty_cache()
            line = {"run": asdict(run), **row, **_versions(torch)}
            out.write(json.dumps(line) + "\n")
            out.flush()
            print(f"{run.model} {run.tuning} {run.micro_batch}x{run.length} {row}", file=sys.stderr)
    return 0


def report(rows: list[dict[str, Any]]) -> str:
    """The table as Markdown, and its errors in words."""
    lines = [
        "| configuration | 10 steps | plan | error | largest step | error | probe | error "
        "| probe took | in steps |",
        "|---|--:|--:|--:|--:|--:|--:|--:|--:|--:|",
    ]
    errors: dict[str, list[float]] = {"planned_gib": [], "step_gib": [], "probe_gib": []}
    for row in rows:
        run = row["run"]
        name = f"{run['model'].rpartition('/')[2]} {run['tuning']} "
        name += f"{run['micro_batch']}x{run['length']}, checkpointing {run['checkpointing']}"
        if row.get("error") or not row.get("run_gib"):
            lines.append(f"| {name} | {row.get('error', 'not measured')} |" + " - |" * 8)
            continue
        cells = [f"{row['run_gib']:.2f}"]
        for key, found in errors.items():
            off = row[key] / row["run_gib"] - 1
            found.append(off)
            cells += [f"{row[key]:.2f}", f"{off:+.1%}" + (" **miss**" if _misses(key, off) else "")]
        step = sorted(row["step_seconds"])[len(row["step_seconds"]) // 2]
        cells += [f"{row['probe_seconds']:.1f} s", f"{row['probe_seconds'] / step:.1f} steps"]
        lines.append(f"| {name} | " + " | ".join(cells) + " |")
    lines.append("")
    for key, found in errors.items():
        if found:
            mean = sum(abs(one) for one in found) / len(found)
            span = f"{min(found):+.2%} to {max(found):+.2%}"
            lines.append(f"- {key}: mean {mean:.2%}, {span} ({len(found)} rows)")
    return "\n".join(lines)


def _misses(key: str, off: float) -> bool:
    """The probe is to be within 3%; the formula within 10%, and not more than 3% under."""
    return abs(off) > 0.03 if key == "probe_gib" else off > 0.10 or off < -0.03


def lengths_of(run: Run, passes: int) -> list[int]:
    """Tokens of the rows of 10 steps: log-normal (sigma 0.8), none longer than a pack."""
    import numpy as np

    mean = run.length / max(1, run.rows_per_pack)
    # Three quarters of what the passes can hold, so that few steps need one more.
    batch = max(1, round(0.75 * passes * run.micro_batch * run.length / mean))
    drawn = np.random.default_rng(1).lognormal(np.log(mean) - 0.32, 0.8, batch * _STEPS)
    return [int(one) for one in np.clip(drawn, 8, run.length)]


def measure(
    run: Run, passes: int, config: dict[str, Any], device: str, tokenizer: Any
) -> dict[str, Any]:
    """One row: GiB by the formula, by the probe and of the run; seconds of each."""
    import torch
    from _build import build
    from _train import _adapt, make_trainer
    from transformers import TrainerCallback
    from unift_local.probe import _reset, probe

    class Steps(TrainerCallback):
        """Stands in for the journal, and times steps."""

        def __init__(self) -> None:
            self.seconds: list[float] = []

        def add_tokens(self, tokens: int) -> None:
            """Nothing: the lengths are known."""

        def on_step_begin(self, *args: Any, **kwargs: Any) -> None:
            self.began = time.perf_counter()

        def on_step_end(self, args: Any, state: Any, control: Any, **kwargs: Any) -> None:
            if device == "cuda":
                torch.cuda.synchronize()
            self.seconds.append(round(time.perf_counter() - self.began, 4))
            control.should_log = control.should_save = False

    start = time.perf_counter()
    base = build(config, run.tuning, run.dtype, device)
    model, undo = _adapt(run, base)
    built = time.perf_counter() - start
    lengths = lengths_of(run, passes)
    clock = Steps()
    trainer, _ = make_trainer(run, model, device, tokenizer, lengths, _STEPS, clock)
    start = time.perf_counter()
    found = probe(trainer, _STEPS)
    cost = time.perf_counter() - start
    _reset(device == "cuda")
    trainer.train()
    peak = torch.cuda.max_memory_allocated() / 2**30 if device == "cuda" else None
    reserved = torch.cuda.max_memory_reserved() / 2**30 if device == "cuda" else None
    planned, largest = formula(run, config, found, len(found.passes), device)
    row = {
        "planned_gib": planned,
        "step_gib": largest,
        "probe_gib": found.allocated_gib,
        "probe_reserved_gib": found.reserved_gib,
        "run_gib": peak,
        "run_reserved_gib": reserved,
        "passes": found.passes,
        "probe_seconds": round(cost, 2),
        "probe_step_seconds": round(found.seconds, 4),
        "step_seconds": clock.seconds,
        "largest_tokens": sum(found.lengths),
        "tokens": sum(lengths),
        "build_seconds": round(built, 2),
    }
    undo()
    return row


def formula(
    run: Run, config: dict[str, Any], found: Any, passes: int, device: str
) -> tuple[float, float]:
    """GiB that the formula says: of the full layout, as a plan has it, and of the largest step."""
    from unift.estimate import Shape, estimate_memory

    words: dict[str, Any] = {
        "tuning": run.tuning,
        "rank": run.rank,
        "checkpointing": run.checkpointing,
        "checkpointed_layers": run.checkpointed_layers,
        "dtype": run.dtype,
        "loss": "chunked",
        "packing": True,
        "attention": "varlen",
        "kernels": "torch" if run.tuning == "full" else "adapters",
        "passes": passes,
        "device": device,
    }
    shape = Shape.from_config(config)
    planned = estimate_memory(shape, micro_batch=run.micro_batch, length=run.length, **words)
    largest = estimate_memory(shape, micro_batch=1, length=max(found.passes), **words)
    return planned.allocated_gib, largest.allocated_gib


if __name__ == "__main__":
    sys.exit(main())

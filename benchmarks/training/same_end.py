"""Do the fast and the plain path end at the same place? 300 steps of each from each of five seeds.

``python benchmarks/training/same_end.py [SEEDS] [STEPS] [demo|tiny]`` trains adapters of rank 16 on
the demo's rows, over the embedded model or over a random one of two small layers, on a card (bf16,
the fast path compiled) if there is one and else on a CPU (fp32). It prints the validation loss of
both, their difference for each seed, and its 95 % interval (Student's t over seeds); every pair
goes to $OUT/same_end.jsonl with its training losses.
"""

from __future__ import annotations

import json
import os
import sys
import tempfile
from pathlib import Path
from typing import Any

os.environ.setdefault("HF_HUB_OFFLINE", "1")
os.environ["UNIFT_HOME"] = tempfile.mkdtemp(prefix="unift-same-end-")

import _inputs
import numpy as np
import torch
from scipy import stats
from unift_local import LocalLora

from unift.spec import make_spec

PLAIN: dict[str, Any] = {"attention": "sdpa", "fused_adapters": False, "loss": "plain"}
BATCH = 4


def train(seed: int, steps: int, fast: bool, model: str) -> tuple[float, list[float]]:
    """Validation loss after the last step, and the training losses."""
    from unift_local import checkpoint, recipe
    from unift_local.rundir import EventLog, RunDir

    never = steps  # the last step is the only one that evaluates
    chosen = {"compile": torch.cuda.is_available()} if fast else PLAIN
    options = {"threads": 1, "eval_steps": never, "patience": 0, **chosen}
    provider = LocalLora()
    spec = make_spec(
        provider=provider.name,
        model=model,
        data="demo:train",
        validation="demo:validation",
        learning_rate=2e-3,
        batch_size=BATCH,
        max_steps=steps,
        packing=fast,
        seed=seed,
        options={provider.name: options},
    )
    plan = provider.plan(spec)
    from unift_local._provider import _snapshot

    place = RunDir(Path(tempfile.mkdtemp(dir=os.environ["UNIFT_HOME"])))
    for part, field in (("train", "data"), ("validation", "validation")):
        _snapshot(place, part, plan, field)
    place.checkpoints.mkdir()
    progress = checkpoint.Progress()
    plan = plan.model_copy(update={"payload": {**plan.payload, "steps_per_epoch": never}})
    journal, trainer = recipe.build(place, plan, EventLog(place.events_file), False, progress)
    trainer.train()
    events = [json.loads(line) for line in place.events_file.read_text().splitlines()]
    losses = [one["data"]["loss"] for one in events if one["kind"] == "metrics"]
    assert journal.progress.last_loss is not None
    return journal.progress.last_loss, losses


def main() -> None:
    """Both paths from each seed, in turns."""
    seeds = int(sys.argv[1]) if len(sys.argv) > 1 else 5
    steps = int(sys.argv[2]) if len(sys.argv) > 2 else 300
    model = sys.argv[3] if len(sys.argv) > 3 else "demo"
    if model == "tiny":
        model = tempfile.mkdtemp(dir=os.environ["UNIFT_HOME"])
        _inputs.make_model("tiny", Path(model), "cpu")
    differences: list[float] = []
    ends: list[float] = []
    for seed in range(seeds):
        fast, fast_losses = train(seed, steps, fast=True, model=model)
        plain, plain_losses = train(seed, steps, fast=False, model=model)
        pair = {"seed": seed, "fast": fast, "plain": plain}
        with (Path(os.environ.get("OUT", tempfile.gettempdir())) / "same_end.jsonl").open(
            "a"
        ) as to:
            losses = {"fast_losses": fast_losses, "plain_losses": plain_losses}
            to.write(json.dumps({**pair, **losses}) + "\n")
        differences.append(fast - plain)
        ends.append(plain)
        print(
            f"seed {seed}: fast {fast:.5f} plain {plain:.5f} difference {fast - plain:+.5f}",
            flush=True,
        )
    if seeds > 1:
        mean, error = np.mean(differences), stats.sem(differences)
        low, high = stats.t.interval(0.95, seeds - 1, mean, error) if error else (mean, mean)
        print(f"mean difference {mean:+.6f}, 95 % interval {low:+.6f} to {high:+.6f}")
        print(f"spread of the plain path over seeds: standard deviation {np.std(ends, ddof=1):.5f}")


if __name__ == "__main__":
    main()

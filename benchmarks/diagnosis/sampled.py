"""Record curves as a vendor shows them: another trainer, and validation losses of single batches.

    python sampled.py --out ../../tests/evaluate/curves [NAME ...]

OpenAI reports a validation loss on one batch of the validation rows every few steps, and one over
all of them at the end of an epoch. A batch is often a row or two. This is a plain training loop
(torch, peft and a scheduler of transformers) on the embedded model that reports like that, on
this machine's CPU, with schedules which unift's own trainer has not. ``whole`` in a file is the
loss over all validation rows at the same steps, which the diagnosis is not shown: the label was
checked against it.
"""

from __future__ import annotations

import platform
import random
import tempfile
from pathlib import Path
from typing import Any

import torch
from record import SEEDS, Case, main, rows_of

# batch: rows a step; sample: rows behind a validation loss (0: all); every: steps between two.
CASES: dict[str, Case] = {
    "sampled": ("healthy", "minority", None, {"epochs": 3, "rate": 2e-3, "batch": 1, "sample": 1}),
    "sampled-4": (
        "plateau", "minority", None, {"epochs": 4, "rate": 3e-3, "batch": 4, "sample": 4}
    ),
    "sampled-desk": ("healthy", "desk", 240, {"epochs": 3, "rate": 4e-3, "batch": 2, "sample": 2}),
    "sampled-by-heart": (
        "overfitting", "shuffled", 120, {"epochs": 12, "rate": 3e-3, "batch": 4, "sample": 4}
    ),
    "sampled-coins": (
        "plateau", "coins", 240, {"epochs": 8, "rate": 2e-3, "batch": 4, "sample": 4}
    ),
    "constant-rate": (
        "plateau", "minority", None,
        {"epochs": 3, "rate": 2e-3, "batch": 8, "sample": 0, "schedule": "constant"},
    ),
    "restarts": (
        "plateau", "minority", None,
        {"epochs": 6, "rate": 4e-3, "batch": 8, "sample": 0, "schedule": "cosine_with_restarts"},
    ),
    # Kinds that were recorded only after the thresholds had been set.
    "sampled-2-by-heart": (
        "overfitting", "shuffled", 60, {"epochs": 16, "rate": 4e-3, "batch": 2, "sample": 2}
    ),
    "linear": (
        "plateau", "minority", None,
        {"epochs": 4, "rate": 3e-3, "batch": 8, "sample": 0, "schedule": "linear"},
    ),
    "constant-too-high": (
        "diverging", "minority", None,
        {"epochs": 2, "rate": 0.05, "batch": 8, "sample": 0, "schedule": "constant"},
    ),
    "restarts-desk": (
        "healthy", "desk", 300,
        {"epochs": 4, "rate": 5e-3, "batch": 8, "sample": 0, "schedule": "cosine_with_restarts"},
    ),
}  # fmt: skip


class Loop:
    """The embedded model with a fresh adapter, and rows as tensors."""

    def __init__(self, seed: int) -> None:
        from peft import LoraConfig, get_peft_model
        from transformers import AutoModelForCausalLM, AutoTokenizer

        from unift.demo import model_path

        torch.manual_seed(seed)
        torch.set_num_threads(1)
        self.tokenizer: Any = AutoTokenizer.from_pretrained(model_path())
        base = AutoModelForCausalLM.from_pretrained(model_path(), dtype=torch.float32)
        config = LoraConfig(r=16, lora_alpha=32, target_modules="all-linear", task_type="CAUSAL_LM")
        self.model: Any = get_peft_model(base, config)

    def rows(self, lines: list[str]) -> list[tuple[list[int], list[int]]]:
        from unift.data import read_examples
        from unift.data.rendering import render_all, stop_token_ids

        with tempfile.TemporaryDirectory() as folder:
            path = Path(folder) / "rows.jsonl"
            path.write_text("\n".join(lines) + "\n", "utf-8")
            stops = stop_token_ids(self.tokenizer, self.model.generation_config)
            rendered = render_all(self.tokenizer, list(read_examples(path)), 1024, stop_ids=stops)
        found: list[tuple[list[int], list[int]]] = []
        for one in rendered:
            ids = list(one.input_ids)
            found.append((ids, [i if t else -100 for i, t in zip(ids, one.trained, strict=True)]))
        return found

    def loss(self, rows: list[tuple[list[int], list[int]]]) -> torch.Tensor:
        longest = max(len(ids) for ids, _ in rows)
        pad = [longest - len(ids) for ids, _ in rows]
        ids = torch.tensor([row[0] + [0] * n for row, n in zip(rows, pad, strict=True)])
        labels = torch.tensor([row[1] + [-100] * n for row, n in zip(rows, pad, strict=True)])
        mask = torch.tensor([[1] * len(row[0]) + [0] * n for row, n in zip(rows, pad, strict=True)])
        return self.model(input_ids=ids, attention_mask=mask, labels=labels).loss

    @torch.no_grad()
    def held_out(self, rows: list[tuple[list[int], list[int]]]) -> float:
        self.model.eval()
        value = float(self.loss(rows))
        self.model.train()
        return value


def record(name: str, seed: int) -> dict[str, Any]:
    from transformers import get_scheduler

    label, data, count, made = CASES[name[:-2] if name[-2:] in SEEDS else name]
    loop, rng = Loop(seed), random.Random(seed)
    train = loop.rows(rows_of(data, "train")[:count])
    held_out = loop.rows(rows_of(data, "validation")[:60])
    batch, sample = made["batch"], made["sample"]
    per_epoch = len(train) // batch
    steps = made["epochs"] * per_epoch
    every = max(1, steps // 40)
    weights = [one for one in loop.model.parameters() if one.requires_grad]
    optimizer = torch.optim.AdamW(weights, lr=made["rate"], weight_decay=0.01)
    schedule = made.get("schedule", "linear")
    scheduler = get_scheduler(
        schedule, optimizer, num_warmup_steps=steps // 30, num_training_steps=steps,
        scheduler_specific_kwargs={"num_cycles": 3} if "restarts" in schedule else None,
    )  # fmt: skip
    losses: list[list[float]] = []
    validation: list[list[float]] = []
    whole: list[list[float]] = []
    rates: list[list[float]] = []
    order: list[Any] = []
    for step in range(1, steps + 1):
        if len(order) < batch:
            order = rng.sample(train, len(train))
        rows, order = order[:batch], order[batch:]
        loss = loop.loss(rows)
        rates.append([step, float(scheduler.get_last_lr()[0])])
        loss.backward()
        torch.nn.utils.clip_grad_norm_(weights, 1.0)
        optimizer.step()
        scheduler.step()
        optimizer.zero_grad()
        losses.append([step, float(f"{float(loss.detach()):.4g}")])
        if step % every == 0 or step % per_epoch == 0:
            full = float(f"{loop.held_out(held_out):.4g}")
            some = full
            if sample and step % per_epoch:
                some = float(f"{loop.held_out(rng.sample(held_out, sample)):.4g}")
            validation.append([step, some])
            whole.append([step, full])
    return {
        "label": label,
        "made": {
            "data": data, "rows": count or "all", "seed": seed,
            "settings": {"learning_rate": made["rate"], **made, "schedule": schedule},
            "ended": "succeeded", "machine": f"{platform.machine()} CPU, 1 thread",
            "model": "demo", "provider": "a plain loop",
        },
        "train": losses, "validation": validation, "whole": whole if sample else [],
        "sampled": [step for step, _ in validation if sample and step % per_epoch],
        "rate": [[step, float(f"{rate:.4g}")] for step, rate in rates],
        "epochs": [[step, round(step / per_epoch, 3)] for step in range(1, steps + 1)],
    }  # fmt: skip


if __name__ == "__main__":
    main(CASES, record, __doc__)

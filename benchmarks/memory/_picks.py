"""What the planner picks for the H100, as rows of the grid: each pick, and one batch more."""

from __future__ import annotations

from dataclasses import replace

from _configs import L1, L3, L8, L70, Q05, Q14, Q32, Run, config_of

from unift.estimate import Shape, hardware
from unift.estimate.planner import Layout, Step, plan_layout

# Model, tuning, tokens of a pack; a step has so many rows of 340 tokens that memory, not the data,
# ends the micro-batch.
CASES = [
    (L8, "lora", 2048),
    (L8, "qlora", 2048),
    (Q14, "lora", 2048),
    (L70, "qlora", 1024),
    (Q32, "qlora", 2048),
    (L8, "lora", 8192),
    (L3, "lora", 4096),
    (Q14, "qlora", 4096),
    (L3, "qlora", 2048),
    (Q05, "lora", 2048),
    (L3, "full", 2048),
    (L1, "full", 2048),
]
_ROWS = 1024


def pick(model: str, tuning: str, length: int) -> Layout:
    """The planner's layout on an H100."""
    step = Step(
        tuning=tuning,
        batch_size=_ROWS,
        mean=340.0,
        longest=length,
        pack_length=length,
        dtype="mixed" if tuning == "full" else "bf16",
        loss="chunked",
        attention="varlen",
        kernels="torch" if tuning == "full" else "adapters",
        ways=("none", "selective", "full"),
    )
    return plan_layout(Shape.from_config(config_of(model)), hardware("h100"), step)


def picks() -> list[Run]:
    """Two rows a case: what was picked, and one sequence more in a pass."""
    found: list[Run] = []
    for model, tuning, length in CASES:
        layout = pick(model, tuning, length)
        run = Run(
            model=model,
            tuning=tuning,
            length=length,
            micro_batch=layout.micro_batch,
            checkpointing=layout.checkpointing,
            checkpointed_layers=layout.checkpointed_layers,
            optimizer=layout.optimizer,
            attention="varlen",
            dtype="mixed" if tuning == "full" and layout.optimizer == "adamw" else "bf16",
            rows_per_pack=max(1, length // 340),
            passes=2 if tuning == "full" else 1,  # the gradients of passes before lie there too
            product=True,
        )
        found += [run, replace(run, micro_batch=run.micro_batch + 1)]
    return found


__all__ = ["CASES", "pick", "picks"]

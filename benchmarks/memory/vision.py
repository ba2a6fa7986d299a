"""Memory of training on pictures, tower frozen or trained, against the formula's terms for it.

    python benchmarks/memory/vision.py --out vision.jsonl --seconds 30

unift's own trainer takes text alone, so this is a plain loop over transformers' Gemma 3 with the
SigLIP tower of the 4B model and as many decoder layers as the name says, random weights, pictures
of noise. Rows are written at once. ``--tiny`` runs it on a CPU, ``--report`` prints the table.
"""

from __future__ import annotations

import sys
import time
from dataclasses import dataclass, replace
from typing import Any

from _configs import GEMMA, config_of
from _loop import fill, options, read, table, three_steps


@dataclass(frozen=True)
class Case:
    """One configuration: `rows` of `length` tokens with a picture each."""

    model: str
    tuning: str
    tower: bool
    rows: int
    length: int
    checkpointing: str


CASES = [
    Case(f"{GEMMA}@12", "full", True, 2, 512, "none"),
    Case(f"{GEMMA}@12", "lora", False, 4, 512, "none"),
    Case(f"{GEMMA}@12", "full", True, 4, 512, "full"),
    Case(f"{GEMMA}@12", "full", False, 2, 512, "none"),
    Case(f"{GEMMA}@6", "full", True, 6, 300, "none"),
    Case(f"{GEMMA}@12", "lora", False, 8, 300, "full"),
]


def main() -> int:
    """Fill the table; 0 also when time ran out."""
    given = options(30.0)
    if given.report:
        print(report(read(given.out)))
        return 0
    began = time.perf_counter()
    from grid import _shrunk

    device = "cpu" if given.tiny else "cuda"

    def one(case: Case) -> dict[str, Any]:
        config = config_of(case.model)
        if given.tiny:
            config, case = _shrunk(config), replace(case, rows=2, length=40)
        return measure(case, config, device)

    fill(
        given.out,
        CASES,
        one,
        device=device,
        late=lambda: time.perf_counter() - began > given.seconds,
    )
    return 0


def trainer_of(case: Case, config: dict[str, Any], device: str) -> tuple[Any, Any, dict[str, Any]]:
    """The model, its optimiser and a batch."""
    import torch
    from _build import build
    from transformers import AutoModelForImageTextToText

    full = case.tuning == "full"
    model: Any = build(
        config, case.tuning, "mixed" if full else "bf16", device, AutoModelForImageTextToText
    )
    model.requires_grad_(full)
    for parameter in model.model.vision_tower.parameters():
        parameter.requires_grad_(case.tower)
    if not full:
        from peft import LoraConfig, get_peft_model

        names = "q_proj|k_proj|v_proj|o_proj|gate_proj|up_proj|down_proj"
        targets = rf".*language_model.*\.({names})"
        model = get_peft_model(model, LoraConfig(r=16, lora_alpha=32, target_modules=targets))
        for parameter in model.parameters():
            if parameter.requires_grad:
                parameter.data = parameter.data.float()
    base = model if full else model.get_base_model()
    if case.checkpointing == "full":
        base.gradient_checkpointing_enable(gradient_checkpointing_kwargs={"use_reentrant": False})
        base.enable_input_require_grads()
    picture, text = config["vision_config"], config["text_config"]
    count = int(base.config.mm_tokens_per_image)
    ids = torch.randint(10, text["vocab_size"] - 10, (case.rows, case.length), device=device)
    ids[ids == base.config.image_token_id] = 9
    ids[:, 1 : 1 + count] = base.config.image_token_id
    side = picture["image_size"]
    batch = {
        "input_ids": ids,
        "labels": ids.masked_fill(ids == base.config.image_token_id, -100),
        "token_type_ids": (ids == base.config.image_token_id).long(),
        "pixel_values": torch.randn(case.rows, 3, side, side, device=device),
    }
    trained = [one for one in model.parameters() if one.requires_grad]
    return model.train(), torch.optim.AdamW(trained, lr=1e-5, foreach=True), batch


def measure(case: Case, config: dict[str, Any], device: str) -> dict[str, Any]:
    """Peaks of three steps, and seconds of each."""
    import torch

    model, optimizer, batch = trainer_of(case, config, device)

    def forward() -> Any:
        with torch.autocast(device, torch.bfloat16):
            return model(**batch, use_cache=False).loss

    return three_steps(device, forward, optimizer)


def estimated(case: Case) -> Any:
    """The formula's figures for a case."""
    from unift.estimate import Shape, estimate_memory

    return estimate_memory(
        Shape.from_config(config_of(case.model)),
        tuning=case.tuning,  # type: ignore[arg-type]  # a word of the table above
        micro_batch=case.rows,
        length=case.length,
        checkpointing=case.checkpointing,  # type: ignore[arg-type]  # likewise
        dtype="mixed" if case.tuning == "full" else "bf16",
        loss="plain",
        padded=True,  # pictures see themselves whole, so there is a mask
        vision=case.tower,
        images=case.rows,
    )


def report(rows: list[dict[str, Any]]) -> str:
    """The table as Markdown."""

    def told(row: dict[str, Any]) -> tuple[str, float]:
        case = Case(**row["case"])
        tower = "trained" if case.tower else "frozen"
        name = f"{case.model.rpartition('/')[2]} {case.tuning}, tower {tower}, {case.rows} rows of "
        name += f"{case.length} with a picture, checkpointing {case.checkpointing}"
        return name, estimated(case).allocated_gib

    return table("configuration", rows, told)


if __name__ == "__main__":
    sys.exit(main())

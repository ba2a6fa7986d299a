"""Memory of training on pictures, tower frozen or trained, against the formula's terms for it.

    python benchmarks/memory/vision.py --out vision.jsonl --seconds 30

unift's own trainer takes text alone, so this is a plain loop over transformers' Gemma 3 with the
SigLIP tower of the 4B model and as many decoder layers as the name says, random weights, pictures
of noise. Rows are written at once. ``--tiny`` runs it on a CPU, ``--report`` prints the table.
"""

from __future__ import annotations

import argparse
import gc
import json
import os
import sys
import time
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

os.environ.setdefault("PYTORCH_CUDA_ALLOC_CONF", "expandable_segments:True")
os.environ.setdefault("HF_HUB_OFFLINE", "1")

from _configs import GEMMA, config_of

GIB = 2**30


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
    parser = argparse.ArgumentParser()
    parser.add_argument("--out", type=Path, required=True)
    parser.add_argument("--seconds", type=float, default=30.0)
    parser.add_argument("--tiny", action="store_true")
    parser.add_argument("--report", action="store_true")
    options = parser.parse_args()
    if options.report:
        print(report([json.loads(line) for line in options.out.read_text().splitlines()]))
        return 0
    began = time.perf_counter()
    import torch
    from grid import _shrunk

    device = "cpu" if options.tiny else "cuda"
    done = options.out.read_text() if options.out.exists() else ""
    for case in CASES:
        if json.dumps(asdict(case)) in done:
            continue
        if time.perf_counter() - began > options.seconds:
            break
        config = config_of(case.model)
        if options.tiny:
            config = _shrunk(config)
            case = Case(**{**asdict(case), "rows": 2, "length": 40})
        row: dict[str, Any]
        try:
            row = measure(case, config, device)
        except Exception as error:  # noqa: BLE001 - the next one may work
            row = {"error": f"{type(error).__name__}: {error}".splitlines()[0][:300]}
        gc.collect()
        if device == "cuda":
            torch.cuda.empty_cache()
        card = torch.cuda.get_device_name(0) if device == "cuda" else "cpu"
        with options.out.open("a") as out:
            out.write(json.dumps({"case": asdict(case), "card": card, **row}) + "\n")
        print(case, row, file=sys.stderr, flush=True)
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

    cuda = device == "cuda"
    model, optimizer, batch = trainer_of(case, config, device)
    if cuda:
        torch.cuda.reset_peak_memory_stats()
    seconds: list[float] = []
    for _ in range(3):
        start = time.perf_counter()
        with torch.autocast(device, torch.bfloat16):
            loss = model(**batch, use_cache=False).loss
        loss.backward()
        optimizer.step()
        optimizer.zero_grad()
        if cuda:
            torch.cuda.synchronize()
        seconds.append(round(time.perf_counter() - start, 4))
    found: dict[str, Any] = {"step_seconds": seconds, "loss": round(float(loss.detach()), 3)}
    if cuda:
        found["allocated_gib"] = round(torch.cuda.max_memory_allocated() / GIB, 4)
        found["reserved_gib"] = round(torch.cuda.max_memory_reserved() / GIB, 4)
        found["live_gib"] = round(torch.cuda.memory_allocated() / GIB, 4)
    return found


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
    lines = ["| configuration | measured | estimate | error | reserved |", "|---|--:|--:|--:|--:|"]
    for row in rows:
        case = Case(**row["case"])
        tower = "trained" if case.tower else "frozen"
        name = f"{case.model.rpartition('/')[2]} {case.tuning}, tower {tower}, {case.rows} rows of "
        name += f"{case.length} with a picture, checkpointing {case.checkpointing}"
        if "error" in row:
            lines.append(f"| {name} | {row['error'][:100]} | | | |")
            continue
        found = estimated(case).allocated_gib
        off = found / row["allocated_gib"] - 1
        miss = " **miss**" if off > 0.10 or off < -0.03 else ""
        lines.append(
            f"| {name} | {row['allocated_gib']:.2f} | {found:.2f} | {off:+.1%}{miss} "
            f"| {row['reserved_gib']:.2f} |"
        )
    return "\n".join(lines)


if __name__ == "__main__":
    sys.exit(main())

"""Memory of a training that several cards share, against the formula's terms for it.

    torchrun --nproc-per-node 2 benchmarks/memory/sharded.py --out sharded.jsonl --seconds 120

unift's own trainer runs in one process, so this is a plain loop: models of real shapes with random
weights, torch's FSDP2 (``fully_shard`` on every layer and on the whole), or data parallelism with
and without torch's ``ZeroRedundancyOptimizer`` (ZeRO stage 1). Full fine-tuning keeps float32
weights and computes in bfloat16; adapters are peft's, in float32 over a bfloat16 base; the loss is
transformers' own. Rows are written at once; the peak is the higher one of the cards. ``--tiny``
runs the same on CPUs through gloo. ``--report`` prints the table of
benchmarks/results/memory_sharded.md.
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

from _configs import L1, L3, L8, config_of

GIB = 2**30


@dataclass(frozen=True)
class Case:
    """One configuration on all cards; `micro_batch` rows of `length` on each."""

    model: str
    tuning: str
    sharding: str  # fsdp, zero1, none
    length: int
    micro_batch: int
    checkpointing: str


CASES = [
    Case(L1, "full", "fsdp", 2048, 2, "full"),
    Case(L3, "full", "fsdp", 2048, 1, "full"),
    Case(L3, "lora", "fsdp", 2048, 2, "full"),
    Case(L1, "full", "none", 2048, 1, "full"),
    Case(L1, "full", "zero1", 2048, 1, "full"),
    Case(L1, "lora", "fsdp", 2048, 4, "none"),
    Case(L1, "full", "fsdp", 2048, 2, "none"),
    Case(L8, "lora", "fsdp", 2048, 2, "full"),
    Case(L3, "full", "fsdp", 4096, 1, "none"),
    Case(L3, "lora", "fsdp", 2048, 2, "none"),
    Case(L1, "lora", "none", 2048, 2, "full"),
    Case(L8, "full", "fsdp", 1024, 1, "full"),
]


def main() -> int:
    """Fill the table; 0 also when time ran out."""
    parser = argparse.ArgumentParser()
    parser.add_argument("--out", type=Path, required=True)
    parser.add_argument("--seconds", type=float, default=120.0)
    parser.add_argument("--tiny", action="store_true")
    parser.add_argument("--report", action="store_true")
    options = parser.parse_args()
    if options.report:
        print(report([json.loads(line) for line in options.out.read_text().splitlines()]))
        return 0
    began = time.perf_counter()
    import torch
    import torch.distributed as dist
    from grid import _shrunk

    rank, world = int(os.environ["RANK"]), int(os.environ["WORLD_SIZE"])
    device = torch.device("cpu")
    if not options.tiny:
        device = torch.device("cuda", int(os.environ["LOCAL_RANK"]))
        torch.cuda.set_device(device)
    dist.init_process_group("gloo" if options.tiny else "nccl")
    done = options.out.read_text() if options.out.exists() else ""
    for case in CASES:
        if json.dumps(asdict(case)) in done:
            continue
        late = torch.tensor(float(time.perf_counter() - began > options.seconds), device=device)
        dist.all_reduce(late)
        if late.item():
            break
        config = config_of(case.model)
        if options.tiny:
            config = _shrunk(config)
            case = Case(**{**asdict(case), "length": 64, "micro_batch": 2})
        row: dict[str, Any]
        try:
            row = measure(case, config, device)
        except Exception as error:  # noqa: BLE001 - the next one may work
            row = {"error": f"{type(error).__name__}: {error}".splitlines()[0][:300]}
        gc.collect()
        if device.type == "cuda":
            torch.cuda.empty_cache()
            peaks = torch.tensor([row.get("allocated_gib", 0.0), row.get("reserved_gib", 0.0)])
            peaks = peaks.to(device)
            dist.all_reduce(peaks, dist.ReduceOp.MAX)
            if "error" not in row:
                row["allocated_gib"], row["reserved_gib"] = (round(x, 4) for x in peaks.tolist())
        if rank == 0:
            card = torch.cuda.get_device_name(0) if device.type == "cuda" else "cpu"
            line = {"case": asdict(case), "devices": world, "card": card, **row}
            with options.out.open("a") as out:
                out.write(json.dumps(line) + "\n")
            print(line, file=sys.stderr, flush=True)
    dist.barrier()
    dist.destroy_process_group()
    return 0


def measure(case: Case, config: dict[str, Any], device: Any) -> dict[str, Any]:
    """Peaks of three steps on this card, and seconds of each."""
    import torch

    full = case.tuning == "full"
    model = _model(case, config, device)
    trained = [one for one in model.parameters() if one.requires_grad]
    if case.sharding == "zero1":
        from torch.distributed.optim import ZeroRedundancyOptimizer

        optimizer: Any = ZeroRedundancyOptimizer(trained, torch.optim.AdamW, lr=1e-5, foreach=True)
    else:
        optimizer = torch.optim.AdamW(trained, lr=1e-5, foreach=True)
    ids = torch.randint(0, config["vocab_size"], (case.micro_batch, case.length), device=device)
    if device.type == "cuda":
        torch.cuda.reset_peak_memory_stats()
    seconds: list[float] = []
    for _ in range(3):
        start = time.perf_counter()
        # FSDP casts weights itself; the others compute under autocast as one card does.
        cast = torch.autocast(
            device.type, torch.bfloat16, enabled=case.sharding != "fsdp" or not full
        )
        with cast:
            loss = model(input_ids=ids, labels=ids, use_cache=False).loss
        loss.backward()
        optimizer.step()
        optimizer.zero_grad()
        if device.type == "cuda":
            torch.cuda.synchronize()
        seconds.append(round(time.perf_counter() - start, 4))
    found: dict[str, Any] = {"step_seconds": seconds, "loss": round(float(loss.detach()), 3)}
    if device.type == "cuda":
        found["allocated_gib"] = torch.cuda.max_memory_allocated() / GIB
        found["reserved_gib"] = torch.cuda.max_memory_reserved() / GIB
        found["live_gib"] = round(torch.cuda.memory_allocated() / GIB, 4)
    return found


def _model(case: Case, config: dict[str, Any], device: Any) -> Any:
    """The model, shared out over the cards."""
    import torch
    from transformers import AutoConfig, AutoModelForCausalLM

    full = case.tuning == "full"
    rest = {key: value for key, value in config.items() if key != "model_type"}
    settings = AutoConfig.for_model(config["model_type"], **rest)
    settings._attn_implementation = "sdpa"
    with torch.device("meta"):
        kind = torch.float32 if full else torch.bfloat16
        model: Any = AutoModelForCausalLM.from_config(settings, dtype=kind)
        if not full:
            model.requires_grad_(False)
            model = _adapted(model)
    base = model if full else model.get_base_model()
    if case.checkpointing == "full":
        base.gradient_checkpointing_enable(gradient_checkpointing_kwargs={"use_reentrant": False})
        if not full:
            base.enable_input_require_grads()
    if case.sharding == "fsdp":
        from torch.distributed.fsdp import MixedPrecisionPolicy, fully_shard

        policy = MixedPrecisionPolicy(param_dtype=torch.bfloat16, reduce_dtype=torch.float32)
        for layer in base.model.layers:
            fully_shard(layer, mp_policy=policy)
        fully_shard(model, mp_policy=policy)
    model.to_empty(device=device)
    base.tie_weights()
    with torch.no_grad():
        for parameter in model.parameters():
            parameter.fill_(1.0) if parameter.dim() < 2 else parameter.normal_(0.0, 0.02)
    base.model.rotary_emb = type(base.model.rotary_emb)(settings).to(device)
    if case.sharding in ("none", "zero1"):
        from torch.nn.parallel import DistributedDataParallel

        cards = [device.index] if device.type == "cuda" else None
        model = DistributedDataParallel(model, device_ids=cards)
    return model.train()


def _adapted(model: Any) -> Any:
    import torch
    from peft import LoraConfig, get_peft_model

    names = ["q_proj", "k_proj", "v_proj", "o_proj", "gate_proj", "up_proj", "down_proj"]
    model = get_peft_model(model, LoraConfig(r=16, lora_alpha=32, target_modules=names))
    for parameter in model.parameters():
        if parameter.requires_grad:
            parameter.data = parameter.data.to(torch.float32)
    return model


def estimated(row: dict[str, Any]) -> Any:
    """The formula's figures for a row."""
    from unift.estimate import Shape, estimate_memory

    case = Case(**row["case"])
    return estimate_memory(
        Shape.from_config(config_of(case.model)),
        tuning=case.tuning,  # type: ignore[arg-type]  # a word of the table above
        micro_batch=case.micro_batch,
        length=case.length,
        checkpointing=case.checkpointing,  # type: ignore[arg-type]  # likewise
        dtype="mixed" if case.tuning == "full" else "bf16",
        loss="plain",
        devices=row["devices"],
        sharding=case.sharding,  # type: ignore[arg-type]  # likewise
    )


def report(rows: list[dict[str, Any]]) -> str:
    """The table as Markdown."""
    lines = ["| configuration, on each of the cards | measured | estimate | error | reserved |"]
    lines += ["|---|--:|--:|--:|--:|"]
    errors: list[float] = []
    for row in rows:
        case = Case(**row["case"])
        name = f"{case.model.rpartition('/')[2]} {case.tuning}, {case.sharding} over "
        name += f"{row['devices']}, {case.micro_batch}x{case.length}, checkpointing "
        name += case.checkpointing
        if "error" in row:
            lines.append(f"| {name} | {row['error'][:100]} | | | |")
            continue
        found = estimated(row).allocated_gib
        off = found / row["allocated_gib"] - 1
        errors.append(off)
        miss = " **miss**" if off > 0.10 or off < -0.03 else ""
        lines.append(
            f"| {name} | {row['allocated_gib']:.2f} | {found:.2f} | {off:+.1%}{miss} "
            f"| {row['reserved_gib']:.2f} |"
        )
    if errors:
        mean = sum(map(abs, errors)) / len(errors)
        lines += ["", f"Mean {mean:.1%}, {min(errors):+.1%} to {max(errors):+.1%}."]
    return "\n".join(lines)


if __name__ == "__main__":
    sys.exit(main())

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

import os
import sys
import time
from dataclasses import dataclass, replace
from typing import Any

from _configs import L1, L3, L8, config_of
from _loop import GIB, fill, options, read, table, three_steps


@dataclass(frozen=True)
class Case:
    """One configuration on all cards; `micro_batch` rows of `length` on each. `pause`:
    seconds between steps; `explained`: what is alive at the peak is written down, too."""

    model: str
    tuning: str
    sharding: str  # fsdp, zero1, none
    length: int
    micro_batch: int
    checkpointing: str
    pause: float = 0.0
    explained: bool = False


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
    # Why the first ZeRO-1 row needs more than its terms (`_sharding.shard`): a pause lets the old
    # buckets go. The last three are held out: the formula was committed before them.
    Case(L1, "full", "zero1", 2048, 1, "full", pause=0.5),
    Case(L1, "full", "zero1", 2048, 1, "full", explained=True),
    Case(L1, "full", "zero1", 4096, 2, "full"),
    Case(L1, "full", "none", 4096, 1, "full"),
    Case(L3, "lora", "zero1", 2048, 2, "full"),
]


def main() -> int:
    """Fill the table; 0 also when time ran out."""
    given = options(120.0)
    if given.report:
        print(report(read(given.out)))
        return 0
    began = time.perf_counter() - time.process_time()  # imports count
    import torch
    import torch.distributed as dist
    from grid import _shrunk

    rank, world = int(os.environ["RANK"]), int(os.environ["WORLD_SIZE"])
    device = torch.device("cpu")
    if not given.tiny:
        device = torch.device("cuda", int(os.environ["LOCAL_RANK"]))
        torch.cuda.set_device(device)
    dist.init_process_group("gloo" if given.tiny else "nccl")

    def late() -> bool:
        """Any of the processes says that time is over: they have to stop together."""
        over = torch.tensor(float(time.perf_counter() - began > given.seconds), device=device)
        dist.all_reduce(over)
        return bool(over.item())

    def one(case: Case) -> dict[str, Any]:
        config = config_of(case.model)
        if given.tiny:
            config, case = _shrunk(config), replace(case, length=64, micro_batch=2)
        return measure(case, config, device)

    def highest(row: dict[str, Any]) -> dict[str, Any]:
        """The higher peaks of the cards."""
        peaks = torch.tensor([row.get("allocated_gib", 0.0), row.get("reserved_gib", 0.0)])
        peaks = peaks.to(device)
        dist.all_reduce(peaks, dist.ReduceOp.MAX)
        if "allocated_gib" in row:
            row["allocated_gib"], row["reserved_gib"] = (round(x, 4) for x in peaks.tolist())
        return {**row, "devices": world}

    fill(given.out, CASES, one, device=device, late=late, finish=highest, writes=rank == 0)
    dist.barrier()
    dist.destroy_process_group()
    return 0


def measure(case: Case, config: dict[str, Any], device: Any) -> dict[str, Any]:
    """Peaks of three steps on this card, and seconds of each."""
    if case.explained and device.type == "cuda":
        from _snapshot import at_peak

        row: dict[str, Any] = {}
        alive = at_peak(lambda: row.update(_steps(case, config, device)))
        return {**row, "alive_at_peak": alive}
    return _steps(case, config, device)


def _steps(case: Case, config: dict[str, Any], device: Any) -> dict[str, Any]:
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

    def forward() -> Any:
        # FSDP casts weights itself; the others compute under autocast as one card does.
        cast = case.sharding != "fsdp" or not full
        with torch.autocast(device.type, torch.bfloat16, enabled=cast):
            return model(input_ids=ids, labels=ids, use_cache=False).loss

    return three_steps(device, forward, optimizer, case.pause)


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


def estimated(row: dict[str, Any]) -> float:
    """The formula's GiB for a row. This loop's optimiser makes the square roots of all its second
    moments at once (torch's ``foreach`` AdamW), which unift's does not and the formula leaves out:
    weights, states, gradients, buckets and these are added up here, and the higher figure counts.
    """
    from unift.estimate import Shape, estimate_memory

    case = Case(**row["case"])
    count = row["devices"]
    found = estimate_memory(
        Shape.from_config(config_of(case.model)),
        tuning=case.tuning,  # type: ignore[arg-type]  # a word of the table above
        micro_batch=case.micro_batch,
        length=case.length,
        checkpointing=case.checkpointing,  # type: ignore[arg-type]  # likewise
        dtype="mixed" if case.tuning == "full" else "bf16",
        loss="plain",
        devices=count,
        sharding=case.sharding,  # type: ignore[arg-type]  # likewise
    )
    if case.tuning != "full":
        return found.allocated_gib
    roots = {"fsdp": 20 / count, "zero1": 12 + 12 / count, "none": 24.0}[case.sharding]
    return max(found.allocated_gib, found.parameters * roots / GIB)


def report(rows: list[dict[str, Any]]) -> str:
    """The table as Markdown."""

    def told(row: dict[str, Any]) -> tuple[str, float]:
        case = Case(**row["case"])
        name = f"{case.model.rpartition('/')[2]} {case.tuning}, {case.sharding} over "
        name += f"{row['devices']}, {case.micro_batch}x{case.length}, checkpointing "
        name += case.checkpointing
        name += f", {case.pause:g} s between steps" if case.pause else ""
        return name, estimated(row)

    return table("configuration, on each of the cards", rows, told)


if __name__ == "__main__":
    sys.exit(main())

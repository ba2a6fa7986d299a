"""Training runs one after another, each of one candidate; prints one JSON line for each.

``python _run.py RUNS.json [SECONDS]``: a list of runs, ``{"name": ..., "by": "unift" | "trl",
"shape": "8b", "tunes": ..., ...}`` (see `DEFAULTS`); those by "unsloth" are left to
`unsloth_peer.py`. The frozen weights of a shape are made once,
on the card, and lent to every run that wants them. Lines also go to $OUT/results.jsonl. No run
begins after SECONDS.
"""

from __future__ import annotations

import contextlib
import copy
import gc
import json
import os
import statistics
import sys
import tempfile
import time
import traceback
from pathlib import Path
from typing import Any

os.environ.setdefault("HF_HUB_OFFLINE", "1")
os.environ.setdefault("TOKENIZERS_PARALLELISM", "false")
os.environ.setdefault("PYTORCH_CUDA_ALLOC_CONF", "expandable_segments:True")

import _inputs
import _looks
import torch
from transformers import TrainerCallback

TARGETS = ["q_proj", "k_proj", "v_proj", "o_proj", "gate_proj", "up_proj", "down_proj"]
DEFAULTS: dict[str, Any] = {
    "shape": "8b",
    "tunes": "lora",
    "rows": "chat",
    "sequence": 2048,
    "steps": 8,
    "warm": 3,
    "repeats": 1,  # trainings, each with an adapter, rows and an optimiser of its own
    "batch": 96,  # rows a step (unift), or
    "micro": 4,  # sequences a pass
    "learning_rate": 1e-4,
    "options": {},
}


class Clock(TrainerCallback):
    """When each step ended, what it lost, and the end of the run after the last."""

    def __init__(self, steps: int, stop: bool) -> None:
        self.marks: list[float] = []
        self.losses: list[float] = []
        self._steps, self._stop = steps, stop

    def on_step_end(self, args: Any, state: Any, control: Any, **kwargs: Any) -> None:
        if torch.cuda.is_available():
            torch.cuda.synchronize()
        self.marks.append(time.perf_counter())
        control.should_log = True
        if self._stop and state.global_step >= self._steps:
            control.should_training_stop = True
            control.should_save = control.should_evaluate = False

    def on_log(
        self, args: Any, state: Any, control: Any, logs: dict[str, Any] | None = None, **kwargs: Any
    ) -> None:
        if logs and "loss" in logs:
            self.losses.append(round(float(logs["loss"]), 4))


def unift(run: dict[str, Any]) -> dict[str, Any]:
    """This package, through the plan and trainer that `unift.train` uses."""
    import unift_local
    from unift_local import checkpoint, recipe, speed
    from unift_local.callbacks import Journal
    from unift_local.packing import Row
    from unift_local.rundir import EventLog, RunDir

    from unift.spec import make_spec

    folder = Path(tempfile.mkdtemp())
    (folder / "checkpoints").mkdir()
    data = folder / "plan.jsonl"
    turn = [{"role": "user", "content": "a"}, {"role": "assistant", "content": "b"}]
    data.write_text(json.dumps({"messages": turn}) + "\n")
    provider = {
        "lora": unift_local.LocalLora,
        "qlora": unift_local.LocalQlora,
        "full": unift_local.LocalFull,
    }[run["tunes"]]()
    options = {"pack_length": run["sequence"], "micro_batch": run["micro"], **run["options"]}
    extra = {} if run["tunes"] == "full" else {"dropout": run.get("dropout", 0.0)}
    spec = make_spec(
        provider=provider.name,
        model=SMALL,
        data=str(data),
        learning_rate=run["learning_rate"],
        batch_size=run["batch"],
        max_steps=10_000,
        warmup_ratio=0.0,
        seed=run.get("seed", 42),
        options={provider.name: options},
        **extra,
    )
    plan = provider.plan(spec)
    total = run["steps"] + 2
    model = lend(run, speed.attention_name(plan))
    base = memory("memory_allocated")
    if plan.payload["tunes"] == "full":
        model.requires_grad_(True)
    else:
        model = recipe.add_adapter(plan, model)
    ids = _inputs.token_rows(
        run["rows"],
        run["batch"] * total,
        run["sequence"],
        model.config.vocab_size,
        run["rows_seed"],
    )
    rows = [Row(one, one) for one in ids]
    place = RunDir(folder)
    never = 10**9
    journal = Journal(
        place,
        EventLog(place.events_file),
        False,  # nobody asks for the end
        checkpoint.Progress(),
        plan,
        total_steps=never,
        steps_per_epoch=never,
        eval_steps=never,
        patience=0,
        keep=1,
        evaluates=False,
        learning_rate=run["learning_rate"],
    )
    from transformers import AutoTokenizer

    trainer = recipe.StepTrainer(
        model=model,
        args=recipe.arguments(plan, place.checkpoints),
        plan=plan,
        rows=rows,
        validation=[],
        tokenizer=AutoTokenizer.from_pretrained(SMALL),
        journal=journal,
    )
    clock = Clock(run["steps"], stop=True)
    trainer.add_callback(clock)
    seen: list[int] = []
    collate = trainer.data_collator

    def counting(batch: Any) -> Any:
        out = collate(batch)
        seen.append(out["tokens"])
        return out

    trainer.data_collator = counting
    reset_peak()
    trainer.train()
    report = {"base_gib": base, **figures(run, clock, seen)}
    for name, look in (("profile", _looks.profile), ("peak", _looks.at_peak)):
        if run.get(name):
            try:
                report[name] = look(run, trainer, rows)
            except Exception as error:  # noqa: BLE001 - the speed is measured all the same
                report[name] = repr(error)
    return report


def trl(run: dict[str, Any]) -> dict[str, Any]:
    """TRL as its documentation has it (`plain`), or with every fast setting that it offers."""
    from datasets import Dataset
    from peft import LoraConfig
    from transformers import AutoTokenizer
    from trl.trainer.sft_config import SFTConfig
    from trl.trainer.sft_trainer import SFTTrainer
    from unift_local import attention

    model = lend(run, attention.register() if run.get("varlen") else "sdpa")
    base = memory("memory_allocated")
    adapter = LoraConfig(
        r=16,
        lora_alpha=32,
        lora_dropout=run.get("dropout", 0.0),
        target_modules=TARGETS,
        task_type="CAUSAL_LM",
    )
    ids = _inputs.token_rows(
        run["rows"], run["examples"], run["sequence"], model.config.vocab_size, run["rows_seed"]
    )
    arguments = SFTConfig(
        output_dir=tempfile.mkdtemp(),
        max_length=run["sequence"],
        per_device_train_batch_size=run["micro"],
        gradient_accumulation_steps=run.get("accumulate", 1),
        max_steps=run["steps"],
        learning_rate=run["learning_rate"],
        logging_steps=1,
        report_to=[],
        save_strategy="no",
        bf16=torch.cuda.is_available(),
        use_cpu=not torch.cuda.is_available(),
        gradient_checkpointing=run.get("checkpointing", True),
        packing=run.get("packing", False),
        use_liger_kernel=run.get("liger", False),
        optim=run.get("optimizer", "adamw_torch_fused"),
        seed=run.get("seed", 42),
        disable_tqdm=True,
    )
    clock = Clock(run["steps"], stop=False)
    trainer = SFTTrainer(
        model=model,
        args=arguments,
        train_dataset=Dataset.from_dict({"input_ids": ids}),
        processing_class=AutoTokenizer.from_pretrained(SMALL),
        peft_config=None if run["tunes"] == "full" else adapter,
        callbacks=[clock],
    )
    seen: list[int] = []
    collate = trainer.data_collator

    def counting(batch: Any) -> Any:
        seen.append(sum(len(one["input_ids"]) for one in batch))
        return collate(batch)

    trainer.data_collator = counting
    reset_peak()
    trainer.train()
    each = run.get("accumulate", 1)
    steps = [sum(seen[i : i + each]) for i in range(0, len(seen), each)]
    return {"base_gib": base, **figures(run, clock, steps)}


def figures(run: dict[str, Any], clock: Clock, tokens: list[int]) -> dict[str, Any]:
    """Useful tokens per second after warm-up, its spread over steps, and peak memory."""
    warm, marks = run["warm"], clock.marks
    each = [tokens[step] / (marks[step] - marks[step - 1]) for step in range(warm, len(marks))]
    done = sum(tokens[warm : len(marks)])
    return {
        "tokens_per_second": round(done / (marks[-1] - marks[warm - 1])),
        "slowest_step": round(min(each)),
        "fastest_step": round(max(each)),
        "tokens_a_step": round(done / len(each)),
        "allocated_gib": memory("max_memory_allocated"),
        "reserved_gib": memory("max_memory_reserved"),
        "losses": clock.losses[: run["steps"]],
    }


def memory(what: str) -> float:
    """GiB of the card."""
    return round(getattr(torch.cuda, what)() / 2**30, 2) if torch.cuda.is_available() else 0.0


def reset_peak() -> None:
    """Loading does not count."""
    if torch.cuda.is_available():
        torch.cuda.reset_peak_memory_stats()


def repeated(run: dict[str, Any]) -> dict[str, Any]:
    """The run as often as it is wanted; the median of the speeds, the most of the memory."""
    found: list[dict[str, Any]] = []
    for number in range(run["repeats"]):
        again = {"profile": False, "peak": False} if number else {}
        found.append({"unift": unift, "trl": trl}[run["by"]]({**run, "rows_seed": number, **again}))
        gc.collect()
    result = dict(found[0])
    if len(found) > 1:
        speeds = [one["tokens_per_second"] for one in found]
        result |= {"tokens_per_second": round(statistics.median(speeds)), "repeats": speeds}
        for key in ("allocated_gib", "reserved_gib"):
            result[key] = max(one[key] for one in found)
        result["slowest_step"] = min(one["slowest_step"] for one in found)
        result["fastest_step"] = max(one["fastest_step"] for one in found)
    return result


_held: dict[str, Any] = {}
SMALL = ""  # a model of the same layers on disk, that plans and tokenizers come from


def lend(run: dict[str, Any], attention: str) -> Any:
    """The model of a run: a structure of its own around weights that others may use after it."""
    key = f"{run['shape']} {run['tunes']}"
    if key not in _held:
        _held.clear()
        tidy()
        _held[key] = make(run)
    original = _held[key]
    model = copy.deepcopy(original, {id(one): one for one in original.parameters()})
    model.set_attn_implementation(attention)
    model.config.use_cache = False
    return model


def make(run: dict[str, Any]) -> Any:
    """Random bf16 weights of a shape, in 4 bits if the run wants that."""
    model = _inputs.random_model(run["shape"], DEVICE)
    model.requires_grad_(False)
    if run["tunes"] == "qlora":
        from bitsandbytes.nn import Linear4bit, Params4bit

        for parent in list(model.model.layers.modules()):
            for name, child in list(parent.named_children()):
                if type(child) is torch.nn.Linear:
                    four = Linear4bit(
                        child.in_features,
                        child.out_features,
                        bias=False,
                        compute_dtype=child.weight.dtype,
                        quant_type="nf4",
                        device="meta",
                    )
                    four.weight = Params4bit(
                        child.weight.data, requires_grad=False, quant_type="nf4"
                    ).to(DEVICE)
                    setattr(parent, name, four)
        model.is_loaded_in_4bit = True  # as `from_pretrained` marks it
    return model


def tidy() -> None:
    """Nothing of the last run is left on the card, nor in the compiler's memory."""
    gc.collect()
    torch._dynamo.reset()
    if torch.cuda.is_available():
        torch.cuda.empty_cache()


DEVICE = "cuda" if torch.cuda.is_available() else "cpu"


def main() -> int:
    """Run what the file says, while there is time."""
    global SMALL
    SMALL = tempfile.mkdtemp()
    with contextlib.redirect_stdout(sys.stderr):
        _inputs.make_model("tiny", Path(SMALL), "cpu")
    until = time.monotonic() + float(sys.argv[2] if len(sys.argv) > 2 else "inf")
    out = Path(os.environ.get("OUT", tempfile.gettempdir())) / "results.jsonl"
    for wanted in json.loads(Path(sys.argv[1]).read_text()):
        run = {**DEFAULTS, **wanted}
        if run["by"] == "unsloth":  # has a process of its own (unsloth_peer.py)
            continue
        if time.monotonic() + run.get("needs", 20) > until:
            continue
        began = time.perf_counter()
        try:
            result = repeated(run)
        except Exception as error:  # noqa: BLE001 - a candidate that fails is a result
            traceback.print_exc()
            result = {"error": f"{type(error).__name__}: {str(error)[:300]}"}
        result["wall"] = round(time.perf_counter() - began, 1)
        line = json.dumps({"name": run["name"], **result})
        print(line, flush=True)
        with out.open("a") as file:
            file.write(line + "\n")
        tidy()
    return 0


if __name__ == "__main__":
    sys.exit(main())

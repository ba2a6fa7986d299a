"""The embedded demo on a CPU: this package's trainer against TRL as it comes, in one process.

``python benchmarks/training/demo_cpu.py [ROUNDS]``. Both train LoRA of the same rank on the same
targets, on the same rows in the same order, the same number a step. Time is CPU time of the
process, and the two take turns, so that other load on the machine hits both.
"""

from __future__ import annotations

import os
import sys
import tempfile
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

os.environ.setdefault("HF_HUB_OFFLINE", "1")
os.environ.setdefault("GOMP_SPINCOUNT", "2000")

import torch
from transformers import TrainerCallback

STEPS = 9
WARM = 2


class Clock(TrainerCallback):
    """CPU seconds of each step after the warm-up."""

    def __init__(self) -> None:
        self.cpu: list[float] = []

    def on_step_begin(self, args: Any, state: Any, control: Any, **kwargs: Any) -> None:
        self._began = time.process_time()

    def on_step_end(self, args: Any, state: Any, control: Any, **kwargs: Any) -> None:
        self.cpu.append(time.process_time() - self._began)
        control.should_save = control.should_evaluate = False
        if state.global_step >= STEPS:
            control.should_training_stop = True


def ours(plan: Any, rows: Any) -> Clock:
    """The trainer that `unift demo` uses."""
    from transformers import AutoTokenizer
    from unift_local import checkpoint, recipe
    from unift_local.callbacks import Journal
    from unift_local.rundir import EventLog, RunDir

    base = recipe.base_folder(plan)
    model = recipe.add_adapter(plan, recipe.load_base(plan, base))
    place = RunDir(Path(tempfile.mkdtemp()))
    never = 10**9
    journal = Journal(
        place,
        EventLog(place.events_file),
        False,
        checkpoint.Progress(),
        plan,
        total_steps=never,
        steps_per_epoch=never,
        eval_steps=never,
        patience=0,
        keep=1,
        evaluates=False,
        learning_rate=1e-3,
    )
    trainer = recipe.StepTrainer(
        model=model,
        args=recipe.arguments(plan, place.checkpoints),
        plan=plan,
        rows=rows,
        validation=[],
        tokenizer=AutoTokenizer.from_pretrained(base),
        journal=journal,
    )
    clock = Clock()
    trainer.add_callback(clock)
    trainer.train()
    return clock


def stock(plan: Any, rows: Any, bf16: bool | None = None) -> Clock:
    """`SFTTrainer` with its own defaults; only what the task fixes is set.

    Its default is bf16, which processors without such instructions emulate.
    """
    from datasets import Dataset
    from peft import LoraConfig
    from transformers import AutoModelForCausalLM, AutoTokenizer
    from trl.trainer.sft_config import SFTConfig
    from trl.trainer.sft_trainer import SFTTrainer
    from unift_local import recipe

    base = recipe.base_folder(plan)
    adapter = LoraConfig(
        r=plan.value("rank"),
        lora_alpha=plan.value("alpha"),
        lora_dropout=plan.value("dropout"),  # peft has none by default either
        target_modules=list(plan.value("targets")),
        task_type="CAUSAL_LM",
    )
    arguments = SFTConfig(
        output_dir=tempfile.mkdtemp(),
        per_device_train_batch_size=plan.value("batch_size"),
        max_steps=STEPS,
        learning_rate=plan.value("learning_rate"),
        use_cpu=True,
        bf16=bf16,
        save_strategy="no",
        report_to=[],
        disable_tqdm=True,
        seed=plan.value("seed"),
    )
    clock = Clock()
    records = [{"input_ids": row.input_ids, "labels": row.labels} for row in rows]
    trainer = SFTTrainer(
        model=AutoModelForCausalLM.from_pretrained(base, dtype=torch.float32),
        args=arguments,
        train_dataset=Dataset.from_list(records),
        processing_class=AutoTokenizer.from_pretrained(base),
        peft_config=adapter,
        callbacks=[clock],
    )
    trainer.train()
    return clock


def main() -> None:
    """Take turns and print medians."""
    from statistics import median

    from transformers import AutoTokenizer
    from unift_local import LocalLora, recipe
    from unift_local.packing import make_rows

    from unift.cli.demo import settings_of
    from unift.data import read_examples
    from unift.data.rendering import render_all, stop_token_ids
    from unift.demo import resolve
    from unift.spec import make_spec

    rounds = int(sys.argv[1]) if len(sys.argv) > 1 else 3
    wanted = {key: value for key, value in settings_of("desk").items() if key != "name"}
    threads = {"threads": int(os.environ.get("OMP_NUM_THREADS", "2"))}
    plan = LocalLora().plan(make_spec(**wanted, options={"local-lora": threads}))
    exact = {"local-lora": {**threads, "products": "fp32"}}
    in_fp32_too = LocalLora().plan(make_spec(**wanted, options=exact))
    torch.set_num_threads(plan.value("threads"))
    tokenizer = AutoTokenizer.from_pretrained(recipe.base_folder(plan))
    examples = read_examples(Path(resolve("demo:train")))
    stops = stop_token_ids(tokenizer, {})
    rendered = render_all(tokenizer, examples, plan.value("max_length"), stop_ids=stops)
    rows = make_rows(rendered)
    candidates: dict[str, Callable[[], Clock]] = {
        f"unift, products in {plan.value('products')}": lambda: ours(plan, rows),
        "trl": lambda: stock(plan, rows),
        "unift, products in fp32": lambda: ours(in_fp32_too, rows),
        "trl in fp32": lambda: stock(plan, rows, bf16=False),
    }
    first = next(iter(candidates))
    found: dict[str, list[float]] = {name: [] for name in candidates}
    for _ in range(rounds):
        for name, run in candidates.items():
            found[name].append(median(run().cpu[WARM:]))
    for name in found:
        print(
            f"{name}: {1e3 * median(found[name]):.0f} ms CPU a step "
            f"({', '.join(f'{1e3 * one:.0f}' for one in found[name])}), "
            f"{median(found[name]) / median(found[first]):.2f} times the first"
        )


if __name__ == "__main__":
    main()

"""Do all paths learn the same? 300 steps of the fast and of the plain path from each of five seeds,
and, from the first seed, of the peers: TRL as it comes, TRL tuned, Unsloth where it is installed.

``python benchmarks/training/same_end.py [SEEDS] [STEPS] [demo|tiny]`` trains adapters of rank 16 on
the demo's rows, over the embedded model or over a random one of two small layers, on a card (bf16,
the fast path compiled) if there is one and else on a CPU (fp32). Every training is a process of
its own, $JOBS of them at once (on a card one a core, else one). It prints the validation loss of
both paths, their difference for each seed, and its 95 % interval (Student's t over seeds); losses
of all steps go to $OUT/same_end.jsonl, which `curves.py` draws.
"""

from __future__ import annotations

import json
import os
import subprocess
import sys
import tempfile
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

os.environ.setdefault("HF_HUB_OFFLINE", "1")
os.environ.setdefault("TOKENIZERS_PARALLELISM", "false")
OUT = Path(os.environ.get("OUT", tempfile.gettempdir())) / "same_end.jsonl"
PLAIN: dict[str, Any] = {"attention": "sdpa", "fused_adapters": False, "loss": "plain"}
PEERS = ("trl", "trl tuned", "unsloth")
BATCH = 4


def planned(seed: int, steps: int, path: str, model: str) -> Any:
    """The plan of a run; the peers take rows, schedule and adapter from it."""
    import torch
    from unift_local import LocalLora

    from unift.spec import make_spec

    chosen = PLAIN if path == "plain" else {"compile": torch.cuda.is_available()}
    options = {"threads": 1, "eval_steps": steps, "patience": 0, **chosen}
    provider = LocalLora()
    spec = make_spec(
        provider=provider.name,
        model=model,
        data="demo:train",
        validation="demo:validation",
        learning_rate=2e-3,
        batch_size=BATCH,
        max_steps=steps,
        packing=path != "plain",
        seed=seed,
        options={provider.name: options},
    )
    plan = provider.plan(spec)
    return plan.model_copy(update={"payload": {**plan.payload, "steps_per_epoch": steps}})


def ours(plan: Any) -> dict[str, Any]:
    """Validation loss after the last step, the only one that evaluates, and the training losses."""
    from unift_local import checkpoint, recipe
    from unift_local._provider import _snapshot
    from unift_local.rundir import EventLog, RunDir

    place = RunDir(Path(tempfile.mkdtemp(dir=os.environ["UNIFT_HOME"])))
    for part, field in (("train", "data"), ("validation", "validation")):
        _snapshot(place, part, plan, field)
    place.checkpoints.mkdir()
    progress = checkpoint.Progress()
    log = EventLog(place.events_file)
    journal, trainer = recipe.build(place, plan, log, False, progress)
    losses: list[float] = []
    tell = journal.on_log

    def on_log(args: Any, state: Any, control: Any, logs: Any = None, **kwargs: Any) -> None:
        if logs and "loss" in logs:
            losses.append(logs["loss"])
        tell(args, state, control, logs, **kwargs)

    journal.on_log = on_log  # events are of several steps
    trainer.train()
    return {"validation_loss": journal.progress.last_loss, "losses": losses}


def peer(plan: Any, path: str) -> dict[str, Any]:
    """The training losses of TRL, or of TRL under Unsloth, with all that the task fixes as ours."""
    unsloth: Any = None
    if path == "unsloth":
        import unsloth  # first: it changes the libraries imported after it
    import torch
    from datasets import Dataset
    from peft import LoraConfig
    from transformers import AutoModelForCausalLM, AutoTokenizer
    from trl import SFTConfig, SFTTrainer
    from unift_local import attention, recipe
    from unift_local.packing import make_rows

    from unift.data import read_examples
    from unift.data.rendering import render_all, stop_token_ids
    from unift.demo import resolve

    base = recipe.base_folder(plan)
    tokenizer = AutoTokenizer.from_pretrained(base)
    stops = stop_token_ids(tokenizer, {})
    examples = read_examples(Path(resolve("demo:train")))
    rows = make_rows(render_all(tokenizer, examples, plan.value("max_length"), stop_ids=stops))
    cuda, tuned = torch.cuda.is_available(), path == "trl tuned"
    targets = list(plan.value("targets"))
    adapter: Any = LoraConfig(
        r=plan.value("rank"),
        lora_alpha=plan.value("alpha"),
        lora_dropout=0.0,
        target_modules=targets,
        task_type="CAUSAL_LM",
    )
    torch.manual_seed(plan.value("seed"))
    if unsloth is not None:
        model, _ = unsloth.FastLanguageModel.from_pretrained(
            base,
            max_seq_length=plan.value("max_length"),
            dtype=torch.bfloat16,
            load_in_4bit=False,
            local_files_only=True,
            fix_tokenizer=False,
        )
        model = unsloth.FastLanguageModel.get_peft_model(
            model,
            r=plan.value("rank"),
            lora_alpha=plan.value("alpha"),
            lora_dropout=0,
            target_modules=targets,
            use_gradient_checkpointing="unsloth",
            random_state=plan.value("seed"),
        )
        adapter = None
    else:
        model = AutoModelForCausalLM.from_pretrained(
            base,
            dtype=torch.bfloat16 if cuda else torch.float32,
            attn_implementation=attention.register() if tuned else "sdpa",
        )
    arguments = SFTConfig(
        output_dir=tempfile.mkdtemp(),
        per_device_train_batch_size=BATCH,
        gradient_accumulation_steps=1,  # Unsloth's default is 2
        max_steps=plan.value("total_steps"),
        learning_rate=plan.value("learning_rate"),
        lr_scheduler_type=plan.value("schedule"),
        warmup_steps=plan.value("warmup_steps"),
        weight_decay=plan.value("weight_decay"),
        max_grad_norm=plan.value("max_grad_norm"),
        seed=plan.value("seed"),
        data_seed=plan.value("seed"),
        bf16=cuda,
        use_cpu=not cuda,
        gradient_checkpointing=not tuned,
        padding_free=tuned,
        max_length=None if tuned else 1024,
        use_liger_kernel=tuned and cuda,
        logging_steps=1,
        save_strategy="no",
        report_to=[],
        disable_tqdm=True,
    )
    records = [{"input_ids": row.input_ids, "labels": row.labels} for row in rows]
    trainer = SFTTrainer(
        model=model,
        args=arguments,
        train_dataset=Dataset.from_list(records),
        processing_class=tokenizer,
        peft_config=adapter,
    )
    trainer.train()
    history = trainer.state.log_history
    return {"losses": [float(one["loss"]) for one in history if "loss" in one]}


def one(seed: int, steps: int, path: str, model: str) -> None:
    """A single training, in this process."""
    os.environ["UNIFT_HOME"] = tempfile.mkdtemp(prefix="unift-same-end-")
    if model == "tiny":
        import _inputs

        model = tempfile.mkdtemp(dir=os.environ["UNIFT_HOME"])
        _inputs.make_model("tiny", Path(model), "cpu")
    if path == "unsloth":
        pass  # before anything imports transformers
    plan = planned(seed, steps, path, model)
    found = peer(plan, path) if path in PEERS else ours(plan)
    line = json.dumps({"seed": seed, "path": path, **found})
    with OUT.open("a") as file:
        file.write(line + "\n")
    print(line)


def main() -> None:
    """All paths, each in a process of its own."""
    import importlib.util

    import torch

    seeds = int(sys.argv[1]) if len(sys.argv) > 1 else 5
    steps = sys.argv[2] if len(sys.argv) > 2 else "300"
    model = sys.argv[3] if len(sys.argv) > 3 else "demo"
    jobs = int(os.environ.get("JOBS", (os.cpu_count() or 1) if torch.cuda.is_available() else 1))
    wanted = [(seed, path) for seed in range(seeds) for path in ("fast", "plain")]
    peers = [path for path in PEERS if path != "unsloth" or importlib.util.find_spec("unsloth")]
    wanted[2:2] = [(0, path) for path in peers]
    few = {"TORCHINDUCTOR_COMPILE_THREADS": "2"} if jobs > 1 else {}

    def run(what: tuple[int, str]) -> dict[str, Any] | None:
        command = [sys.executable, __file__, "--one", str(what[0]), steps, what[1], model]
        done = subprocess.run(
            command, env={**os.environ, **few}, capture_output=True, text=True, check=False
        )
        lines = [line for line in done.stdout.splitlines() if line.startswith('{"seed"')]
        if not lines:
            print(f"seed {what[0]} {what[1]} failed:\n{done.stderr[-1500:]}", flush=True)
            return None
        found: dict[str, Any] = json.loads(lines[-1])
        end = found.get("validation_loss")
        said = f"validation loss {end:.5f}" if end else "done"
        print(f"seed {what[0]} {what[1]}: {said}", flush=True)
        return found

    with ThreadPoolExecutor(jobs) as pool:
        results = [found for found in pool.map(run, wanted) if found is not None]
    report(results)


def report(results: list[dict[str, Any]]) -> None:
    """Differences of the pairs, their interval, and the spread of the seeds."""
    import numpy as np
    from scipy import stats

    ends = {(r["seed"], r["path"]): r.get("validation_loss") for r in results}
    seeds = [seed for seed, path in ends if path == "fast" and (seed, "plain") in ends]
    differences = [ends[seed, "fast"] - ends[seed, "plain"] for seed in seeds]
    for seed, difference in zip(seeds, differences, strict=True):
        print(f"seed {seed}: fast {ends[seed, 'fast']:.5f} difference {difference:+.5f}")
    if len(seeds) > 1:
        mean, error = np.mean(differences), stats.sem(differences)
        low, high = stats.t.interval(0.95, len(seeds) - 1, mean, error) if error else (mean, mean)
        plain = [ends[seed, "plain"] for seed in seeds]
        print(f"mean difference {mean:+.6f}, 95 % interval {low:+.6f} to {high:+.6f}")
        print(
            f"spread of the plain path over seeds: standard deviation {np.std(plain, ddof=1):.5f}"
        )


if __name__ == "__main__":
    if sys.argv[1:2] == ["--one"]:
        one(int(sys.argv[2]), int(sys.argv[3]), sys.argv[4], sys.argv[5])
    else:
        main()

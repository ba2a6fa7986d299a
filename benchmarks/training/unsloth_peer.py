"""The peer Unsloth: trainings of a random model on the rows of `_run.py`; a JSON line for each.

``python unsloth_peer.py RUNS.json [MODEL]``: a list of runs; those by "unsloth" (see `DEFAULTS`),
all of one shape, go one after another over one loaded model. MODEL is a folder that is filled
with random weights unless it has them. In a process of its own, because Unsloth changes
transformers and trl for everybody in it. Lines also go to $OUT/results.jsonl. Run it in the same
call as ``python _run.py``. Needs a card and ``pip install unsloth``.
"""

from __future__ import annotations

import gc
import json
import os
import statistics
import sys
import tempfile
import time
from pathlib import Path
from typing import Any

os.environ |= {"HF_HUB_OFFLINE": "1", "UNSLOTH_DISABLE_STATISTICS": "1"}
os.environ.setdefault("TOKENIZERS_PARALLELISM", "false")
DEFAULTS: dict[str, Any] = {
    "shape": "8b",
    "tunes": "lora",
    "rows": "chat",
    "sequence": 2048,
    "examples": 1200,
    "micro": 4,
    "accumulate": 1,
    "steps": 10,
    "warm": 4,
    "repeats": 1,
    "packing": False,
    "checkpointing": "unsloth",  # its own; False: none
}
TARGETS = ["q_proj", "k_proj", "v_proj", "o_proj", "gate_proj", "up_proj", "down_proj"]


def load(run: dict[str, Any], folder: Path) -> tuple[Any, Any]:
    """The model with a fresh adapter, and its tokenizer."""
    import _inputs
    import torch
    import unsloth

    if not (folder / "config.json").exists():
        _inputs.make_model(run["shape"], folder, "cuda")
        gc.collect()
        torch.cuda.empty_cache()
    model, tokenizer = unsloth.FastLanguageModel.from_pretrained(
        str(folder),
        max_seq_length=run["sequence"],
        dtype=torch.bfloat16,
        load_in_4bit=run["tunes"] == "qlora",
        local_files_only=True,
        fix_tokenizer=False,
    )
    model = unsloth.FastLanguageModel.get_peft_model(
        model,
        r=16,
        lora_alpha=32,
        lora_dropout=0,
        target_modules=TARGETS,
        use_gradient_checkpointing="unsloth",
    )
    return model, tokenizer


def measure(run: dict[str, Any], model: Any, tokenizer: Any, seed: int) -> dict[str, Any]:
    """One training: useful tokens per second after warm-up, peak memory, losses."""
    import _inputs
    import torch
    from datasets import Dataset
    from transformers import TrainerCallback
    from trl import SFTConfig, SFTTrainer

    model._unsloth_gradient_checkpointing = run["checkpointing"]  # its trainers go by this
    rows = _inputs.token_rows(
        run["rows"], run["examples"], run["sequence"], model.config.vocab_size, seed
    )
    ends: list[float] = []
    tokens: list[int] = []

    class Clock(TrainerCallback):
        def on_step_end(self, *args: Any, **kwargs: Any) -> None:
            torch.cuda.synchronize()
            ends.append(time.perf_counter())

    trainer = SFTTrainer(
        model=model,
        args=SFTConfig(
            output_dir=tempfile.mkdtemp(),
            max_length=run["sequence"],
            per_device_train_batch_size=run["micro"],
            gradient_accumulation_steps=run["accumulate"],
            max_steps=run["steps"],
            learning_rate=1e-4,
            packing=run["packing"],
            gradient_checkpointing=bool(run["checkpointing"]),
            bf16=True,
            optim="adamw_torch_fused",
            logging_steps=1,
            save_strategy="no",
            report_to=[],
            disable_tqdm=True,
        ),
        train_dataset=Dataset.from_dict({"input_ids": [list(map(int, row)) for row in rows]}),
        processing_class=tokenizer,
        callbacks=[Clock()],
    )
    collate = trainer.data_collator

    def counted(batch: list[dict[str, Any]]) -> Any:
        tokens.append(sum(len(row["input_ids"]) for row in batch))  # useful: before padding
        return collate(batch)

    trainer.data_collator = counted
    gc.collect()
    torch.cuda.empty_cache()
    torch.cuda.reset_peak_memory_stats()
    trainer.train()
    warm, steps, each = run["warm"], run["steps"], run["accumulate"]
    return {
        "tokens_per_second": round(
            sum(tokens[warm * each : steps * each]) / (ends[-1] - ends[warm - 1])
        ),
        "allocated_gib": round(torch.cuda.max_memory_allocated() / 2**30, 2),
        "reserved_gib": round(torch.cuda.max_memory_reserved() / 2**30, 2),
        "losses": [round(one["loss"], 4) for one in trainer.state.log_history if "loss" in one],
    }


def main() -> None:
    """Run what the file says."""
    try:
        import unsloth  # first: it changes the libraries imported after it
    except ImportError:
        sys.exit("unsloth_peer.py needs Unsloth: pip install unsloth")
    wanted = json.loads(Path(sys.argv[1]).read_text())
    runs = [{**DEFAULTS, **one} for one in wanted if one["by"] == "unsloth"]
    if len({(one["shape"], one["tunes"]) for one in runs}) != 1:
        sys.exit("All runs of one process are of one model.")
    folder = Path(sys.argv[2] if len(sys.argv) > 2 else tempfile.mkdtemp())
    folder.mkdir(parents=True, exist_ok=True)
    model, tokenizer = load(runs[0], folder)
    for run in runs:
        found = [measure(run, model, tokenizer, seed) for seed in range(run["repeats"])]
        speeds = [one["tokens_per_second"] for one in found]
        line = json.dumps(
            {
                "name": run["name"],
                "tokens_per_second": round(statistics.median(speeds)),
                "repeats": speeds,
                "allocated_gib": max(one["allocated_gib"] for one in found),
                "reserved_gib": max(one["reserved_gib"] for one in found),
                "losses": found[0]["losses"],
                "unsloth": unsloth.__version__,
            }
        )
        print(line, flush=True)
        out = Path(os.environ.get("OUT", tempfile.gettempdir())) / "results.jsonl"
        with out.open("a") as file:
            file.write(line + "\n")


if __name__ == "__main__":
    main()

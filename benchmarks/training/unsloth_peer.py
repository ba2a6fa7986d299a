"""The peer Unsloth: one training of the 8B shape on random rows; prints one JSON line.

``python unsloth_peer.py '{"name": "equal", "rows": "equal", "micro": 4, "checkpointing": false}'``,
in a process of its own, because Unsloth changes transformers and trl for everybody in it. Run it in
the same call as ``python _run.py with_unsloth.json``. Needs a card and ``pip install unsloth``.
"""

from __future__ import annotations

import json
import os
import sys
import tempfile
import time
from pathlib import Path
from typing import Any

os.environ |= {"HF_HUB_OFFLINE": "1", "UNSLOTH_DISABLE_STATISTICS": "1"}
DEFAULTS: dict[str, Any] = {
    "shape": "8b",
    "rows": "chat",
    "sequence": 2048,
    "examples": 1200,
    "micro": 4,
    "steps": 10,
    "warm": 4,
    "packing": False,
    "checkpointing": "unsloth",
}


def main(run: dict[str, Any]) -> None:
    try:
        import unsloth  # first: it changes the libraries imported after it
    except ImportError:
        sys.exit("unsloth_peer.py needs Unsloth: pip install unsloth")
    import _inputs
    import torch
    from datasets import Dataset
    from transformers import TrainerCallback
    from trl import SFTConfig, SFTTrainer

    with tempfile.TemporaryDirectory() as place:
        _inputs.make_model(run["shape"], Path(place), "cuda")
        model, tokenizer = unsloth.FastLanguageModel.from_pretrained(
            place,
            max_seq_length=run["sequence"],
            dtype=torch.bfloat16,
            load_in_4bit=False,
            local_files_only=True,
            fix_tokenizer=False,
        )
    model = unsloth.FastLanguageModel.get_peft_model(
        model,
        r=16,
        lora_alpha=32,
        lora_dropout=0,
        target_modules=[
            "q_proj",
            "k_proj",
            "v_proj",
            "o_proj",
            "gate_proj",
            "up_proj",
            "down_proj",
        ],
        use_gradient_checkpointing=run["checkpointing"],
    )
    rows = _inputs.token_rows(
        run["rows"], run["examples"], run["sequence"], model.config.vocab_size
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
            max_steps=run["steps"],
            packing=run["packing"],
            bf16=True,
            optim="adamw_torch_fused",
            logging_steps=1000,
            save_strategy="no",
            report_to=[],
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
    torch.cuda.reset_peak_memory_stats()
    trainer.train()
    warm, steps = run["warm"], run["steps"]
    result = {
        "name": run["name"],
        "tokens_per_second": round(sum(tokens[warm:steps]) / (ends[-1] - ends[warm - 1])),
        "allocated_gib": round(torch.cuda.max_memory_allocated() / 2**30, 2),
        "reserved_gib": round(torch.cuda.max_memory_reserved() / 2**30, 2),
        "unsloth": unsloth.__version__,
    }
    print(json.dumps(result), flush=True)


if __name__ == "__main__":
    main({**DEFAULTS, **json.loads(sys.argv[1])})

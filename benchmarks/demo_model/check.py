"""Score the demo's base model as it is, with five examples in the prompt, and after LoRA.

    python check.py --model ../../unift/demo/model --data ../../unift/demo/data --threads 2

A plain loop over transformers and peft, so it also tells whether a trainer adds or costs anything.
"""

from __future__ import annotations

import argparse
import json
import random
import time
from pathlib import Path
from typing import Any

import torch
from peft import LoraConfig, get_peft_model
from transformers import AutoModelForCausalLM, AutoTokenizer

Message = dict[str, str]
Row = list[Message]
MAX_NEW_TOKENS = 80


def read(path: Path) -> list[Row]:
    return [json.loads(line)["messages"] for line in path.read_text(encoding="utf-8").splitlines()]


def few_shot(rows: list[Row], shots: list[Row]) -> list[Row]:
    """Each row with the shots before its last question; every prompt keeps one system message."""
    before = [m for shot in shots for m in shot[1:]]
    return [[row[0], *before, *row[1:]] for row in rows]


@torch.inference_mode()
def answers(model: Any, tokenizer: Any, rows: list[Row], batch: int) -> list[str]:
    """Greedy answers to the last question of every row, in batches of like length."""
    prompts = [
        tokenizer.apply_chat_template(row[:-1], tokenize=False, add_generation_prompt=True)
        for row in rows
    ]
    order = sorted(range(len(prompts)), key=lambda i: len(prompts[i]))
    out = [""] * len(prompts)
    model.eval()
    for at in range(0, len(order), batch):
        part = order[at : at + batch]
        inputs = tokenizer(
            [prompts[i] for i in part], return_tensors="pt", padding=True, padding_side="left",
            add_special_tokens=False,
        ).to(model.device)  # fmt: skip
        made = model.generate(
            input_ids=inputs["input_ids"], attention_mask=inputs["attention_mask"],
            max_new_tokens=MAX_NEW_TOKENS, do_sample=False,
        )  # fmt: skip
        texts = tokenizer.batch_decode(
            made[:, inputs["input_ids"].shape[1] :], skip_special_tokens=True
        )
        for index, text in zip(part, texts, strict=True):
            out[index] = text
    return out


def score(rows: list[Row], made: list[str]) -> dict[str, float]:
    """Exact match, valid JSON and the share of right values by key, in percent."""
    hits: dict[str, int] = {}
    for row, text in zip(rows, made, strict=True):
        wanted = json.loads(row[-1]["content"])
        try:
            got = json.loads(text)
        except ValueError:
            got = None
        hits["exact"] = hits.get("exact", 0) + (text == row[-1]["content"])
        hits["json"] = hits.get("json", 0) + isinstance(got, dict)
        for key, value in wanted.items():
            right = isinstance(got, dict) and key in got and got[key] == value
            hits[key] = hits.get(key, 0) + right
    return {name: 100 * count / len(rows) for name, count in hits.items()}


def encode(tokenizer: Any, row: Row, max_length: int) -> tuple[list[int], list[int]]:
    """Token ids and labels; only assistant tokens, the stop token among them, carry loss."""
    made = tokenizer.apply_chat_template(
        row, return_dict=True, return_assistant_tokens_mask=True, tokenize=True
    )
    ids = made["input_ids"][:max_length]
    mask = made["assistant_masks"][:max_length]
    return ids, [i if m else -100 for i, m in zip(ids, mask, strict=True)]


def tune(
    model: Any, tokenizer: Any, rows: list[Row], args: argparse.Namespace, epochs: float
) -> int:
    """LoRA on all linear layers, cosine schedule with a short warm-up; returns the steps taken."""
    encoded = [encode(tokenizer, row, args.max_length) for row in rows]
    encoded = [e for e in encoded if any(label != -100 for label in e[1])]
    params = [p for p in model.parameters() if p.requires_grad]
    optimizer = torch.optim.AdamW(params, lr=args.lr, weight_decay=0.0)
    per_epoch = -(-len(encoded) // args.batch)
    steps = max(1, round(per_epoch * epochs))
    warm = max(1, steps // 20)
    schedule = torch.optim.lr_scheduler.SequentialLR(
        optimizer,
        [
            torch.optim.lr_scheduler.LinearLR(optimizer, 1 / warm, total_iters=warm),
            torch.optim.lr_scheduler.CosineAnnealingLR(optimizer, max(1, steps - warm)),
        ],
        [warm],
    )
    rng = random.Random(args.seed)
    queue: list[int] = []
    model.train()
    for _ in range(steps):
        if not queue:
            queue = rng.sample(range(len(encoded)), len(encoded))
        part, queue = queue[: args.batch], queue[args.batch :]
        width = max(len(encoded[i][0]) for i in part)
        pad = tokenizer.pad_token_id
        ids = torch.tensor([encoded[i][0] + [pad] * (width - len(encoded[i][0])) for i in part])
        labels = torch.tensor([encoded[i][1] + [-100] * (width - len(encoded[i][1])) for i in part])
        # padding stands on the right, so the causal mask alone keeps it out of every real token
        with torch.autocast(model.device.type, torch.bfloat16, enabled=args.bf16):
            loss = model(
                input_ids=ids.to(model.device), labels=labels.to(model.device), use_cache=False
            ).loss
        loss.backward()
        torch.nn.utils.clip_grad_norm_(params, 1.0)
        optimizer.step()
        optimizer.zero_grad(set_to_none=True)
        schedule.step()
    return steps


def show(name: str, values: dict[str, float], note: str) -> None:
    print(
        f"| {name} | " + " | ".join(f"{v:.1f}" for v in values.values()) + f" | {note} |",
        flush=True,
    )


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--model", type=Path, required=True)
    parser.add_argument("--data", type=Path, required=True)
    parser.add_argument("--rows", type=int, nargs="*", default=[50, 150, 600])
    parser.add_argument("--shots", type=int, nargs="*", default=[0, 5])
    parser.add_argument("--epochs", type=float, default=4)
    parser.add_argument("--lr", type=float, default=3e-3)
    parser.add_argument("--batch", type=int, default=16)
    parser.add_argument("--max-length", type=int, default=512)
    parser.add_argument("--eval-batch", type=int, default=64)
    parser.add_argument("--limit", type=int, default=250, help="test rows")
    parser.add_argument("--threads", type=int, default=2)
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--bf16", action="store_true", help="train under bf16 autocast")
    parser.add_argument(
        "--print", type=int, default=0, help="show this many answers of each candidate"
    )
    args = parser.parse_args()
    torch.set_num_threads(args.threads)
    device = "cuda" if torch.cuda.is_available() else "cpu"
    tokenizer = AutoTokenizer.from_pretrained(args.model)
    train, test = read(args.data / "train.jsonl"), read(args.data / "test.jsonl")[: args.limit]

    def fresh() -> Any:
        torch.manual_seed(args.seed)
        return AutoModelForCausalLM.from_pretrained(args.model, dtype=torch.float32).to(device)

    keys = list(json.loads(test[0][-1]["content"]))
    print("| candidate | exact | json | " + " | ".join(keys) + " | time |")
    print("|---" * (4 + len(keys)) + "|")
    model = fresh()
    for count in args.shots:
        shots = random.Random(args.seed).sample(train, count)
        start = time.time()
        made = answers(model, tokenizer, few_shot(test, shots), args.eval_batch)
        show(f"base, {count} shots", score(test, made), f"answers {time.time() - start:.1f} s")
        for row, text in list(zip(test, made, strict=True))[: args.print]:
            print("  want", row[-1]["content"], "\n  made", text)
    for count in args.rows:
        config = LoraConfig(
            r=16,
            lora_alpha=32,
            lora_dropout=0.05,
            target_modules="all-linear",
            task_type="CAUSAL_LM",
        )
        tuned = get_peft_model(fresh(), config)
        # on a shared machine the processor's seconds tell more than the wall's
        start, used = time.time(), time.process_time()
        steps = tune(tuned, tokenizer, train[:count], args, args.epochs)
        middle, used = time.time(), time.process_time() - used
        made = answers(tuned, tokenizer, test, args.eval_batch)
        wall = f"{middle - start:.1f} s ({used:.0f} s of cpu)"
        note = f"{steps} steps {wall}, answers {time.time() - middle:.1f} s"
        show(f"LoRA, {count} rows", score(test, made), note)
        for row, text in list(zip(test, made, strict=True))[: args.print]:
            print("  want", row[-1]["content"], "\n  made", text)


if __name__ == "__main__":
    main()

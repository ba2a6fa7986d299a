"""Pretrain the demo's base model from nothing and write its folder. Runs on CPU and on CUDA.

    python tokenizer.py --out ../../unift/demo/model
    python pretrain.py --out ../../unift/demo/model --steps 3000

The schedule counts steps, not seconds, so a busy machine gives the same model, only later.
"""

from __future__ import annotations

import argparse
import math
import multiprocessing
import random
import time
from pathlib import Path

import corpus
import numpy as np
import torch
from tokenizer import ASSISTANT, CONTEXT, END, PAD, SYSTEM, USER
from transformers import (
    AutoTokenizer,
    GenerationConfig,
    PreTrainedTokenizerFast,
    Qwen3Config,
    Qwen3ForCausalLM,
)

# Documents are grouped by length, so short ones cost little and no document sees another.
BUCKETS = (128, 256, 512, 1024, 1536)
USER_WEIGHT = 0.1  # the wording of a message cannot be foretold; the answer can
Block = dict[
    int, tuple[np.ndarray, np.ndarray]
]  # bucket -> ids, loss classes (0 none, 1 user, 2 answer)


def _encode_documents(job: tuple[Path, int, int, str]) -> Block:
    """Worker: draw and encode ``count`` documents; the seed fixes them."""
    folder, seed, count, mix = job
    tokenizer = PreTrainedTokenizerFast.from_pretrained(folder)
    raw = tokenizer.backend_tokenizer
    ids_of = {
        t: int(tokenizer.convert_tokens_to_ids(t)) for t in (PAD, SYSTEM, USER, ASSISTANT, END)
    }
    role_ids = {"system": ids_of[SYSTEM], "user": ids_of[USER], "assistant": ids_of[ASSISTANT]}
    rng = random.Random(seed)
    rows: dict[int, list[tuple[list[int], list[int]]]] = {b: [] for b in BUCKETS}
    for _ in range(count):
        ids: list[int] = []
        loss: list[int] = []
        turns = corpus.document(rng, mix)
        encoded = raw.encode_batch([text for _, text in turns], add_special_tokens=False)
        for (role, _), piece in zip(turns, encoded, strict=True):
            ids += [role_ids[role], *piece.ids, ids_of[END]]
            loss += [0] + [2 if role == "assistant" else 1] * (len(piece.ids) + 1)
        fit = next((b for b in BUCKETS if len(ids) <= b), None)
        if fit is not None:
            rows[fit].append((ids, loss))
    out: Block = {}
    for bucket, items in rows.items():
        tokens = np.full((len(items), bucket), ids_of[PAD], dtype=np.uint16)
        classes = np.zeros((len(items), bucket), dtype=np.uint8)
        for index, (ids, loss) in enumerate(items):
            tokens[index, : len(ids)], classes[index, : len(loss)] = ids, loss
        out[bucket] = (tokens, classes)
    return out


def load_corpus(
    folder: Path, args: argparse.Namespace, device: torch.device
) -> dict[int, list[torch.Tensor]]:
    """All documents as tensors on the device, by bucket."""
    chunk = max(50, min(2000, args.documents // args.workers))
    count = math.ceil(args.documents / chunk)
    jobs = [(folder, (args.seed + 1) * 1_000_000 + i, chunk, args.mix) for i in range(count)]
    if args.workers > 1:
        # spawn: a forked child would inherit the parent's CUDA state and thread locks
        with multiprocessing.get_context("spawn").Pool(args.workers) as pool:
            blocks = pool.map(_encode_documents, jobs, chunksize=1)
    else:
        blocks = [_encode_documents(job) for job in jobs]
    data: dict[int, list[torch.Tensor]] = {}
    for bucket in BUCKETS:
        parts = [np.concatenate([b[bucket][i] for b in blocks]) for i in (0, 1)]
        if len(parts[0]):
            data[bucket] = [torch.from_numpy(p.astype(np.int16)).to(device) for p in parts]
    return data


def build_model(tokenizer: PreTrainedTokenizerFast) -> Qwen3ForCausalLM:
    """Every width is a multiple of 64: 4-bit kernels on CPU need it."""
    config = Qwen3Config(
        vocab_size=math.ceil(len(tokenizer) / 64) * 64,
        hidden_size=192,
        intermediate_size=576,
        num_hidden_layers=6,
        num_attention_heads=6,
        num_key_value_heads=2,
        head_dim=32,
        max_position_embeddings=CONTEXT,
        tie_word_embeddings=True,
        rope_parameters={"rope_type": "default", "rope_theta": 10_000.0},
        use_sliding_window=False,
        bos_token_id=None,
        eos_token_id=tokenizer.eos_token_id,
        pad_token_id=tokenizer.pad_token_id,
    )
    return Qwen3ForCausalLM(config)


def repeat_rows(
    ids: torch.Tensor, share: float, vocab: int, generator: torch.Generator
) -> torch.Tensor:
    """Overwrite a share of the rows by random tokens in a loop, in place; returns which rows.

    Without this start a model of this size never learns to copy, and with it no LoRA does.
    """
    rows, length = ids.shape
    device = ids.device
    chosen = torch.rand(rows, generator=generator, device=device) < share
    noise = torch.randint(8, vocab, (rows, length), generator=generator, device=device)
    period = torch.randint(6, max(8, length // 2), (rows, 1), generator=generator, device=device)
    at = torch.arange(length, device=device).expand(rows, -1) % period
    ids[chosen] = noise.gather(1, at)[chosen]
    return chosen


def lr_scale(step: int, steps: int) -> float:
    """Warm up over 2 %, hold, then fall in a straight line to 2 % over the last 60 %."""
    warm, fall = max(1, steps // 50), int(steps * 0.4)
    if step < warm:
        return (step + 1) / warm
    return 1.0 if step < fall else 1 - 0.98 * (step - fall) / max(1, steps - fall)


def train(
    model: Qwen3ForCausalLM, data: dict[int, list[torch.Tensor]], args: argparse.Namespace
) -> None:
    device = next(model.parameters()).device
    generator = torch.Generator(device).manual_seed(args.seed)
    rng = random.Random(args.seed)
    # Muon suits the weight matrices and AdamW the table of embeddings and the norms.
    matrices = [p for n, p in model.named_parameters() if p.ndim == 2 and "embed" not in n]
    others = [p for n, p in model.named_parameters() if p.ndim != 2 or "embed" in n]
    optimizers: list[torch.optim.Optimizer] = [
        torch.optim.Muon(matrices, lr=args.muon_lr, weight_decay=0.02, adjust_lr_fn="original"),
        torch.optim.AdamW(others, lr=args.adam_lr, betas=(0.9, 0.95), weight_decay=0.0),
    ]
    base = [[g["lr"] for g in o.param_groups] for o in optimizers]
    weights = torch.tensor([0.0, USER_WEIGHT, 1.0], device=device)
    buckets = list(data)
    sizes = [data[b][0].numel() for b in buckets]
    order = {
        b: torch.randperm(len(data[b][0]), generator=generator, device=device) for b in buckets
    }
    place = dict.fromkeys(buckets, 0)
    start, seen, shown = time.time(), 0, torch.zeros(2, device=device)
    for step in range(args.steps):
        bucket = rng.choices(buckets, sizes)[0]
        rows = max(1, args.batch_tokens // bucket)
        if place[bucket] + rows > len(order[bucket]):
            order[bucket] = torch.randperm(len(order[bucket]), generator=generator, device=device)
            place[bucket] = 0
        pick = order[bucket][place[bucket] : place[bucket] + rows]
        place[bucket] += rows
        ids = data[bucket][0][pick].long()
        classes = data[bucket][1][pick].long()
        early = step < 0.25 * args.steps and not args.resume
        share = 0.4 if early else 0.04
        chosen = repeat_rows(ids, share, model.config.vocab_size, generator)
        target_weights = weights[classes]
        target_weights[chosen] = 0.5
        for optimizer, rates in zip(optimizers, base, strict=True):
            for group, rate in zip(optimizer.param_groups, rates, strict=True):
                group["lr"] = rate * lr_scale(step, args.steps)
        with torch.autocast(device.type, torch.bfloat16):
            logits = model(input_ids=ids, use_cache=False).logits[:, :-1]
        token_loss = torch.nn.functional.cross_entropy(
            logits.float().flatten(0, 1), ids[:, 1:].flatten(), reduction="none"
        )
        target_weights = target_weights[:, 1:].flatten()
        loss = (token_loss * target_weights).sum() / target_weights.sum().clamp(min=1)
        loss.backward()
        torch.nn.utils.clip_grad_norm_(model.parameters(), 1.0)
        for optimizer in optimizers:
            optimizer.step()
            optimizer.zero_grad(set_to_none=True)
        answer = (classes[:, 1:].flatten() == 2) & ~chosen.repeat_interleave(bucket - 1)
        shown += torch.stack(((token_loss.detach() * answer).sum(), answer.sum()))
        seen += ids.numel()
        if (step + 1) % args.log_every == 0 or step + 1 == args.steps:
            rate = seen / (time.time() - start)
            mean = (shown[0] / shown[1].clamp(min=1)).item()
            shown.zero_()
            print(
                f"step {step + 1} answer loss {mean:.4f} {seen / 1e6:.0f}M {rate:,.0f} tok/s",
                flush=True,
            )


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--out", type=Path, required=True, help="model folder; holds the tokenizer")
    parser.add_argument("--steps", type=int, default=3000)
    parser.add_argument("--batch-tokens", type=int, default=65_536)
    parser.add_argument("--documents", type=int, default=400_000)
    parser.add_argument("--muon-lr", type=float, default=0.02)
    parser.add_argument("--adam-lr", type=float, default=4e-3)
    parser.add_argument("--workers", type=int, default=1)
    parser.add_argument("--log-every", type=int, default=100)
    parser.add_argument("--mix", choices=tuple(corpus.MIXES), default="base")
    parser.add_argument("--resume", action="store_true", help="go on from the weights in --out")
    parser.add_argument("--threads", type=int, default=2, help="on CPU")
    parser.add_argument("--seed", type=int, default=0)
    args = parser.parse_args()
    device = torch.device("cuda" if torch.cuda.is_available() else "cpu")
    torch.manual_seed(args.seed)
    torch.set_num_threads(args.threads)
    start = time.time()
    data = load_corpus(args.out, args, device)
    counts = {b: (len(d[0]), int((d[1] > 0).sum())) for b, d in data.items()}
    print(
        f"corpus in {time.time() - start:.0f} s; bucket: (documents, tokens) {counts}", flush=True
    )
    tokenizer = AutoTokenizer.from_pretrained(args.out)
    if args.resume:
        model = Qwen3ForCausalLM.from_pretrained(args.out, dtype=torch.float32).to(device)
    else:
        model = build_model(tokenizer).to(device)
    print(f"{sum(p.numel() for p in model.parameters()):,} parameters on {device}", flush=True)
    train(model, data, args)
    model.generation_config = GenerationConfig(
        do_sample=False, eos_token_id=tokenizer.eos_token_id, pad_token_id=tokenizer.pad_token_id
    )
    model.to(torch.float16).save_pretrained(args.out)
    print(f"written to {args.out} after {time.time() - start:.0f} s")


if __name__ == "__main__":
    main()

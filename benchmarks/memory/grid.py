"""Measure the memory grid on the GPU that is here. Resumable: rows that are there are skipped.

    python benchmarks/memory/grid.py --list engine --out rows.jsonl --seconds 440

Each configuration runs in turn through the product's own trainer (two to four steps); its row is
written at once. Running out of memory is a result. With ``--tiny`` the same code runs on a CPU
with shapes of a few thousand weights, so that a mistake shows before GPU time is paid for.
"""

from __future__ import annotations

import argparse
import itertools
import json
import os
import sys
import time
import traceback
from dataclasses import asdict, replace
from pathlib import Path
from typing import Any

os.environ.setdefault("PYTORCH_CUDA_ALLOC_CONF", "expandable_segments:True")
os.environ.setdefault("HF_HUB_OFFLINE", "1")
os.environ.setdefault("TOKENIZERS_PARALLELISM", "false")
os.environ.setdefault("WANDB_DISABLED", "true")

from _configs import Run, config_of
from _lists import NAMES, rows_of

# Rows whose peak is taken apart, tensor by tensor, so that a miss can be understood: how many of
# each group, counted from its first.
EXPLAINED = {
    ("meta-llama/Llama-3.2-1B", "full"): 5,
    ("meta-llama/Llama-3.1-8B", "lora"): 6,
    ("meta-llama/Llama-3.1-70B", "qlora"): 1,
    ("meta-llama/Llama-3.1-8B", "qlora"): 4,
    ("google/gemma-3-4b-pt+vision", "lora"): 3,
    ("moonshotai/Moonlight-16B-A3B", "lora"): 3,
    ("Qwen/Qwen3-30B-A3B@16", "lora"): 3,
    ("moonshotai/Moonlight-16B-A3B@5", "lora"): 3,
    ("moonshotai/Moonlight-16B-A3B@3", "full"): 1,
    ("Qwen/Qwen3-30B-A3B@8", "lora"): 2,
    ("mistralai/Mixtral-8x7B@3", "lora"): 2,
    ("meta-llama/Llama-3.2-3B", "full"): 2,
    ("meta-llama/Llama-3.1-8B", "full"): 2,
}


def main() -> int:
    """Fill the grid; 0 also when time ran out."""
    parser = argparse.ArgumentParser()
    parser.add_argument("--out", type=Path, required=True)
    parser.add_argument("--seconds", type=float, default=440.0)
    parser.add_argument("--tiny", action="store_true")
    parser.add_argument("--only", default="", help="part of a model's name")
    parser.add_argument("--tuning", default="", help="full, lora or qlora alone")
    parser.add_argument("--list", default="grid", choices=NAMES, help="which rows")
    parser.add_argument("--explain", action="store_true", help="take some peaks apart")
    options = parser.parse_args()
    end = time.perf_counter() + options.seconds
    wanted = [
        run
        for run in rows_of(options.list)
        if options.only in run.model and options.tuning in ("", run.tuning)
    ]
    fill(options.out, wanted, end, tiny=options.tiny, explain=options.explain)
    return 0


def fill(
    path: Path, wanted: list[Run], end: float, *, tiny: bool = False, explain: bool = False
) -> None:
    """Measure the rows that `path` lacks, in their order, until the clock (``perf_counter``) says
    `end`."""
    import torch
    from _build import build
    from _host import speed
    from _train import measure

    device = "cpu" if tiny else "cuda"
    versions = _versions(torch)
    done = _done(path)
    tokenizer = _tokenizer()
    with path.open("a") as out:
        for (model, tuning, dtype), group in itertools.groupby(
            wanted, key=lambda run: (run.model, run.tuning, run.dtype)
        ):
            runs = [run for run in group if run.key not in done]
            if not runs:
                continue
            if time.perf_counter() > end:
                print("time is over", file=sys.stderr)
                break
            config = _shrunk(config_of(model)) if tiny else config_of(model)
            start = time.perf_counter()
            base: Any = None
            try:
                base = build(config, tuning, dtype, device)
            except Exception as error:  # noqa: BLE001 - the next model may work
                _write(out, runs[0], {"error": _short(error), "phase": "build"}, versions)
                traceback.print_exc(limit=-4)
            print(f"built {model} {tuning} in {time.perf_counter() - start:.1f} s", file=sys.stderr)
            for number, run in enumerate(runs if base is not None else []):
                if base is None:
                    break
                left = end - time.perf_counter()
                if left < 0:
                    break
                apart = explain and number < EXPLAINED.get((model, tuning), 0)
                host = speed(device)
                row = _guarded(measure, run, base, device, tokenizer, apart, tiny)
                row["host"] = host
                if run.product and number + 1 < len(runs):
                    base = None  # fused blocks stay in a model, so the next row gets a new one
                    base = _fresh(build, config, run, device, left)
                _write(out, run, row, versions)
            del base
            if device == "cuda":
                import gc

                gc.collect()
                torch.cuda.empty_cache()


def _fresh(build: Any, config: dict[str, Any], run: Run, device: str, left: float) -> Any:
    import gc

    import torch

    gc.collect()
    if device == "cuda":
        torch.cuda.empty_cache()
    return build(config, run.tuning, run.dtype, device) if left > 0 else None


def _guarded(
    measure: Any, run: Run, base: Any, device: str, tokenizer: Any, explain: bool, tiny: bool
) -> dict[str, Any]:
    start = time.perf_counter()
    if tiny:
        run = _small(run)
    try:
        row = measure(run, base, device, tokenizer, explain)
    except Exception as error:  # noqa: BLE001 - one configuration must not cost the others
        if "out of memory" not in str(error).lower():
            traceback.print_exc(limit=-4, chain=False)
        row = {"error": _short(error), "oom": "out of memory" in str(error).lower()}
    row["wall_seconds"] = round(time.perf_counter() - start, 2)
    return row


def _small(run: Run) -> Run:
    """The same way to compute on a row that a CPU trains in a moment."""
    layers = None if run.checkpointed_layers is None else 1
    packs = min(run.rows_per_pack, 3)
    return replace(
        run,
        length=min(run.length, 64),
        micro_batch=min(run.micro_batch, 2),
        checkpointed_layers=layers,
        rows_per_pack=packs,
        compiled=False,
    )


def _write(out: Any, run: Run, row: dict[str, Any], versions: dict[str, str]) -> None:
    line = {"run": asdict(run), "held_out": run.held_out, **row, **versions}
    out.write(json.dumps(line) + "\n")
    out.flush()
    os.fsync(out.fileno())
    brief = {
        key: row.get(key) for key in ("allocated_gib", "step_seconds", "error", "wall_seconds")
    }
    print(
        f"{run.model} {run.tuning} {run.micro_batch}x{run.length} {run.checkpointing} {brief}",
        file=sys.stderr,
        flush=True,
    )


def _done(path: Path) -> set[str]:
    if not path.exists():
        return set()
    lines = [json.loads(line) for line in path.read_text().splitlines() if line.strip()]
    return {Run(**line["run"]).key for line in lines}


def _short(error: BaseException) -> str:
    return f"{type(error).__name__}: {error}".splitlines()[0][:300]


def _versions(torch: Any) -> dict[str, str]:
    from importlib.metadata import PackageNotFoundError, version

    found = {"gpu": torch.cuda.get_device_name(0) if torch.cuda.is_available() else "cpu"}
    for name in ("torch", "transformers", "peft", "trl", "bitsandbytes", "liger-kernel"):
        try:
            found[name] = version(name)
        except PackageNotFoundError:
            found[name] = ""
    return found


def _tokenizer() -> Any:
    from tokenizers import Tokenizer, models
    from transformers import PreTrainedTokenizerFast

    vocabulary = {f"<{number}>": number for number in range(10)}
    raw = Tokenizer(models.WordLevel(vocabulary, unk_token="<3>"))
    return PreTrainedTokenizerFast(
        tokenizer_object=raw, bos_token="<1>", eos_token="<2>", pad_token="<0>", unk_token="<3>"
    )


def _shrunk(config: dict[str, Any]) -> dict[str, Any]:
    """The same architecture with widths that a CPU can train in a moment."""
    small = {
        "vocab_size": 300,
        "hidden_size": 64,
        "intermediate_size": 128,
        "num_hidden_layers": 2,
        "num_attention_heads": 4,
        "num_key_value_heads": 2,
        "head_dim": 32,
        "moe_intermediate_size": 32,
        "num_experts": 4,
        "num_experts_per_tok": 2,
        "num_local_experts": 4,
        "n_group": 1,
        "topk_group": 1,
        "n_routed_experts": 4,
        "kv_lora_rank": 16,
        "qk_rope_head_dim": 8,
        "qk_nope_head_dim": 8,
        "v_head_dim": 8,
        "image_size": 28,
        "patch_size": 14,
        "sliding_window": 16,
    }
    found = {key: small.get(key, value) for key, value in config.items()}
    if config.get("model_type") in ("deepseek_v2", "deepseek_v3"):
        found["num_key_value_heads"] = 4
        found.pop("head_dim", None)
    for key in ("layer_types",):
        if isinstance(found.get(key), list):
            found[key] = found[key][:2]
    for part in ("text_config", "vision_config"):
        if part in found:
            found[part] = _shrunk(found[part])
    if config.get("model_type") == "gemma3":
        found["mm_tokens_per_image"] = 4
    return found


if __name__ == "__main__":
    sys.exit(main())

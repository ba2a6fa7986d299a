"""Time steps on the GPU that is here. Resumable: rows that are there are skipped.

    python benchmarks/memory/time_grid.py --out time_rows.jsonl --seconds 220

Rows that share a model and its adapters share one trainer, the product's own: building, compiling
and warming up are most of what a row costs. Each row trains two steps that are not counted (three
where layers are compiled, or the layout is new to the compiler), then at least three that are; the
card's own events mark where a step ends, so that nothing is waited for in between. With ``--tiny``
the same code runs on a CPU with shapes of a few thousand weights.
"""

from __future__ import annotations

import argparse
import gc
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

import torch
from _build import build
from _configs import config_of
from _host import speed as host_speed
from _time_configs import NAMES, Timed, groups, rows_of
from _train import _adapt, make_trainer
from datasets import Dataset
from grid import _short, _shrunk, _tokenizer, _versions
from transformers import TrainerCallback

WARM, COUNTED, ENOUGH = 2, 3, 0.6  # steps, steps, seconds


class Marks(TrainerCallback):
    """Stands in for the journal: marks the end of every step on the card's own clock."""

    def __init__(self, warm: int, steps: int, cuda: bool) -> None:
        self._warm, self._steps, self._cuda = warm, steps, cuda
        self.marks: list[Any] = []
        self._began = 0.0

    def add_tokens(self, tokens: int) -> None:
        """Nothing: the rows are known."""

    def on_train_begin(self, args: Any, state: Any, control: Any, **kwargs: Any) -> None:
        self._mark()

    def on_step_end(self, args: Any, state: Any, control: Any, **kwargs: Any) -> None:
        self._mark()
        control.should_log = control.should_save = False
        done = len(self.marks) - 1
        if done == self._warm:
            if self._cuda:
                torch.cuda.synchronize()
            self._began = time.perf_counter()
        enough = time.perf_counter() - self._began > ENOUGH
        if done >= self._steps or (done >= self._warm + COUNTED and enough):
            control.should_training_stop = True

    def _mark(self) -> None:
        if not self._cuda:
            self.marks.append(time.perf_counter())
            return
        event = torch.cuda.Event(enable_timing=True)
        event.record()
        self.marks.append(event)

    def seconds(self) -> list[float]:
        """Of every step, those of warming up among them."""
        if self._cuda:
            torch.cuda.synchronize()
            pairs = zip(self.marks, self.marks[1:], strict=False)
            return [round(a.elapsed_time(b) / 1e3, 5) for a, b in pairs]
        return [round(b - a, 5) for a, b in zip(self.marks, self.marks[1:], strict=False)]


class Counting:
    """The collator, and what each step was made of."""

    def __init__(self, inner: Any) -> None:
        self._inner, self.steps = inner, []

    def __getattr__(self, name: str) -> Any:
        return getattr(self._inner, name)

    def __call__(self, rows: Any) -> Any:
        lengths = [len(row["input_ids"]) for row in rows]
        found = self._inner(rows)
        self.steps.append(
            {
                "passes": self._inner.tokens(lengths),
                "rows": len(lengths),
                "tokens": sum(lengths),
                "squares": sum(one * one for one in lengths),
            }
        )
        return found


class Group:
    """One model and one trainer for the rows of a group."""

    def __init__(self, first: Timed, device: str, tokenizer: Any, tiny: bool) -> None:
        self._cuda = device == "cuda"
        config = config_of(first.run.model)
        config = _shrunk(config) if tiny else config
        if first.run.compiled:
            torch._dynamo.reset()
        start = time.perf_counter()
        self._base = build(config, first.run.tuning, first.run.dtype, device)
        self._model, self._undo = _adapt(first.run, self._base)
        self._trainer: Any = None
        self._device, self._tokenizer = device, tokenizer
        self.built = round(time.perf_counter() - start, 2)

    def measure(self, one: Timed) -> dict[str, Any]:
        """Seconds of each counted step, and what the steps were made of."""
        run = one.run
        warm = WARM + run.compiled
        steps = warm + COUNTED + 3
        lengths = one.lengths(steps)
        marks = Marks(warm, steps, self._cuda)
        host = host_speed(self._device)
        start = time.perf_counter()
        trainer = self._make(run, lengths, steps, marks)
        counting = Counting(self._collator(run, lengths))
        trainer.data_collator = counting
        if self._cuda:
            torch.cuda.reset_peak_memory_stats()
        trainer.train()
        seconds = marks.seconds()
        found: dict[str, Any] = {
            "step_seconds": seconds[warm:],
            "warm_seconds": seconds[:warm],
            "steps": counting.steps[warm : len(seconds)],
            "host": host,
            "setup_seconds": round(time.perf_counter() - start - sum(seconds), 2),
        }
        if self._cuda:
            found["allocated_gib"] = round(torch.cuda.max_memory_allocated() / 2**30, 3)
        return found

    def _make(self, run: Any, lengths: list[int], steps: int, marks: Marks) -> Any:
        """The trainer for a row: made for the first, given other rows and layouts afterwards."""
        if self._trainer is None:
            self._trainer, _ = make_trainer(
                run, self._model, self._device, self._tokenizer, lengths, steps, marks
            )
            return self._trainer
        trainer = self._trainer
        vocabulary = self._model.config.get_text_config().vocab_size
        generator = torch.Generator().manual_seed(0)
        ids = [torch.randint(10, vocabulary, (n,), generator=generator).tolist() for n in lengths]
        trainer.train_dataset = Dataset.from_list([{"input_ids": a, "labels": a} for a in ids])
        trainer.args.max_steps = steps
        trainer.args.per_device_train_batch_size = trainer._train_batch_size = len(lengths) // steps
        for callback in list(trainer.callback_handler.callbacks):
            if isinstance(callback, Marks):
                trainer.remove_callback(callback)
        trainer.add_callback(marks)
        trainer._journal = marks
        self._recompute(run)
        return trainer

    def _collator(self, run: Any, lengths: list[int]) -> Any:
        from unift_local import speed
        from unift_local.packing import StepCollator

        packing = run.rows_per_pack > 0
        return StepCollator(
            self._tokenizer.pad_token_id,
            run.micro_batch,
            run.length if packing else None,
            speed.COMPILED_MULTIPLE if packing and run.compiled else 1,
            # Compiled code is made for one longest row: the same for all rows of a group here.
            2048 if run.compiled else max(lengths),
            alike=len(set(lengths)) == 1,
        )

    def _recompute(self, run: Any) -> None:
        """What `speed.apply` does for the way to recompute, on layers that have another already."""
        from unift_local import lora_math, speed

        base = self._model
        base = base.get_base_model() if hasattr(base, "get_base_model") else base
        everyone = list(speed.layers(base))
        for layer in everyone:
            vars(layer).pop("forward", None)
            if run.compiled:  # the compiler knows the code of the layer already
                layer.forward = torch.compile(layer.forward)
        if run.product and run.tuning != "full":
            lora_math.keep_product(run.checkpointing not in ("none", "selective"))
        if run.checkpointing != "none":
            speed._checkpoint(_Plan(run), everyone)

    def close(self) -> None:
        """Free the card."""
        self._trainer = None
        self._undo()
        self._model = self._base = None
        gc.collect()
        if self._cuda:
            torch.cuda.empty_cache()


class _Plan:
    """What `speed` asks of a plan."""

    def __init__(self, run: Any) -> None:
        self._run = run

    def value(self, name: str) -> Any:
        """A setting."""
        if name == "checkpointing":
            return self._run.checkpointing
        return self._run.checkpointed_layers


def _small(one: Timed) -> Timed:
    run = replace(one.run, length=64, micro_batch=min(one.run.micro_batch, 2))
    run = replace(run, checkpointed_layers=None if run.checkpointed_layers is None else 1)
    run = replace(run, rows_per_pack=min(run.rows_per_pack, 3), compiled=False)
    return Timed(run, one.rows, one.fresh)


def main() -> int:
    """Fill the rows; 0 also when time ran out."""
    parser = argparse.ArgumentParser()
    parser.add_argument("--out", type=Path, required=True)
    parser.add_argument("--seconds", type=float, default=220.0)
    parser.add_argument("--list", default="every", choices=NAMES, help="which rows")
    parser.add_argument("--tiny", action="store_true")
    options = parser.parse_args()
    began = time.perf_counter() - time.process_time()  # imports count: a minute on a slow host
    fill(options.out, rows_of(options.list), began + options.seconds, tiny=options.tiny)
    return 0


def fill(path: Path, wanted: list[Timed], end: float, *, tiny: bool = False) -> None:
    """Time the rows that `path` lacks, in their order, until the clock (``perf_counter``) says
    `end`."""
    device = "cpu" if tiny else "cuda"
    done = _keys(path)
    tokenizer, versions = _tokenizer(), _versions(torch)
    with path.open("a") as out:
        for group in groups([one for one in wanted if one.key not in done]):
            if time.perf_counter() > end:
                print("time is over", file=sys.stderr)
                break
            holder: Group | None = None
            for one in group:
                if time.perf_counter() > end:
                    break
                small = _small(one) if tiny else one
                start = time.perf_counter()
                try:
                    holder = holder or Group(small, device, tokenizer, tiny)
                    row = {**holder.measure(small), "build_seconds": holder.built}
                except Exception as error:  # noqa: BLE001 - one row must not cost the others
                    traceback.print_exc(limit=-4, chain=False)
                    row = {"error": _short(error)}
                    if holder is not None:
                        _close(holder)
                    holder = None
                row["wall_seconds"] = round(time.perf_counter() - start, 2)
                line = {"run": asdict(one.run), "rows": one.rows, "fresh": one.fresh, **row}
                out.write(json.dumps({**line, **versions}) + "\n")
                out.flush()
                left = end - time.perf_counter()
                brief = f"{row.get('step_seconds')} {row.get('error', '')} {row['wall_seconds']}"
                run = one.run
                print(
                    f"{left:4.0f} {run.model} {run.tuning} {run.micro_batch}x{run.length} "
                    f"{run.checkpointing} {'compiled ' if run.compiled else ''}{brief}",
                    file=sys.stderr,
                    flush=True,
                )
            if holder is not None:
                _close(holder)


def _close(holder: Group) -> None:
    try:
        holder.close()
    except Exception:  # noqa: BLE001 - the next group builds its own
        traceback.print_exc(limit=-2, chain=False)


def _keys(path: Path) -> set[str]:
    from _configs import Run

    if not path.exists():
        return set()
    lines = [json.loads(line) for line in path.read_text().splitlines() if line.strip()]
    return {Timed(Run(**one["run"]), one["rows"]).key for one in lines}


if __name__ == "__main__":
    sys.exit(main())

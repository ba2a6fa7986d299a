"""Two steps before the first one: the largest that the run will have, on the real device.

Nothing that the training starts from is changed: the optimiser is one of its own with a rate of 0,
gradients are dropped and every random number generator is put back.
"""

from __future__ import annotations

import gc
import random
import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch

_GIB = 2**30
_LOOK_AT = 512  # steps whose passes are laid out; the others are told to be smaller by their sums


@dataclass(frozen=True)
class Measured:
    """The largest step: its rows' lengths, tokens of each pass (padding included) and of those that
    carry loss, seconds, and peaks in GiB (of the process on a CPU, where torch has no counter)."""

    lengths: tuple[int, ...]
    passes: tuple[int, ...]
    trained: int
    seconds: float
    allocated_gib: float | None
    reserved_gib: float | None
    resident_gib: float | None


def probe(trainer: Any, total_steps: int) -> Measured:
    """Run the largest step of a training twice, and measure the second.

    When a step of several passes differs from the one with the largest pass, it runs too: gradients
    of the passes before it are alive then.

    Args:
        trainer: A `trainer.StepTrainer`, before it trains.
        total_steps: Of the run.
    """
    cuda = trainer.args.device.type == "cuda"
    with untouched(trainer):
        steps = largest(trainer, total_steps)
        batches = [_batch(trainer, rows) for rows in steps]
        _reset(cuda)
        trainer.create_optimizer()
        optimizer = trainer.optimizer
        for group in optimizer.param_groups:
            group["lr"] = group["weight_decay"] = 0.0
        for batch in batches:
            _step(trainer, optimizer, batch, cuda)
        seconds = _step(trainer, optimizer, batches[0], cuda)
        peaks = _peaks(cuda)
    lengths = tuple(_lengths(trainer)[row] for row in steps[0])
    return Measured(
        lengths=lengths,
        passes=tuple(trainer.data_collator.tokens(lengths)),
        trained=batches[0]["trained"],
        seconds=seconds,
        **peaks,
    )


def largest(trainer: Any, total_steps: int) -> list[list[int]]:
    """Rows of the step with the most tokens in a pass and, if it is another one, of the step of
    several passes with the most in one of them; in the order in which the run will take its rows.
    """
    lengths, collator = _lengths(trainer), trainer.data_collator
    steps = list(_steps(trainer, total_steps))
    bounds = [collator.most([lengths[row] for row in rows]) for rows in steps]
    best: dict[bool, tuple[int, int]] = {}  # of several passes or not -> (tokens, step)
    order = sorted(range(len(steps)), key=lambda at: (-bounds[at], at))
    for at in order[:_LOOK_AT]:
        if best and bounds[at] < min(one[0] for one in best.values()):
            break
        passes = collator.tokens([lengths[row] for row in steps[at]])
        several = len(passes) > 1
        if max(passes) > best.get(several, (0, 0))[0]:
            best[several] = (max(passes), at)
    return [steps[at] for _, at in sorted(best.values(), key=lambda one: (-one[0], one[1]))]


def _steps(trainer: Any, total: int) -> Iterator[list[int]]:
    """The rows of each step, as the run will draw them."""
    done = 0
    batches = trainer.get_train_dataloader().batch_sampler
    while done < total:
        for rows in batches:  # the sampler shuffles anew by itself when it is begun again
            yield list(rows)
            done += 1
            if done >= total:
                return


def _lengths(trainer: Any) -> Sequence[int]:
    return trainer.row_lengths


def _batch(trainer: Any, rows: list[int]) -> Any:
    return trainer.data_collator([trainer.train_dataset[row] for row in rows])


def _step(trainer: Any, optimizer: Any, batch: dict[str, Any], cuda: bool) -> float:
    """Seconds of a step."""
    if cuda:
        torch.cuda.synchronize()
    began = time.perf_counter()
    micro = [dict(one) for one in batch["micro_batches"]]
    trainer.accumulate(trainer.model, {**batch, "micro_batches": micro})
    trained = [one for one in trainer.model.parameters() if one.requires_grad]
    norm = torch.nn.utils.clip_grad_norm_(trained, trainer.args.max_grad_norm)
    if bool(torch.isfinite(norm)):  # 0 times infinity would be no number
        optimizer.step()
    optimizer.zero_grad()
    if cuda:
        torch.cuda.synchronize()
    return time.perf_counter() - began


@contextmanager
def untouched(trainer: Any) -> Iterator[None]:
    """Put generators, gradients, counters and the optimiser back to how they were."""
    states: Any = random.getstate(), np.random.get_state(), torch.get_rng_state()
    cards = torch.cuda.get_rng_state_all() if torch.cuda.is_available() else []
    training = trainer.model.training
    try:
        yield
    finally:
        trainer.optimizer = None
        trainer.model.zero_grad(set_to_none=True)
        trainer.model.train(training)
        for metrics in getattr(trainer, "_metrics", {}).values():
            metrics.clear()
        random.setstate(states[0])
        np.random.set_state(states[1])
        torch.set_rng_state(states[2])
        if cards:
            torch.cuda.set_rng_state_all(cards)
        _reset(bool(cards))


def _reset(cuda: bool) -> None:
    """Peaks count from here."""
    gc.collect()
    if cuda:
        torch.cuda.empty_cache()
        torch.cuda.reset_peak_memory_stats()
        return
    try:
        Path("/proc/self/clear_refs").write_text("5")  # proc(5): resets the peak resident size
    except OSError:
        return


def _peaks(cuda: bool) -> dict[str, float | None]:
    found: dict[str, float | None] = dict.fromkeys(
        ("allocated_gib", "reserved_gib", "resident_gib")
    )
    if cuda:
        found["allocated_gib"] = torch.cuda.max_memory_allocated() / _GIB
        found["reserved_gib"] = torch.cuda.max_memory_reserved() / _GIB
        return found
    try:
        lines = Path("/proc/self/status").read_text().splitlines()
    except OSError:
        return found
    kib = next((int(line.split()[1]) for line in lines if line.startswith("VmHWM")), 0)
    found["resident_gib"] = kib / 2**20
    return found

"""Steps to time: real shapes in the product's own path of today, and stock layers beside it.

Every case belongs to one of two halves by a hash of its settings (`Timed.held_out`), fixed before
anything is measured; constants are chosen from the fit half alone. `FRESH` was written and
measured after the constants were chosen: none of its rows may be used for a fit.
"""

from __future__ import annotations

import hashlib
import json
from dataclasses import asdict, dataclass, replace
from typing import Any

import numpy as np
from _configs import L1, L3, L8, MOE, NONE, OFF, Q05, Q14, Run

SIGMA = 0.8  # of log-normal rows, as in the project's other benchmarks


@dataclass(frozen=True)
class Timed:
    """A configuration and the rows of its steps.

    `rows`: ``ragged`` for log-normal lengths of mean ``run.length / run.rows_per_pack`` (padded
    where nothing is packed, of mean ``run.length / 3``), ``equal`` for rows of ``run.length``.
    Passes per step as in `run`.
    """

    run: Run
    rows: str = "ragged"
    fresh: bool = False

    @property
    def key(self) -> str:
        """The settings as text: what a row is known by."""
        fields = asdict(self.run)
        for later in ("targets", "unread"):  # rows of before these fields keep their half
            if not fields[later]:
                del fields[later]
        return json.dumps({**fields, "rows": self.rows}, sort_keys=True)

    @property
    def held_out(self) -> bool:
        """Never looked at while constants are chosen: half of the rows, and all fresh ones."""
        return self.fresh or hashlib.sha256(self.key.encode()).digest()[0] % 2 == 1

    @property
    def group(self) -> tuple[Any, ...]:
        """Rows that can share one model and one trainer."""
        one = self.run
        stock = (one.product, one.attention, one.kernels, one.dropout, one.rank)
        return one.model, one.tuning, one.dtype, one.optimizer, one.compiled, *stock

    def lengths(self, steps: int) -> list[int]:
        """Tokens of the rows of so many steps, as many rows in each."""
        one = self.run
        if self.rows == "equal":
            return [one.length] * (one.micro_batch * one.passes * steps)
        if not one.rows_per_pack:
            mean, batch = one.length / 3, one.micro_batch * one.passes
        else:
            mean = one.length / one.rows_per_pack
            # A little less than the passes can hold, so that few steps need one more.
            batch = max(1, round(0.88 * one.passes * one.micro_batch * one.length / mean))
        seed = hashlib.sha256(self.key.encode()).digest()
        generator = np.random.default_rng(list(seed[:8]))
        drawn = generator.lognormal(np.log(mean) - SIGMA**2 / 2, SIGMA, batch * steps)
        return [int(value) for value in np.clip(drawn, 8, one.length)]


def _own(model: str, tuning: str, length: int, micro_batch: int = 1, **how: Any) -> Timed:
    """The product's own path: rows of about 340 tokens in packs, each seen alone."""
    rows = how.pop("rows", "ragged")
    packed: dict[str, Any] = {"rows_per_pack": max(1, length // 340), "attention": "varlen"}
    if rows == "equal":
        packed["rows_per_pack"] = 1
    if tuning == "full":
        packed["dtype"] = "mixed"
    run = Run(model, tuning, length, micro_batch, product=True, **{**packed, **how})
    return Timed(run, rows)


def _padded(model: str, tuning: str, length: int, micro_batch: int, **how: Any) -> Timed:
    """The product's own path without packing: rows padded to the longest of a pass."""
    how = {"attention": "sdpa", "rows_per_pack": 0, "padded": True, **how}
    return _own(model, tuning, length, micro_batch, **how)


def _stock(model: str, tuning: str, length: int, micro_batch: int = 1, **how: Any) -> Timed:
    """Layers as transformers and peft make them, rows of one length, TRL's loss by chunks."""
    return Timed(Run(model, tuning, length, micro_batch, **how), "equal")


EIGHT_BIT = {"optimizer": "adamw_8bit", "dtype": "bf16"}
COMPILED = {"compiled": True}
DROPOUT = {"dropout": 0.05}  # keeps base and adapter apart
HALF = {"checkpointing": "selective", "checkpointed_layers": 16}

# In order of worth; rows of one group (model, tuning, ...) stand together and share a trainer.
TIMES: list[Timed] = [
    _own(L8, "lora", 2048, 4, **NONE),
    _own(L8, "lora", 1024, **NONE),
    _own(L8, "lora", 512, **NONE, rows="equal"),
    _own(L8, "lora", 2048, 4),
    _own(L8, "lora", 512, rows_per_pack=2),
    _own(L8, "lora", 2048, 2, **OFF),
    _own(L8, "lora", 8192, **NONE, rows="equal"),
    _own(L8, "lora", 2048, 4, **HALF),
    _own(L8, "qlora", 2048, 4, **NONE),
    _own(L8, "qlora", 1024, **NONE),
    _own(L8, "qlora", 512, rows="equal"),
    _own(L8, "qlora", 4096, 2),
    _own(L8, "qlora", 2048, 1),
    _own(MOE, "lora", 2048, 1),
    _own(MOE, "lora", 2048, 4, **NONE),
    _own(MOE, "lora", 512, **NONE, rows="equal"),
    _own(MOE, "lora", 4096, 4),
    _own(L8, "lora", 2048, 4, **NONE, **COMPILED),
    _own(L8, "lora", 1024, **NONE, **COMPILED),
    _own(L8, "lora", 2048, 2, **COMPILED),
    _own(Q05, "lora", 2048, 8, **NONE),
    _own(Q05, "lora", 1024, **NONE),
    _own(Q05, "lora", 2048, 16),
    _own(Q05, "lora", 512, rows="equal"),
    _own(L1, "lora", 2048, 8, **NONE),
    _own(L1, "lora", 1024),
    _own(L3, "lora", 2048, 4, **NONE),
    _own(L3, "lora", 1024, 2),
    _own(Q14, "lora", 2048, 2, **NONE),
    _own(Q14, "lora", 1024, 1),
    _own(Q14, "qlora", 2048, 2, **NONE),
    _own(Q14, "qlora", 1024, 1),
    _own(L1, "full", 2048, 4, **NONE),
    _own(L1, "full", 2048, 1, passes=4),
    _own(L1, "full", 512, **NONE, rows="equal"),
    _own(L1, "full", 2048, 4),
    _own(L8, "lora", 2048, 2, **NONE, **DROPOUT),
    _own(L8, "lora", 1024, **DROPOUT),
    _own(L8, "qlora", 2048, 2, **NONE, **DROPOUT),
    _own(L8, "qlora", 512, rows="equal", **DROPOUT),
    _own(L8, "qlora", 2048, 1, **DROPOUT),
    _padded(Q05, "lora", 1024, 16, **NONE),
    _padded(L8, "lora", 1024, 8),
    _padded(L8, "lora", 1024, 2, **NONE),
]

# Worth less, or dear: compiled layers, large states.
LATER: list[Timed] = [
    _own(Q05, "lora", 2048, 8, **NONE, **COMPILED),
    _own(Q05, "lora", 1024, **NONE, **COMPILED),
    _own(Q05, "full", 2048, 4, **NONE),
    _own(Q05, "full", 2048, 8),
    _own(L3, "full", 2048, 2, **NONE),
    _own(L3, "full", 2048, 2, passes=2),
    _stock(L8, "qlora", 512, 2),
    _stock(L8, "qlora", 2048, 2),
    _stock(L8, "lora", 512),
    _stock(L8, "lora", 2048, 2, **NONE),
    _own(L8, "full", 2048, 2, **NONE, **EIGHT_BIT),
    _own(L8, "full", 2048, 4, **EIGHT_BIT),
    _own(L8, "qlora", 2048, 4, **NONE, **COMPILED),
    _own(L8, "qlora", 1024, **COMPILED),
    _own(L1, "full", 2048, 4, **NONE, **COMPILED),
    _own(L1, "full", 1024, **NONE, **COMPILED),
]

# Written on 2026-11-25 after the first run; no constant may be chosen by them. The first six are
# what the planner picks on an H100 for steps of 16 to 32 chat rows.
FRESH: list[Timed] = [
    _own(L8, "qlora", 2048, 5, **NONE),
    _own(Q14, "lora", 2048, 2, passes=2, **NONE),
    _own(L3, "full", 2048, 4, checkpointing="selective", checkpointed_layers=7),
    _own(L1, "qlora", 2048, 4, **NONE),
    _own(MOE, "lora", 2048, 3, **NONE),
    _own(Q05, "lora", 2048, 4, **NONE),
    _own(L3, "lora", 4096, 2),
    _own(Q14, "qlora", 2048, 1),
    _own(L8, "lora", 2048, 4, **DROPOUT),
    _padded(L3, "lora", 1024, 4),
    _own(L8, "lora", 1024, 2, **NONE),
]
FRESH = [replace(one, fresh=True) for one in FRESH]


# Written on 2026-11-25 in the evening, for the next session: what the tables have few of. Experts,
# padded and compiled rows, and dense ones near the two that were 16 and 21% over. No constant may
# be chosen by them before their errors are published.
MOE30, MLA, MIX = "Qwen/Qwen3-30B-A3B", "moonshotai/Moonlight-16B-A3B", "mistralai/Mixtral-8x7B"
ALL, ATTENTION = {"targets": "default"}, {"targets": "attention"}
THIRD: list[Timed] = [
    _own(L3, "lora", 2048, 4),
    _own(L3, "lora", 2048, 6, checkpointing="selective", checkpointed_layers=14),
    _own(L8, "qlora", 2048, 5, **NONE),
    _own(Q14, "qlora", 2048, 2),
    _own(f"{MOE30}@8", "lora", 2048, 2, **ATTENTION, **NONE),
    _own(f"{MOE30}@8", "lora", 2048, 4, **ATTENTION),
    _own(f"{MOE30}@8", "lora", 2048, 3, **ALL, **NONE),
    _own(f"{MOE30}@8", "lora", 1024, 1, **ALL),
    _own(f"{MLA}@5", "lora", 2048, 3, **ALL, **NONE),
    _own(f"{MIX}@3", "lora", 2048, 4, **ALL, **NONE),
    _own(f"{MIX}@3", "lora", 2048, 2, **ALL),
    _own(f"{MOE30}@4", "full", 2048, 2, **NONE),
    _own(f"{MLA}@3", "full", 2048, 4),
    _padded(L8, "lora", 1024, 8),
    _padded(L8, "lora", 1024, 2, **NONE),
    _padded(L3, "lora", 1024, 4),
    _own(L8, "lora", 2048, 3, **NONE, **COMPILED),
    _own(L8, "lora", 2048, 8, **COMPILED),
    _own(Q05, "lora", 2048, 4, **NONE),
    _own(L3, "full", 2048, 4, checkpointing="selective", checkpointed_layers=7),
]
THIRD = [replace(one, fresh=True) for one in THIRD]

# On an H200: its bandwidth is 1.43 times the H100's, its arithmetic the same.
ON_H200: list[Timed] = [
    _own(L8, "lora", 2048, 4, **NONE),
    _own(L8, "lora", 2048, 8, **NONE),
    _own(L8, "qlora", 2048, 4),
    _own(L1, "full", 2048, 4, **NONE),
    _own(f"{MOE30}@8", "lora", 2048, 2, **ATTENTION, **NONE),
]
ON_H200 = [replace(one, fresh=True) for one in ON_H200]
NAMES = ("every", "third", "h200")


def rows_of(name: str) -> list[Timed]:
    """The rows of a list.

    Raises:
        KeyError: No such list.
    """
    return {"every": EVERY, "third": THIRD, "h200": ON_H200}[name]


def groups(wanted: list[Timed]) -> list[list[Timed]]:
    """Rows that share a trainer, in the order of the first of each."""
    found: dict[tuple[Any, ...], list[Timed]] = {}
    for one in wanted:
        found.setdefault(one.group, []).append(one)
    return list(found.values())


EVERY = [*TIMES, *FRESH, *LATER]
assert len({one.key for one in EVERY}) == len(EVERY)

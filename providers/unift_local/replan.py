"""Less memory for the same training: what to do when a step did not fit.

The rows of an optimiser step stay, and so does what is learnt; only how many of them share a
forward pass, and what is kept for the backward pass, gets less.
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from typing import Any

from unift.provider import Plan, Setting
from unift_local import checkpoint as checkpoints
from unift_local.rundir import EventLog, RunDir

#: Exit status of a training process that ran out of memory and left a smaller layout behind.
AGAIN = 75


class Again(Exception):
    """Memory ran out and a smaller layout was left behind: the training is to start over."""


def smaller(plan: Plan, tokens: int = 0) -> list[Setting]:
    """Settings that need less; empty when there is nothing left to give up.

    In this order: sequences per pass halved, packs halved down to the longest row, some layers
    recomputed, all of them, their inputs kept in main memory.

    Args:
        plan: With the settings that were too much.
        tokens: Of the largest pass, if that is known: packs that are larger than any step do not
            get smaller by the first halving.
    """
    values = {one.name: one.value for one in plan.settings}
    micro, passes = values["micro_batch"], values["accumulation"]
    longest = plan.payload.get("longest_row", 0)
    new: dict[str, Any] = {}
    if micro > 1:
        least = micro // 2
        if values["packing"]:
            while least > 1 and tokens and least * values["pack_length"] >= tokens:
                least //= 2
        new = {"micro_batch": least, "accumulation": math.ceil(passes * micro / least)}
    elif values["packing"] and values["pack_length"] > longest:
        length = values["pack_length"]
        while length > longest:
            length = max(longest, length // 2)
            if not tokens or length < tokens:
                break
        if not tokens or length < tokens:
            new = {"pack_length": length, "accumulation": passes * 2}
    if not new:
        new = _recompute(values)
    why = "memory ran out with the value of the plan; the rows of a step stay as they were"
    return [
        Setting(name=key, value=value, origin="hardware", why=why) for key, value in new.items()
    ]


def _recompute(values: Mapping[str, Any]) -> dict[str, Any]:
    if not values["gradient_checkpointing"]:
        return {"gradient_checkpointing": True, "checkpointing": "full"}
    kind = values.get("checkpointing", "full")
    if kind == "selective":
        return {"checkpointing": "full"}
    if kind == "full" and values["device"] == "cuda":
        return {"checkpointing": "offloaded"}
    return {}


def replan(run: RunDir, log: EventLog, when: str, cause: str, tokens: int, kept: int) -> bool:
    """Give the run a smaller layout and say so; False if there is none.

    Args:
        run: The run; its next life trains with the new settings.
        log: Where to say it.
        when: Such as "in the probe" or "at step 121".
        cause: What the allocator said.
        tokens: Of the largest pass; 0 if unknown.
        kept: Step of the last checkpoint; 0 for none.
    """
    plan = run.plan()
    new = smaller(plan, tokens)
    if not new:
        return False
    before = {one.name: plan.value(one.name) for one in new if _known(plan, one.name)}
    run.replan(new)
    changes = ", ".join(f"{one.name} {before.get(one.name, '-')} -> {one.value}" for one in new)
    where = f"from the checkpoint of step {kept}" if kept else "from the start"
    log.write(
        "warning",
        f"Memory ran out {when}. The run goes on by itself {where} with less a pass: {changes}. "
        f"The rows of a step stay {plan.value('batch_size')}, so what is learnt does not change.",
        replanned={one.name: one.value for one in new},
        before=before,
        out_of_memory=when,
        cause=cause,
    )
    return True


def _known(plan: Plan, name: str) -> bool:
    return any(one.name == name for one in plan.settings)


def after_kill(run: RunDir) -> bool:
    """The kernel killed a training process for memory: as `replan`, for whoever watched it."""
    status, last = run.status(), checkpoints.latest(run.checkpoints)
    if status is None or status.word not in ("probing", "training"):
        return False  # not in a step: smaller passes would not help
    log = EventLog(run.events_file)
    try:
        when = "in the probe" if status.word == "probing" else "between two events"
        kept = last[1].step if last else 0
        return replan(run, log, when, "killed by the kernel", 0, kept)
    finally:
        log.close()

"""When a run is probed, and what it says then."""

from __future__ import annotations

import json
from dataclasses import asdict
from typing import Any

from unift.errors import UniftError
from unift.provider import Plan, State, Status
from unift_local.estimating import keep_probe
from unift_local.probe import largest, probe
from unift_local.rundir import EventLog, RunDir, write_atomic

#: Of the status of a run while it is probed.
WORD = "probing"


def wanted(folder: RunDir, plan: Plan) -> bool:
    """Whether the layout in force is to be probed and was not yet."""
    asked = any(one.name == "probe" and one.value for one in plan.settings)
    return asked and not folder.probe_file.exists()


def before_training(folder: RunDir, plan: Plan, trainer: Any, log: EventLog) -> None:
    """Run the largest step twice; say and keep what it needs."""
    folder.write_status(Status(state=State.RUNNING, word=WORD))
    found = probe(trainer, plan.value("total_steps"))
    record: dict[str, Any] = {"measured": asdict(found)}
    peak = found.allocated_gib if found.allocated_gib is not None else found.resident_gib
    size = f"{peak:.1f} GiB" if peak is not None else "an unknown amount"
    said = (
        f"Probe: the largest step ({sum(found.lengths):,} tokens in {len(found.passes)} "
        f"pass{'' if len(found.passes) == 1 else 'es'}) peaks at {size} and takes "
        f"{found.seconds:.3g} s"
    )
    changes = [f"{one.name} is {one.value}: {one.why}" for one in folder.replanned()]
    try:
        kept = keep_probe(plan, trainer.row_lengths, found, changes)
    except UniftError as error:  # a model without formula can be trained all the same
        record["unknown"] = error.message
    else:
        record["probe"] = kept.as_dict()
        said += f", {kept.time_factor:.2f} times what the formula says"
    write_atomic(folder.probe_file, json.dumps(record).encode())
    log.write("log", f"{said}.", **record)


def largest_pass(trainer: Any, total_steps: int) -> int:
    """Tokens of the largest pass that the run will have."""
    rows = largest(trainer, total_steps)[0]
    return max(trainer.data_collator.tokens([trainer.row_lengths[row] for row in rows]))

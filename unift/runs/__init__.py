"""The durable record of every run: journal, states, events, lineage."""

from unift.runs._lookup import reconcile, run, runs
from unift.runs._orphans import Orphan, orphans
from unift.runs._run import Run
from unift.runs._steps import Step, Steps, owners
from unift.runs._store import Store

__all__ = [
    "Orphan",
    "Run",
    "Step",
    "Steps",
    "Store",
    "orphans",
    "owners",
    "reconcile",
    "run",
    "runs",
]

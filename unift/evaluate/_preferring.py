"""How an evaluation comes to a preference: whoever decides is prepared, then shown every pair."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

from unift.errors import UsageError
from unift.evaluate._asking import Session
from unift.evaluate._candidates import Candidate
from unift.evaluate._judge import Judge
from unift.evaluate._preference import PREFERENCE, Preference, pairs_of, with_preference
from unift.evaluate._rows import Row
from unift.evaluate._task import Task
from unift.evaluate._votes import Votes
from unift.provider import Model, Reply, Sampling


def prepare(
    judge: str | Model | Judge | Votes | None,
    task: Task,
    rows: Sequence[Row],
    candidates: Sequence[Candidate],
    answers: Sampling,
    *,
    metric: Any,
    seed: int,
    budget_usd: float | None,
    notice: Callable[[str], None] | None,
) -> tuple[Judge | Votes | None, Task]:
    """Who decides, and the task with the preference in it; complains before anything is asked.

    Raises:
        UsageError: Nobody decides, or there is nothing to decide between.
    """
    if judge is None:
        if PREFERENCE in task.metrics:
            PREFERENCE.score("", "")  # says who is missing
        return None, task
    if len(candidates) < 2:
        raise UsageError(
            "There is only one candidate, so there is nothing to prefer.",
            code="nothing_to_prefer",
            where="against",
            fix="name another one: against=['base'] (--against base)",
        )
    known = judge if isinstance(judge, Judge | Votes) else Judge(judge)
    if isinstance(known, Judge):
        known.foresee(rows, len(candidates) - 1, answers, budget_usd, notice)
    else:
        known = known.seeded(seed)
    return known, with_preference(task, metric not in (None, "auto"))


def prefer(
    judge: Judge | Votes,
    session: Session,
    candidates: Sequence[Candidate],
    replies: Sequence[Sequence[Reply]],
    rows: Sequence[Row],
    *,
    confidence: float,
    notice: Callable[[str], None] | None,
) -> Preference:
    """What is preferred over all pairs."""
    names = [one.name for one in candidates]
    pairs = pairs_of(names, replies, rows)
    if isinstance(judge, Votes):
        return judge.decide(pairs, names[1:], notice=notice)
    return judge.decide(pairs, names[1:], session, confidence)

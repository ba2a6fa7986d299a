"""Which of two answers is better, row by row, as a metric like any other.

Whoever decides (a judge model, people) gives each row of a pair 1 if the answer of the model under
test is better, 0 if the other one is, 0.5 for a tie. The other side gets the rest, so that the
paired difference is wins minus losses, and the win rate is its half above one half. Statistics,
slices, verdict and report then need no rule of their own.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import Any

from unift.errors import UsageError
from unift.evaluate._metrics import Metric
from unift.evaluate._recorded import reply_text
from unift.evaluate._result import Result, shown_prompt
from unift.evaluate._rows import Row
from unift.evaluate._task import Task
from unift.evaluate._verdict import Comparison, Verdict
from unift.provider import Reply

#: Where more than this share of the rows was decided by the order or not at all, seeing no
#: difference says more of the judge than of the models, so that equality is not concluded.
BLIND = 0.25


def _no_judge(answer: str, target: str) -> float:
    raise UsageError(
        "A preference needs somebody who prefers.",
        code="no_judge",
        where="metric preference",
        fix="name a model: judge='openai:...' (--judge), or vote yourself: --human",
    )


#: Not registered: it has no score for one answer and its target.
PREFERENCE = Metric(
    "preference",
    _no_judge,
    "Win rate",
    "Share of the rows where the answer is preferred to that of the other; ties count half.",
    right=None,
)


@dataclass(frozen=True)
class Pair:
    """Two answers to one question: `own` of the model under test, `other` of `rival`."""

    row: int
    rival: str
    question: str
    expected: str
    own: str
    other: str

    @property
    def same(self) -> bool:
        """Nobody needs to be asked."""
        return self.own.split() == self.other.split()


@dataclass(frozen=True)
class Preference:
    """What was preferred.

    Attributes:
        rows: Places of the rows that were decided, ascending; the others are left out.
        shares: Rival -> how far the model under test was preferred in each of these rows, 0 to 1.
        blind: Rival -> share of the rows decided by the order alone or not at all.
        document: What goes into the JSON under ``preference``.
        said: What a reader should know.
    """

    rows: tuple[int, ...]
    shares: dict[str, tuple[float, ...]]
    blind: dict[str, float]
    document: dict[str, Any]
    said: tuple[str, ...] = ()

    def onto(self, results: Sequence[Result], reference: str | None) -> list[Result]:
        """The results with the preference among their scores.

        The model under test has the shares against `reference`, by default against the one that
        loses least to it: the one that the verdict is about.
        """
        own, *rivals = results
        means = {name: _mean(shares) for name, shares in self.shares.items()}
        strongest = reference or min(means, key=lambda name: means[name])
        found = [_scored(own, self.shares[strongest])]
        for one in rivals:
            found.append(_scored(one, tuple(1 - share for share in self.shares[one.name])))
        return found

    def rates(self, comparisons: Sequence[Comparison]) -> dict[str, Any]:
        """The document with the win rate against each rival and its interval."""
        known = {one.b: one for one in comparisons if one.metric == PREFERENCE.name}
        against: list[dict[str, Any]] = []
        for entry in self.document["against"]:
            one = known[entry["b"]]
            shares = self.shares[one.b]
            against.append(
                {
                    **entry,
                    "n": one.n,
                    "win_rate": (1 + one.difference) / 2,
                    "low": (1 + one.low) / 2,
                    "high": (1 + one.high) / 2,
                    "wins": sum(share > 0.5 for share in shares),
                    "ties": sum(share == 0.5 for share in shares),
                    "losses": sum(share < 0.5 for share in shares),
                }
            )
        return {**self.document, "against": against}

    def onto_verdict(self, verdict: Verdict) -> Verdict:
        """No equality is concluded from a judge that could not tell (see `BLIND`)."""
        blind = self.blind.get(verdict.against or "", 0.0)
        if blind <= BLIND or verdict.code not in ("no_better", "not_worse"):
            return verdict
        return Verdict(
            "inconclusive",
            f"Cannot tell: in {blind * 100:.0f}% of the rows the judge followed the order of the "
            f"answers or gave no verdict that can be read, so that it shows no equality with "
            f"{verdict.against}. Take a stronger judge, or vote yourself.",
            verdict.against,
        )


def with_preference(task: Task, asked: bool) -> Task:
    """The task with the preference as a metric, the deciding one unless others were `asked` for."""
    rest = tuple(one for one in task.metrics if one is not PREFERENCE)
    if PREFERENCE in task.metrics:
        return task
    if asked:
        return replace(task, metrics=(*rest, PREFERENCE))
    why = f"{task.why} Which answer is better is judged, and decides."
    return replace(task, metrics=(PREFERENCE, *rest), why=why)


def pairs_of(
    names: Sequence[str], replies: Sequence[Sequence[Reply]], rows: Sequence[Row]
) -> list[Pair]:
    """Every pair of the first candidate's answer and another's, row by row."""
    return [
        Pair(
            i,
            name,
            shown_prompt(row.prompt),
            row.target,
            reply_text(replies[0][i]),
            reply_text(theirs[i]),
        )
        for i, row in enumerate(rows)
        for name, theirs in zip(names[1:], replies[1:], strict=True)
    ]


def _scored(result: Result, shares: tuple[float, ...]) -> Result:
    name = PREFERENCE.name
    return replace(
        result,
        scores={**result.scores, name: shares},
        metrics={**result.metrics, name: _mean(shares)},
    )


def _mean(values: Sequence[float]) -> float:
    return sum(values) / len(values)

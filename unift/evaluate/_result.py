"""What an evaluation found, as the user holds it and as JSON."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import Any

from unift.evaluate._metrics import Metric
from unift.evaluate._recorded import reply_text
from unift.evaluate._rows import Message, Row, answer_text
from unift.evaluate._verdict import Comparison, Verdict
from unift.provider import Reply

# Sample answers kept in the JSON and the report: those that training lost, those that it gained,
# those wrong before and after, those right before and after, and equals where nothing is right.
SAMPLES = {"lost": 4, "gained": 4, "still wrong": 2, "same": 2, "equal": 2}


@dataclass(frozen=True)
class Result:
    """One candidate's answers and scores.

    `scores` maps a metric to one number a row, `metrics` to their mean (or, for a number of the
    whole set such as macro F1, to that). `seconds_per_answer` is None where the model does not say.
    `truncated` counts answers that were cut at the token limit.

    `draws` holds every answer to each row where several were recorded; scores are then means over
    them, and `self_agreement` says how far the model agrees with itself in each metric.
    """

    name: str
    model: str
    about: str
    replies: tuple[Reply, ...]
    scores: dict[str, tuple[float, ...]]
    metrics: dict[str, float]
    draws: tuple[tuple[Reply, ...], ...] | None = None
    self_agreement: dict[str, float] | None = None
    usd_per_1000_answers: float | None = None

    @property
    def n(self) -> int:
        return len(self.replies)

    @property
    def seconds_per_answer(self) -> float | None:
        known = [reply.seconds for reply in self.replies if reply.seconds is not None]
        return sum(known) / len(known) if known else None

    @property
    def truncated(self) -> int:
        return sum(reply.finish_reason == "length" for reply in self.replies)

    def as_dict(self) -> dict[str, Any]:
        return {
            "name": self.name,
            "model": self.model,
            "about": self.about,
            "metrics": dict(self.metrics),
            "n": self.n,
            "seconds_per_answer": self.seconds_per_answer,
            "truncated": self.truncated,
            "self_agreement": self.self_agreement,
            "usd_per_1000_answers": self.usd_per_1000_answers,
        }


@dataclass(frozen=True)
class Evaluation:
    """The outcome of `unift.evaluate`.

    Attributes:
        id: Derived from what was compared and how; the same evaluation has the same id.
        candidates: The model under test first, then the baselines in the order given.
        comparisons: The model under test against every baseline in every metric.
        verdict: Prints as one sentence; ``verdict.code`` is for machines.
        metrics: The first one decides.
        rows: The test rows, in the order of every candidate's replies and scores.
        details: Tables of the task kind (``fields`` or ``labels``), ``slices``, ``non_inferiority``
            (None without a margin), sample answers, lineage, diagnosis of the training, and what
            else ends in the JSON.
        warnings: What a reader should know before trusting the numbers.
        report: The HTML page, None if none was asked for.
    """

    id: str
    candidates: tuple[Result, ...]
    comparisons: tuple[Comparison, ...]
    verdict: Verdict
    metrics: tuple[Metric, ...]
    rows: tuple[Row, ...]
    details: dict[str, Any]
    warnings: tuple[str, ...] = ()
    report: Path | None = None

    def with_report(self, path: Path) -> Evaluation:
        """The same evaluation, knowing where its page is."""
        return replace(self, report=path)

    def write_markdown(self, path: str | Path) -> Path:
        """Write the report for a pull request: the verdict, tables, and the rest folded away.

        Raises:
            UsageError: It cannot be written there.
        """
        from unift.report import evaluation_markdown, save

        text = evaluation_markdown(self.as_dict())
        return save(path, text, "another path (--markdown on the command line)")

    def write_inspect(self, folder: str | Path) -> list[Path]:
        """Logs of Inspect AI, one a candidate. See `unift.evaluate._inspect_log`."""
        from unift.evaluate._inspect_log import write_inspect

        return write_inspect(self, folder)

    def as_dict(self) -> dict[str, Any]:
        """The JSON document of ``unift evaluate``."""
        return {
            "candidates": [one.as_dict() for one in self.candidates],
            "comparisons": [asdict(one) for one in self.comparisons],
            "verdict": self.verdict.sentence,
            "report": None if self.report is None else str(self.report),
            "verdict_code": self.verdict.code,
            "verdict_against": self.verdict.against,
            "verdict_exceptions": list(self.verdict.exceptions),
            "id": self.id,
            "metric": self.metrics[0].name,
            "metrics": [
                {"name": one.name, "title": one.title, "about": one.about} for one in self.metrics
            ],
            "warnings": list(self.warnings),
            **self.details,
        }


def pick_samples(
    rows: Sequence[Row], results: Sequence[Result], metric: Metric, rival: str | None
) -> list[dict[str, Any]]:
    """Rows worth reading: those that changed for the worse and for the better first.

    Args:
        rows: The test rows.
        results: The model under test first.
        metric: The deciding metric.
        rival: The baseline that "changed" is measured against.

    Returns:
        ``{"line", "prompt", "expected", "change", "answers": [{"name", "text", "score",
        "right"}]}``; `right` is None for a metric without right and wrong.
    """
    own = results[0].scores[metric.name]
    other = next((one.scores[metric.name] for one in results if one.name == rival), own)
    kinds: dict[str, list[int]] = {kind: [] for kind in SAMPLES}
    for i, (mine, theirs) in enumerate(zip(own, other, strict=True)):
        if mine != theirs:
            kinds["gained" if mine > theirs else "lost"].append(i)
        elif metric.right is None:
            kinds["equal"].append(i)
        else:
            kinds["same" if mine >= metric.right else "still wrong"].append(i)
    picked: list[dict[str, Any]] = []
    for kind, most in SAMPLES.items():
        largest_first = sorted(kinds[kind], key=lambda i: -abs(own[i] - other[i]))
        for i in largest_first[:most]:
            answers = [_answer(one, i, metric) for one in results]
            picked.append(
                {
                    "line": rows[i].line,
                    "prompt": shown_prompt(rows[i].prompt),
                    "expected": rows[i].target,
                    "change": kind,
                    "answers": answers,
                }
            )
    return picked


def _answer(result: Result, index: int, metric: Metric) -> dict[str, Any]:
    score = result.scores[metric.name][index]
    return {
        "name": result.name,
        "text": reply_text(result.replies[index]),
        "score": score,
        "right": None if metric.right is None else score >= metric.right,
    }


def shown_prompt(prompt: Sequence[Message]) -> str:
    """What a reader needs of a prompt: the question, or the whole talk if there are turns."""
    turns = [message for message in prompt if message.get("role") not in ("system", "developer")]
    if len(turns) == 1:
        return answer_text(turns[0])
    return "\n".join(f"{message.get('role')}: {answer_text(message)}" for message in turns)

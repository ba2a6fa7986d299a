"""What kind of task the targets show, and which metrics fit it."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from statistics import median
from typing import Any

from unift.evaluate._json_fields import parse_json
from unift.evaluate._metrics import (
    ACCURACY,
    CHRF,
    EXACT_MATCH,
    JSON_FIELDS,
    JSON_VALID,
    ROUGE_L,
    TOKEN_F1,
    TOOL_ARGUMENTS,
    TOOL_CALLS,
    TOOL_NAMES,
    Metric,
    get_metric,
    label_of,
)
from unift.evaluate._text_metrics import installed
from unift.evaluate._tool_calls import calls_of

# A target counts as a label when it is short, and the set as labels when each is seen several
# times on average. Chosen so that yes/no, sentiment and routing tasks qualify and names do not.
# Longer ones, up to a sentence, have to be seen more often.
_LABELS = ((4, 3), (12, 5))  # words at most, rows each at least
_LABEL_MOST = 100
# Some rows of an extraction say that there is nothing to extract.
_MOSTLY = 0.8
# Up to this many words an answer can be expected to be repeated as a whole.
_SHORT_WORDS = 5
# Further metrics of longer texts, and the package behind each.
_LONG = ((ROUGE_L, "rouge_score"), (CHRF, "sacrebleu"))


@dataclass(frozen=True)
class Task:
    """The kind of task and how it is measured.

    Attributes:
        kind: ``tools``, ``json``, ``labels`` or ``text``.
        metrics: The first one decides the verdict.
        why: One sentence for the report: what was seen and what follows.
    """

    kind: str
    metrics: tuple[Metric, ...]
    why: str


def find_task(
    targets: Sequence[str],
    metric: str | Metric | Callable[[str, str], Any] | Sequence[Any] | None = None,
) -> Task:
    """The kind of task and its metrics.

    Args:
        targets: The wanted answers.
        metric: None or ``"auto"`` to go by the targets; else a name, a `Metric`, a function
            ``(answer, target) -> float``, or a list of these, the deciding one first.

    Raises:
        UsageError: An unknown metric.
    """
    found = _by_targets(targets)
    if metric is None or metric == "auto":
        return found
    wanted = [metric] if isinstance(metric, str | Metric) or callable(metric) else list(metric)
    chosen = tuple(dict.fromkeys(get_metric(one) for one in wanted))
    if not chosen:
        return found
    return Task(found.kind, chosen, f"{chosen[0].title} decides, as asked.")


def _by_targets(targets: Sequence[str]) -> Task:
    n = len(targets)
    calling = sum(1 for text in targets if calls_of(text))
    if calling:
        return Task(
            "tools",
            (TOOL_CALLS, TOOL_NAMES, TOOL_ARGUMENTS),
            f"{calling} of {n} expected answers call tools, so names and arguments are compared.",
        )
    data = sum(isinstance(parse_json(text), dict | list) for text in targets)
    if data >= _MOSTLY * n:
        rest = f", and the {n - data} others as texts" if data < n else ""
        many = f"{data} of {n} expected answers are" if rest else "Every expected answer is"
        return Task(
            "json",
            (JSON_FIELDS, EXACT_MATCH, JSON_VALID),
            f"{many} JSON, so fields are compared one by one{rest}.",
        )
    labels = {label_of(text) for text in targets}
    longest = max(len(text.split()) for text in targets)
    often = any(longest <= words and n >= each * len(labels) for words, each in _LABELS)
    if often and 2 <= len(labels) <= _LABEL_MOST:
        return Task(
            "labels",
            (ACCURACY,),
            f"The expected answers are {len(labels)} labels, so this is a classification.",
        )
    words = median(len(text.split()) for text in targets)
    if words <= _SHORT_WORDS:
        return Task(
            "text",
            (ACCURACY, EXACT_MATCH, TOKEN_F1),
            "The expected answers are short texts, so the whole answer is compared, but for case "
            "and for quotes or a full stop around it.",
        )
    known = [m for m, package in _LONG if installed(package)]
    return Task(
        "text",
        (TOKEN_F1, EXACT_MATCH, *known),
        "The expected answers are longer texts, so the overlap of words is compared.",
    )

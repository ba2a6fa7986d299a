"""Labels: F1 of each, macro F1, and which ones are mixed up; scikit-learn does the arithmetic."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from unift.evaluate._metrics import label_of
from unift.evaluate._text_metrics import INSTALL, installed

OTHER = "(other)"  # an answer that is no known label; no label looks so, see `label_of`

#: Said where the tables are missing.
HINT = f"F1 of the labels and the confusion matrix need scikit-learn: {INSTALL}."


def available() -> bool:
    """Whether scikit-learn is installed (extra ``eval``); without it, accuracy still decides."""
    return installed("sklearn")


def label_table(answers: Sequence[str], targets: Sequence[str]) -> list[dict[str, float | str]]:
    """Per label of the targets: how often it was wanted, precision, recall and F1.

    Labels are compared after `label_of`. A label that nobody gave has a precision of 0.
    """
    labels, given, wanted = _labels(answers, targets)
    table: Any = _metrics().precision_recall_fscore_support(
        wanted, given, labels=labels, zero_division=0.0
    )
    return [
        {"label": label, "n": int(n), "precision": float(p), "recall": float(r), "f1": float(f)}
        for label, p, r, f, n in zip(labels, *table, strict=True)
    ]


def macro_f1(answers: Sequence[str], targets: Sequence[str]) -> float:
    """Mean over the labels of the targets of each label's F1, so that rare labels count as much.

    An answer that is no label at all is wrong for its own label. A number of the whole set.
    """
    labels, given, wanted = _labels(answers, targets)
    found: Any = _metrics().f1_score(
        wanted, given, labels=labels, average="macro", zero_division=0.0
    )
    return float(found)


def confusion(answers: Sequence[str], targets: Sequence[str]) -> dict[str, Any]:
    """Counts of wanted (rows) against given labels (columns); ``(other)`` is no known label.

    Returns:
        ``{"labels": [...], "given": [..., "(other)"], "counts": [[...], ...]}``, shape
        (labels, labels + 1).
    """
    labels, given, wanted = _labels(answers, targets)
    known = [one if one in labels else OTHER for one in given]
    counts: Any = _metrics().confusion_matrix(wanted, known, labels=[*labels, OTHER])
    return {
        "labels": labels,
        "given": [*labels, OTHER],
        "counts": [[int(n) for n in row] for row in counts[:-1]],
    }


def _labels(
    answers: Sequence[str], targets: Sequence[str]
) -> tuple[list[str], list[str], list[str]]:
    wanted = [label_of(text) for text in targets]
    return sorted(set(wanted)), [label_of(text) for text in answers], wanted


def _metrics() -> Any:
    # Half a second to import, which only a classification has to pay.
    from sklearn import metrics  # pyright: ignore[reportMissingTypeStubs]  # has none

    return metrics

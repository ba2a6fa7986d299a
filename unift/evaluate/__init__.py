"""Was it worth it: candidates, metrics, paired statistics, a verdict and a diagnosis."""

from __future__ import annotations

from typing import TYPE_CHECKING

from unift._lazy import loader
from unift.evaluate._evaluate import evaluate

if TYPE_CHECKING:
    from unift.evaluate._judge import Judge
    from unift.evaluate._lm_eval import LmEval
    from unift.evaluate._metrics import Metric, get_metric, metrics, register
    from unift.evaluate._not_worse import NonInferiority, not_worse
    from unift.evaluate._recorded import Recorded
    from unift.evaluate._result import Evaluation, Result
    from unift.evaluate._slices import Slice
    from unift.evaluate._statistics import (
        Difference,
        holm,
        minimum_detectable_effect,
        paired_difference,
        rows_needed,
    )
    from unift.evaluate._verdict import Comparison, Verdict
    from unift.evaluate._votes import Votes
    from unift.evaluate._watch import Watch, watched
    from unift.evaluate.diagnosis import Advice, Diagnosis, diagnose

# Loaded on first use: `import unift` needs none of them.
_HOMES = {
    "Advice": "diagnosis",
    "Comparison": "_verdict",
    "Diagnosis": "diagnosis",
    "Difference": "_statistics",
    "Evaluation": "_result",
    "Judge": "_judge",
    "LmEval": "_lm_eval",
    "Metric": "_metrics",
    "NonInferiority": "_not_worse",
    "Recorded": "_recorded",
    "Result": "_result",
    "Slice": "_slices",
    "Verdict": "_verdict",
    "Votes": "_votes",
    "Watch": "_watch",
    "diagnose": "diagnosis",
    "get_metric": "_metrics",
    "holm": "_statistics",
    "metrics": "_metrics",
    "minimum_detectable_effect": "_statistics",
    "not_worse": "_not_worse",
    "paired_difference": "_statistics",
    "register": "_metrics",
    "rows_needed": "_statistics",
    "watched": "_watch",
}

__all__ = [
    "Advice",
    "Comparison",
    "Diagnosis",
    "Difference",
    "Evaluation",
    "Judge",
    "LmEval",
    "Metric",
    "NonInferiority",
    "Recorded",
    "Result",
    "Slice",
    "Verdict",
    "Votes",
    "Watch",
    "diagnose",
    "evaluate",
    "get_metric",
    "holm",
    "metrics",
    "minimum_detectable_effect",
    "not_worse",
    "paired_difference",
    "register",
    "rows_needed",
    "watched",
]


__getattr__ = loader(__name__, _HOMES)

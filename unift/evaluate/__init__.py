"""Was it worth it: candidates, metrics, paired statistics, a verdict and a diagnosis."""

from __future__ import annotations

from typing import TYPE_CHECKING

from unift._lazy import loader
from unift.evaluate._evaluate import evaluate

if TYPE_CHECKING:
    from unift.evaluate._metrics import Metric, get_metric, metrics, register
    from unift.evaluate._result import Evaluation, Result
    from unift.evaluate._statistics import (
        Difference,
        holm,
        minimum_detectable_effect,
        paired_difference,
    )
    from unift.evaluate._verdict import Comparison, Verdict
    from unift.evaluate.diagnosis import Advice, Diagnosis, diagnose

# Loaded on first use: `import unift` needs none of them.
_HOMES = {
    "Advice": "diagnosis",
    "Comparison": "_verdict",
    "Diagnosis": "diagnosis",
    "Difference": "_statistics",
    "Evaluation": "_result",
    "Metric": "_metrics",
    "Result": "_result",
    "Verdict": "_verdict",
    "diagnose": "diagnosis",
    "get_metric": "_metrics",
    "holm": "_statistics",
    "metrics": "_metrics",
    "minimum_detectable_effect": "_statistics",
    "paired_difference": "_statistics",
    "register": "_metrics",
}

__all__ = [
    "Advice",
    "Comparison",
    "Diagnosis",
    "Difference",
    "Evaluation",
    "Metric",
    "Result",
    "Verdict",
    "diagnose",
    "evaluate",
    "get_metric",
    "holm",
    "metrics",
    "minimum_detectable_effect",
    "paired_difference",
    "register",
]


__getattr__ = loader(__name__, _HOMES)

"""Was it worth it: candidates, metrics, paired statistics, a verdict and a diagnosis."""

from unift.evaluate._evaluate import evaluate
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

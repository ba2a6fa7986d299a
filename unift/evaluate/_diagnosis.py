"""What a diagnosis is, and its thresholds; the reasons are in `unift.evaluate.diagnosis`."""

from __future__ import annotations

from dataclasses import asdict, dataclass
from typing import Any, Literal

from unift.evaluate._advice import Advice

Code = Literal[
    "healthy", "overfitting", "underfitting", "diverging", "plateau", "rate_too_high", "bad_masks",
    "too_short",
]  # fmt: skip

KNOWN = 0.02
ALL = 0.02
DIVERGED = 0.25
JUMPED = 0.15
OVERFIT = 0.05
FLOOR = 0.005
MOVED = 0.05
STILL_FALLING = 0.1
LITTLE = 0.25
STOOD = 0.15
HARDLY = 0.02
UNSOLVED = 0.05
BEGUN = 0.2
LATE = 0.5
LEVEL = 0.005
LEVEL_LEFT = 0.05
NOTHING = 0.001
SURE = 4.0
MIN_VALIDATIONS = 3
MIN_STEPS = 20
# Before that many losses nothing is said of a rise.
RISING = 10


@dataclass(frozen=True)
class Diagnosis:
    """Attributes:
    code: ``healthy``, ``overfitting``, ``underfitting``, ``diverging``, ``plateau``,
        ``rate_too_high``, ``bad_masks`` or ``too_short``.
    sentence: What was seen, with the numbers.
    advice: What to do, the first thing first.
    best_step: Step with the lowest validation loss, the one to go back to; None without any.
    evidence: The numbers behind the code.
    """

    code: Code
    sentence: str
    advice: tuple[Advice, ...]
    best_step: int | None
    evidence: dict[str, float]

    @property
    def line(self) -> str:
        """What was seen and the first thing to do, for a log."""
        first = next(iter(self.advice), None)
        if first is None:
            return self.sentence
        return " ".join(filter(None, (self.sentence, first.text, first.flags or first.command)))

    def as_dict(self) -> dict[str, Any]:
        return asdict(self)

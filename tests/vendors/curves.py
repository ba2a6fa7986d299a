"""Loss curves that a loopback vendor tells, step by step: a training by heart, one that blows up,
and a good one."""

from __future__ import annotations

import math
import random
from dataclasses import dataclass

STEPS = 90
PER_EPOCH = 15
_noise = random.Random(4)


@dataclass(frozen=True)
class Step:
    """Losses of one step: training, of one batch of validation rows, of all of them."""

    train: float
    batch: float
    whole: float


def _noisy(loss: float, share: float) -> float:
    return loss * math.exp(_noise.gauss(0, share))


def _made(train: list[float], held_out: list[float]) -> list[Step]:
    return [Step(_noisy(a, 0.1), _noisy(b, 0.5), b) for a, b in zip(train, held_out, strict=True)]


_FALL = [0.3 + 2.2 * math.exp(-step / 10) for step in range(STEPS)]
GOOD = _made(_FALL, [loss + 0.1 for loss in _FALL])
BY_HEART = _made(
    [loss - 0.29 * step / STEPS for step, loss in enumerate(_FALL)],
    [loss + 0.2 + 0.012 * max(0, step - 35) for step, loss in enumerate(_FALL)],
)
BLOWN_UP = _made(
    [loss + 0.15 * max(0, step - 40) for step, loss in enumerate(_FALL)],
    [loss + 0.15 * max(0, step - 40) for step, loss in enumerate(_FALL)],
)
ALL_BY_HEART = _made(
    [loss - 0.29 * step / STEPS for step, loss in enumerate(_FALL)],
    [loss + 0.2 + 0.1 * max(0, step - 20) for step, loss in enumerate(_FALL)],
)

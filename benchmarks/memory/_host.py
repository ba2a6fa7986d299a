"""How fast the processor is that short passes wait for."""

from __future__ import annotations

import time
from typing import Any


def speed(device: Any) -> dict[str, float]:
    """Seconds of a fixed loop of Python, and of 400 small kernels launched one after another: the
    best of five. Stands in every row, so that sessions on different hosts can be compared."""
    import torch

    def loop() -> float:
        began = time.perf_counter()
        total = 0
        for number in range(100_000):
            total += number
        return time.perf_counter() - began

    def launches() -> float:
        began = time.perf_counter()
        for _ in range(400):
            small.add_(1)
        return time.perf_counter() - began

    small = torch.zeros(8, device=device)
    launches()
    found = {"loop": min(loop() for _ in range(5)), "launches": min(launches() for _ in range(5))}
    return {name: round(value, 5) for name, value in found.items()}

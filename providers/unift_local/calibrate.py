"""How fast this machine's processor is, measured in a tenth of a second and remembered."""

from __future__ import annotations

import time
from collections.abc import Callable
from datetime import UTC, datetime

import torch

from unift.estimate import CpuSpeed, remember_cpu, remembered_cpu

_WIDTH, _VALUES = 512, 2**22


def cpu_speed(threads: int) -> CpuSpeed:
    """The speed of training with so many threads; measured unless it is known already."""
    known = remembered_cpu(threads)
    if known is not None:
        return known
    before = torch.get_num_threads()
    torch.set_num_threads(threads)
    try:
        found = CpuSpeed(
            threads=threads,
            fp32_gflops=round(_product(torch.float32), 1),
            bf16_gflops=round(_product(torch.bfloat16), 1),
            gb_s=round(_sum(), 2),
            measured=datetime.now(UTC).date().isoformat(),
        )
    finally:
        torch.set_num_threads(before)
    remember_cpu(found)
    return found


def _product(dtype: torch.dtype) -> float:
    a, b = (torch.ones(_WIDTH, _WIDTH, dtype=dtype) for _ in range(2))
    return 2 * _WIDTH**3 / _seconds(lambda: a @ b) / 1e9


def _sum() -> float:
    a, b, out = (torch.ones(_VALUES) for _ in range(3))
    return 3 * 4 * _VALUES / _seconds(lambda: torch.add(a, b, out=out)) / 1e9


def _seconds(work: Callable[[], object]) -> float:
    """The fastest of a few tries: other processes only ever make it slower."""
    work()
    tries: list[float] = []
    for _ in range(5):
        began = time.perf_counter()
        work()
        tries.append(time.perf_counter() - began)
    return min(tries)

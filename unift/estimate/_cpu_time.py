"""Seconds of one pass on a processor: the counted work of `_gpu_time` over this machine's speed.

A local provider measures the speed once (`unift_local.calibrate`: a matrix product and an
elementwise sum, a tenth of a second) and leaves it in ``UNIFT_HOME/cpu.json``, where every later
estimate finds it without torch. Before that, the figures of one server stand in.
"""

from __future__ import annotations

import contextlib
import json
import os
import platform
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any, cast

from unift.estimate._gpu_time import work
from unift.estimate._shape import Shape
from unift.estimate._training import Training

# Products of a training reach this share of the rate of one square product, elementwise work this
# share of the bandwidth of one sum; seconds of the interpreter and of small kernels per layer and
# phase. Set by steps of the embedded model (benchmarks/results/memory.md).
_PRODUCTS, _BYTES, _LAYER = 0.8, 0.8, 1.5e-3
# Attention of short rows, share of the rate of products.
_ATTENTION = 0.25
# 4-bit weights cost 12 to 20% there.
_QLORA = 0.85


@dataclass(frozen=True, slots=True)
class CpuSpeed:
    """Of one processor with so many threads: GFLOP/s of a product in float32 and bfloat16, GB/s of
    elementwise work. The defaults are of an AVX512-BF16 server, per thread; `measured` says when a
    provider measured this machine."""

    threads: int
    fp32_gflops: float = 0.0
    bf16_gflops: float = 0.0
    gb_s: float = 0.0
    measured: str = ""

    def rates(self) -> tuple[float, float, float]:
        """As measured, or the defaults times the threads."""
        if self.measured:
            return self.fp32_gflops, self.bf16_gflops, self.gb_s
        return 110.0 * self.threads, 260.0 * self.threads, 18.0 * self.threads

    def seconds(
        self, shape: Shape, run: Training, tokens: float, row: float, *, training: bool = True
    ) -> float:
        """One pass over `tokens`; `row` is what attention sees."""
        fp32, bf16, gb_s = self.rates()
        one = work(shape, run, tokens, row, training=training)
        rate = (fp32 if run.width == 4 else bf16) * 1e9 * _PRODUCTS
        rate *= _QLORA if run.tuning == "qlora" else 1.0
        seconds = one.products / rate + one.attention / (rate * _ATTENTION)
        return (
            seconds
            + (one.bytes + one.adapters) / (gb_s * 1e9 * _BYTES)
            + one.phases * shape.layers * _LAYER
        )

    def note(self) -> str:
        """What the estimate says about it."""
        fp32, bf16, _ = self.rates()
        rates = (
            f"{fp32:.0f} GFLOP/s in float32 and {bf16:.0f} in bfloat16 on {self.threads} threads"
        )
        if self.measured:
            return f"speed: {rates}, measured on this machine on {self.measured}"
        return (
            f"speed: {rates}, as on an AVX512 server; other processors differ by 2 to 3 times, and "
            "the first plan of a local run on this machine measures it"
        )


def threads() -> int:
    """Threads that a training on this machine's CPU would use."""
    return len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1


def remembered_cpu(count: int) -> CpuSpeed | None:
    """What was measured on this machine with so many threads, or None."""
    try:
        found: Any = json.loads(_file().read_text(encoding="utf-8"))
        return CpuSpeed(**found[_key(count)])
    except (OSError, ValueError, KeyError, TypeError):
        return None


def remember_cpu(speed: CpuSpeed) -> None:
    """Keep a measurement for this machine; a disk that takes none is no reason to stop."""
    with contextlib.suppress(OSError):
        path = _file()
        try:
            found = cast("dict[str, Any]", json.loads(path.read_text(encoding="utf-8")))
        except (OSError, ValueError):
            found = {}
        found[_key(speed.threads)] = asdict(speed)
        part = path.with_suffix(f".{os.getpid()}.part")
        part.write_text(json.dumps(found, indent=1), encoding="utf-8")
        part.replace(path)


def _file() -> Path:
    from unift._home import home

    return home() / "cpu.json"


def _key(count: int) -> str:
    """One machine with so many threads."""
    return f"{platform.node()} {platform.machine()} {_model()} x{count}"


def _model() -> str:
    with contextlib.suppress(OSError):
        for line in Path("/proc/cpuinfo").read_text(encoding="utf-8").splitlines():
            if line.startswith("model name"):
                return line.partition(":")[2].strip()
    return platform.processor()

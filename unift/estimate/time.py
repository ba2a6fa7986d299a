"""How long a training takes: arithmetic over measured speed, plus what a step costs at any size.

    seconds = FLOPs / (efficiency * peak) + passes * layers * overhead        for each micro-batch

FLOPs per token (Kaplan et al. 2020, https://arxiv.org/abs/2001.08361, section 2.1): 2N forward, 4N
backward for full fine-tuning, 2N for frozen weights (activation gradients only); recomputation adds
2N of the layers; attention adds 4 * layers * query width * context / 2 forward (causal), twice that
backward. Adapters add less than 1% and are left out.

Efficiency and overhead were fitted by least squares on the 15 runs of ``catalog.measured()`` (one
H100, Llama-3.1-8B shape): those rows lie within 14%, and the factors for padding, dropout and full
fine-tuning rest on one row each. Other cards are scaled by their data-sheet bf16 arithmetic, which
nobody has measured here yet; every estimate says so.
"""

from __future__ import annotations

import math
import os
from dataclasses import dataclass, field
from statistics import NormalDist
from typing import Any

from unift.estimate._shape import Shape
from unift.estimate.memory import Dtype, Kernels, Tuning

# Share of the data-sheet peak reached in training by long rows with Liger kernels, unpacked.
EFFICIENCY = 0.515
# Factors on it, each fitted: plain torch kernels; packed rows (masks or varlen); 4-bit base;
# padded rows (masked attention, ever-changing shapes); dropout in the adapters.
FACTORS = {"torch": 0.824, "packed": 0.776, "qlora": 0.956, "padded": 0.458, "dropout": 0.816}
# Seconds per layer and pass that do not shrink with the batch: kernel launches and Python.
OVERHEAD_ADAPTERS, OVERHEAD_FULL = 3.1e-3, 1.45e-3
REFERENCE_GPU = "h100-sxm-80gb"

# CPU: float32 and bfloat16 arithmetic per thread reached by LoRA training of an 88 M model on two
# threads of an AVX512-BF16 server (491 and 1,196 tokens/s at 4N), measured 2026-11-24; a 1.8 M
# model then fits with 4 ms per layer and pass. 4-bit weights cost 12 to 20% there.
CPU_GFLOPS_PER_THREAD = {"fp32": 86.0, "fp16": 86.0, "bf16": 210.0, "mixed": 210.0}
CPU_OVERHEAD = 4e-3
CPU_QLORA_FACTOR = 0.85

# Imports of torch, peft and trl on a warm disk (4.5 to 10 s here), then reading the weights.
IMPORT_SECONDS = 8.0
READ_GIB_PER_SECOND = 1.0

# Spread of chat lengths (log-normal sigma) in the measured padded run; gives the padding.
LENGTH_SIGMA = 0.8


@dataclass(frozen=True, slots=True)
class Duration:
    """Seconds by part, their sum in hours, and real tokens per second while training."""

    hours: float
    terms: dict[str, float]
    tokens_per_second: float
    flops: float
    assumptions: tuple[str, ...] = field(default=())

    def as_dict(self) -> dict[str, Any]:
        """JSON form; `terms` in seconds."""
        return {
            "hours": round(self.hours, 4),
            "terms_seconds": {name: round(value, 1) for name, value in self.terms.items()},
            "tokens_per_second": round(self.tokens_per_second, 1),
        }


def flops_per_token(
    shape: Shape, *, tuning: Tuning, checkpointing: bool, context: int, training: bool = True
) -> float:
    """Floating-point operations per token; `context` is the length that attention sees."""
    active = shape.active_parameters
    seen = min(context, shape.window) if shape.window else context
    attention = 2.0 * shape.layers * shape.q_width * seen
    forward = 2.0 * active + attention
    if not training:
        return forward
    backward = (4.0 if tuning == "full" else 2.0) * active + 2 * attention
    layers = 2.0 * (active - shape.vocab * shape.hidden) + attention
    return forward + backward + (layers if checkpointing else 0.0)


def padding_factor(micro_batch: int) -> float:
    """Padded over real tokens when rows of log-normal length share a batch: the expected longest of
    `micro_batch` rows (Blom 1958, plotting position) over the mean; 1 for single rows."""
    quantile = (micro_batch - 0.375) / (micro_batch + 0.25)
    longest = LENGTH_SIGMA * NormalDist().inv_cdf(quantile) if micro_batch > 1 else 0.0
    return max(1.0, math.exp(longest - LENGTH_SIGMA**2 / 2))


def threads() -> int:
    """Threads that a training on this machine's CPU would use."""
    return len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1


def estimate_time(
    shape: Shape,
    *,
    tokens: float,
    tuning: Tuning = "lora",
    micro_batch: int = 1,
    length: int = 1024,
    checkpointing: bool = True,
    packing: bool = False,
    dtype: Dtype = "bf16",
    kernels: Kernels = "torch",
    dropout: float = 0.0,
    peak_tflops: float | None = None,
    cpu_threads: int | None = None,
    evaluation_tokens: float = 0.0,
    evaluations: int = 0,
) -> Duration:
    """Wall-clock time of a training run.

    Args:
        shape: The model.
        tokens: Real tokens trained, all epochs together (rows * mean length * epochs).
        tuning: ``full``, ``lora`` or ``qlora``.
        micro_batch: Rows (or packed sequences) per forward pass.
        length: Tokens per packed sequence; without packing the mean length of a row.
        checkpointing: Whether layers are recomputed in the backward pass.
        packing: Several rows per sequence, so nothing is padded.
        dtype: Of the arithmetic (matters on a CPU).
        kernels: ``torch`` or ``liger``.
        dropout: Of the adapters; above 0 it slows the step.
        peak_tflops: Data-sheet dense bf16 arithmetic of the GPU; None for the CPU.
        cpu_threads: Threads for a CPU run; None for what this process may use.
        evaluation_tokens: Tokens of one pass over the validation data.
        evaluations: How many such passes.

    Returns:
        Hours, and seconds for ``start_up``, ``training``, ``evaluation``.
    """
    padding = 1.0 if packing else padding_factor(micro_batch)
    pass_tokens = float(micro_batch * length)
    micro_batches = max(1.0, math.ceil(tokens / pass_tokens)) if tokens > 0 else 0.0
    adapters = tuning != "full"
    notes: list[str] = []
    if peak_tflops is not None:
        rate = peak_tflops * 1e12 * EFFICIENCY
        rate *= FACTORS["torch"] if kernels == "torch" else 1.0
        rate *= FACTORS["packed"] if packing else 1.0
        rate *= FACTORS["padded"] if padding > 1.0 else 1.0
        rate *= FACTORS["qlora"] if tuning == "qlora" else 1.0
        rate *= FACTORS["dropout"] if dropout > 0 and adapters else 1.0
        overhead = OVERHEAD_ADAPTERS if adapters else OVERHEAD_FULL
        notes.append(
            "speed: fitted on 15 runs of an 8 B model on one H100 (rows within 14%), scaled by the "
            "card's data-sheet bf16 arithmetic"
        )
    else:
        count = cpu_threads or threads()
        rate = CPU_GFLOPS_PER_THREAD[dtype] * 1e9 * count
        rate *= CPU_QLORA_FACTOR if tuning == "qlora" else 1.0
        overhead = CPU_OVERHEAD
        notes.append(
            f"speed: {CPU_GFLOPS_PER_THREAD[dtype]:.0f} GFLOP/s per thread in {dtype}, measured on "
            f"an AVX512 server, times {count} threads; other processors differ by 2 to 3 times"
        )
    per_token = flops_per_token(shape, tuning=tuning, checkpointing=checkpointing, context=length)
    total = per_token * tokens * padding
    passes = 2 if checkpointing else 1
    training = total / rate + micro_batches * passes * shape.layers * overhead
    forward = flops_per_token(
        shape, tuning=tuning, checkpointing=False, context=length, training=False
    )
    evaluating = evaluations * (
        forward * evaluation_tokens / rate
        + math.ceil(evaluation_tokens / pass_tokens) * shape.layers * overhead / 2
    )
    width = 4 if dtype in ("fp32", "mixed") else 2
    start = IMPORT_SECONDS + shape.parameters * width / 2**30 / READ_GIB_PER_SECOND
    terms = {"start_up": start, "training": training}
    if evaluating:
        terms["evaluation"] = evaluating
    return Duration(
        hours=sum(terms.values()) / 3600,
        terms=terms,
        tokens_per_second=tokens / training if training else 0.0,
        flops=total,
        assumptions=tuple(notes),
    )

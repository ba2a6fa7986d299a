"""How long a training takes: arithmetic and memory traffic over measured speed.

    seconds = (gpu^4 + launches^4)^(1/4)                                  for each micro-batch
    gpu = a * FLOPs / peak + b * attention FLOPs / peak + c * saved bytes / bandwidth

The card works while the processor launches its kernels, so the slower of the two counts; the power
makes the change smooth. FLOPs per token (Kaplan et al. 2020, https://arxiv.org/abs/2001.08361,
section 2.1): 2N forward, 4N backward for full fine-tuning, 2N for frozen weights (activation
gradients only); recomputation adds 2N of the layers it covers; attention 4 * layers * query width *
context / 2 forward (causal, real row lengths), 2.5 times that backward; under a dense mask all
pairs. Adapters add less than 1% and are left out. Traffic is taken as proportional to what autograd
saves (`_activations.saved_bytes`).

The constants are least squares over the fit half of the grid measured on one H100
(``benchmarks/memory``; mean error 8%, held-out half 10%, worst 25% on steps that launches bound).
Other cards are scaled by their data sheets, which nobody has measured here yet; every estimate
says so. A run corrects its own estimate after its first minute.
"""

from __future__ import annotations

import math
import os
from dataclasses import dataclass, field
from statistics import NormalDist
from typing import Any

from unift.estimate._activations import saved_bytes
from unift.estimate._shape import Shape
from unift.estimate._training import (
    Attention,
    Checkpointing,
    Dtype,
    Kernels,
    Training,
    Tuning,
    make_training,
)

# Seconds over those of the data sheet: for matrix products (1 / 2.06 = 49% of the peak), for
# attention under a causal kernel and a dense mask; and how often saved bytes cross the memory bus.
MATMUL, CAUSAL, DENSE, TRAFFIC = 2.06, 1.0, 2.5, 12.7
# Seconds of launching per layer and pass (forward, backward and recomputing are one each).
LAUNCH = {"full": 2.66e-3, "lora": 3.04e-3, "qlora": 5.23e-3}
# Fused adapters launch fewer kernels; taken as the share of operations left, not measured.
LAUNCH_FUSED = 0.6
# Bytes of weights, gradients and states that AdamW reads and writes per trained weight in float32.
_ADAMW_BYTES = 28.0
# Arithmetic in float32 outside tensor cores, share of the bf16 data sheet (H100: 67 of 989), and
# bandwidth per bf16 TFLOP/s where the catalogue has none (H100: 3350 GB/s of 989).
_FP32_SHARE, _BANDWIDTH = 1 / 14.8, 3.39
# Dropout adds masks and passes over them: measured on one run.
_DROPOUT = 1.15
# Rows of ever-changing lengths, padded: the one measured run took 1.7 times what its tokens should.
_RAGGED = 1.7
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
    shape: Shape,
    *,
    tuning: Tuning,
    checkpointing: bool | float,
    context: int,
    training: bool = True,
    scored: float = 1.0,
) -> float:
    """Floating-point operations per token; `context` is the length that attention sees, and
    `checkpointing` the share of layers that are recomputed; the head works for `scored` tokens."""
    matmul, attention = _flops(shape, tuning, float(checkpointing), context, training, scored)
    return matmul + attention


def _flops(
    shape: Shape, tuning: Tuning, share: float, context: int, training: bool, scored: float
) -> tuple[float, float]:
    """Of matrix products and of attention, per token."""
    head = float(shape.vocab * shape.hidden)
    layers = shape.active_parameters - head
    whole = shape.layers - (shape.window_layers if shape.window else 0)
    seen = whole * context + shape.window_layers * min(context, shape.window or context)
    attention = 2.0 * shape.q_width * seen
    if not training:
        return 2.0 * (layers + scored * head), attention
    backward = 4.0 if tuning == "full" else 2.0
    matmul = (2.0 + backward + 2.0 * share) * layers + (2.0 + backward) * scored * head
    return matmul, attention * (3.5 + share)


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
    row: float | None = None,
    checkpointing: Checkpointing | bool = True,
    checkpointed_layers: int | None = None,
    packing: bool = False,
    attention: Attention = "sdpa",
    dtype: Dtype = "bf16",
    kernels: Kernels = "torch",
    dropout: float = 0.0,
    scored: float = 1.0,
    peak_tflops: float | None = None,
    bandwidth_gb_s: float | None = None,
    cpu_threads: int | None = None,
    evaluation_tokens: float = 0.0,
    evaluations: int = 0,
    checkpoint_bytes: float = 0.0,
) -> Duration:
    """Wall-clock time of a training run.

    Args:
        shape: The model.
        tokens: Real tokens trained, all epochs together (rows * mean length * epochs).
        tuning: ``full``, ``lora`` or ``qlora``.
        micro_batch: Rows (or packed sequences) per forward pass.
        length: Tokens per packed sequence; without packing the mean length of a row.
        row: Tokens of a row, where attention keeps the rows of a sequence apart; None for `length`.
        checkpointing: What is recomputed, see `estimate_memory`.
        checkpointed_layers: How many layers of ``selective``.
        packing: Several rows per sequence, so nothing is padded.
        attention: ``varlen`` sees rows alone; ``sdpa`` computes all pairs of a packed sequence.
        dtype: Of the arithmetic.
        kernels: ``torch``, ``liger`` or ``adapters``.
        dropout: Of the adapters; above 0 it slows the step.
        scored: Share of the tokens that carry loss.
        peak_tflops: Data-sheet dense bf16 arithmetic of the GPU; None for the CPU.
        bandwidth_gb_s: Of its memory; None for the H100's share of the arithmetic.
        cpu_threads: Threads for a CPU run; None for what this process may use.
        evaluation_tokens: Tokens of one pass over the validation data.
        evaluations: How many such passes, each with a checkpoint.
        checkpoint_bytes: Of one checkpoint.

    Returns:
        Hours, and seconds for ``start_up``, ``training``, ``evaluation``, ``checkpoints``.
    """
    cuda = peak_tflops is not None
    run = make_training(
        shape,
        tuning=tuning,
        rank=16,
        targets=None,
        dora=False,
        micro_batch=micro_batch,
        length=length,
        checkpointing=checkpointing,
        checkpointed_layers=checkpointed_layers,
        dtype="bf16" if dtype == "mixed" and tuning != "full" else dtype,
        optimizer="adamw",
        loss="chunked",
        packing=packing,
        attention=attention,
        kernels=kernels,
        padded=not packing and micro_batch > 1,
        dropout=dropout,
        adapter_dtype=None,
        passes=1,
        scored=scored,
        vision=False,
        devices=1,
        sharding="none",
        device="cuda" if cuda else "cpu",
    )
    padding = 1.0 if packing else padding_factor(micro_batch)
    pass_tokens = float(micro_batch * length)
    passes = max(1.0, math.ceil(tokens / pass_tokens)) if tokens > 0 else 0.0
    per_pass = (tokens / passes if passes else 0.0) * padding
    if cuda:
        assert peak_tflops is not None
        speed = _Gpu(peak_tflops, bandwidth_gb_s or peak_tflops * _BANDWIDTH)
        notes = _GPU_NOTE
    else:
        count = cpu_threads or threads()
        speed = _Cpu(count)
        notes = (
            f"speed: {CPU_GFLOPS_PER_THREAD[dtype]:.0f} GFLOP/s per thread in {dtype}, measured on "
            f"an AVX512 server, times {count} threads; other processors differ by 2 to 3 times"
        )
    one = speed.seconds(shape, run, per_pass, row or length)
    training = one * passes
    if cuda and tuning == "full":
        steps = passes  # at most: several passes may share a step
        training += steps * shape.parameters * _ADAMW_BYTES / (speed.bandwidth * 1e9)
    forward = speed.seconds(shape, run, pass_tokens, row or length, training=False)
    evaluating = evaluations * evaluation_tokens / pass_tokens * forward
    width = 4 if dtype in ("fp32", "mixed") else 2
    start = IMPORT_SECONDS + shape.parameters * width / 2**30 / READ_GIB_PER_SECOND
    terms = {"start_up": start, "training": training}
    if evaluating:
        terms["evaluation"] = evaluating
    if checkpoint_bytes and evaluations:
        terms["checkpoints"] = evaluations * checkpoint_bytes / 2**30 / READ_GIB_PER_SECOND
    matmul, pairs = _flops(
        shape, tuning, run.recomputed / shape.layers, round(row or length), True, scored
    )
    return Duration(
        hours=sum(terms.values()) / 3600,
        terms=terms,
        tokens_per_second=tokens / training if training else 0.0,
        flops=(matmul + pairs) * tokens * padding,
        assumptions=(notes,),
    )


_GPU_NOTE = (
    "speed: fitted on steps of 0.5 B to 70 B models on one H100 (held-out steps within 25%, 10% on "
    "average), scaled by the card's data-sheet arithmetic and bandwidth; a run corrects it after a "
    "minute"
)


@dataclass(frozen=True, slots=True)
class _Gpu:
    """Data-sheet TFLOP/s in bf16 and GB/s of a card."""

    tflops: float
    bandwidth: float

    def seconds(
        self, shape: Shape, run: Training, tokens: float, row: float, *, training: bool = True
    ) -> float:
        """One pass over `tokens`; `row` is what attention sees."""
        share = run.recomputed / shape.layers
        dense = run.masked and run.attention == "sdpa"
        context = round(run.span if dense else row)
        scored = run.scored / run.tokens
        matmul, pairs = _flops(shape, run.tuning, share, max(1, context), training, scored)
        peak = self.tflops * 1e12 * (_FP32_SHARE if run.width == 4 else 1.0)
        attention = pairs * (2 * DENSE if dense else CAUSAL)
        traffic = saved_bytes(shape, run) * shape.layers * TRAFFIC * (1 + share)
        passes = 2 + share
        if not training:
            traffic, passes = traffic / 3, 1.0
        gpu = tokens * ((matmul * MATMUL + attention) / peak + traffic / (self.bandwidth * 1e9))
        launch = shape.layers * passes * LAUNCH[run.tuning]
        launch *= LAUNCH_FUSED if run.fused else 1.0
        seconds = (gpu**4 + launch**4) ** 0.25
        if run.checkpointing == "offloaded":
            moved = 2.0 * shape.layers * tokens * shape.hidden * run.stream
            seconds += moved / (_PCIE * 1e9)
        seconds *= _RAGGED if run.ragged else 1.0
        return seconds * (_DROPOUT if run.dropout_mask else 1.0)


# Pinned main memory over PCIe 5.0 x16, GB/s, half of its 63.
_PCIE = 30.0


@dataclass(frozen=True, slots=True)
class _Cpu:
    """Threads of a processor like the one measured."""

    threads: int
    bandwidth: float = 50.0

    def seconds(
        self, shape: Shape, run: Training, tokens: float, row: float, *, training: bool = True
    ) -> float:
        """One pass over `tokens`; `row` is what attention sees."""
        share = run.recomputed / shape.layers
        matmul, pairs = _flops(shape, run.tuning, share, max(1, round(row)), training, 1.0)
        name = "fp32" if run.width == 4 else "bf16"
        rate = CPU_GFLOPS_PER_THREAD[name] * 1e9 * self.threads
        rate *= CPU_QLORA_FACTOR if run.tuning == "qlora" else 1.0
        passes = 2 + share if training else 1.0
        return tokens * (matmul + pairs) / rate + passes * shape.layers * CPU_OVERHEAD / 2

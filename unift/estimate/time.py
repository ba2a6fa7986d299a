"""How long a training takes: start-up, steps, evaluations and checkpoints.

Steps come from counted work over measured speeds: `_gpu_time` on a card, `_cpu_time` on a
processor. Cards other than the H100 are scaled by their data sheets, which nobody has measured here
yet; every estimate says so. A run corrects its own estimate after its first minute.
"""

from __future__ import annotations

import math
from dataclasses import dataclass, field
from functools import partial
from statistics import NormalDist
from typing import Any

from unift.estimate._cpu_time import CpuSpeed, threads
from unift.estimate._gpu_time import (
    attention_flops,
    optimizer_seconds,
    pass_seconds,
    product_flops,
)
from unift.estimate._shape import Shape
from unift.estimate._training import (
    Attention,
    Checkpointing,
    Dtype,
    Kernels,
    Loss,
    Optimizer,
    Tuning,
    make_training,
)

# Bandwidth per bf16 TFLOP/s where the catalogue has none (H100: 3350 GB/s of 989).
_BANDWIDTH = 3.39
# Rows of ever-changing lengths, padded: the one measured run took 1.7 times what its tokens should.
_RAGGED = 1.7

# Imports of torch, peft and trl on a warm disk (4.5 to 10 s here), then reading the weights.
IMPORT_SECONDS = 8.0
READ_GIB_PER_SECOND = 1.0
# Rows are rendered and tokenised once before the first step: tokens a second of one core.
TOKENISED_PER_SECOND = 150_000.0
# A decoder layer is compiled once, forward and backward: 14 to 19 s for packs of one length on an
# H100; other lengths compile again.
COMPILE_SECONDS = 30.0

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
    share = float(checkpointing)
    products = product_flops(
        shape, full=tuning == "full", recomputed=share, scored=scored, training=training
    )
    return products + attention_flops(shape, context=context, recomputed=share, training=training)


def padding_factor(micro_batch: int, passes: int = 1) -> float:
    """Padded over real tokens when rows of log-normal length share a pass: the expected longest of
    `micro_batch` rows (Blom 1958, plotting position) over the mean; 1 for single rows. The trainer
    puts neighbours of like length into the `passes` of a step, so more of them waste less."""
    if micro_batch == 1:
        return 1.0
    rows = micro_batch * passes
    longest = (
        math.exp(LENGTH_SIGMA * NormalDist().inv_cdf((rank - 0.375) / (rows + 0.25)))
        for rank in range(micro_batch, rows + 1, micro_batch)
    )
    return max(1.0, sum(longest) / passes * math.exp(-(LENGTH_SIGMA**2) / 2))


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
    optimizer: Optimizer = "adamw",
    loss: Loss = "chunked",
    rank: int = 16,
    targets: tuple[str, ...] | None = None,
    compiled: bool = False,
    dropout: float = 0.0,
    scored: float = 1.0,
    passes: int = 1,
    peak_tflops: float | None = None,
    bandwidth_gb_s: float | None = None,
    cpu_threads: int | None = None,
    cpu_speed: CpuSpeed | None = None,
    evaluation_tokens: float = 0.0,
    evaluations: int = 0,
    checkpoint_bytes: float = 0.0,
    data_tokens: float = 0.0,
) -> Duration:
    """Wall-clock time of a training run.

    Args:
        shape: The model.
        tokens: Real tokens trained, all epochs together (rows * mean length * epochs).
        tuning: ``full``, ``lora`` or ``qlora``.
        micro_batch: Rows (or packed sequences) per forward pass.
        length: Tokens per packed sequence; without packing the mean length of a row.
        row: Tokens of the row that a token lies in, on average (the mean over tokens, not over
            rows), where attention keeps the rows of a sequence apart; None for `length`.
        checkpointing: What is recomputed, see `estimate_memory`.
        checkpointed_layers: How many layers of ``selective``.
        packing: Several rows per sequence, so nothing is padded.
        attention: ``varlen`` sees rows alone; ``sdpa`` computes all pairs of a packed sequence.
        dtype: Of the arithmetic.
        kernels: ``torch``, ``liger`` or ``adapters``.
        optimizer: Of full fine-tuning, see `estimate_memory`.
        loss: See `estimate_memory`.
        rank: Of the adapters.
        targets: Adapted projections; None for all.
        compiled: Decoder layers go through torch.compile.
        dropout: Of the adapters; above 0 it slows the step.
        scored: Share of the tokens that carry loss.
        passes: Forward passes per optimiser step.
        peak_tflops: Data-sheet dense bf16 arithmetic of the GPU; None for the CPU.
        bandwidth_gb_s: Of its memory; None for the H100's share of the arithmetic.
        cpu_threads: Threads for a CPU run; None for what this process may use.
        cpu_speed: Of this machine's processor; None for one like the processor that was measured.
        evaluation_tokens: Tokens of one pass over the validation data.
        evaluations: How many such passes, each with a checkpoint.
        checkpoint_bytes: Of one checkpoint.
        data_tokens: Tokens of the training data, once: they are tokenised before the first step.

    Returns:
        Hours, and seconds for ``start_up`` (imports, weights, tokenising, compiling),
        ``training``, ``evaluation``, ``checkpoints``.
    """
    cuda = peak_tflops is not None
    run = make_training(
        shape,
        tuning=tuning,
        rank=rank,
        targets=targets,
        dora=False,
        micro_batch=micro_batch,
        length=length,
        checkpointing=checkpointing,
        checkpointed_layers=checkpointed_layers,
        dtype="bf16" if dtype == "mixed" and tuning != "full" else dtype,
        optimizer=optimizer,
        loss=loss,
        packing=packing,
        attention=attention,
        kernels=kernels,
        padded=not packing and micro_batch > 1,
        dropout=dropout,
        adapter_dtype=None,
        passes=passes,
        scored=scored,
        vision=False,
        devices=1,
        sharding="none",
        device="cuda" if cuda else "cpu",
        compiled=compiled,
    )
    padding = 1.0 if packing else padding_factor(micro_batch, passes)
    pass_tokens = float(micro_batch * length)
    count = max(1.0, math.ceil(tokens / pass_tokens)) if tokens > 0 else 0.0
    per_pass = (tokens / count if count else 0.0) * padding
    seen = float(row or length)
    if peak_tflops is not None:
        bandwidth = bandwidth_gb_s or peak_tflops * _BANDWIDTH
        card = partial(pass_seconds, shape, run, row=seen, tflops=peak_tflops, bandwidth=bandwidth)
        one, forward = card(per_pass), card(pass_tokens, training=False)
        one *= _RAGGED if run.ragged else 1.0
        step = optimizer_seconds(shape, run, bandwidth)
        notes = _GPU_NOTE
    else:
        cpu = cpu_speed or CpuSpeed(threads=cpu_threads or threads())
        one = cpu.seconds(shape, run, per_pass, seen)
        forward = cpu.seconds(shape, run, pass_tokens, seen, training=False)
        step = 0.0
        notes = cpu.note()
    training = one * count + step * math.ceil(count / passes)
    evaluating = evaluations * evaluation_tokens / pass_tokens * forward
    width = 4 if dtype in ("fp32", "mixed") else 2
    start = IMPORT_SECONDS + shape.parameters * width / 2**30 / READ_GIB_PER_SECOND
    start += (data_tokens + evaluation_tokens) / TOKENISED_PER_SECOND
    start += COMPILE_SECONDS if compiled else 0.0
    terms = {"start_up": start, "training": training}
    if evaluating:
        terms["evaluation"] = evaluating
    if checkpoint_bytes and evaluations:
        terms["checkpoints"] = evaluations * checkpoint_bytes / 2**30 / READ_GIB_PER_SECOND
    flops = flops_per_token(
        shape,
        tuning=tuning,
        checkpointing=run.recomputed / shape.layers,
        context=round(seen),
        scored=scored,
    )
    return Duration(
        hours=sum(terms.values()) / 3600,
        terms=terms,
        tokens_per_second=tokens / training if training else 0.0,
        flops=flops * tokens * padding,
        assumptions=(notes,),
    )


_GPU_NOTE = (
    "speed: fitted on steps of 0.5 B to 70 B models on one H100 "
    "(benchmarks/results/time.md has every error), scaled by the card's data-sheet arithmetic "
    "and bandwidth; a run corrects it after a minute"
)

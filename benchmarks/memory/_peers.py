"""What other estimators say about the same rows, their formulas written afresh from their public
sources as of 2026-11-24. Each gives GiB, or None where it has no formula for the case."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from _configs import Run, config_of

from unift.estimate import Shape

GIB = 2**30


def accelerate(run: Run, shape: Shape) -> float | None:
    """accelerate 1.x ``estimate-memory``, training column with Adam: four times the float32 size,
    or 8 bytes a parameter for 16-bit models; it knows no adapters, no 4-bit training, no rows."""
    if run.tuning == "qlora":
        return None
    return shape.parameters * (16 if run.dtype == "mixed" else 8) / GIB


def llama_factory(run: Run, shape: Shape) -> float:
    """LLaMA-Factory's README (2026-08-18): full with mixed precision 18 bytes a parameter, pure
    16-bit 8; LoRA 2; 4-bit QLoRA 0.5."""
    per_weight = {"lora": 2.0, "qlora": 0.5, "full": 18.0 if run.dtype == "mixed" else 8.0}
    return shape.parameters * per_weight[run.tuning] / GIB


def unsloth_studio(run: Run, shape: Shape) -> float:
    """Unsloth Studio ``vram_estimation.py`` (2026-08-22): 16-bit weights (projections / 3.6 in
    4 bits with double quantisation), 2 bytes a trained weight and as much gradient (at least 15% of
    the weights for full), its optimiser table, (qkv + 2 * MLP) activations with 25% on top, once a
    layer or twice in all with checkpointing, eager scores, and 1.4 GB."""
    trained = shape.parameters if run.tuning == "full" else shape.adapter_parameters(run.rank)
    linear = shape.linear_parameters * (2 / 3.6 if run.tuning == "qlora" else 2.0)
    weights = linear + (shape.parameters - shape.linear_parameters) * 2.0
    states = {"adamw": 6.0, "adamw_8bit": 4.0, "paged_adamw_8bit": 4.0}[run.optimizer]
    gradients = max(2.0 * trained, 0.15 * weights) if run.tuning == "full" else 2.0 * trained
    width = shape.q_width + 2 * shape.kv_width + 2 * shape.active_mlp
    tokens = run.micro_batch * run.length
    layers = shape.layers if run.checkpointing == "none" else 2.0
    total = weights + states * trained + gradients + width * tokens * 2 * 1.25 * layers
    total += 2.0 * trained if run.tuning != "full" else 0.0
    if run.attention == "eager":
        total += run.micro_batch * shape.heads * run.length**2 * 2 * 12
    return (total + 1.4e9) / GIB


def training_hub(run: Run, shape: Shape) -> float | None:
    """training_hub ``memory_estimator.py`` (2026-08-06), LoRA and QLoRA, its middle value: weights
    (2 or 0.5 bytes), adapters and 16-bit Adam 4 bytes each a trained weight, b*s*2*layers*hidden,
    the larger of gradients and logits (none with a fused loss), times 1.1."""
    if run.tuning == "full":
        return None
    trained = shape.adapter_parameters(run.rank)
    tokens = run.micro_batch * run.length
    weights = shape.parameters * (2.0 if run.tuning == "lora" else 0.5)
    logits = tokens * 2.0 * shape.vocab * 2 if run.loss == "plain" else 0.0
    total = weights + 8.0 * trained + tokens * 2.0 * shape.layers * shape.hidden
    return 1.1 * (total + max(2.0 * trained, logits)) / GIB


def fitcheck(run: Run, shape: Shape) -> float | None:
    """fitcheck-llm 0.3.1, its five physical terms (overhead left out, as torch does not count it);
    None where it is not installed or refuses the model."""
    try:
        from fitcheck import config_parser, estimator
    except ImportError:
        return None
    if run.dora or run.optimizer.startswith("paged"):
        return None
    raw = config_of(run.model)
    try:
        config_parser._reject_unsupported(raw, run.model)
        fields: Any = config_parser._parse_fields(raw)
        count = config_parser._count_params(fields)
        config = config_parser.ModelConfig(
            name=run.model,
            num_params=count,
            **{
                name: getattr(fields, name)
                for name in config_parser.ModelConfig.__dataclass_fields__
                if name not in ("name", "num_params")
            },
        )
        training = estimator.TrainingConfig(
            precision="fp32" if run.dtype == "mixed" else "bf16",
            quantization="nf4" if run.tuning == "qlora" else "none",
            double_quant=run.tuning == "qlora",
            optimizer="adamw" if run.optimizer == "adamw" else "adamw_8bit",
            batch_size=run.micro_batch,
            seq_len=run.length,
            lora_rank=None if run.tuning == "full" else run.rank,
            lora_targets=list(shape.default_targets()),
            grad_checkpoint=run.checkpointing != "none",
            flash_attn=run.attention != "eager",
        )
        parts = estimator._compute_components(config, training)
    except (ValueError, KeyError, AttributeError, TypeError):
        return None
    return (parts.total_mib - parts.overhead_mib) / 1024


PEERS: dict[str, Callable[[Run, Shape], float | None]] = {
    "accelerate": accelerate,
    "LLaMA-Factory": llama_factory,
    "Unsloth Studio": unsloth_studio,
    "training_hub": training_hub,
    "fitcheck-llm": fitcheck,
}

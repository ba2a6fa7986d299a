"""What lies on the device however long the rows are: weights, adapters, optimiser; and the shards
of them that several devices share."""

from __future__ import annotations

from unift.estimate._shape import Shape
from unift.estimate._training import Training

# NF4: 4 bits a weight plus one constant per block of 64; double quantisation stores the constants
# in 8 bits plus float32 per 256 of them: 0.127 bits a weight (Dettmers et al. 2023,
# https://arxiv.org/abs/2305.14314, section 3).
NF4_BYTES = 0.5 + 0.127 / 8

# DeepSpeed's default reduce_bucket_size, elements (https://www.deepspeed.ai/docs/config-json/).
_BUCKET = 5e8


def weights_bytes(shape: Shape, run: Training) -> float:
    """The frozen or trained model: parameters * bytes; for QLoRA the linear layers in NF4 (0.516 B
    each) and the rest (embeddings, head, norms, fused experts) in the compute type."""
    if run.tuning != "qlora":
        return float(shape.parameters * run.stream)
    rest = shape.parameters - shape.quantised_parameters
    return shape.quantised_parameters * NF4_BYTES + rest * run.width


def optimizer_bytes(shape: Shape, run: Training) -> float:
    """AdamW keeps two moments in the type of the parameters (torch.optim.AdamW: zeros_like), so
    bfloat16 weights have bfloat16 states.

    8-bit AdamW keeps one byte each plus a float32 constant per block of 256 (Dettmers et al. 2021,
    https://arxiv.org/abs/2110.02861); transformers keeps input embeddings at two float32 (trainer
    ``create_optimizer``). Paged states lie in memory that the driver moves to the host when the
    device is short of it: they are no part of what torch allocates.
    """
    if run.optimizer.startswith("paged"):
        return 0.0
    trainable = run.trainable(shape)
    if run.optimizer == "adamw":
        return 2.0 * trainable * run.trained_width
    per_weight = 2 * (1 + 4 / 256)
    # unift's own loss comes with its own trainer, which leaves them at 8 bits.
    embeddings = shape.vocab * shape.hidden if run.full and run.loss != "chunked" else 0
    return (trainable - embeddings) * per_weight + embeddings * 8.0


def largest_layer(shape: Shape) -> int:
    """Weights of one decoder layer with all its experts, the widest."""
    dense = shape.dense_layers and shape.experts
    mean = shape.linear_parameters / shape.layers
    if not dense:
        return round(mean)
    small = 3 * shape.hidden * shape.dense_mlp
    return round((shape.linear_parameters - small * shape.dense_layers) / shape.expert_layers)


def shard(shape: Shape, run: Training, terms: dict[str, float]) -> dict[str, float]:
    """The terms of one of N devices, and the buffers that sharding itself needs.

    zero1 splits the optimiser, zero2 also gradients, fsdp (FSDP2, ZeRO stage 3) also weights
    (Rajbhandari et al. 2020, https://arxiv.org/abs/1910.02054, section 5). Gathering holds two
    layers and the embeddings in the compute type (the layer in use and the one fetched ahead);
    reducing holds one layer's gradients. Plain data parallelism copies all gradients into buckets
    (``DistributedDataParallel``, gradient_as_bucket_view off).
    """
    if run.devices == 1:
        return terms
    split = {
        "none": (),
        "zero1": ("optimizer",),
        "zero2": ("optimizer", "gradients"),
        "fsdp": ("optimizer", "gradients", "weights", "adapters", "weight_copies"),
    }[run.sharding]
    found = {name: value / run.devices if name in split else value for name, value in terms.items()}
    if run.sharding == "fsdp":
        units = 2 * largest_layer(shape) + shape.embedding_parameters
        per_weight = 0.516 if run.tuning == "qlora" else run.width
        found["gathered"] = units * float(per_weight)
        found["reduction"] = float(largest_layer(shape) * run.trained_width if run.full else 0)
    elif run.sharding == "none":
        found["reduction"] = terms.get("gradients", 0.0)
    else:
        found["reduction"] = min(_BUCKET, run.trainable(shape)) * run.trained_width
    return {name: value for name, value in found.items() if value > 0}

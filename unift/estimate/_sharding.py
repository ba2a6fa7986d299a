"""What one of several devices holds of a training that they share."""

from __future__ import annotations

from unift.estimate._shape import Shape
from unift.estimate._states import NF4_BYTES
from unift.estimate._training import Training

# DeepSpeed's default reduce_bucket_size, elements (https://www.deepspeed.ai/docs/config-json/).
_BUCKET = 5e8
_SPLIT: dict[str, tuple[str, ...]] = {
    "none": (),
    "zero1": ("optimizer",),
    "zero2": ("optimizer", "gradients"),
    "fsdp": ("optimizer", "gradients", "weights", "adapters", "second_gradient"),
}


def largest_layer(shape: Shape) -> int:
    """Weights of one decoder layer with all its experts, the widest."""
    dense = shape.dense_layers and shape.experts
    mean = shape.linear_parameters / shape.layers
    if not dense:
        return round(mean)
    small = 3 * shape.hidden * shape.dense_mlp
    return round((shape.linear_parameters - small * shape.dense_layers) / shape.expert_layers)


def shard(shape: Shape, run: Training, moment: str, terms: dict[str, float]) -> dict[str, float]:
    """The terms, in bytes, of one of N devices at a moment of a step (`memory`), and the buffers
    that sharing needs.

    zero1 splits the optimiser, zero2 also gradients, fsdp (FSDP2, ZeRO stage 3) also weights
    (Rajbhandari et al. 2020, https://arxiv.org/abs/1910.02054, section 5). Data parallelism, and
    zero1 as torch has it on top, copies all gradients into buckets that stay
    (``DistributedDataParallel``, gradient_as_bucket_view off). In the second forward pass it makes
    them anew (``reducer.hpp``: rebuild_buckets), and those of the first may still be alive until
    the backward pass: NCCL's process group holds what it reduces, nobody waits for that work, and
    its watchdog gives it back only to a later collective (``ProcessGroupNCCL.hpp``:
    shelvesToUnstash_). A slow first step lets them go earlier. zero2 is DeepSpeed's, with one.
    """
    if run.devices == 1:
        return terms
    split = _SPLIT[run.sharding]
    found = {name: value / run.devices if name in split else value for name, value in terms.items()}
    trained = float(run.trainable(shape) * run.trained_width)
    if run.sharding == "fsdp":
        found |= _gathered(shape, run, moment)
    elif run.sharding == "zero2":
        found["reduction"] = min(_BUCKET * run.trained_width, trained)
    else:
        found["reduction"] = trained * (2 if moment in ("loss", "norm") and run.cuda else 1)
    return {name: value for name, value in found.items() if value > 0}


def _gathered(shape: Shape, run: Training, moment: str) -> dict[str, float]:
    """Embeddings and head belong to the whole model and lie there in full, in the compute type,
    from the first layer on; a layer in use and the one fetched ahead while layers run. A trained
    layer's gradient is whole, in the compute type and again in float32 on its way to the devices;
    the head's waits whole until the end, when that of the embeddings comes to it
    (torch.distributed.fsdp ``fully_shard`` on each layer and on the model, reducing in float32)."""
    w = run.width
    root = float(shape.embedding_parameters * w)
    head = float(shape.vocab * shape.hidden * w) if run.full else 0.0
    each = largest_layer(shape) * (NF4_BYTES if run.tuning == "qlora" else float(w))
    layers = {"layer": 2, "first": 2, "norm": 1}.get(moment, 0)
    reduced = float(largest_layer(shape) * (w + 4)) if run.full else 0.0
    if moment == "step":
        whole = shape.embedding_parameters * (w + 4.0) if run.full else 0.0
        return {"gathered": root, "reduction": whole}
    back = moment in ("layer", "first", "norm")
    return {
        "gathered": root + layers * each,
        "reduction": (reduced if layers == 2 else 0.0) + (head if back else 0.0),
    }

"""Peak device memory of a training run, term by term, from the model's shape alone.

The peak is looked for at the moments where it can lie, and the terms returned are those of the
moment that wins, so that they always add up:

- *loss*: the forward pass is over, all saved activations are alive, the loss path works;
- *norm*: the backward pass is in the last norm, nothing freed yet;
- *layer*: the backward pass is in the last layer, nothing else freed yet, one layer recomputed;
- *first*: the backward pass is in the first layer, nearly all gradients alive, one recomputed;
- *tower*: the backward pass is in a vision tower that is trained, the decoder is done with;
- *step*: the backward pass is over, all gradients are alive, those of a tied embedding twice.

The terms' formulas are in `_states`, `_activations` and `_loss`; the whole is held against runs on
an H100 by ``benchmarks/memory``.
"""

from __future__ import annotations

from dataclasses import dataclass

from unift.estimate._activations import (
    dora_bytes,
    expert_copies,
    mask_bytes,
    saved_bytes,
    tower_bytes,
    tower_layer_bytes,
    transient_bytes,
    widest_bytes,
)
from unift.estimate._loss import loss_bytes
from unift.estimate._shape import Shape
from unift.estimate._sharding import shard
from unift.estimate._states import optimizer_bytes, weights_bytes, widened_bytes
from unift.estimate._training import (
    Attention,
    Checkpointing,
    Device,
    Dtype,
    Kernels,
    Loss,
    Optimizer,
    Sharding,
    Training,
    Tuning,
    make_training,
)

__all__ = [
    "Attention",
    "Checkpointing",
    "Device",
    "Dtype",
    "Kernels",
    "Loss",
    "Memory",
    "Optimizer",
    "Sharding",
    "Tuning",
    "estimate_memory",
]

GIB = 2**30

# cuBLAS asks torch's allocator for its workspaces: 64 MiB on an H100 in every measured run.
_CUBLAS = 2**26
# CUDA context and loaded kernels that no allocator counter sees: 0.75 to 0.83 GiB in the measured
# runs on an H100 (torch 2.11, CUDA 13).
CUDA_CONTEXT_GIB = 0.83
# Interpreter, torch and peft as a process on a CPU: 0.4 to 0.5 GiB resident after the imports.
PROCESS_GIB = 0.5
# What torch reserves above what it allocates, with expandable segments: a share of everything and
# one of the large tensors that come and go. Least squares over the fit half of the measured grid.
_SLACK, _SLACK_SHORT = 0.018, 0.115
_SHORT = ("loss", "layer_workspace")

# Half-width of the interval around `allocated`: the worst of the measured grid is 3% off. What was
# measured on few models (experts, states in 8 bits, compiled layers, FSDP2) gets more, what was not
# measured or once (DoRA, a CPU) still more, and most gradients that are reduced in buckets, whose
# old ones may be gone early (`_sharding.shard`), and ZeRO-2, which was never measured.
_INTERVAL, _FEW, _UNSEEN, _BUCKETS = 0.03, 0.06, 0.10, 0.18


@dataclass(frozen=True, slots=True)
class Memory:
    """Peak memory in GiB.

    `terms` adds up to `device_gib`: what the card must have free. `allocated_gib` is the peak of
    torch's ``max_memory_allocated`` (terms without allocator slack and context), `reserved_gib` of
    ``max_memory_reserved`` (without the context). `low` and `high` bound `allocated_gib`; `largest`
    names the biggest term; `moment` says where the peak lies.
    """

    terms: dict[str, float]
    allocated_gib: float
    reserved_gib: float
    device_gib: float
    low: float
    high: float
    largest: str
    moment: str
    parameters: int
    trainable: int

    def as_dict(self) -> dict[str, object]:
        """The ``memory`` object of the ``--json`` documents."""
        return {
            "allocated_gib": round(self.allocated_gib, 3),
            "reserved_gib": round(self.reserved_gib, 3),
            "device_gib": round(self.device_gib, 3),
            "low_gib": round(self.low, 3),
            "high_gib": round(self.high, 3),
            "largest": self.largest,
            "moment": self.moment,
            "terms": {name: round(value, 4) for name, value in self.terms.items()},
        }


def estimate_memory(
    shape: Shape,
    *,
    tuning: Tuning = "lora",
    rank: int = 16,
    targets: tuple[str, ...] | None = None,
    dora: bool = False,
    micro_batch: int = 1,
    length: int = 1024,
    checkpointing: Checkpointing | bool = True,
    checkpointed_layers: int | None = None,
    dtype: Dtype = "bf16",
    optimizer: Optimizer = "adamw",
    loss: Loss = "chunked",
    packing: bool = False,
    attention: Attention = "sdpa",
    kernels: Kernels = "torch",
    padded: bool = False,
    dropout: float = 0.0,
    adapter_dtype: Dtype | None = None,
    passes: int = 1,
    scored: float = 1.0,
    vision: bool = False,
    devices: int = 1,
    sharding: Sharding = "fsdp",
    device: Device = "cuda",
    compiled: bool = False,
    images: int = 0,
) -> Memory:
    """Peak memory of one training process on one device.

    Args:
        shape: The model, see `Shape.from_config`.
        tuning: ``full``, ``lora`` (16-bit or fp32 base) or ``qlora`` (NF4 base).
        rank: Adapter rank; ignored for ``full``.
        targets: Adapted projections; None for all that the model has.
        dora: Adapters with a magnitude of their own per output.
        micro_batch: Rows (or packed sequences) per forward pass.
        length: Tokens per row after packing or padding; the longest batch decides.
        checkpointing: ``full`` (or True) keeps only each layer's input and recomputes it in the
            backward pass; ``selective`` does so for `checkpointed_layers` and keeps the others
            whole; ``attention`` also keeps what attention returned (TRL's "selective");
            ``offloaded`` moves the inputs to main memory; ``none`` (or False) keeps everything.
        checkpointed_layers: Layers that ``selective`` recomputes; None for all.
        dtype: Of the base weights and of the arithmetic; ``mixed`` (full fine-tuning only) keeps
            weights, gradients and optimiser in float32 and computes in bfloat16.
        optimizer: AdamW in the parameters' type, or 8-bit; paged states are the driver's business.
        loss: ``plain`` materialises all logits; ``chunked`` is unift's own, ``tiled`` TRL's,
            ``fused`` Liger's.
        packing: Several rows per sequence: with sdpa this needs a dense mask and repeated keys.
        attention: ``sdpa``, ``varlen`` (no mask, no padding; ``varlen_repeated`` if its kernel
            wants as many keys as queries) or ``eager`` (full score matrix).
        kernels: ``torch``, ``liger`` layer kernels (norms and MLP keep less), or ``adapters`` fused
            with their base (only without dropout); ``adapters_whole``: recomputed layers to their
            end, as it was before 2026-11-25, 18:00.
        padded: Rows of different lengths share a batch, so an attention mask is passed.
        dropout: Of the adapters; above 0 each adapter keeps a mask.
        adapter_dtype: None for float32.
        passes: Forward passes per optimiser step: from the second on, gradients stay alive.
        scored: Share of the tokens that carry loss.
        vision: Train the vision tower too (``full`` only).
        devices: That share the model.
        sharding: What they share: ``fsdp`` (FSDP2, ZeRO-3), ``zero2``, ``zero1`` or ``none``.
        compiled: Decoder layers go through torch.compile.
        images: Pictures in a forward pass; their tokens are among `length`. A frozen tower keeps
            nothing of them.
        device: ``cuda``, or ``cpu`` (no context, no allocator slack, a process instead).

    Returns:
        Terms and peaks in GiB, of each device.

    Raises:
        UsageError: An unknown word, a target that the model lacks, or a number out of range.
    """
    run = make_training(
        shape,
        tuning=tuning,
        rank=rank,
        targets=targets,
        dora=dora,
        micro_batch=micro_batch,
        length=length,
        checkpointing=checkpointing,
        checkpointed_layers=checkpointed_layers,
        dtype=dtype,
        optimizer=optimizer,
        loss=loss,
        packing=packing,
        attention=attention,
        kernels=kernels,
        padded=padded,
        dropout=dropout,
        adapter_dtype=adapter_dtype,
        passes=passes,
        scored=scored,
        vision=vision,
        devices=devices,
        sharding=sharding,
        device=device,
        compiled=compiled,
        images=images,
    )
    moments = {
        name: shard(shape, run, name, {**_always(shape, run), **terms})
        for name, terms in _moments(shape, run).items()
    }
    moment = max(moments, key=lambda name: sum(moments[name].values()))
    terms = {name: value / GIB for name, value in moments[moment].items() if value > 0}
    allocated = sum(terms.values())
    reserved = allocated
    if device == "cuda":
        short = sum(terms.get(name, 0.0) for name in _SHORT)
        terms["allocator_slack"] = _SLACK * allocated + _SLACK_SHORT * short
        reserved += terms["allocator_slack"]
        terms["cuda_context"] = CUDA_CONTEXT_GIB
    else:
        terms["process"] = PROCESS_GIB
    few = shape.experts or shape.latent or "8bit" in run.optimizer or run.compiled or devices > 1
    width = _FEW if few else _INTERVAL
    if run.dora or device == "cpu":
        width = _UNSEEN
    if devices > 1 and run.full and run.sharding != "fsdp":
        width = _BUCKETS
    return Memory(
        terms=terms,
        allocated_gib=allocated,
        reserved_gib=reserved,
        device_gib=sum(terms.values()),
        low=allocated * (1 - width),
        high=allocated * (1 + width),
        largest=max(terms, key=lambda name: terms[name]),
        moment=moment,
        parameters=shape.parameters,
        trainable=run.trainable(shape),
    )


def _always(shape: Shape, run: Training) -> dict[str, float]:
    return {
        "weights": weights_bytes(shape, run),
        "adapters": 0.0 if run.full else float(run.trainable(shape) * run.adapter_width),
        "optimizer": optimizer_bytes(shape, run),
        "attention_mask": mask_bytes(shape, run),
        # As the processor makes them, in float32.
        "pictures": 4.0 * run.images * shape.vision.numbers if shape.vision else 0.0,
        "cublas_workspace": float(_CUBLAS if run.cuda else 0),
    }


def _moments(shape: Shape, run: Training) -> dict[str, dict[str, float]]:
    """The terms, in bytes, of each moment at which the peak can lie."""
    tokens = run.tokens
    copies = _copies(shape, run)
    gradients = float(run.trainable(shape) * run.trained_width)
    # Gradients of the passes before are alive from the start.
    earlier = gradients if run.passes > 1 else 0.0
    layer = tokens * saved_bytes(shape, run)
    transient = tokens * transient_bytes(shape, run)
    recomputed: dict[str, float] = {}
    whole = shape.layers - run.recomputed
    experts, expert_gradient = expert_copies(shape, run)
    kept = {
        "checkpoints": _checkpoints(shape, run) if run.recomputes else 0.0,
        "activations": whole * (layer + copies / shape.layers),
        "expert_copies": experts * whole * shape.expert_layers / shape.layers,
        "tower": tower_bytes(shape, run),
    }
    if run.recomputes:
        widest = tokens * widest_bytes(shape, run)
        recomputed = {"recomputed_layer": widest + copies / shape.layers + experts}
    # The head of a tied model is the embedding, dequantised or not; only projections are NF4.
    workspace: dict[str, float] = {
        "dora_norm": dora_bytes(shape, run),
    }
    if expert_gradient:  # lies there when what the experts returned has its gradient already
        passed = tokens * shape.experts_per_token * shape.hidden * float(run.width)
        transient = max(transient, expert_gradient + passed)
    if run.tuning == "qlora" and not run.fused:
        # The weight in use at full width: with short rows it outweighs the MLP's gradients.
        biggest = max(one.inputs * one.outputs for one in shape.linears() if one.layer)
        product = tokens * shape.widest_mlp * run.width
        workspace["dequantisation"] = max(0.0, float(biggest * run.width) - product)
    elif run.tuning == "qlora":
        biggest = max(one.inputs * one.outputs for one in shape.linears() if one.layer)
        # A recomputed MLP holds its three for all pieces.
        workspace["dequantisation"] = float(biggest * run.width) * (3 if run.unread(shape) else 1)
    table = float(shape.vocab * shape.hidden * run.storage) if run.full else 0.0
    one_layer = (
        gradients / shape.layers
        if not run.full
        else (float(shape.linear_parameters / shape.layers * run.trained_width))
    )
    # Output of the last layer, its float32 norm, the normalised value.
    final_hidden = tokens * shape.hidden * (run.stream + 4.0 + run.stream)
    # A later pass adds each gradient to the earlier one at once; that of a tied table waits for its
    # other half.
    again = bool(earlier) and run.full
    if again:
        sizes = (
            one.inputs * one.outputs * (shape.experts if one.name.startswith("expert_") else 1)
            for one in shape.linears()
        )
        one_layer = float(max(sizes) * run.trained_width)
    held = table if shape.tied or not again else 0.0
    in_layer, working = one_layer, transient
    if run.full and shape.experts:
        # Where their results are weighted experts have no gradient yet; then they get that of
        # `down`, and only the gradients of their own widths lie beside it.
        each = float(shape.experts * shape.hidden * shape.mlp * run.trained_width)
        others = max(0.0, one_layer - (2 if again else 3) * each)
        passed = shape.hidden + 2 * shape.mlp
        within = tokens * shape.experts_per_token * passed * float(run.expert_width)
        in_layer, working = max(
            (others, transient), (others + each, within), key=lambda pair: pair[0] + pair[1]
        )
    return {
        "loss": {
            **kept,
            "weight_copies": copies * run.recomputed / shape.layers,
            "gradients": earlier,
            "final_hidden": final_hidden,
            "loss": loss_bytes(shape, run),
        },
        "norm": {
            **kept,
            "weight_copies": copies * run.recomputed / shape.layers,
            "gradients": earlier + held,
            "final_hidden": tokens * shape.hidden * (4.0 + run.stream),
            "norm_workspace": tokens * shape.hidden * _NORM,
        },
        "layer": {
            **kept,
            **recomputed,
            **workspace,
            "layer_workspace": working,
            "gradients": earlier + held + in_layer,
        },
        "first": {
            **(recomputed or {"activations": layer + copies / shape.layers + experts}),
            "tower": kept["tower"],
            **workspace,
            "layer_workspace": transient,
            "gradients": earlier + (held if shape.tied else 0.0) + one_layer
            if again
            else max(0.0, gradients - one_layer - (0.0 if shape.tied else table)),
        },
        "tower": {
            "tower": kept["tower"] and kept["tower"] + tower_layer_bytes(shape, run),
            "gradients": gradients
            - (shape.vision.parameters * run.trained_width if shape.vision else 0.0),
            "second_gradient": table * int(shape.tied),
        },
        "step": {
            "layer_workspace": float(tokens * shape.hidden * run.stream),
            "gradients": gradients,
            "second_gradient": table * (int(shape.tied) + (1 if again else 0)),
            "optimizer_workspace": widened_bytes(shape, run),
        },
    }


# A norm in float32 goes back through five tensors of its width at one time (transformers' RMSNorm:
# x * rsqrt(mean(x^2))), counted in `tests/estimate/test_peak.py`.
_NORM = 5 * 4.0


def _copies(shape: Shape, run: Training) -> float:
    """Autocast keeps a 16-bit copy of every float32 weight that it multiplies with, which experts
    are not; fused adapters narrow theirs for a moment only."""
    if run.trained_width == run.width or run.fused or run.sharding == "fsdp":
        return 0.0
    if run.full:
        routed = sum(o.parameters for o in shape.linears() if o.reads in ("routed", "experts"))
        return float(run.width * (shape.linear_parameters - routed))
    # Those of experts are among `expert_copies`.
    apart = shape.expert_layers * shape.expert_adapters(run.rank, run.adapted)
    return float(run.width * (run.trainable(shape) - apart))


# Inputs of layers that are on the device at one time when they are offloaded: the one just fetched
# and the one on its way.
_STASH = 2


def _checkpoints(shape: Shape, run: Training) -> float:
    """The input of every recomputed layer, tokens * hidden * stream each; `attention` adds what
    attention returned and its softmax sums, `offloaded` keeps only the last few."""
    per_layer = run.tokens * shape.hidden * float(run.stream)
    if run.checkpointing == "attention":
        per_layer += run.tokens * (shape.o_width * run.width + 4.0 * shape.heads)
    layers = min(_STASH, run.recomputed) if run.checkpointing == "offloaded" else run.recomputed
    return layers * per_layer

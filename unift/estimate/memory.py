"""Peak device memory of a training run, term by term, from the model's shape alone.

The peak is looked for at the three moments where it can lie, and the terms returned are those of
the moment that wins, so that they always add up:

- *loss*: the forward pass is over, all saved activations are alive, the loss path works;
- *layer*: the backward pass is in the last layer, nothing else freed yet, one layer recomputed;
- *step*: the backward pass is over, all gradients are alive (full fine-tuning with long rows off).

Bytes per token and layer are counted operation by operation, as Korthikanti et al. 2022 do
(https://arxiv.org/abs/2205.05198, section 4.1), for the layer of today: RMSNorm in float32, rotary
positions, grouped keys and values, memory-efficient attention, gated MLP, and peft's adapters,
which keep a copy of their input in the compute type. What autograd saves is checked against the
real libraries by ``tests/estimate/test_activations.py``; the whole against measured runs by
``benchmarks/memory/check_baselines.py``.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal, get_args

from unift._text import did_you_mean
from unift.errors import UsageError
from unift.estimate._shape import Shape

GIB = 2**30

Tuning = Literal["full", "lora", "qlora"]
Dtype = Literal["bf16", "fp16", "fp32", "mixed"]
Optimizer = Literal["adamw", "adamw_8bit"]
Loss = Literal["plain", "chunked", "fused"]
Attention = Literal["sdpa", "varlen", "eager"]
Kernels = Literal["torch", "liger"]
Device = Literal["cuda", "cpu"]

# Bytes of a compute value; `mixed` computes in bfloat16 and keeps weights in float32.
_WIDTH: dict[str, int] = {"bf16": 2, "fp16": 2, "fp32": 4, "mixed": 2}

# NF4: 4 bits a weight plus one float32 constant per block of 64; double quantisation stores the
# constants in 8 bits plus float32 per 256 of them: 0.127 bits a weight (Dettmers et al. 2023,
# https://arxiv.org/abs/2305.14314, section 3).
NF4_BYTES = 0.5 + 0.127 / 8

# trl 1.16 kernels/chunked_logprob.py: tiles of 4,096 tokens by 32,768 words.
_LOSS_TOKENS, _LOSS_WORDS = 4096, 32768

# CUDA context, cuBLAS and cuDNN workspaces that no allocator counter sees. A guess until measured
# per machine: drivers of 2025-26 with torch 2.11 take 0.4 to 0.8 GiB.
CUDA_CONTEXT_GIB = 0.6
# Interpreter, torch and peft as a process on a CPU: 0.4 to 0.5 GiB resident after the imports.
PROCESS_GIB = 0.5
# reserved / allocated with expandable segments in the measured runs: 1.007 to 1.044, mean 1.018.
ALLOCATOR_SLACK = 0.02

# Half-width of the interval around `allocated`: the worst of the 15 measured runs is 3% off, but
# they are one model on one card.
_INTERVAL = 0.08


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
            "terms": {name: round(value, 4) for name, value in self.terms.items()},
        }


@dataclass(frozen=True, slots=True)
class _Settings:
    """One training set-up, checked. Widths are bytes a value: `width` of the arithmetic, `stream`
    of the residual stream, `adapter_width` of the adapters; `span` is what attention sees."""

    tuning: Tuning
    rank: int
    tokens: int
    span: int
    width: int
    stream: int
    adapter_width: int
    adapted: frozenset[str]
    attention: Attention
    liger: bool
    masked: bool
    dropout_mask: int

    @property
    def mixed(self) -> bool:
        """Float32 weights under autocast, so that every projection casts its own input."""
        return self.stream != self.width


def weights_bytes(shape: Shape, tuning: Tuning, width: int) -> float:
    """The frozen or trained model: parameters * bytes; for QLoRA the projections in NF4
    (0.516 B each) and the rest (embeddings, head, norms) in the compute type."""
    if tuning != "qlora":
        return shape.parameters * width
    rest = shape.embedding_parameters + shape.other_parameters
    return shape.linear_parameters * NF4_BYTES + rest * width


def optimizer_bytes(shape: Shape, trainable: int, width: int, name: Optimizer, full: bool) -> float:
    """AdamW keeps two moments in the type of the parameters (torch.optim.AdamW: zeros_like).

    8-bit AdamW keeps one byte each plus a float32 constant per block of 256 (Dettmers et al. 2021,
    https://arxiv.org/abs/2110.02861); transformers keeps input embeddings at two float32 (trainer
    ``create_optimizer``).
    """
    if name == "adamw":
        return 2.0 * trainable * width
    per_weight = 2 * (1 + 4 / 256)
    embeddings = shape.vocab * shape.hidden if full else 0
    return (trainable - embeddings) * per_weight + embeddings * 8.0


def saved_bytes(shape: Shape, s: _Settings) -> float:
    """What autograd keeps of one layer for its backward pass, in bytes per token.

    With w the compute width, h hidden, q and k the query and key widths, m the MLP width:
    norms 4h each (float32 input; Liger keeps w*h) and, if their weight is trained, the normalised
    value; attention w*(2q + 2k) plus the softmax sums, or w*3q plus the scores if eager; a mask of
    w bytes per position; gated MLP 3wm (Liger 2wm, it recomputes); and the inputs of the trained
    projections, see `_inputs_bytes`.
    """
    w, h, q, k = s.width, shape.hidden, shape.q_width, shape.kv_width
    full = s.tuning == "full"
    if s.liger:
        total = float(shape.layer_norms * h * s.stream)
        total += (q + k) * w if shape.head_norms else 0
    else:
        total = float(shape.layer_norms * (4 * h + 4 + (h * s.stream if full else 0)))
        if shape.head_norms:
            total += (q + k) * (4 + (w if full else 0)) + 4 * (shape.heads + shape.kv_heads)
    if s.attention == "eager":
        total += w * 3 * q + shape.heads * s.span * (4 + w)
    else:
        # Masks rule out grouped attention in sdpa; the varlen path repeats keys as well.
        keys = q if s.masked or s.attention == "varlen" else k
        total += w * (2 * q + 2 * keys) + 4 * shape.heads
        total += s.span * w if s.masked else 0
    total += shape.active_mlp * w * (2 if s.liger else 3)
    return total + _inputs_bytes(shape, s)


def _inputs_bytes(shape: Shape, s: _Settings) -> float:
    """Inputs that trained projections keep, bytes per token and layer.

    Projections that read the same tensor share it, unless each casts it for itself: a float32
    adapter on a 16-bit model does (peft ``_cast_input_dtype``), so does any under autocast when the
    stream is float32, and dropout makes a tensor of its own per adapter, with a mask.
    """
    w, h, q, m = s.width, shape.hidden, shape.q_width, shape.active_mlp
    full = s.tuning == "full"
    readers = (
        (h, ("q_proj", "k_proj", "v_proj"), True),
        (q, ("o_proj",), False),
        (h, ("gate_proj", "up_proj"), True),
        (m, ("down_proj",), False),
    )
    total = float(s.rank * w * len(s.adapted))  # between the halves of each adapter
    for size, names, reads_stream in readers:
        count = len(names) if full else sum(name in s.adapted for name in names)
        if not count:
            continue
        if not full and (s.adapter_width != w or s.dropout_mask):
            total += size * count * (w + s.dropout_mask)
        elif full and s.mixed and reads_stream:
            total += size * count * w
        elif names != ("o_proj",) or s.attention == "eager":
            total += size * w  # the output projection reads what attention keeps anyway
    return total


def transient_bytes(shape: Shape, s: _Settings) -> float:
    """Short-lived tensors while the down projection runs, in bytes per token: the product of the
    MLP, its float32 copy for a float32 adapter (twice with dropout) or the gradient that comes
    back, and four tensors of hidden width (residual, output, their gradients)."""
    m, h, w = shape.active_mlp, shape.hidden, s.width
    if s.adapter_width != w and "down_proj" in s.adapted:
        copies = s.adapter_width * (2 if s.dropout_mask else 1)
        return m * (w + copies) + 4 * h * w
    return 2 * m * w + 4 * h * s.stream


def loss_bytes(shape: Shape, tokens: int, width: int, loss: Loss, full: bool) -> float:
    """The loss path at its peak.

    plain: logits in the compute type, their float32 copy, its log-softmax and its gradient
    (transformers ``ForCausalLMLoss``): tokens * vocab * (w + 12).
    chunked: one tile of at most 4,096 tokens by 32,768 words, the float32 gradient of the hidden
    states, and for a trained head its gradient in float32 (trl 1.16 ``chunked_logprob``).
    fused: Liger's fused linear cross entropy: logits of one chunk, the gradient of the hidden
    states in the compute type (https://arxiv.org/abs/2410.10989, section 3.2).
    """
    h, v = shape.hidden, shape.vocab
    if loss == "plain":
        return tokens * v * (width + 12.0)
    head_gradient = v * h * (4.0 if loss == "chunked" else width) if full else 0.0
    if loss == "chunked":
        tile = min(tokens, _LOSS_TOKENS) * min(v, _LOSS_WORDS) * width
        return tile + tokens * h * (4.0 + width) + head_gradient
    chunks = max(1, -(-v // h))
    return -(-tokens // chunks) * v * (width + 4.0) + tokens * h * width + head_gradient


def estimate_memory(
    shape: Shape,
    *,
    tuning: Tuning = "lora",
    rank: int = 16,
    targets: tuple[str, ...] | None = None,
    micro_batch: int = 1,
    length: int = 1024,
    checkpointing: bool = True,
    dtype: Dtype = "bf16",
    optimizer: Optimizer = "adamw",
    loss: Loss = "chunked",
    packing: bool = False,
    attention: Attention = "sdpa",
    kernels: Kernels = "torch",
    padded: bool = False,
    dropout: float = 0.0,
    adapter_dtype: Dtype | None = None,
    device: Device = "cuda",
) -> Memory:
    """Peak memory of one training process on one device.

    Args:
        shape: The model, see `Shape.from_config`.
        tuning: ``full``, ``lora`` (16-bit or fp32 base) or ``qlora`` (NF4 base).
        rank: Adapter rank; ignored for ``full``.
        targets: Adapted projections; None for all that the model has.
        micro_batch: Rows (or packed sequences) per forward pass.
        length: Tokens per row after packing or padding; the longest batch decides.
        checkpointing: Keep only each layer's input and recompute it in the backward pass.
        dtype: Of the base weights and of the arithmetic; ``mixed`` (full fine-tuning only) keeps
            weights, gradients and optimiser in float32 and computes in bfloat16.
        optimizer: AdamW in the parameters' type, or 8-bit.
        loss: ``plain`` materialises all logits; ``chunked`` is trl's default; ``fused`` is Liger's.
        packing: Several rows per sequence: with sdpa this needs a dense mask and repeated keys.
        attention: ``sdpa``, ``varlen`` (no mask, no padding) or ``eager`` (full score matrix).
        kernels: ``torch`` or ``liger`` layer kernels (norms and MLP keep less).
        padded: Rows of different lengths share a batch, so an attention mask is passed.
        dropout: Of the adapters; above 0 each adapter keeps a mask.
        adapter_dtype: None for what peft and trl do: fp32 for LoRA, the compute type for QLoRA.
        device: ``cuda``, or ``cpu`` (no context, no allocator slack, a process instead).

    Returns:
        Terms and peaks in GiB.

    Raises:
        UsageError: An unknown word, a target that the model lacks, or a number below 1.
    """
    _check(tuning=tuning, dtype=dtype, optimizer=optimizer, loss=loss, attention=attention)
    _check(kernels=kernels, device=device)
    for name, value in (("micro_batch", micro_batch), ("length", length), ("rank", rank)):
        if value < 1:
            raise UsageError(
                f"{name} must be at least 1 (got {value}).",
                code="bad_setting",
                where=name,
                fix=f"give {name} a whole number above 0",
            )
    full = tuning == "full"
    if dtype == "mixed" and not full:
        raise UsageError(
            "Mixed precision is for full fine-tuning: adapters keep their own precision.",
            code="bad_setting",
            where="dtype",
            fix="use dtype=bf16",
        )
    width = _WIDTH[dtype]
    base_width = 4 if dtype == "mixed" else width
    adapted = () if full else (targets if targets is not None else shape.default_targets())
    trainable = shape.parameters if full else shape.adapter_parameters(rank, adapted)
    adapter_width = _WIDTH[adapter_dtype] if adapter_dtype else (4 if tuning == "lora" else width)
    trained_width = base_width if full else adapter_width
    settings = _Settings(
        tuning=tuning,
        rank=rank,
        tokens=micro_batch * length,
        span=micro_batch * length if packing else length,
        width=width,
        stream=base_width,
        adapter_width=width if full else adapter_width,
        adapted=frozenset(adapted),
        attention=attention,
        liger=kernels == "liger",
        masked=(padded or packing) and attention == "sdpa",
        dropout_mask=0 if full or dropout <= 0 else (1 if device == "cuda" else adapter_width),
    )
    tokens = settings.tokens

    always = {
        "weights": weights_bytes(shape, tuning, base_width),
        "adapters": 0.0 if full else trainable * adapter_width,
        "optimizer": optimizer_bytes(shape, trainable, trained_width, optimizer, full),
        "attention_mask": float(tokens * settings.span if settings.masked else 0),
    }
    # Autocast keeps a 16-bit copy of every float32 weight that it multiplies with.
    copies = 0.0
    if trained_width != width:
        copies = float(width * (shape.linear_parameters if full else trainable))
    gradients = float(trainable * trained_width)
    layer = tokens * saved_bytes(shape, settings)
    transient = tokens * transient_bytes(shape, settings)
    if checkpointing:
        kept = {"checkpoints": float(shape.layers * tokens * shape.hidden * base_width)}
        recomputed = {"recomputed_layer": layer + copies / shape.layers}
    else:
        kept = {"activations": float(shape.layers * layer) + copies}
        recomputed = {}
    # The head of a tied model is the embedding, dequantised or not; only projections are NF4.
    workspace = {}
    if tuning == "qlora":
        biggest = max(inputs * outputs for inputs, outputs, _ in shape.linears().values())
        workspace = {"dequantisation": float(biggest * width)}
    head = shape.vocab * shape.hidden * base_width if full else 0
    # Output of the last layer, its float32 norm, the normalised value.
    final_hidden = {"final_hidden": tokens * shape.hidden * (base_width + 4.0 + base_width)}
    forward_copies = {"weight_copies": copies} if checkpointing else {}
    moments: dict[str, dict[str, float]] = {
        "loss": {
            **kept,
            **forward_copies,
            **final_hidden,
            "loss": loss_bytes(shape, tokens, width, loss, full),
        },
        "layer": {
            **kept,
            **recomputed,
            **workspace,
            "layer_workspace": transient,
            "gradients": float(head) + gradients / shape.layers,
        },
        "step": {
            **(recomputed or {"activations": layer + copies / shape.layers}),
            **workspace,
            "layer_workspace": transient,
            "gradients": gradients,
        },
    }
    moment = max(moments, key=lambda name: sum(moments[name].values()))
    terms = {
        name: value / GIB for name, value in {**always, **moments[moment]}.items() if value > 0
    }
    allocated = sum(terms.values())
    reserved = allocated
    if device == "cuda":
        terms["allocator_slack"] = allocated * ALLOCATOR_SLACK
        reserved += terms["allocator_slack"]
        terms["cuda_context"] = CUDA_CONTEXT_GIB
    else:
        terms["process"] = PROCESS_GIB
    return Memory(
        terms=terms,
        allocated_gib=allocated,
        reserved_gib=reserved,
        device_gib=sum(terms.values()),
        low=allocated * (1 - _INTERVAL),
        high=allocated * (1 + _INTERVAL),
        largest=max(terms, key=lambda name: terms[name]),
        moment=moment,
        parameters=shape.parameters,
        trainable=trainable,
    )


def _check(**words: str) -> None:
    allowed = {
        "tuning": get_args(Tuning),
        "dtype": get_args(Dtype),
        "optimizer": get_args(Optimizer),
        "loss": get_args(Loss),
        "attention": get_args(Attention),
        "kernels": get_args(Kernels),
        "device": get_args(Device),
    }
    for name, word in words.items():
        if word not in allowed[name]:
            raise UsageError(
                f"{name} cannot be '{word}'.",
                code="bad_setting",
                where=name,
                fix=did_you_mean(word, allowed[name]),
            )

"""The set-up of a training that memory and time are computed from: words, checked once."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal, get_args

from unift._text import did_you_mean
from unift.errors import UsageError
from unift.estimate._shape import Shape

Tuning = Literal["full", "lora", "qlora"]
Dtype = Literal["bf16", "fp16", "fp32", "mixed"]
Optimizer = Literal["adamw", "adamw_8bit", "paged_adamw", "paged_adamw_8bit"]
Checkpointing = Literal["none", "full", "selective", "attention", "offloaded"]
Loss = Literal["plain", "chunked", "tiled", "fused"]
Attention = Literal["sdpa", "varlen", "varlen_repeated", "eager"]
Kernels = Literal["torch", "liger", "adapters", "adapters_whole"]
Sharding = Literal["none", "zero1", "zero2", "fsdp"]
Device = Literal["cuda", "cpu"]

_WORDS = {
    "tuning": Tuning,
    "dtype": Dtype,
    "adapter_dtype": Dtype,
    "optimizer": Optimizer,
    "checkpointing": Checkpointing,
    "loss": Loss,
    "attention": Attention,
    "kernels": Kernels,
    "sharding": Sharding,
    "device": Device,
}

# Families whose layers end in a dense MLP and a sum.
_ENDS_IN_MLP = ("llama", "mistral", "qwen2", "qwen3")

# Bytes of a compute value; `mixed` computes in bfloat16 and keeps weights in float32.
WIDTH: dict[str, int] = {"bf16": 2, "fp16": 2, "fp32": 4, "mixed": 2}


@dataclass(frozen=True, slots=True)
class Training:
    """One training set-up, checked. Widths are bytes a value: `width` of the arithmetic, `stream`
    of the residual stream, `storage` of the base weights (wider than the stream where FSDP narrows
    weights as it gathers them), `adapter_width` of the adapters; `span` is what
    attention sees; `rows` share a forward pass of `tokens`, of which `scored` carry loss."""

    tuning: Tuning
    rank: int
    dora: bool
    adapted: tuple[str, ...]
    rows: int
    tokens: int
    scored: int
    span: int
    width: int
    stream: int
    storage: int
    adapter_width: int
    checkpointing: Checkpointing
    recomputed: int
    optimizer: Optimizer
    loss: Loss
    attention: Attention
    liger: bool
    fused: bool
    masked: bool
    ragged: bool
    dropout_mask: int
    passes: int
    vision: bool
    devices: int
    sharding: Sharding
    cuda: bool
    compiled: bool = False
    images: int = 0
    whole: bool = False

    def fused_mlp(self, shape: Shape) -> bool:
        """The MLP makes its product again in the backward pass: Liger's does, and fused adapters'
        where the gate is SiLU (`unift_local.fused`), which Gemma's is not."""
        return self.liger or (self.fused and not shape.family.startswith("gemma"))

    def unread(self, shape: Shape) -> bool:
        """A layer that is recomputed leaves out the end of its MLP, which nobody reads, and makes
        the rest of it in pieces (`unift_local.recompute`). Where some layers are not recomputed,
        the peak lies in the last of those."""
        all_of_them = self.checkpointing in ("full", "offloaded")
        return self.fused and not self.whole and all_of_them and shape.family in _ENDS_IN_MLP

    def adapts_experts(self, shape: Shape) -> bool:
        """Fused experts carry adapters, which peft multiplies out (`expert_copies`)."""
        return not self.full and bool(set(self.adapted) & set(shape.expert_targets))

    @property
    def full(self) -> bool:
        """All weights are trained."""
        return self.tuning == "full"

    @property
    def expert_width(self) -> int:
        """Bytes a number of what experts compute with: their grouped product takes the type of the
        weights, and autocast leaves it alone (transformers 5.17 ``integrations/moe.py``)."""
        return 4 if self.full and self.mixed else self.width

    @property
    def mixed(self) -> bool:
        """Float32 weights under autocast, so that every projection casts its own input."""
        return self.stream != self.width

    def math(self, shape: Shape) -> bool:
        """sdpa falls back to whole score matrices: on CUDA its kernels take grouped keys in 16 bits
        only."""
        grouped = shape.heads != shape.kv_heads and shape.latent is None
        return self.cuda and self.attention == "sdpa" and self.width == 4 and grouped

    @property
    def casts(self) -> bool:
        """Each adapter casts its own input."""
        wide = self.adapter_width != self.width and self.sharding != "fsdp"
        return self.tuning == "lora" and wide and not self.fused

    @property
    def trained_width(self) -> int:
        """Bytes of a trained weight and of its gradient."""
        return self.storage if self.full else self.adapter_width

    @property
    def recomputes(self) -> bool:
        """Some layers run again in the backward pass."""
        return self.recomputed > 0

    def trainable(self, shape: Shape) -> int:
        """Weights that are trained; a frozen vision tower is none of them."""
        if not self.full:
            return shape.adapter_parameters(self.rank, self.adapted, dora=self.dora)
        frozen = shape.vision.parameters if shape.vision and not self.vision else 0
        return shape.parameters - frozen


def check_words(**words: str | None) -> None:
    """Refuse a word that its setting does not have.

    Raises:
        UsageError: With the nearest one.
    """
    for name, word in words.items():
        allowed = get_args(_WORDS[name])
        if word is not None and word not in allowed:
            raise UsageError(
                f"{name} cannot be '{word}'.",
                code="bad_setting",
                where=name,
                fix=did_you_mean(word, allowed),
            )


def make_training(
    shape: Shape,
    *,
    tuning: Tuning,
    rank: int,
    targets: tuple[str, ...] | None,
    dora: bool,
    micro_batch: int,
    length: int,
    checkpointing: Checkpointing | bool,
    checkpointed_layers: int | None,
    dtype: Dtype,
    optimizer: Optimizer,
    loss: Loss,
    packing: bool,
    attention: Attention,
    kernels: Kernels,
    padded: bool,
    dropout: float,
    adapter_dtype: Dtype | None,
    passes: int,
    scored: float,
    vision: bool,
    devices: int,
    sharding: Sharding,
    device: Device,
    compiled: bool = False,
    images: int = 0,
) -> Training:
    """Check the arguments of `estimate_memory` and work out what follows from them.

    Raises:
        UsageError: An unknown word, a target that the model lacks, or a number out of range.
    """
    if isinstance(checkpointing, bool):
        checkpointing = "full" if checkpointing else "none"
    check_words(tuning=tuning, dtype=dtype, adapter_dtype=adapter_dtype, optimizer=optimizer)
    check_words(checkpointing=checkpointing, loss=loss, attention=attention, kernels=kernels)
    check_words(sharding=sharding, device=device)
    counts = {
        "micro_batch": micro_batch,
        "length": length,
        "rank": rank,
        "passes": passes,
        "devices": devices,
    }
    for name, value in counts.items():
        if value < 1:
            raise _bad(name, f"{name} must be at least 1 (got {value}).", f"{name} a whole number")
    if images < 0 or (images and shape.vision is None):
        why = "the model has no vision tower" if images > 0 else "a number of pictures"
        raise _bad("images", f"images cannot be {images}: {why}.", "0, or a model with a tower")
    if not 0 < scored <= 1:
        raise _bad("scored", f"scored must be above 0 and at most 1 (got {scored}).", "a share")
    full = tuning == "full"
    if dtype == "mixed" and not full:
        raise UsageError(
            "Mixed precision is for full fine-tuning: adapters keep their own precision.",
            code="bad_setting",
            where="dtype",
            fix="use dtype=bf16",
        )
    if full and dora:
        raise _bad("dora", "Full fine-tuning has no adapters.", "tuning=lora, or dora=False")
    layers = shape.layers if checkpointing != "none" else 0
    if checkpointing == "selective":
        wanted = shape.layers if checkpointed_layers is None else checkpointed_layers
        if wanted < 0:
            raise _bad("checkpointed_layers", "A negative number of layers.", "0 or more")
        layers = min(wanted, shape.layers)
    width = WIDTH[dtype]
    tokens = micro_batch * length
    adapters = WIDTH[adapter_dtype] if adapter_dtype else 4
    return Training(
        tuning=tuning,
        rank=rank,
        dora=dora,
        adapted=() if full else (targets if targets is not None else shape.default_targets()),
        rows=micro_batch,
        tokens=tokens,
        scored=max(1, round(tokens * scored)),
        span=tokens if packing else length,
        width=width,
        stream=4 if dtype == "mixed" and (devices == 1 or sharding != "fsdp") else width,
        storage=4 if dtype == "mixed" else width,
        adapter_width=width if full else adapters,
        checkpointing=checkpointing,
        recomputed=layers,
        optimizer=optimizer,
        loss=loss,
        attention=attention,
        liger=kernels == "liger",
        fused=kernels.startswith("adapters") and not full and dropout <= 0 and not dora,
        masked=(padded or packing) and attention == "sdpa",
        ragged=padded and not packing,
        dropout_mask=0 if full or dropout <= 0 else (1 if device == "cuda" else adapters),
        passes=passes,
        vision=vision,
        devices=devices,
        sharding="none" if devices == 1 else sharding,
        cuda=device == "cuda",
        compiled=compiled,
        images=images,
        whole=kernels == "adapters_whole",
    )


def _bad(where: str, message: str, fix: str) -> UsageError:
    return UsageError(message, code="bad_setting", where=where, fix=f"give {fix}")

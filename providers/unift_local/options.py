"""Settings that only local training has."""

from __future__ import annotations

from typing import Literal

from pydantic import BaseModel, ConfigDict, Field


class LocalOptions(BaseModel):
    """``options={"local-lora": {...}}``; the same for local-full and local-qlora."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    device: Literal["auto", "cpu", "cuda"] = Field(default="auto", description="where to train")
    dtype: Literal["auto", "bf16", "fp32"] = Field(
        default="auto", description="precision of the maths"
    )
    micro_batch: int | None = Field(
        default=None, gt=0, description="sequences (rows, or packs of rows) per forward pass"
    )
    pack_length: int | None = Field(default=None, gt=0, description="tokens per packed sequence")
    gradient_checkpointing: bool | None = Field(
        default=None,
        description="recompute activations in the backward pass: less memory, more time",
    )
    checkpointing: Literal["auto", "full", "selective", "offloaded"] = Field(
        default="auto",
        description="what gradient checkpointing recomputes: every layer, as few layers as fit, or "
        "every layer with its input kept in main memory",
    )
    checkpointed_layers: int | None = Field(
        default=None, ge=0, description="layers that selective checkpointing recomputes"
    )
    attention: Literal["auto", "varlen", "sdpa", "flash_attention_2", "flash_attention_3"] = Field(
        default="auto",
        description="varlen sees each row of a pack alone; sdpa builds a mask for the whole pack",
    )
    fused_adapters: bool | None = Field(
        default=None, description="adapters and their base in one function; needs dropout 0"
    )
    products: Literal["auto", "bf16", "fp32"] = Field(
        default="auto",
        description="precision of products with frozen weights under fused adapters; bf16 is "
        "faster on CPUs that have it, and everything else stays in fp32",
    )
    loss: Literal["auto", "chunked", "plain"] = Field(
        default="auto", description="chunked never holds the logits of all tokens"
    )
    optimizer: Literal["auto", "adamw", "adamw_8bit"] = Field(
        default="auto",
        description="adamw_8bit, for full tuning: bf16 weights and 8-bit moments, 6 bytes a weight "
        "instead of 16",
    )
    compile: bool | None = Field(
        default=None, description="compile a decoder layer once, for packs of constant length"
    )
    probe: bool | None = Field(
        default=None,
        description="run the largest step twice before the first one: memory and time measured, "
        "and less a pass if it does not fit",
    )
    profile: bool = Field(
        default=False, description="trace one step and say where its time went, in RUN/profile"
    )
    eval_steps: int | None = Field(
        default=None, gt=0, description="optimiser steps between two evaluations (and checkpoints)"
    )
    patience: int | None = Field(
        default=None,
        ge=0,
        description="evaluations without improvement before stopping; 0 never stops",
    )
    save_total_limit: int | None = Field(
        default=None, ge=1, description="checkpoints kept besides the best one"
    )
    cache_tokens: bool | None = Field(
        default=None, description="keep the tokens of the data in UNIFT_HOME/tokens (2 GiB at most)"
    )
    threads: int | None = Field(default=None, gt=0, description="CPU threads")
    trust_remote_code: bool = Field(
        default=False,
        description="run Python code that comes with the model; only for models you trust",
    )

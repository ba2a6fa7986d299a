"""The grid: which models, tuned how, at which lengths and batches. Order is worth, best first."""

from __future__ import annotations

import hashlib
import json
from dataclasses import asdict, dataclass
from typing import Any

from _shapes import GEMMA_VISION, SHAPES

from unift import catalog


def config_of(model: str) -> dict[str, Any]:
    """The config.json of a model of the grid; ``NAME@12`` has 12 layers of it only."""
    name, _, layers = model.partition("@")
    if name in SHAPES:
        found = dict(SHAPES[name])
    elif name == "google/gemma-3-4b-pt+vision":
        text = dict(catalog.open_model("google/gemma-3-4b-pt").config)
        found = {"model_type": "gemma3", "text_config": text, "vision_config": dict(GEMMA_VISION)}
    else:
        found = dict(catalog.open_model(name).config)
    if layers:
        text = found.get("text_config", found)
        text["num_hidden_layers"] = int(layers)
        if "layer_types" in text:
            text["layer_types"] = text["layer_types"][: int(layers)]
    return found


@dataclass(frozen=True)
class Run:
    """One configuration. `length` counts tokens of a row, or of a pack if `rows_per_pack`."""

    model: str
    tuning: str
    length: int
    micro_batch: int = 1
    checkpointing: str = "full"  # none, full, selective, offloaded
    loss: str = "chunked"  # plain, chunked, fused
    attention: str = "sdpa"  # sdpa, varlen, eager
    kernels: str = "torch"  # torch, liger
    optimizer: str = "adamw"  # adamw, adamw_8bit, paged_adamw_8bit
    dtype: str = "bf16"  # of the base; "mixed": fp32 weights, bf16 arithmetic
    rank: int = 16
    dora: bool = False
    dropout: float = 0.0
    rows_per_pack: int = 0
    padded: bool = False
    passes: int = 1  # micro-batches per optimiser step
    trained: float = 1.0  # share of tokens that carry loss
    product: bool = False  # fused adapters, varlen attention, own loss; else stock peft and TRL
    checkpointed_layers: int | None = None
    compiled: bool = False  # decoder layers through torch.compile, as long runs have them
    # Of expert models: "" the linear layers, "default" what the product adapts if nothing is said
    # (experts, too), "attention".
    targets: str = ""
    unread: bool = False  # recomputed layers leave out the end of their MLP, as they do today

    @property
    def key(self) -> str:
        """The configuration as text: what a row is known by."""
        fields = asdict(self)
        if not self.product:  # rows of before there was a choice keep their half
            del fields["product"], fields["checkpointed_layers"]
        if not self.compiled:
            del fields["compiled"]
        if not self.targets:
            del fields["targets"]
        if not self.unread:
            del fields["unread"]
        return json.dumps(fields, sort_keys=True)

    @property
    def held_out(self) -> bool:
        """Half of all rows, by a hash, are never looked at while constants are chosen."""
        return hashlib.sha256(self.key.encode()).digest()[0] % 2 == 1


L8, L1, L3, L70 = (f"meta-llama/Llama-3.{v}" for v in ("1-8B", "2-1B", "2-3B", "1-70B"))
Q05, Q14, Q32 = "Qwen/Qwen2.5-0.5B", "Qwen/Qwen3-14B", "Qwen/Qwen3-32B"
MOE, MLA = "Qwen/Qwen3-30B-A3B@16", "moonshotai/Moonlight-16B-A3B"
GEMMA = "google/gemma-3-4b-pt+vision"


def _group(model: str, tuning: str, rows: list[dict[str, Any]], **common: Any) -> list[Run]:
    return [Run(model=model, tuning=tuning, **{**common, **row}) for row in rows]


def _row(length: int, micro_batch: int = 1, **how: Any) -> dict[str, Any]:
    return {"length": length, "micro_batch": micro_batch, **how}


NONE, SEL, OFF = (
    {"checkpointing": "none"},
    {"checkpointing": "selective"},
    {"checkpointing": "offloaded"},
)

GRID: list[Run] = [
    *_group(
        L1,
        "full",
        [
            _row(512),
            _row(2048, 4),
            _row(8192),
            _row(512, 16, **NONE),
            _row(2048, 2, passes=2),
            _row(2048, 4, **NONE),
            _row(1024, 4, optimizer="adamw_8bit"),
            _row(2048, 4, loss="fused"),
        ],
        dtype="mixed",
    ),
    *_group(
        L8,
        "lora",
        [
            _row(1024, 4),
            _row(512, 16),
            _row(8192),
            _row(16384),
            _row(4096, 1, **NONE),
            _row(512, 4, **NONE),
            _row(2048, 2, passes=2),
            _row(2048, 2, loss="plain"),
            _row(1024, 4, loss="fused"),
            _row(2048, 2, rows_per_pack=8),
            _row(4096, 1, rows_per_pack=12, attention="varlen"),
            _row(1024, 8, padded=True),
            _row(2048, 2, trained=0.3),
            _row(1024, 2, attention="eager"),
            _row(2048, 2, **SEL),
            _row(2048, 2, **OFF),
            _row(2048, 2, dropout=0.05, **NONE),
            _row(2048, 2, rank=64),
            _row(1024, 2, dora=True),
            _row(4096, 2, kernels="liger"),
            _row(2048, 2, kernels="liger", attention="varlen", rows_per_pack=8, **NONE),
        ],
    ),
    *_group(
        L70,
        "qlora",
        [_row(512), _row(2048), _row(4096)],
    ),
    *_group(
        L8,
        "qlora",
        [
            _row(512, 2),
            _row(4096, 2),
            _row(8192, 1, trained=0.3),
            _row(2048, 2, **NONE),
            _row(1024, 8, dropout=0.05),
            _row(2048, 2, dora=True),
            _row(2048, 2, loss="plain"),
            _row(2048, 4, kernels="liger", **NONE),
        ],
    ),
    *_group(
        Q05,
        "full",
        [
            _row(512, 8),
            _row(4096, 2),
            _row(1024, 8, **NONE),
            _row(2048, 4, loss="plain"),
            _row(16384, 1),
        ],
        dtype="mixed",
    ),
    *_group(
        L3,
        "full",
        [_row(512, 2), _row(2048, 2), _row(1024, 2, **NONE), _row(2048, 1, optimizer="adamw_8bit")],
        dtype="mixed",
    ),
    *_group(
        "TinyLlama/TinyLlama-1.1B",
        "full",
        [_row(2048, 4), _row(1024, 8, **NONE), _row(2048, 2, passes=2)],
        dtype="mixed",
    ),
    *_group(
        Q14,
        "lora",
        [_row(1024, 2), _row(4096, 2), _row(2048, 1, **NONE), _row(2048, 2, rows_per_pack=8)],
    ),
    *_group(Q14, "qlora", [_row(1024, 4), _row(8192), _row(2048, 2, **NONE)]),
    *_group(Q32, "qlora", [_row(1024), _row(4096), _row(1024, 2, **NONE)]),
    *_group(GEMMA, "lora", [_row(1024, 4), _row(4096, 2), _row(2048, 2, **NONE)]),
    *_group(MLA, "lora", [_row(1024, 2), _row(4096), _row(1024, 1, **NONE)]),
    *_group(MOE, "lora", [_row(1024, 2), _row(4096), _row(1024, 2, **NONE)]),
    *_group(
        L8,
        "full",
        [
            _row(1024, 2, optimizer="adamw_8bit"),
            _row(2048, 2, optimizer="paged_adamw_8bit"),
            _row(2048, 1, optimizer="adamw_8bit", passes=2),
        ],
    ),
    *_group(Q32, "lora", [_row(512), _row(2048)]),
    *_group(
        Q05, "lora", [_row(512, 16), _row(2048, 8, **NONE), _row(16384, 1), _row(1024, 4, rank=64)]
    ),
    *_group(L1, "lora", [_row(2048, 4), _row(4096, 4, **NONE), _row(512, 8)]),
    *_group(L3, "lora", [_row(2048, 8), _row(2048, 4, **NONE)]),
    *_group(L3, "qlora", [_row(2048, 8), _row(1024, 8, **NONE)]),
    *_group(Q05, "qlora", [_row(1024, 8)]),
    *_group(L1, "qlora", [_row(2048, 4), _row(2048, 4, **NONE)]),
]
assert len({run.key for run in GRID}) == len(GRID)

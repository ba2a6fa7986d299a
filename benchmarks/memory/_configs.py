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


def _own(model: str, tuning: str, length: int, micro_batch: int = 1, **how: Any) -> Run:
    """A row of the product's own path: packs of rows of about 340 tokens, each seen alone."""
    packed = {"rows_per_pack": max(1, length // 340), "attention": "varlen"}
    if tuning == "full":
        packed["dtype"] = "mixed"
    return Run(
        model=model,
        tuning=tuning,
        length=length,
        micro_batch=micro_batch,
        product=True,
        **{**packed, **how},
    )


# The product's own path where the picks of the planner do not go: expert models, latent attention,
# windows, everything recomputed or offloaded, full fine-tuning.
PRODUCT: list[Run] = [
    _own(MLA, "lora", 2048),
    _own(MLA, "lora", 1024, **NONE),
    _own(MOE, "lora", 2048),
    _own(MOE, "lora", 1024, **NONE),
    _own(L8, "lora", 4096, 2, **OFF),
    _own(L8, "lora", 4096, 2),
    _own(L1, "full", 2048, 4),
    _own(L1, "full", 2048, 2, **NONE),
    _own(GEMMA, "lora", 2048, 2),
    _own(L8, "qlora", 2048, 4, trained=0.3),
]

COMPILED = {"compiled": True}
VISION12 = f"{GEMMA}@12"

# What time needed more of: small passes that kernel launches bound, everything recomputed, compiled
# layers, full tuning; and memory of what had a formula only: experts, latent attention, windows,
# a vision tower beside a fully tuned decoder, paged states.
MORE: list[Run] = [
    _own(MOE, "lora", 2048),
    _own(MOE, "lora", 1024, **NONE),
    _own(MLA, "lora", 2048),
    _own(MLA, "lora", 1024, **NONE),
    _own(GEMMA, "lora", 4096, rows_per_pack=1, **NONE),
    _own(VISION12, "full", 2048, **NONE),
    Run(L1, "full", 2048, 2, optimizer="paged_adamw_8bit"),
    _own(Q05, "lora", 1024, **NONE),
    _own(Q05, "lora", 2048, 8, **NONE),
    _own(L1, "lora", 1024),
    _own(L1, "lora", 2048, 4, **NONE),
    _own(L8, "lora", 1024, **NONE),
    _own(L8, "lora", 2048, 4, **NONE),
    _own(L8, "lora", 2048, 4),
    _own(L8, "lora", 8192, rows_per_pack=1, **NONE),
    _own(L8, "lora", 4096, 2, **OFF),
    _own(L8, "qlora", 512, rows_per_pack=1),
    _own(L8, "qlora", 2048, 2, trained=0.3, **NONE),
    _own(L8, "qlora", 4096, 2),
    _own(L1, "full", 2048, **NONE),
    _own(L1, "full", 2048, 4),
    _own(L8, "full", 2048, 2, optimizer="adamw_8bit", dtype="bf16", **NONE),
    _own(L8, "full", 2048, 4, optimizer="adamw_8bit", dtype="bf16"),
    _own(Q14, "lora", 2048, **NONE),
    _own(Q14, "qlora", 2048, 4),
    _own(L8, "lora", 2048, 4, **NONE, **COMPILED),
    _own(Q05, "lora", 2048, 8, **NONE, **COMPILED),
    _own(L8, "qlora", 2048, 4, **COMPILED),
    _own(L1, "full", 2048, 4, **NONE, **COMPILED),
    _own(L8, "lora", 1024, **NONE, **COMPILED),
    _own(L3, "lora", 4096, 4, **NONE, **COMPILED),
]
assert len({run.key for run in MORE}) == len(MORE)

V2, V316, MIX = (
    "deepseek-ai/DeepSeek-V2-Lite",
    "deepseek-ai/DeepSeek-V3-16E",
    "mistralai/Mixtral-8x7B",
)
MOE30 = "Qwen/Qwen3-30B-A3B"
ALL, ATT, EIGHT = (
    {"targets": "default"},
    {"targets": "attention"},
    {"optimizer": "adamw_8bit", "dtype": "bf16"},
)

# Experts and latent attention, few layers of each (layers scale); full fine-tuning in several
# passes, whose gradients add up; what the third run measured with a fault.
AGAIN: list[Run] = [
    _own(f"{MLA}@5", "lora", 2048, **ALL),
    _own(f"{MLA}@5", "lora", 2048, **ALL, **NONE),
    _own(f"{MLA}@5", "lora", 2048, 2, **ATT, **NONE),
    _own(f"{MLA}@9", "lora", 1024, 4, **ALL, **NONE),
    _own(f"{MOE30}@4", "lora", 2048, 2, **ALL, **NONE),
    _own(f"{MOE30}@8", "lora", 2048, **ALL, **NONE),
    _own(f"{MOE30}@8", "lora", 4096, 2, **ALL),
    _own(f"{MIX}@3", "lora", 2048, **ALL, **NONE),
    _own(f"{MIX}@3", "lora", 2048, 2, **ATT, **NONE),
    _own(f"{MLA}@3", "full", 2048, 2, **NONE),
    _own(f"{MOE30}@4", "full", 2048, **NONE),
    _own(f"{MLA}@9", "full", 2048, 2, **EIGHT),
    _own(f"{MIX}@3", "full", 2048, **EIGHT, **NONE),
    _own(f"{MLA}@5", "qlora", 2048, 2, **ALL),
    _own(f"{MOE30}@8", "qlora", 2048, 2, **ATT, **NONE),
    _own(f"{V2}@5", "lora", 2048, 2, **ALL, **NONE),
    _own(f"{V2}@9", "lora", 4096, **ATT, **NONE),
    _own(f"{V316}@3", "lora", 2048, **ALL, **NONE),
    _own(f"{V316}@5", "lora", 2048, 2, **ATT),
    _own(L1, "full", 2048, 4, passes=2),
    _own(L8, "full", 2048, 2, passes=2, **EIGHT, **NONE),
    _own(L8, "full", 2048, 4, **EIGHT),
    _own(L8, "lora", 2048, 4),
    _own(L8, "qlora", 512, rows_per_pack=1),
    _own(L8, "qlora", 4096, 2),
]
assert len({run.key for run in AGAIN}) == len(AGAIN)

# The product's own path once more, after its loss, its MLP and its offloading were changed.
TODAY: list[Run] = [
    _own(L8, "lora", 2048, 4, **NONE),
    _own(L8, "lora", 2048, 4),
    _own(Q05, "lora", 1024, **NONE),
    _own(L1, "lora", 1024),
    _own(L8, "lora", 4096, 2, **OFF),
    _own(L8, "qlora", 2048, 2, trained=0.3, **NONE),
    _own(L8, "qlora", 4096, 2),
    _own(L8, "qlora", 512, rows_per_pack=1),
    _own(Q05, "lora", 2048, 8, **NONE),
    _own(L1, "lora", 2048, 4, **NONE),
    _own(f"{MOE30}@8", "lora", 2048, **ALL, **NONE),
    _own(f"{MLA}@5", "lora", 2048, **ALL, **NONE),
    _own(f"{MLA}@5", "lora", 2048, 2, **ATT, **NONE),
    _own(Q14, "lora", 2048, **NONE),
    _own(L8, "full", 2048, 2, passes=2, **EIGHT, **NONE),
    _own(L1, "full", 2048, 4, passes=2),
    _own(GEMMA, "lora", 4096, rows_per_pack=1, **NONE),
    _own(Q05, "lora", 2048, 8, **NONE, **COMPILED),
]

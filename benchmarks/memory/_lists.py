"""Rows of the product's own path, list by list in the order in which they were written. A name of
`LISTS` is what ``grid.py --list`` and ``session.py`` take; order is worth, best first."""

from __future__ import annotations

from typing import Any

from _configs import (
    GEMMA,
    GRID,
    L1,
    L3,
    L8,
    L70,
    MLA,
    MOE,
    NONE,
    OFF,
    Q05,
    Q14,
    Q32,
    Run,
)


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

# What memory.md marks as measured in an older path or not at all, with the engine of the day:
# small models with adapters, 4 bits, experts, full fine-tuning, compiled layers. Short ones of each
# kind first, then the compiled ones (15 to 25 s each), then the rest. The last eight are new: no
# formula has seen them.
ENGINE: list[Run] = [
    _own(Q05, "lora", 1024, **NONE),
    _own(Q05, "lora", 2048, 8, **NONE),
    _own(L1, "lora", 1024),
    _own(L1, "lora", 2048, 4, **NONE),
    _own(L8, "qlora", 512, rows_per_pack=1),
    _own(L8, "qlora", 2048, 2, trained=0.3, **NONE),
    _own(f"{MOE30}@8", "lora", 2048, **ALL, **NONE),
    _own(f"{MLA}@5", "lora", 2048, 2, **ATT, **NONE),
    _own(f"{MLA}@3", "full", 2048, 2, **NONE),
    _own(L1, "full", 2048, 4, passes=2),
    _own(L8, "full", 2048, 2, passes=2, **EIGHT, **NONE),
    _own(L8, "lora", 2048, 4, **NONE, **COMPILED),
    _own(Q05, "lora", 2048, 8, **NONE, **COMPILED),
    _own(L1, "full", 2048, 4, **NONE, **COMPILED),
    _own(L8, "qlora", 2048, 4, **COMPILED),
    _own(f"{MIX}@3", "lora", 2048, **ALL, **NONE),
    _own(f"{MOE30}@4", "full", 2048, **NONE),
    _own(f"{V2}@5", "lora", 2048, 2, **ALL, **NONE),
    _own(L8, "lora", 4096, 2, **OFF),
    _own(Q14, "qlora", 2048, 4),
    _own(L1, "qlora", 2048, 6, **NONE),
    _own(L3, "lora", 2048, 6, checkpointing="selective", checkpointed_layers=12),
    _own(Q05, "full", 2048, 6, passes=2, **NONE),
    _own(f"{MOE30}@6", "lora", 1024, 2, **ALL),
    _own(f"{MLA}@4", "qlora", 2048, 2, **ATT, **NONE),
    _own(L3, "lora", 2048, 4, **NONE, **COMPILED),
    _own(Q14, "lora", 4096, **NONE),
    _own(L3, "full", 2048, 2, passes=2, **EIGHT),
]

# What 80 GB do not hold, on an H200; all new.
H200: list[Run] = [
    _own(L8, "lora", 2048, 11, **NONE),
    _own(L8, "full", 1024),
    _own("Qwen/Qwen3-30B-A3B", "lora", 2048, 2, **ALL),
    _own(Q32, "lora", 2048, 4),
    _own(L70, "qlora", 2048, 2, checkpointing="selective", checkpointed_layers=40),
    _own(Q14, "lora", 2048, 5, **NONE),
]


def _chosen() -> list[Run]:
    from _picks import picks

    return picks()


def rows_of(name: str) -> list[Run]:
    """The rows of a list, with the planner's picks where it begins with them.

    Raises:
        KeyError: No such list.
    """
    if name == "product":
        return [*_chosen(), *PRODUCT]
    if name == "more":
        return [*(run for run in _chosen() if run.tuning == "full"), *MORE]
    if name == "again":
        full = [run for run in _chosen() if run.tuning == "full"]
        return [*AGAIN[:19], *full, *AGAIN[19:]]
    if name == "today":
        return [*TODAY[:2], *_chosen()[:2], *TODAY[2:]]
    return {"grid": GRID, "engine": ENGINE, "h200": H200}[name]


NAMES = ("grid", "product", "more", "again", "today", "engine", "h200")
for _each in (ENGINE, H200):
    assert len({run.key for run in _each}) == len(_each)

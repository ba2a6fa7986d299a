"""Memory against measured runs, and how it must move when a setting moves."""

from __future__ import annotations

import importlib.util
from pathlib import Path
from types import ModuleType
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from unift import catalog
from unift.errors import UsageError
from unift.estimate import Memory, Shape, estimate_memory

SCRIPT = Path(__file__).parents[2] / "benchmarks" / "memory" / "check_baselines.py"
LLAMA = Shape.from_config(catalog.open_model("meta-llama/Llama-3.1-8B").config)


def script() -> ModuleType:
    spec = importlib.util.spec_from_file_location("check_baselines", SCRIPT)
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


@pytest.mark.parametrize("run", catalog.measured(), ids=lambda run: run.name)
def test_measured_runs_on_the_h100(run: catalog.Measured) -> None:
    memory: Memory = script().estimated(run)
    assert memory.allocated_gib == pytest.approx(run.allocated_gib, rel=0.05)
    assert memory.reserved_gib == pytest.approx(run.reserved_gib, rel=0.05)
    assert memory.low <= run.allocated_gib <= memory.high


def test_the_script_prints_every_run_and_is_content(capsys: pytest.CaptureFixture[str]) -> None:
    assert script().main() == 0
    printed = capsys.readouterr().out
    for run in catalog.measured():
        assert run.name in printed


def test_weights_of_a_full_model_and_its_states() -> None:
    memory = estimate_memory(LLAMA, tuning="full", dtype="bf16", length=128)
    gib = LLAMA.parameters / 2**30
    assert memory.terms["weights"] == pytest.approx(2 * gib)
    assert memory.terms["gradients"] == pytest.approx(2 * gib)
    assert memory.terms["optimizer"] == pytest.approx(4 * gib)
    mixed = estimate_memory(LLAMA, tuning="full", dtype="mixed", length=128)
    assert mixed.terms["weights"] == pytest.approx(4 * gib)
    assert mixed.terms["optimizer"] == pytest.approx(8 * gib)
    assert mixed.trainable == mixed.parameters == LLAMA.parameters


def test_four_bit_weights_carry_their_constants() -> None:
    memory = estimate_memory(LLAMA, tuning="qlora", length=128)
    projections = LLAMA.linear_parameters * (0.5 + 0.127 / 8)
    rest = (LLAMA.parameters - LLAMA.linear_parameters) * 2
    assert memory.terms["weights"] == pytest.approx((projections + rest) / 2**30)


def test_plain_loss_holds_all_logits() -> None:
    memory = estimate_memory(LLAMA, loss="plain", micro_batch=4, length=4096)
    logits = 4 * 4096 * LLAMA.vocab / 2**30
    assert memory.terms["loss"] == pytest.approx(logits * 12)
    assert memory.moment == "loss"
    assert memory.largest == "loss"
    for loss in ("chunked", "fused"):
        less = estimate_memory(LLAMA, loss=loss, micro_batch=4, length=4096)
        assert less.allocated_gib < 0.6 * memory.allocated_gib


def test_cpu_has_a_process_instead_of_a_context() -> None:
    memory = estimate_memory(LLAMA, device="cpu", dtype="fp32", length=128)
    assert "process" in memory.terms
    assert not {"cuda_context", "allocator_slack"} & set(memory.terms)
    assert memory.reserved_gib == memory.allocated_gib


_settings = st.fixed_dictionaries(
    {
        "tuning": st.sampled_from(["full", "lora", "qlora"]),
        "micro_batch": st.integers(1, 32),
        "length": st.integers(1, 16384),
        "checkpointing": st.booleans(),
        "optimizer": st.sampled_from(["adamw", "adamw_8bit"]),
        "loss": st.sampled_from(["plain", "chunked", "fused"]),
        "packing": st.booleans(),
        "attention": st.sampled_from(["sdpa", "varlen", "eager"]),
        "kernels": st.sampled_from(["torch", "liger"]),
        "dropout": st.sampled_from([0.0, 0.05]),
        "device": st.sampled_from(["cuda", "cpu"]),
    }
)


@given(_settings)
def test_terms_add_up_and_bounds_hold(settings: dict[str, Any]) -> None:
    memory = estimate_memory(LLAMA, **settings)
    assert sum(memory.terms.values()) == pytest.approx(memory.device_gib)
    assert all(value > 0 for value in memory.terms.values())
    assert memory.low < memory.allocated_gib <= memory.reserved_gib <= memory.device_gib
    assert memory.allocated_gib < memory.high
    assert memory.terms[memory.largest] == max(memory.terms.values())
    document = memory.as_dict()
    assert {"allocated_gib", "reserved_gib", "terms"} <= set(document)


@given(_settings, st.sampled_from(["micro_batch", "length"]))
def test_more_tokens_never_need_less(settings: dict[str, Any], grown: str) -> None:
    before = estimate_memory(LLAMA, **settings).allocated_gib
    after = estimate_memory(LLAMA, **{**settings, grown: settings[grown] + 7}).allocated_gib
    assert after >= before


@given(_settings)
def test_checkpointing_saves_once_rows_are_worth_it(settings: dict[str, Any]) -> None:
    settings |= {"length": max(settings["length"], 512)}
    on = estimate_memory(LLAMA, **{**settings, "checkpointing": True}).allocated_gib
    off = estimate_memory(LLAMA, **{**settings, "checkpointing": False}).allocated_gib
    assert on <= off * 1.001


@given(_settings)
def test_four_bits_need_less_than_sixteen(settings: dict[str, Any]) -> None:
    lora = estimate_memory(LLAMA, **{**settings, "tuning": "lora"}).allocated_gib
    qlora = estimate_memory(LLAMA, **{**settings, "tuning": "qlora"}).allocated_gib
    assert qlora < lora


@pytest.mark.parametrize(
    ("setting", "nearest"),
    [
        ({"tuning": "qlorra"}, "qlora"),
        ({"dtype": "bfloat16"}, "bf16"),
        ({"loss": "chunk"}, "chunked"),
        ({"optimizer": "adam"}, "adamw"),
        ({"attention": "spda"}, "sdpa"),
        ({"kernels": "ligger"}, "liger"),
        ({"device": "gpu"}, "cuda"),
        ({"micro_batch": 0}, "micro_batch"),
        ({"length": -1}, "length"),
        ({"rank": 0}, "rank"),
        ({"tuning": "lora", "dtype": "mixed"}, "bf16"),
        ({"targets": ("gate",)}, "gate_proj"),
    ],
    ids=str,
)
def test_wrong_words_are_errors_that_name_the_nearest(setting: Any, nearest: str) -> None:
    with pytest.raises(UsageError) as caught:
        estimate_memory(LLAMA, **setting)
    assert nearest in caught.value.fix


VISION = {
    "model_type": "gemma3",
    "text_config": dict(catalog.open_model("google/gemma-3-4b-pt").config),
    "vision_config": {
        "hidden_size": 1152,
        "intermediate_size": 4304,
        "num_hidden_layers": 27,
        "image_size": 896,
        "patch_size": 14,
    },
}


def test_pictures_cost_a_trained_tower_its_activations_and_a_frozen_one_nothing() -> None:
    shape = Shape.from_config(VISION)
    how: dict[str, Any] = {"tuning": "full", "dtype": "mixed", "checkpointing": "none"}

    def need(images: int, vision: bool) -> float:
        return estimate_memory(shape, images=images, vision=vision, **how).allocated_gib

    assert need(4, False) - need(0, False) < 0.1  # the pictures themselves
    assert need(8, True) - need(4, True) == pytest.approx(4 * 27 * 0.171, rel=0.05)
    recomputed = {**how, "checkpointing": "full"}
    assert estimate_memory(shape, images=4, vision=True, **recomputed).allocated_gib < need(4, True)
    with pytest.raises(UsageError, match="no vision tower"):
        estimate_memory(LLAMA, images=1)


def test_cards_share_weights_and_none_less_than_its_part() -> None:
    how: dict[str, Any] = {"tuning": "full", "dtype": "mixed", "length": 2048}
    alone = estimate_memory(LLAMA, **how).allocated_gib
    shared = [
        estimate_memory(LLAMA, devices=count, sharding="fsdp", **how).allocated_gib
        for count in (2, 4, 8)
    ]
    assert shared == sorted(shared, reverse=True)
    assert alone / 8 < shared[-1] < alone / 4
    copies = estimate_memory(LLAMA, devices=2, sharding="none", **how)
    # Buckets of the gradients twice: those of the first step are still alive in the second.
    assert copies.moment == "loss"
    assert copies.terms["reduction"] == pytest.approx(8 * LLAMA.parameters / 2**30)
    assert copies.low < copies.allocated_gib - 4 * LLAMA.parameters / 2**30


def test_adapters_on_experts_cost_a_copy_of_them_where_nothing_is_recomputed() -> None:
    shape = Shape.from_config(catalog.open_model("Qwen/Qwen3-30B-A3B").config)
    attention = tuple(set(shape.default_targets()) - set(shape.expert_targets))
    all_of_it, less = (
        estimate_memory(shape, targets=targets, checkpointing="none", length=512)
        for targets in (None, attention)
    )
    experts = 3 * shape.experts * shape.hidden * shape.mlp * shape.layers * 2 / 2**30
    assert all_of_it.terms["expert_copies"] == pytest.approx(experts, rel=0.05)
    assert "expert_copies" not in less.terms
    assert all_of_it.largest in ("weights", "expert_copies")

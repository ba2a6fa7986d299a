"""The planner: what it picks fits, is explained, and never changes what is learnt."""

from __future__ import annotations

from dataclasses import replace
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from unift import catalog
from unift.errors import UsageError
from unift.estimate import Hardware, Shape, hardware
from unift.estimate.planner import MARGIN, Layout, Step, plan_layout
from unift.estimate.probes import Probe, key_of, learnt, remember

LLAMA = Shape.from_config(catalog.open_model("meta-llama/Llama-3.1-8B").config)
SMALL = Shape.from_config(catalog.open_model("Qwen/Qwen2.5-0.5B").config)
STEP = Step(
    tuning="lora",
    batch_size=64,
    mean=340.0,
    longest=2048,
    pack_length=2048,
    loss="chunked",
    attention="varlen",
    kernels="adapters",
    ways=("none", "selective", "full", "offloaded"),
)

# What decides which kernels a step runs, in the words of a probe's record.
WORDS = {
    "packing": True,
    "dtype": "bf16",
    "optimizer": "adamw",
    "loss": "chunked",
    "attention": "varlen",
    "kernels": "adapters",
}


def card(gib: float) -> Hardware:
    return Hardware("a card", "cuda", gib, None, present=False)


def why(layout: Layout, name: str) -> str:
    return next(one.why for one in layout.choices if one.name == name)


def test_an_h100_keeps_everything_and_the_rows_of_a_step_stay() -> None:
    layout = plan_layout(LLAMA, hardware("h100"), STEP)
    assert layout.fits
    assert layout.checkpointing == "none"
    assert layout.micro_batch * layout.passes >= STEP.sequences
    assert "GiB" in why(layout, "micro_batch")
    assert "'full' takes +" in why(layout, "checkpointing")
    assert "64 rows" in why(layout, "accumulation")


@settings(deadline=None, max_examples=25)
@given(st.floats(20, 140), st.sampled_from(["lora", "qlora"]), st.integers(1, 128))
def test_what_is_picked_leaves_the_margin(gib: float, tuning: str, rows: int) -> None:
    step = replace(STEP, tuning=tuning, batch_size=rows)  # type: ignore[arg-type]
    layout = plan_layout(LLAMA, card(gib), step)
    if layout.fits:
        assert layout.memory.device_gib <= gib * (1 - MARGIN)
    assert layout.micro_batch * layout.passes >= step.sequences
    assert all(one.why for one in layout.choices)


def test_less_memory_recomputes_more_and_takes_longer() -> None:
    cards = [card(gib) for gib in (80, 48, 30, 24)]
    layouts = [plan_layout(LLAMA, one, STEP) for one in cards]
    assert all(one.fits for one in layouts)
    seconds = [one.seconds_per_step for one in layouts]
    assert seconds == sorted(seconds)
    assert layouts[-1].checkpointing != "none"


def test_states_in_eight_bits_are_the_last_resort() -> None:
    full = replace(STEP, tuning="full", dtype="mixed", kernels="torch")
    assert plan_layout(LLAMA, card(180), full).optimizer == "adamw"
    tight = plan_layout(LLAMA, hardware("h100"), full)
    assert tight.optimizer == "adamw_8bit"
    assert "exact states would need" in why(tight, "optimizer")


def test_what_the_user_pins_stays_even_when_it_does_not_fit() -> None:
    pinned = {"micro_batch": 3, "checkpointing": "full"}
    layout = plan_layout(LLAMA, hardware("h100"), STEP, pinned)
    assert (layout.micro_batch, layout.checkpointing) == (3, "full")
    assert {one.name for one in layout.choices if one.pinned} == {"micro_batch", "checkpointing"}
    too_much = plan_layout(LLAMA, card(24), STEP, {"checkpointing": "none", "micro_batch": 8})
    assert not too_much.fits
    assert "nothing fits" in why(too_much, "micro_batch")


def test_an_unknown_pin_is_an_error() -> None:
    with pytest.raises(UsageError, match="colour"):
        plan_layout(SMALL, hardware("h100"), STEP, {"colour": "red"})


def test_the_planner_believes_probes_of_the_same_way_to_compute(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("UNIFT_HOME", str(tmp_path))
    place = replace(hardware("h100"), present=True)
    before = plan_layout(LLAMA, place, STEP)
    assert learnt(place, LLAMA, "lora") is None
    key = key_of(place, LLAMA, "lora", {**WORDS, "checkpointing": "none"})
    setup = {"micro_batch": 1, "length": 2048}
    fields: dict[str, Any] = {
        "at": datetime.now(UTC).isoformat(),
        "key": key,
        "subject": "",
        "model": "llama",
        "device": "h100",
        "libraries": {},
        "setup": setup,
        "tokens": 1,
        "passes": 1,
        "seconds": 1.0,
        "time_factor": 1.0,
        "allocated_gib": 1.0,
    }

    def after(gib: float) -> Layout:
        remember(Probe(**{**fields, "memory_gib": gib, "at": datetime.now(UTC).isoformat()}))
        return plan_layout(LLAMA, place, STEP, measured=learnt(place, LLAMA, "lora"))

    more = after(30.0)
    assert more.micro_batch < before.micro_batch or more.checkpointing != before.checkpointing
    same_way = {"checkpointing": "none", "micro_batch": 1}
    pinned = plan_layout(LLAMA, place, STEP, same_way, learnt(place, LLAMA, "lora"))
    assert "+30.0 GiB by a probe of llama today" in why(pinned, "micro_batch")
    # Less is believed of passes as small as the probe's only.
    assert after(-5.0) == before
    smaller = plan_layout(LLAMA, place, STEP, same_way, learnt(place, LLAMA, "lora"))
    assert "-5.0 GiB" in why(smaller, "micro_batch")
    other = plan_layout(LLAMA, place, STEP, {"checkpointing": "full"}, learnt(place, LLAMA, "lora"))
    assert "probe" not in why(other, "micro_batch")
    elsewhere = replace(place, present=False)
    assert learnt(elsewhere, LLAMA, "lora") is None

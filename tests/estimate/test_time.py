"""Time against measured runs, and how it must move."""

from __future__ import annotations

from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from unift import catalog
from unift.estimate import (
    CpuSpeed,
    Shape,
    estimate_time,
    flops_per_token,
    remember_cpu,
    remembered_cpu,
)
from unift.estimate.time import padding_factor

LLAMA = Shape.from_config(catalog.open_model("meta-llama/Llama-3.1-8B").config)
H100 = catalog.gpu("h100").bf16_tflops


def speed(run: catalog.Measured) -> float:
    """Real tokens per second that the formula gives for a measured run."""
    return estimate_time(
        LLAMA,
        tokens=1e7,
        tuning=run.tuning,
        micro_batch=run.micro_batch,
        # Of padded rows the mean counts: their padding is estimated from the micro-batch.
        length=350 if run.padded else run.length,
        row=350 if run.packing and run.attention == "varlen" else None,
        checkpointing=run.checkpointing,
        packing=run.packing or not run.padded,
        attention=run.attention,
        kernels=run.kernels,
        dropout=run.dropout,
        peak_tflops=H100,
    ).tokens_per_second


def test_runs_of_another_trainer_on_the_h100() -> None:
    """TRL's own trainer, which no constant was fitted to."""
    errors = [
        speed(run) / run.real_tokens_per_second - 1 for run in catalog.measured() if run.packing
    ]
    assert max(map(abs, errors)) < 0.40
    assert sum(map(abs, errors)) / len(errors) < 0.15


def test_padded_library_defaults_are_seen_to_be_slow() -> None:
    run = next(run for run in catalog.measured() if run.padded)
    assert speed(run) == pytest.approx(run.real_tokens_per_second, rel=0.25)
    packed = next(run for run in catalog.measured() if run.packing and run.attention == "sdpa")
    assert speed(packed) > 2 * speed(run)


def test_padding_of_single_rows_is_none_and_grows_with_the_batch() -> None:
    assert padding_factor(1) == 1.0
    factors = [padding_factor(size) for size in (2, 4, 8, 16)]
    assert factors == sorted(factors)
    # Eight chat rows of the measured run: 45% of what was computed was real.
    assert padding_factor(8) == pytest.approx(1 / 0.45, rel=0.05)


def test_work_per_token_is_the_textbook_rule() -> None:
    n = LLAMA.active_parameters
    short = {"checkpointing": False, "context": 1}
    assert flops_per_token(LLAMA, tuning="lora", **short) == pytest.approx(4 * n, rel=0.01)
    assert flops_per_token(LLAMA, tuning="full", **short) == pytest.approx(6 * n, rel=0.01)
    again = flops_per_token(LLAMA, tuning="lora", checkpointing=True, context=1)
    layers = n - LLAMA.vocab * LLAMA.hidden
    assert again == pytest.approx(4 * n + 2 * layers, rel=0.01)


def test_attention_grows_with_the_context() -> None:
    near, far = (
        flops_per_token(LLAMA, tuning="lora", checkpointing=False, context=context)
        for context in (1024, 65536)
    )
    # Backward 2.5 times forward: the scores are made again.
    assert far - near == pytest.approx(3.5 * 2 * LLAMA.layers * LLAMA.q_width * (65536 - 1024))


def test_parts_add_up_and_start_up_includes_reading_the_weights() -> None:
    found = estimate_time(
        LLAMA, tokens=1e6, peak_tflops=H100, evaluation_tokens=1e5, evaluations=10
    )
    assert set(found.terms) == {"start_up", "training", "evaluation"}
    assert sum(found.terms.values()) == pytest.approx(found.hours * 3600)
    small = estimate_time(LLAMA, tokens=1e6, peak_tflops=H100)
    assert "evaluation" not in small.terms
    tiny = Shape.from_config(catalog.open_model("Qwen/Qwen3-0.6B").config)
    assert (
        estimate_time(tiny, tokens=1, peak_tflops=H100).terms["start_up"] < found.terms["start_up"]
    )


def test_the_assumptions_say_where_the_speed_comes_from() -> None:
    gpu = estimate_time(LLAMA, tokens=1e6, peak_tflops=H100)
    cpu = estimate_time(LLAMA, tokens=1e6, dtype="fp32", cpu_threads=2)
    assert "one H100" in gpu.assumptions[0]
    assert "2 threads" in cpu.assumptions[0]
    assert cpu.hours > 100 * gpu.hours


def test_a_processor_is_measured_once_and_then_known_without_torch(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("UNIFT_HOME", str(tmp_path))
    assert remembered_cpu(2) is None
    slow = CpuSpeed(threads=2, fp32_gflops=10.0, bf16_gflops=5.0, gb_s=2.0, measured="2026-11-25")
    remember_cpu(slow)
    assert remembered_cpu(2) == slow
    assert remembered_cpu(3) is None
    (tmp_path / "cpu.json").write_text("{}x")
    assert remembered_cpu(2) is None
    settings = {"tokens": 1e6, "dtype": "fp32", "cpu_threads": 2}
    usual = estimate_time(LLAMA, **settings)
    measured = estimate_time(LLAMA, **settings, cpu_speed=slow)
    assert measured.terms["training"] > 10 * usual.terms["training"]
    assert "measured on this machine on 2026-11-25" in measured.assumptions[0]


def test_start_up_counts_tokenising_and_compiling_and_checkpoints_take_time() -> None:
    plain = estimate_time(LLAMA, tokens=1e6, peak_tflops=H100)
    more = estimate_time(
        LLAMA, tokens=1e6, peak_tflops=H100, data_tokens=1e7, evaluations=10, checkpoint_bytes=2**30
    )
    assert more.terms["start_up"] > plain.terms["start_up"] + 30
    assert more.terms["checkpoints"] == pytest.approx(10.0)
    compiled = estimate_time(LLAMA, tokens=1e6, peak_tflops=H100, compiled=True)
    assert compiled.terms["start_up"] > plain.terms["start_up"] + 10
    assert compiled.terms["training"] < plain.terms["training"]


@given(st.floats(1, 1e9), st.floats(1.1, 10))
def test_more_tokens_take_longer_and_faster_cards_less(tokens: float, factor: float) -> None:
    base = estimate_time(LLAMA, tokens=tokens, peak_tflops=H100).hours
    assert estimate_time(LLAMA, tokens=tokens * factor, peak_tflops=H100).hours >= base
    assert estimate_time(LLAMA, tokens=tokens, peak_tflops=H100 * factor).hours <= base


def test_dropout_and_threads_change_the_time() -> None:
    plain = estimate_time(LLAMA, tokens=1e6, peak_tflops=H100)
    assert estimate_time(LLAMA, tokens=1e6, peak_tflops=H100, dropout=0.05).hours > plain.hours
    one, four = (
        estimate_time(LLAMA, tokens=1e6, dtype="fp32", cpu_threads=count) for count in (1, 4)
    )
    assert one.terms["training"] > 3 * four.terms["training"]

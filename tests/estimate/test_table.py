"""`unift.estimate` as users see it."""

from __future__ import annotations

import json
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from unift import catalog
from unift.errors import DataError, LimitError, UsageError
from unift.estimate import Estimate, check_budget, estimate
from unift.estimate._break_even import break_even_words
from unift.spec import Budget

QWEN = "Qwen/Qwen3-8B"
MINI = "gpt-4o-mini-2024-07-18"
EXPERTS = "Qwen/Qwen3-30B-A3B"


def test_the_documents_shape_is_the_contract() -> None:
    found = estimate(model=QWEN, tokens=500_000, rows=1000, gpu="h100", traffic=1_000_000)
    document = json.loads(json.dumps(found.as_dict()))
    assert set(document) == {"rows", "break_even"}
    keys = {"provider", "model", "fits", "memory", "hours", "price_usd", "assumptions", "sources"}
    for row in document["rows"]:
        assert keys <= set(row)
        for source in row["sources"]:
            assert source["source"]
            assert source["as_of"]
            assert "age_days" in source
    local = next(row for row in document["rows"] if row["provider"] == "local-qlora")
    assert {"allocated_gib", "reserved_gib", "terms"} <= set(local["memory"])


def test_the_worked_example_in_the_table() -> None:
    row = estimate(model=MINI, tokens=1000 * 500, rows=1000, epochs=3).row("openai")
    assert row.price_usd == pytest.approx(4.50)
    assert row.ends_on == "2027-01-14"
    assert row.weights_yours is False
    assert row.fits is None
    assert row.memory is None


def test_all_means_every_provider_that_trains_the_model() -> None:
    names = [row.provider for row in estimate(model=QWEN, tokens=1e6, gpu="h100").rows]
    assert names[:3] == ["local-full", "local-lora", "local-qlora"]
    assert {"google", "together", "fireworks", "tinker"} <= set(names)
    assert not {"openai", "mistral", "cohere"} & set(names)
    assert len(names) == len(set(names))
    again = estimate(model=QWEN, tokens=1e6, gpu="h100", providers="all")
    assert [row.provider for row in again.rows] == names
    hidden = [row.provider for row in estimate(model=MINI, tokens=1e6).rows]
    assert hidden == ["openai"]


def test_a_vendor_asked_for_by_name_offers_what_it_trains_instead() -> None:
    rows = estimate(model=QWEN, tokens=1e6, providers=["openai"]).rows
    assert rows[0].available is False
    assert "does not train" in rows[0].reason
    assert MINI in {row.model for row in rows[1:]}
    assert all(row.price_usd for row in rows[1:])


def test_a_hidden_model_cannot_be_trained_here() -> None:
    row = estimate(model=MINI, tokens=1e6, providers=["local-lora"]).row("local-lora")
    assert row.available is False
    assert row.fits is None
    assert "weights" in row.reason


def test_a_dead_provider_says_why() -> None:
    row = estimate(model=QWEN, tokens=1e6, providers="cohere").row("cohere")
    assert row.available is False
    assert "deprecated" in row.reason


@pytest.mark.parametrize(
    ("gpu", "fits"),
    [("h200", (True, True, True)), ("h100", (True, True, True)), ("rtx4090", (False, True, True))],
)
def test_what_fits_an_eight_billion_model(gpu: str, fits: tuple[bool, ...]) -> None:
    rows = estimate(
        model="meta-llama/Llama-3.1-8B-Instruct",
        tokens=1e6,
        gpu=gpu,
        providers=["local-full", "local-lora", "local-qlora"],
    ).rows
    assert tuple(row.fits for row in rows) == fits
    if not fits[0]:
        assert "local-lora" in rows[0].advice


def test_seventy_billion_fit_in_four_bits_on_one_h100_only() -> None:
    rows = estimate(
        model="meta-llama/Llama-3.3-70B-Instruct",
        tokens=1e6,
        gpu="h100",
        providers=["local-lora", "local-qlora"],
    )
    assert rows.row("local-lora").fits is False
    assert rows.row("local-qlora").fits is True


def test_adapters_on_experts_are_the_default_and_what_they_cost_is_said() -> None:
    ways: dict[str, Any] = {"providers": ["local-lora"], "rows": 1000}
    row = estimate(model=EXPERTS, gpu="h200", **ways).rows[0]
    assert row.fits
    assert "adapters on all experts" in row.advice
    assert "--target q_proj" in row.advice
    short = estimate(model=EXPERTS, gpu="a100-sxm-40gb", **ways).rows[0]
    assert not short.fits
    assert "gpu=" in short.advice
    names = ["q_proj", "k_proj", "v_proj", "o_proj"]
    narrow = estimate(model=EXPERTS, gpu="h200", targets=names, **ways).rows[0]
    assert narrow.advice == ""
    assert narrow.memory is not None
    assert row.memory is not None
    assert narrow.memory.trainable < row.memory.trainable / 5
    assert narrow.hours is not None
    assert row.hours is not None
    assert narrow.hours < row.hours
    # The advice for a card that is a little too small names the flags that make it fit.
    tight = estimate(model=EXPERTS, gpu="h100", **ways).rows[0]
    assert not tight.fits
    assert tight.advice.startswith("leave the experts out: --target q_proj")
    assert estimate(model=EXPERTS, gpu="h100", targets=names, **ways).rows[0].fits


def test_settings_change_the_row() -> None:
    def row(**settings: Any) -> Any:
        return estimate(
            model=QWEN, tokens=1e6, rows=2000, providers="local-lora", gpu="h100", **settings
        ).row("local-lora")

    base = row()
    assert row(rank=64).memory.trainable == 4 * base.memory.trainable
    assert row(epochs=6.0).hours > 1.8 * base.hours
    assert row(max_length=16384).settings["length"] == 16384
    assert row(batch_size=64).settings["passes"] > base.settings["passes"]
    assert row(usd_per_hour=1.0).price_usd == pytest.approx(base.hours)
    assert row(watts=500, usd_per_kwh=0.2).price_usd == pytest.approx(base.hours * 0.1)
    assert row(batch_size=2).hours > base.hours
    cpu = estimate(model=QWEN, tokens=1e6, rows=2000, providers="local-lora", gpu="cpu")
    assert cpu.row("local-lora").hardware == "cpu"
    assert cpu.row("local-lora").price_usd == 0.0
    assert cpu.row("local-lora").hours > 10 * base.hours


def test_method_changes_the_vendors_price() -> None:
    sft, dpo = (
        estimate(model=QWEN, tokens=50e6, providers="together", method=method).row("together")
        for method in ("sft", "dpo")
    )
    assert (sft.price_usd, dpo.price_usd) == pytest.approx((72.0, 180.0))


def test_break_even_is_where_both_cost_the_same() -> None:
    traffic = {"answers_per_month": 1e5, "prompt_tokens": 1000, "answer_tokens": 500}
    found = estimate(
        model=QWEN,
        tokens=1e6,
        providers=["openai", "local-lora"],
        gpu="h100",
        usd_per_hour=2.0,
        traffic=traffic,
    )
    even = found.break_even
    assert even is not None
    # gpt-4o-mini: 1000 * 0.30 + 500 * 1.20 per million; the GPU: 730 hours at $2.
    assert even["api"]["usd_per_answer"] == pytest.approx(0.0009)
    assert even["answers_per_month"] == round(730 * 2 / 0.0009)
    assert even["cheaper_at_your_traffic"] == "api"
    api = next(row for row in found.rows if row.model == MINI)
    assert api.usd_per_1000_answers == pytest.approx(0.9)
    assert api.usd_per_month == pytest.approx(90.0)
    assert found.row("local-lora").usd_per_month == pytest.approx(1460.0)
    busy = {**traffic, "answers_per_month": 1e7}
    found = estimate(
        model=QWEN,
        tokens=1e6,
        providers=["openai", "local-lora"],
        gpu="h100",
        usd_per_hour=2.0,
        traffic=busy,
    )
    assert found.break_even is not None
    assert found.break_even["cheaper_at_your_traffic"] == "gpu"


def test_no_break_even_without_both_sides() -> None:
    assert estimate(model=QWEN, tokens=1e6, providers="local-lora", gpu="h100").break_even is None
    assert estimate(model=MINI, tokens=1e6).break_even is None


def test_tokens_are_counted_from_the_file(chat_file: Callable[..., str]) -> None:
    path = chat_file([(f"What is {n} + {n}?", str(2 * n)) for n in range(40)])
    found = estimate(model=MINI, data=path, epochs=2).row("openai")
    assert found.price_usd is not None
    per_row = found.price_usd * 1e6 / 3 / 2 / 40
    assert 8 < per_row < 30
    assert any("40 rows" in note for note in found.assumptions)


def test_a_folder_with_a_config(tmp_path: Path) -> None:
    (tmp_path / "config.json").write_text(json.dumps(catalog.open_model(QWEN).config))
    found = estimate(model=str(tmp_path), tokens=1e6, gpu="h100")
    assert [row.provider for row in found.rows] == ["local-full", "local-lora", "local-qlora"]
    assert found.rows[0].memory is not None
    assert found.rows[0].memory.parameters == 8_190_735_360


def test_a_hub_id_in_the_local_cache_wins(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    folder = tmp_path / "models--some--model" / "snapshots" / "abc"
    folder.mkdir(parents=True)
    (folder / "config.json").write_text(json.dumps(catalog.open_model("Qwen/Qwen3-4B").config))
    monkeypatch.setenv("HF_HUB_CACHE", str(tmp_path))
    found = estimate(model="some/model", tokens=1e6, gpu="h100", providers="local-lora")
    assert found.rows[0].memory is not None
    assert found.rows[0].memory.parameters == 4_022_468_096


def test_the_demo_has_a_shape() -> None:
    row = estimate(model="demo", tokens=1e5, rows=500, gpu="cpu", providers="local-lora").rows[0]
    assert row.memory is not None
    assert row.memory.parameters < 5e6
    assert row.fits is True


@pytest.mark.parametrize(
    ("call", "code", "hint"),
    [
        ({"model": "Qwen/Qwen3-8", "tokens": 1}, "unknown_model", "Qwen/Qwen3-8B"),
        ({"model": "gpt-4o-minni", "tokens": 1}, "unknown_model", MINI),
        ({"model": QWEN, "tokens": 1, "gpu": "h1000"}, "unknown_gpu", "h100"),
        ({"model": QWEN, "tokens": 1, "providers": ["opnai"]}, "unknown_provider", "openai"),
        (
            {"model": QWEN, "tokens": 1, "providers": ["local-qlra"]},
            "unknown_provider",
            "local-qlora",
        ),
        ({"model": QWEN}, "no_data", "tokens"),
        ({"model": QWEN, "tokens": 0}, "bad_setting", "tokens"),
        ({"model": QWEN, "tokens": 1, "epochs": 0}, "bad_setting", "epochs"),
        ({"model": QWEN, "tokens": 1, "batch_size": 0}, "bad_setting", "batch_size"),
        ({"model": QWEN, "tokens": 1, "max_length": 0}, "bad_setting", "max_length"),
        ({"model": QWEN, "tokens": 1, "usd_per_hour": -1}, "bad_setting", "usd_per_hour"),
        ({"model": QWEN, "tokens": 1, "watts": -1}, "bad_setting", "watts"),
        ({"model": QWEN, "tokens": 1, "rank": 0}, "bad_setting", "rank"),
        ({"model": QWEN, "tokens": 1, "traffic": {"answers": 1}}, "unknown_setting", "answers_per"),
        ({"model": QWEN, "tokens": 1, "traffic": -5}, "bad_setting", "answers"),
    ],
    ids=str,
)
def test_wrong_calls_are_errors_in_words(call: dict[str, Any], code: str, hint: str) -> None:
    with pytest.raises(UsageError) as caught:
        estimate(**call)
    assert caught.value.code == code
    assert hint in caught.value.fix


def test_data_and_tokens_together_are_refused(capitals: str) -> None:
    with pytest.raises(UsageError, match="either data or tokens"):
        estimate(model=QWEN, data=capitals, tokens=5)


def test_data_without_a_usable_row(tmp_path: Path) -> None:
    path = tmp_path / "bad.jsonl"
    path.write_text("{}\n{}\n")
    with pytest.raises(DataError) as caught:
        estimate(model=QWEN, data=path)
    assert caught.value.exit_status == 3


def _row() -> Any:
    return estimate(model=QWEN, tokens=1e7, providers="local-lora", gpu="h100").rows[0]


@pytest.mark.parametrize(
    ("budget", "code", "number"),
    [
        (Budget(usd=1.0), "over_budget", "$1.00"),
        (Budget(usd=0.001), "over_budget", "$0.0010"),
        (Budget(hours=0.5), "over_time", "30 min 00 s"),
        (Budget(hours=0.001), "over_time", "3.6 s"),
        (Budget(memory_gib=8), "over_memory", "8 GiB"),
    ],
)
def test_over_budget_is_refused_with_numbers(budget: Budget, code: str, number: str) -> None:
    row = _row()
    for form in (row, row.as_dict()):
        with pytest.raises(LimitError) as caught:
            check_budget(form, budget)
        assert caught.value.code == code
        assert caught.value.exit_status == 4
        assert number in caught.value.message
        assert caught.value.fix


def test_within_budget_passes() -> None:
    check_budget(_row(), Budget(usd=1000, hours=100, memory_gib=80))
    check_budget({}, Budget(usd=1))


def test_what_does_not_fit_is_refused_without_any_budget() -> None:
    row = estimate(model=QWEN, tokens=1e6, providers="local-full", gpu="rtx4090").rows[0]
    with pytest.raises(LimitError) as caught:
        check_budget(row, Budget())
    assert caught.value.code == "does_not_fit"
    assert "local-lora" in caught.value.fix


def test_estimating_is_quick_and_imports_no_heavy_library() -> None:
    code = f"""
import sys, time

import unift
unift.estimate(model={QWEN!r}, tokens=500_000, rows=1000, gpu="h100", providers="all")
seconds = time.process_time()  # other jobs on this machine do not count
heavy = {{"torch", "transformers", "peft", "datasets", "openai"}} & set(sys.modules)
assert not heavy, heavy
print(seconds)
"""
    times = [
        float(subprocess.run([sys.executable, "-c", code], check=True, capture_output=True).stdout)
        for _ in range(3)
    ]
    assert min(times) < 0.5


def test_rows_can_be_found_by_provider() -> None:
    found = estimate(model=MINI, tokens=1e6)
    assert isinstance(found, Estimate)
    with pytest.raises(KeyError):
        found.row("local-lora")


def test_answers_of_the_untuned_model_have_a_price_and_its_source() -> None:
    pytest.importorskip("genai_prices")
    traffic = {"answers_per_month": 10_000, "prompt_tokens": 1000, "answer_tokens": 100}
    row = estimate(model="gpt-5-nano", rows=100, traffic=traffic).row("openai")
    assert not row.available
    # $0.05 and $0.40 per million: 1,000 answers read a million tokens and write a tenth of one.
    assert row.untuned_usd_per_1000_answers == pytest.approx(0.09)
    assert "gpt-5-nano untuned: $0.09 per 1,000 answers, $0.90 a month" in row.assumptions
    cited = next(one for one in row.sources if one["what"] == "price of untuned answers")
    assert cited["source"][0].startswith("genai-prices ")
    assert cited["as_of"]
    assert row.as_dict()["untuned_usd_per_1000_answers"] == 0.09


def test_an_undated_name_is_the_snapshot_that_it_stands_for() -> None:
    dated = estimate(model=MINI, rows=100).row("openai")
    short = estimate(model="gpt-4o-mini", rows=100).row("openai")
    assert short.price_usd == dated.price_usd is not None
    assert short.available == dated.available


def _even(**given: Any) -> dict[str, Any]:
    found = estimate(
        model=QWEN,
        tokens=1e6,
        gpu="h100",
        traffic={"answers_per_month": 1e5, "prompt_tokens": 1000, "answer_tokens": 500},
        **given,
    ).break_even
    assert found is not None
    return found


def test_a_card_that_costs_nothing_wins_at_any_traffic() -> None:
    free = _even(providers=["tinker", "local-lora"], usd_per_hour=0)
    assert free["answers_per_month"] == 0
    assert free["cheaper_at_your_traffic"] == "gpu"
    assert "at any traffic" in break_even_words(free)


def test_an_endpoint_by_the_hour_costs_the_same_whatever_the_traffic() -> None:
    dear = _even(providers=["together", "local-lora"], usd_per_hour=20.0)
    assert dear["answers_per_month"] is None
    assert dear["cheaper_at_your_traffic"] == "api"
    assert "never" in break_even_words(dear)
    cheap = _even(providers=["together", "local-lora"], usd_per_hour=2.0)
    assert cheap["answers_per_month"] == 0
    assert cheap["api"]["usd_per_month"] == pytest.approx(730 * 6.49)
    # A vendor's endpoint is no card of one's own.
    assert estimate(model=QWEN, tokens=1e6, providers=["together", "tinker"]).break_even is None


def test_a_price_with_one_side_unknown_is_no_price(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    known = catalog.model(MINI, "openai").model_dump(mode="json")
    known["tuned_price"] = {"input": 0.3}
    (tmp_path / "catalog.json").write_text(json.dumps({"models": [known]}))
    monkeypatch.setenv("UNIFT_HOME", str(tmp_path))
    row = estimate(model=MINI, tokens=1e6, providers="openai", traffic=100).rows[0]
    assert row.price_usd == pytest.approx(9.0)
    assert row.usd_per_1000_answers is None
    assert row.untuned_usd_per_1000_answers is not None


@pytest.mark.parametrize("much", [0, float("nan"), float("inf")])
def test_traffic_has_to_be_a_number_of_answers(much: float) -> None:
    with pytest.raises(UsageError) as caught:
        estimate(model=QWEN, tokens=1, traffic=much)
    assert "leave traffic out" in caught.value.fix

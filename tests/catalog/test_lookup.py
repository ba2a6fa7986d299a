"""Finding facts by name, and laying the user's own over them."""

from __future__ import annotations

import json
import os
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from unift import catalog
from unift.errors import UsageError


@pytest.mark.parametrize("name", ["h100", "H100", "h100-sxm-80gb", "NVIDIA H100 80GB HBM3"])
def test_gpu_by_any_of_its_names(name: str) -> None:
    assert catalog.gpu(name).id == "h100-sxm-80gb"


@pytest.mark.parametrize(
    ("typo", "meant"), [("h1oo", "h100-sxm-80gb"), ("rtx4091", "rtx4090-24gb")]
)
def test_an_unknown_gpu_names_the_nearest(typo: str, meant: str) -> None:
    with pytest.raises(UsageError) as caught:
        catalog.gpu(typo)
    assert meant in caught.value.fix
    assert caught.value.code == "unknown_gpu"


def test_an_alias_without_the_date_names_the_snapshot() -> None:
    assert catalog.model("gpt-4.1-mini", "openai").id == "gpt-4.1-mini-2025-04-14"
    assert catalog.model("gpt-4o", "openai").id == "gpt-4o-2024-08-06"
    found = catalog.price("gpt-4.1-mini", "openai")
    assert found is not None
    assert found.usd_per_1m_tokens == 5


def test_the_same_id_at_two_vendors() -> None:
    here = catalog.model("gpt-4.1-mini-2025-04-14", "openai")
    there = catalog.model("gpt-4.1-mini-2025-04-14", "azure")
    assert (here.provider, there.provider) == ("openai", "azure")
    assert here.shutdown_date is not None
    assert there.shutdown_date is not None
    assert there.shutdown_date > here.shutdown_date


def test_google_stands_for_gemini_and_its_open_models() -> None:
    assert catalog.model("gemini-2.5-flash", "google").provider == "google"
    assert catalog.model("Qwen/Qwen3-8B", "google").id == "qwen/qwen3@qwen3-8b"
    assert catalog.vendor("vertex").id == "google"


def test_unknown_provider_names_the_nearest() -> None:
    with pytest.raises(UsageError) as caught:
        catalog.limits("opnai")
    assert "openai" in caught.value.fix


def test_price_of_the_model_wins_over_the_price_of_its_size() -> None:
    own = catalog.price("gpt-4o-mini-2024-07-18", "openai")
    assert own is not None
    assert own.usd_per_1m_tokens == 3.0
    by_size = catalog.price("Qwen/Qwen3-8B", "together", params_b=8.2)
    assert by_size is not None
    assert by_size.usd_per_1m_tokens == 0.48
    full = catalog.price("x/y", "together", params_b=70, tunes="full")
    assert full is not None
    assert full.usd_per_1m_tokens == 3.20
    assert catalog.price("x/y", "together") is None
    assert catalog.price("no-such-model", "openai") is None


def test_size_limits_belong_to_the_smaller_bracket() -> None:
    at, above = (catalog.price("x/y", "fireworks", params_b=size) for size in (16.0, 16.1))
    assert at is not None
    assert above is not None
    assert (at.usd_per_1m_tokens, above.usd_per_1m_tokens) == (0.5, 3.0)


def test_events_come_in_order_and_per_provider() -> None:
    days = [event.date for event in catalog.events("openai")]
    assert days == sorted(days)
    assert any("no new fine-tuning jobs" in event.what for event in catalog.events("openai"))
    assert {event.provider for event in catalog.events("azure")} == {"azure"}
    assert len(catalog.events()) > len(days)


def test_limits() -> None:
    limits = catalog.limits("openai")
    assert limits is not None
    assert (limits.min_examples, limits.upload_max_mb, limits.epochs) == (10, 512, (1, 50))
    assert catalog.limits("tinker") is None


def test_open_models_by_hub_id_in_any_case() -> None:
    assert catalog.open_model("qwen/qwen3-8b").config["hidden_size"] == 4096
    with pytest.raises(UsageError) as caught:
        catalog.open_model("Qwen/Qwen3-9B")
    assert "Qwen/Qwen3-8B" in caught.value.fix


@given(st.text(max_size=40))
def test_any_name_is_found_or_refused_in_words(name: str) -> None:
    for look in (catalog.gpu, catalog.model, catalog.open_model, catalog.vendor):
        error = None
        try:
            look(name)
        except UsageError as caught:
            error = caught
        assert error is None or (error.message and error.fix)


def _write(path: Path, document: Any) -> Path:
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(document if isinstance(document, str) else json.dumps(document))
    return path


def test_the_users_file_replaces_by_id_and_adds(home: Path) -> None:
    gpu = {
        "id": "h100-sxm-80gb",
        "aliases": ["h100"],
        "memory_gb": 80,
        "memory_mib": 81559,
        "memory_source": ["mine"],
        "bf16_tflops": 989,
        "offers": [{"vendor": "our own rack", "usd_per_hour": 1.1}],
    }
    before = len(catalog.gpus())
    assert catalog.gpu("h100").origin == "unift"
    path = _write(home / "catalog.json", {"gpus": [gpu, {**gpu, "id": "mine", "aliases": []}]})
    mine = catalog.gpu("h100")
    assert mine.typical_usd_per_hour == 1.1
    assert mine.origin == "user"
    assert mine.offers[0].origin == "user"
    assert str(path) in mine.source
    assert len(catalog.gpus()) == before + 1
    assert catalog.gpu("a100").origin == "unift"


def test_the_users_file_is_read_again_when_it_changes(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    path = tmp_path / "mine.json"
    monkeypatch.setenv("UNIFT_CATALOG", str(path))
    price = {"provider": "together", "above_b": 0, "up_to_b": 16, "method": "sft", "tunes": "lora"}
    for step, usd in enumerate((0.1, 0.25)):
        _write(path, {"size_prices": [{**price, "usd_per_1m_tokens": usd}]})
        os.utime(path, (1.7e9 + step, 1.7e9 + step))
        found = catalog.price("x/y", "together", params_b=8)
        assert found is not None
        assert found.usd_per_1m_tokens == usd
        assert found.fact.as_of.isoformat() == "2023-11-14"


def test_the_user_may_state_source_and_day(home: Path) -> None:
    vendor = {
        "id": "together",
        "alive": True,
        "source": ["my contract"],
        "as_of": "2026-11-01",
        "billing": {"rule": "flat", "minimum_usd": 0.0},
    }
    _write(home / "catalog.json", {"providers": [vendor]})
    found = catalog.vendor("together")
    assert found.source == ("my contract",)
    assert found.billing is not None
    assert found.billing.minimum_usd == 0.0
    assert found.billing.fact.origin == "user"


@pytest.mark.parametrize(
    ("content", "code"),
    [
        ("{not json", "catalog_unreadable"),
        ("[]", "catalog_invalid"),
        ('{"gpus": [{"id": "x"}]}', "catalog_invalid"),
        ('{"gpu": []}', "catalog_invalid"),
    ],
)
def test_a_bad_user_file_is_an_error_with_its_place(home: Path, content: str, code: str) -> None:
    path = _write(home / "catalog.json", content)
    with pytest.raises(UsageError) as caught:
        catalog.gpus()
    assert caught.value.code == code
    assert str(path) in caught.value.where


def test_a_named_file_that_is_missing_is_an_error(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("UNIFT_CATALOG", str(tmp_path / "none.json"))
    with pytest.raises(UsageError, match="does not exist"):
        catalog.gpus()

"""What a thousand answers of the old model cost, beside the new one's."""

from __future__ import annotations

from types import SimpleNamespace
from typing import Any

import pytest

from unift import catalog
from unift.migrate._costs import price_per_1000


def _old(id: str, base: str, vendor: str = "openai", tokens: int | None = 1000) -> dict[str, Any]:
    reply = SimpleNamespace(prompt_tokens=tokens, completion_tokens=tokens and 100)
    found: Any = SimpleNamespace(candidates=[SimpleNamespace(name="old", replies=[reply])])
    old = {"reference": f"{vendor}:{id}", "id": id, "base": base, "vendor": vendor}
    plan = {"old": old, "model": "m", "provider": "local-lora", "candidates": []}
    return price_per_1000(plan, found, "old")[0]


MINI = "gpt-4o-mini-2024-07-18"


def test_a_fine_tune_has_its_own_price_and_a_base_model_its_own() -> None:
    # 1,000 answers of 1,000 prompt and 100 answer tokens: tuned 0.30 and 1.20 a million.
    assert _old(f"ft:{MINI}:acme::x", MINI)["usd"] == pytest.approx(0.42)
    assert _old(MINI, MINI)["usd"] == pytest.approx(0.21)


def test_a_tuned_model_under_another_name_never_gets_its_bases_price() -> None:
    tuned = _old("projects/1/endpoints/2", "gemini-3.1-flash-lite", "google")
    assert tuned["usd"] == pytest.approx(0.375 + 0.225)
    entry = catalog.model("gemini-3.5-flash-lite", "google")
    assert entry.tuned_price is None
    unknown = _old("projects/1/endpoints/3", "gemini-3.5-flash-lite", "google")
    assert unknown["usd"] is None
    assert "no price" in unknown["source"]


def test_a_price_list_stands_in_for_the_catalogue_and_missing_counts_are_said() -> None:
    pytest.importorskip("genai_prices")
    listed = _old("gpt-5-nano", "gpt-5-nano")
    assert listed["usd"] > 0
    assert "genai-prices" in listed["source"]
    assert _old(MINI, MINI, tokens=None)["source"] == "no answer came with token counts"

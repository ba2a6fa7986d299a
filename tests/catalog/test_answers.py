"""Prices of answers: ours first, the user's before ours, then genai-prices."""

from __future__ import annotations

import json
import subprocess
import sys
from datetime import UTC, date, datetime, timedelta
from pathlib import Path

import pytest

from unift import catalog

pytest.importorskip("genai_prices")


def test_the_catalogue_wins_where_it_has_the_model() -> None:
    found = catalog.answer_price("gpt-6-luna", "openai")
    assert found is not None
    assert found == (catalog.model("gpt-6-luna", "openai").base_price, found[1])
    assert not any("genai-prices" in source for source in found[1].source)


def test_a_model_that_the_catalogue_lacks_has_the_price_of_the_list() -> None:
    import genai_prices
    from genai_prices import Usage, calc_price

    found = catalog.answer_price("gpt-5-nano", "openai")
    assert found is not None
    price, fact = found
    theirs = calc_price(
        Usage(input_tokens=1_000_000, output_tokens=1_000_000), "gpt-5-nano", provider_id="openai"
    )
    assert (price.input, price.output) == (float(theirs.input_price), float(theirs.output_price))
    assert fact.source[0] == f"genai-prices {genai_prices.__version__} (openai/gpt-5-nano)"
    assert date(2026, 10, 1) < fact.as_of <= datetime.now(UTC).date()
    assert fact.citation(fact.as_of + timedelta(days=61))["stale"]


def test_the_users_file_wins_over_both(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    entry = {"id": "gpt-5-nano", "provider": "openai", "base_price": {"input": 7, "output": 9}}
    path = tmp_path / "mine.json"
    path.write_text(json.dumps({"models": [entry]}))
    monkeypatch.setenv("UNIFT_CATALOG", str(path))
    found = catalog.answer_price("gpt-5-nano", "openai")
    assert found is not None
    assert (found[0].input, found[0].output, found[1].origin) == (7, 9, "user")


@pytest.mark.parametrize(
    ("name", "provider"),
    [
        ("gpt-5-nano-but-another", "openai"),  # begins alike
        ("ft:gpt-5-nano:acme::1", "openai"),  # its base has a price, the fine-tune none
        ("whisper-1", "openai"),  # not priced by tokens read and written
        ("gpt-5-nano", "nebius"),  # no list of that vendor's own
        ("gpt-5-nano", "nobody"),
    ],
)
def test_a_price_that_is_not_the_models_own_is_not_taken(name: str, provider: str) -> None:
    assert catalog.answer_price(name, provider) is None


def test_fine_tunes_and_snapshots_have_their_own_line() -> None:
    tuned = catalog.answer_price("ft:gpt-3.5-turbo-0125:acme::1", "openai")
    plain = catalog.answer_price("gpt-3.5-turbo", "openai")
    assert tuned is not None
    assert plain is not None
    assert (tuned[0].output or 0) > (plain[0].output or 0)
    assert catalog.answer_price("gpt-5-2025-08-07", "openai") is not None


def test_a_price_that_rises_with_the_prompt_says_up_to_where_it_holds() -> None:
    found = catalog.answer_price("gemini-3.1-pro-preview", "google")
    assert found is not None
    assert "up to 200,000 tokens" in found[1].note


def test_without_the_package_the_price_is_unknown_and_ours_needs_none_of_it() -> None:
    code = (
        "import sys; sys.modules['genai_prices'] = None\n"
        "from unift import catalog\n"
        "assert catalog.answer_price('gpt-5-nano', 'openai') is None\n"
        "del sys.modules['genai_prices']\n"
        "assert catalog.answer_price('gpt-6-luna', 'openai')\n"
        "assert 'genai_prices' not in sys.modules"
    )
    subprocess.run([sys.executable, "-c", code], check=True)


def test_an_error_about_a_price_names_the_package_only_where_it_is_missing(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    assert catalog.more_prices() == ""
    monkeypatch.setattr("unift.catalog._answers.find_spec", lambda name: None)
    assert "pip install 'unift[prices]'" in catalog.more_prices()

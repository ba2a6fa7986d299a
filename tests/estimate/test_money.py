"""Each vendor's way of counting."""

from __future__ import annotations

from datetime import date

import pytest
from hypothesis import given
from hypothesis import strategies as st

from unift import catalog
from unift.estimate import gpu_cost, token_cost, vendor_cost
from unift.estimate.money import answers_cost, electricity_cost


def test_the_worked_example() -> None:
    """1,000 examples of 500 tokens, 3 epochs, $3 per million: $4.50."""
    usd, billed = token_cost(usd_per_1m_tokens=3, tokens=1000 * 500, epochs=3)
    assert usd == pytest.approx(4.50)
    assert billed == 1_500_000
    cost = vendor_cost("openai", "gpt-4o-mini-2024-07-18", tokens=500_000, epochs=3)
    assert cost is not None
    assert cost.usd == cost.low == cost.high == pytest.approx(4.50)


def test_openai_does_not_bill_validation() -> None:
    plain, checked = (
        vendor_cost(
            "openai",
            "gpt-4.1-2025-04-14",
            tokens=1e6,
            epochs=2,
            validation_tokens=validation,
            evaluations=2,
        )
        for validation in (0, 1e6)
    )
    assert plain is not None
    assert plain == checked
    assert plain.usd == pytest.approx(50.0)


def test_together_bills_validation_and_has_a_minimum() -> None:
    small = vendor_cost("together", "Qwen/Qwen3-8B", tokens=77_000, epochs=1, params_b=8.2)
    assert small is not None
    assert small.usd == 4.0
    assert any("minimum of $4" in note for note in small.assumptions)
    large = vendor_cost(
        "together",
        "Qwen/Qwen3-8B",
        tokens=10e6,
        epochs=3,
        params_b=8.2,
        validation_tokens=1e6,
        evaluations=3,
    )
    assert large is not None
    assert large.usd == pytest.approx(33 * 0.48)
    assert not any("minimum" in note and "applies" in note for note in large.assumptions)


def test_together_bills_unpacked_rows_at_full_length() -> None:
    cost = vendor_cost(
        "together",
        "x/y",
        tokens=1e6,
        epochs=1,
        params_b=70,
        rows=10_000,
        max_length=2048,
        packing=False,
    )
    assert cost is not None
    assert cost.usd == pytest.approx(10_000 * 2048 * 2.90 / 1e6)


def test_fireworks_by_size_and_way() -> None:
    lora = vendor_cost("fireworks", "x/y", tokens=1e6, epochs=1, params_b=32)
    full = vendor_cost("fireworks", "x/y", tokens=1e6, epochs=1, params_b=32, tunes="full")
    dpo = vendor_cost("fireworks", "x/y", tokens=1e6, epochs=1, params_b=32, method="dpo")
    assert lora is not None
    assert full is not None
    assert dpo is not None
    assert (lora.usd, full.usd, dpo.usd) == (3.0, 6.0, 6.0)


def test_google_names_open_models_by_hub_id() -> None:
    cost = vendor_cost("google", "Qwen/Qwen3-8B", tokens=1e6, epochs=3)
    assert cost is not None
    assert cost.usd == pytest.approx(3 * 4.18)


def test_a_vendor_without_a_known_rule_says_so() -> None:
    cost = vendor_cost("tinker", "Qwen/Qwen3-8B", tokens=1e6, epochs=1)
    assert cost is not None
    assert cost.usd == pytest.approx(0.44)
    assert any("rule was not found" in note for note in cost.assumptions)


def test_no_price_is_no_cost() -> None:
    assert vendor_cost("azure", "gpt-4.1-2025-04-14", tokens=1e6, epochs=1) is None


def test_every_figure_has_its_source_and_old_ones_are_flagged() -> None:
    fresh = vendor_cost(
        "openai", "gpt-4o-mini-2024-07-18", tokens=1e6, epochs=1, today=date(2026, 11, 24)
    )
    old = vendor_cost(
        "openai", "gpt-4o-mini-2024-07-18", tokens=1e6, epochs=1, today=date(2027, 6, 1)
    )
    assert fresh is not None
    assert old is not None
    for source in fresh.sources:
        assert source["source"]
        assert source["as_of"]
        assert source["stale"] is False
    assert all(source["stale"] for source in old.sources)
    assert any("days old" in note for note in old.assumptions)
    assert not any("days old" in note for note in fresh.assumptions)


def test_rent_is_the_range_of_the_offers_or_the_users_price() -> None:
    card = catalog.gpu("h100")
    rent = gpu_cost(card, 2.0, today=date(2026, 11, 24))
    assert rent is not None
    assert (rent.low, rent.usd, rent.high) == pytest.approx((2 * 2.69, 2 * 3.9, 2 * 12.29))
    cited = " ".join(source["what"] for source in rent.sources)
    assert all(offer.vendor in cited for offer in card.offers)
    assert len(rent.sources) < len(card.offers)
    assert "median of 7" in rent.assumptions[0]
    assert any("older than 60 days" in note for note in rent.assumptions)
    mine = gpu_cost(card, 2.0, usd_per_hour=1.5)
    assert mine is not None
    assert mine.usd == mine.low == mine.high == 3.0
    assert gpu_cost(catalog.gpu("l4"), 1.0) is None


def test_electricity() -> None:
    cost = electricity_cost(10, watts=400, usd_per_kwh=0.30)
    assert cost.usd == pytest.approx(1.20)


def test_a_thousand_answers() -> None:
    price = catalog.TokenPrice(input=0.30, output=1.20)
    assert answers_cost(price, 1000, 500) == pytest.approx(0.30 + 0.60)


@given(
    st.floats(0, 100),
    st.floats(0, 1e9),
    st.floats(0.1, 50),
    st.floats(0, 100),
)
def test_never_below_the_minimum_and_linear_above(
    price: float, tokens: float, epochs: float, minimum: float
) -> None:
    vendor = catalog.vendor("openai").billing
    assert vendor is not None
    billing = vendor.model_copy(update={"minimum_usd": minimum})
    usd, billed = token_cost(usd_per_1m_tokens=price, tokens=tokens, epochs=epochs, billing=billing)
    assert usd >= minimum
    assert usd == pytest.approx(max(minimum, billed * price / 1e6))

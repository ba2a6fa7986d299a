"""Prices as `unift estimate` shows them, against sums made by hand from the vendors' lists."""

from __future__ import annotations

from datetime import date
from typing import Any

import pytest

from unift import catalog
from unift.errors import UsageError
from unift.estimate import estimate, vendor_cost
from unift.estimate._resolve import Workload, find_base
from unift.estimate._vendor import vendor_rows

# Model, vendor, rows, tokens of one epoch, epochs, and what is paid: tokens x epochs x the listed
# price per million, written out.
JOBS: list[tuple[str, str, int, int, float, float]] = [
    ("gpt-4.1-mini-2025-04-14", "openai", 500, 250_000, 3, 0.75 * 5.00),
    ("gpt-4.1-2025-04-14", "openai", 800, 1_200_000, 2, 2.4 * 25.00),
    ("gpt-4o-mini-2024-07-18", "openai", 1_000, 500_000, 3, 1.5 * 3.00),
    ("gpt-4o-2024-08-06", "openai", 100, 40_000, 1, 0.04 * 25.00),
    ("gemini-2.5-flash", "google", 500, 250_000, 3, 0.75 * 5.00),
    ("gemini-3.5-flash", "google", 400, 300_000, 4, 1.2 * 10.00),
    ("gemini-2.5-pro", "google", 100, 200_000, 1, 0.2 * 25.00),
    ("Qwen/Qwen3-8B", "google", 1_000, 1_000_000, 3, 3.0 * 4.18),
    ("Qwen/Qwen3-8B", "together", 10_000, 4_000_000, 3, 12.0 * 0.48),
    ("Qwen/Qwen3-8B", "together", 300, 77_000, 1, 4.00),  # 4 cents, but never less than $4
    ("meta-llama/Llama-3.3-70B-Instruct", "together", 2_000, 1_000_000, 2, 2.0 * 2.90),
    ("Qwen/Qwen3-30B-A3B", "together", 4_000, 2_000_000, 2, 4.0 * 1.50),  # all experts count
    ("Qwen/Qwen3-8B", "fireworks", 500, 175_000, 3, 0.525 * 0.50),
    ("meta-llama/Llama-3.3-70B-Instruct", "fireworks", 2_000, 1_000_000, 2, 2.0 * 3.00),
    ("Qwen/Qwen3-8B", "tinker", 500, 175_000, 3, 0.525 * 0.44),
]


@pytest.mark.parametrize(("model", "vendor", "rows", "tokens", "epochs", "usd"), JOBS)
def test_what_a_job_costs(
    model: str, vendor: str, rows: int, tokens: int, epochs: float, usd: float
) -> None:
    found = estimate(model=model, rows=rows, tokens=tokens, epochs=epochs, providers=[vendor])
    assert found.rows[0].price_usd == pytest.approx(usd)


def test_preferences_cost_more_and_validation_where_it_is_billed() -> None:
    dpo: dict[str, Any] = {"tokens": 1e6, "epochs": 2, "params_b": 70.6, "method": "dpo"}
    # 2 million tokens at $7.25, and five evaluations of 100,000 tokens: 2.5 million in all.
    plain = vendor_cost("together", "x/y", **dpo)
    checked = vendor_cost("together", "x/y", validation_tokens=1e5, evaluations=5, **dpo)
    assert plain is not None
    assert checked is not None
    assert (plain.usd, checked.usd) == pytest.approx((2 * 7.25, 2.5 * 7.25))


def test_answers_by_the_token_by_the_hour_and_in_batches() -> None:
    traffic = {"answers_per_month": 10_000, "prompt_tokens": 600, "answer_tokens": 200}
    how: dict[str, Any] = {"rows": 500, "tokens": 250_000, "traffic": traffic}
    tuned = estimate(model="gpt-4.1-mini", providers=["openai"], **how).rows[0]
    # 600 at $0.80 and 200 at $3.20 per million; in batches half of both; untuned $0.40 and $1.60.
    assert tuned.usd_per_1000_answers == pytest.approx(0.48 + 0.64)
    assert tuned.usd_per_month == pytest.approx(11.20)
    assert tuned.untuned_usd_per_1000_answers == pytest.approx(0.24 + 0.32)
    assert "answers that may wait, in batches: $0.56 per 1,000" in tuned.assumptions
    # An endpoint by the hour costs 730 hours a month, however much it answers.
    for vendor, hourly in (("together", 6.49), ("fireworks", 8.00)):
        endpoint = estimate(model="Qwen/Qwen3-8B", providers=[vendor], **how).rows[0]
        assert endpoint.usd_per_month == pytest.approx(730 * hourly)
        assert endpoint.usd_per_1000_answers == pytest.approx(730 * hourly / 10)


def test_a_card_by_the_hour() -> None:
    how: dict[str, Any] = {"model": "Qwen/Qwen3-8B", "rows": 2000, "providers": ["local-lora"]}
    rented = estimate(gpu="h100", **how).rows[0]
    given = estimate(gpu="h100", usd_per_hour=2.5, **how).rows[0]
    owned = estimate(gpu="h100", watts=700, usd_per_kwh=0.3, **how).rows[0]
    assert rented.hours is not None
    # The median of seven offers, $3.90; 0.7 kW at $0.30.
    assert rented.price_usd == pytest.approx(3.90 * rented.hours)
    assert given.price_usd == pytest.approx(2.50 * rented.hours)
    assert owned.price_usd == pytest.approx(0.21 * rented.hours)


@pytest.mark.parametrize(
    ("day", "trains", "said"),
    [
        (date(2026, 11, 25), True, "may start jobs until 2027-01-06"),
        (date(2027, 1, 6), True, "may start jobs until 2027-01-06"),  # the last day
        (date(2027, 1, 7), False, "no new jobs after 2027-01-06"),
        (date(2027, 1, 14), False, "shut down on 2027-01-14"),
    ],
)
def test_the_last_days_of_fine_tuning_at_openai(day: date, trains: bool, said: str) -> None:
    base = find_base("gpt-4.1-mini-2025-04-14")
    (row,) = vendor_rows("openai", base, Workload(1e5, 100, 900, 0.0, ()), epochs=3, today=day)
    assert row.available is trains
    assert any(said in note for note in row.assumptions)
    assert row.ends_on == "2027-01-14"


@pytest.mark.parametrize(("age", "stale"), [(0, False), (60, False), (61, True)])
def test_a_price_is_stale_from_the_sixty_first_day(age: int, stale: bool) -> None:
    entry = catalog.model("gpt-4.1-mini-2025-04-14")
    day = date.fromordinal(entry.as_of.toordinal() + age)
    cost = vendor_cost("openai", entry.id, tokens=1e6, epochs=1, today=day)
    assert cost is not None
    source = next(one for one in cost.sources if one["what"] == "training price")
    assert (source["age_days"], source["stale"]) == (age, stale)
    told = f"training price is {age} days old (read {entry.as_of}): check it before relying on it"
    assert (told in cost.assumptions) is stale


def test_no_epoch_is_no_training() -> None:
    with pytest.raises(UsageError, match="epochs"):
        estimate(model="gpt-4.1-mini", rows=10, tokens=1000, epochs=0)

"""Every shipped fact has a source, a day, and sense."""

from __future__ import annotations

import json
import subprocess
import sys
from datetime import date, timedelta
from itertools import pairwise

import pytest

from unift import catalog


def facts() -> list[tuple[str, catalog.Fact]]:
    found = catalog.load()
    listed: list[tuple[str, catalog.Fact]] = [
        *((f"model {m.provider}/{m.id}", m) for m in found.models),
        *((f"price {p.provider} {p.up_to_b}", p) for p in found.size_prices),
        *((f"provider {p.id}", p) for p in found.providers),
        *((f"event {e.date} {e.provider}", e) for e in found.events),
        *((f"gpu {g.id}", g) for g in found.gpus),
        *((f"offer {g.id} {o.vendor}", o) for g in found.gpus for o in g.offers),
        *((f"shape {m.ids[0]}", m) for m in found.open_models),
        *((f"base {b.id}", b) for b in found.bases),
        *((f"rate {r.name}", r) for r in found.rate_rules),
    ]
    for vendor in found.providers:
        for part in (vendor.billing, vendor.hosting, vendor.limits):
            if part is not None:
                listed.append((f"{type(part).__name__} of {vendor.id}", part.fact))
    return listed


@pytest.mark.parametrize(("name", "fact"), facts(), ids=lambda value: str(value)[:60])
def test_every_fact_has_a_source_and_a_day(name: str, fact: catalog.Fact) -> None:
    assert fact.source, name
    assert all(source.strip() for source in fact.source), name
    assert date(2025, 1, 1) <= fact.as_of <= date(2026, 12, 31), name
    assert fact.verification.startswith(
        ("first_party", "third_party", "prices+limits", "limits", "tunable")
    ), name
    assert fact.origin == "unift"


def test_ids_are_unique() -> None:
    found = catalog.load()
    models = [(m.provider, m.id) for m in found.models]
    assert len(models) == len(set(models))
    names = [name.lower() for g in found.gpus for name in (g.id, *g.aliases)]
    assert len(names) == len(set(names))
    shapes = [name.lower() for m in found.open_models for name in m.ids]
    assert len(shapes) == len(set(shapes))


def test_every_model_and_event_belongs_to_a_known_provider() -> None:
    known = {vendor.id for vendor in catalog.providers()}
    found = catalog.load()
    assert {m.provider for m in found.models} <= known
    assert {p.provider for p in found.size_prices} <= known
    assert {e.provider for e in found.events} <= known
    assert {member for v in found.providers for member in v.family} <= known


def test_hub_ids_of_vendor_models_that_have_a_known_size_agree_with_the_shape() -> None:
    from unift.estimate import Shape

    shapes = {name: m for m in catalog.load().open_models for name in m.ids}
    checked = 0
    for model in catalog.models():
        if model.hub_id in shapes and model.params_b:
            size = Shape.from_config(shapes[model.hub_id].config).parameters / 1e9
            assert size == pytest.approx(model.params_b, rel=0.3), model.id
            checked += 1
    assert checked >= 8


def test_size_prices_leave_no_gap_and_do_not_overlap() -> None:
    prices = catalog.load().size_prices
    for key in {(p.provider, p.method, p.tunes) for p in prices}:
        steps = sorted(
            (p for p in prices if (p.provider, p.method, p.tunes) == key), key=lambda p: p.above_b
        )
        assert steps[0].above_b == 0
        for below, above in pairwise(steps):
            assert below.up_to_b == above.above_b


def test_usable_memory_is_below_the_marketed_and_near_it() -> None:
    for gpu in catalog.gpus():
        assert 0.9 * gpu.memory_gb < gpu.usable_gib < gpu.memory_gb, gpu.id


def test_rent_is_ordered_and_typical_leaves_out_hyperscalers() -> None:
    gpu = catalog.gpu("h100")
    assert gpu.low_usd_per_hour == 2.69
    assert gpu.typical_usd_per_hour == 3.9
    assert gpu.high_usd_per_hour == 12.29
    for card in catalog.gpus():
        if card.offers:
            low, typical, high = (
                card.low_usd_per_hour,
                card.typical_usd_per_hour,
                card.high_usd_per_hour,
            )
            assert low is not None
            assert typical is not None
            assert high is not None
            assert low <= typical <= high


def test_age_counts_days_and_flags_what_is_older_than_sixty() -> None:
    fact = catalog.gpu("h100").offers[0]
    assert fact.age_days(fact.as_of) == 0
    assert not fact.stale(fact.as_of + timedelta(days=60))
    assert fact.stale(fact.as_of + timedelta(days=61))
    cited = fact.citation(fact.as_of + timedelta(days=100))
    assert cited["age_days"] == 100
    assert cited["stale"] is True
    assert json.dumps(cited)


def test_importing_the_catalogue_reads_nothing_and_loads_no_heavy_library() -> None:
    code = (
        "import sys, unift.catalog as c\n"
        "assert not {'torch','numpy','transformers'} & set(sys.modules)\n"
        "from unift.catalog import _load\n"
        "assert _load._shipped.cache_info().currsize == 0"
    )
    subprocess.run([sys.executable, "-c", code], check=True, timeout=60)

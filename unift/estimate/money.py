"""What a training costs: a vendor's own way of counting, or hours of a GPU."""

from __future__ import annotations

from dataclasses import dataclass
from datetime import date
from typing import Any

from unift import catalog


@dataclass(frozen=True, slots=True)
class Cost:
    """US dollars. `low` and `high` differ where offers differ; each figure has its source."""

    usd: float
    low: float
    high: float
    assumptions: tuple[str, ...]
    sources: tuple[dict[str, Any], ...]


def token_cost(
    *,
    usd_per_1m_tokens: float,
    tokens: float,
    epochs: float,
    billing: catalog.Billing | None = None,
    validation_tokens: float = 0.0,
    evaluations: int = 0,
    rows: int | None = None,
    max_length: int | None = None,
    packing: bool = True,
) -> tuple[float, float]:
    """Price of a per-token training and the tokens billed.

    tokens * epochs * price / 1e6, plus validation tokens * evaluations where the vendor charges for
    them, every row at `max_length` where unpacked rows are billed so, and never below the vendor's
    minimum. 1,000 examples of 500 tokens for 3 epochs at $3 per million cost $4.50.

    Returns:
        (US dollars, billed tokens).
    """
    counted = tokens
    if billing and billing.unpacked_rows_billed_at_max_length and not packing and rows:
        counted = max(tokens, rows * (max_length or 0))
    billed = counted * epochs
    if billing and billing.validation == "per evaluation":
        billed += validation_tokens * evaluations
    usd = billed * usd_per_1m_tokens / 1e6
    return max(usd, billing.minimum_usd if billing else 0.0), billed


def vendor_cost(
    provider: str,
    model: str,
    *,
    tokens: float,
    epochs: float,
    method: str = "sft",
    tunes: str = "lora",
    params_b: float | None = None,
    validation_tokens: float = 0.0,
    evaluations: int = 0,
    rows: int | None = None,
    max_length: int | None = None,
    packing: bool = True,
    today: date | None = None,
) -> Cost | None:
    """What a vendor bills for a training; None if no price is known.

    Raises:
        UsageError: Unknown provider.
    """
    found = catalog.price(model, provider, method=method, tunes=tunes, params_b=params_b)
    if found is None:
        return None
    vendor = catalog.vendor(found.provider)
    usd, billed = token_cost(
        usd_per_1m_tokens=found.usd_per_1m_tokens,
        tokens=tokens,
        epochs=epochs,
        billing=vendor.billing,
        validation_tokens=validation_tokens,
        evaluations=evaluations,
        rows=rows,
        max_length=max_length,
        packing=packing,
    )
    notes = [f"{billed:,.0f} billed tokens at ${found.usd_per_1m_tokens:g} per million"]
    sources = [_cite("training price", found.fact, today)]
    if vendor.billing:
        notes.append(f"billing: {vendor.billing.rule}")
        sources.append(_cite("billing rule", vendor.billing.fact, today))
        if usd == vendor.billing.minimum_usd and usd > 0:
            notes.append(f"the vendor's minimum of ${usd:g} per job applies")
    else:
        notes.append("billing: taken as tokens x epochs, the vendor's rule was not found")
    notes += [_stale(item) for item in sources if item["stale"]]
    return Cost(usd, usd, usd, tuple(notes), tuple(sources))


def gpu_cost(
    gpu: catalog.Gpu,
    hours: float,
    *,
    usd_per_hour: float | None = None,
    today: date | None = None,
) -> Cost | None:
    """Rent of a GPU for `hours`: the user's price, or low, typical and high of the listed offers.

    None if no offer is listed and the user gave no price.
    """
    if usd_per_hour is not None:
        usd = usd_per_hour * hours
        note = f"${usd_per_hour:g} per GPU hour, given by the user"
        return Cost(usd, usd, usd, (note,), ())
    typical = gpu.typical_usd_per_hour
    if typical is None or gpu.low_usd_per_hour is None or gpu.high_usd_per_hour is None:
        return None
    # Offers read from one place on one day are one source.
    groups: dict[tuple[tuple[str, ...], date], list[catalog.Offer]] = {}
    for offer in gpu.offers:
        groups.setdefault((offer.source, offer.as_of), []).append(offer)
    sources = [
        _cite("rent at " + ", ".join(offer.vendor for offer in group), group[0], today)
        for group in groups.values()
    ]
    median_of = sum(not offer.hyperscaler for offer in gpu.offers) or len(gpu.offers)
    notes = [
        f"rent of ${typical:g} per hour: median of {median_of} offers, hyperscalers left out "
        f"(all {len(gpu.offers)}: ${gpu.low_usd_per_hour:g} to ${gpu.high_usd_per_hour:g})"
    ]
    stale = [offer for offer in gpu.offers if offer.stale(today)]
    if stale:
        oldest = max(offer.age_days(today) for offer in stale)
        notes.append(
            f"{len(stale)} of these offers are older than {catalog.STALE_AFTER_DAYS} days "
            f"(the oldest {oldest}): check before relying on them"
        )
    return Cost(
        typical * hours,
        gpu.low_usd_per_hour * hours,
        gpu.high_usd_per_hour * hours,
        tuple(notes),
        tuple(sources),
    )


def electricity_cost(hours: float, *, watts: float, usd_per_kwh: float) -> Cost:
    """Power drawn over `hours`, in US dollars: watts / 1000 * hours * price."""
    usd = watts / 1000 * hours * usd_per_kwh
    return Cost(usd, usd, usd, (f"{watts:g} W at ${usd_per_kwh:g} per kWh",), ())


def answers_cost(
    price: catalog.TokenPrice, prompt_tokens: float, answer_tokens: float
) -> float | None:
    """US dollars for 1,000 answers at a per-token price; None where a side of it is unknown."""
    if price.input is None or price.output is None:
        return None
    return (prompt_tokens * price.input + answer_tokens * price.output) / 1e6 * 1000


def batch_cost(
    price: catalog.TokenPrice, prompt_tokens: float, answer_tokens: float
) -> float | None:
    """US dollars for 1,000 answers in the vendor's batches; None where it has no price for them."""
    batch = catalog.TokenPrice(input=price.batch_input, output=price.batch_output)
    return answers_cost(batch, prompt_tokens, answer_tokens)


def _cite(what: str, fact: catalog.Fact, today: date | None) -> dict[str, Any]:
    return {"what": what, **fact.citation(today)}


def _stale(source: dict[str, Any]) -> str:
    return (
        f"{source['what']} is {source['age_days']} days old (read {source['as_of']}): "
        "check it before relying on it"
    )

"""Rows for training at a vendor."""

from __future__ import annotations

from datetime import UTC, date, datetime

from unift import catalog
from unift.estimate._resolve import Base, Workload
from unift.estimate._row import Row
from unift.estimate.money import vendor_cost

# Vendors that bill validation let the user choose how often; once an epoch is usual.
_EVALUATIONS_PER_EPOCH = 1


def vendor_rows(
    provider: str,
    base: Base,
    work: Workload,
    *,
    epochs: float,
    method: str = "sft",
    max_length: int | None = None,
    substitutes: bool = False,
    today: date | None = None,
) -> list[Row]:
    """The row of a model at a vendor; if it is not trained there, rows for what is (when asked)."""
    vendor = catalog.vendor(provider)
    listed = [
        entry
        for entry in catalog.models(provider)
        if base.name in (entry.id, entry.hub_id, *entry.aliases)
    ]
    if not vendor.alive:
        reason = vendor.note or f"{provider} no longer trains models"
        return [_refused(provider, base.name, reason, vendor, today)]
    if listed:
        return [
            _row(provider, entry.id, entry, base, work, epochs, method, max_length, today)
            for entry in listed
        ]
    if base.shape is not None and base.public and catalog.charges_by_size(provider):
        return [_row(provider, base.name, None, base, work, epochs, method, max_length, today)]
    reason = f"{provider} does not train {base.name}"
    rows = [_refused(provider, base.name, reason, vendor, today)]
    if substitutes:
        rows += [
            _row(provider, entry.id, entry, None, work, epochs, method, max_length, today)
            for entry in catalog.models(provider)
            if entry.trainable != "no" and method in entry.methods
        ]
    return rows


def _row(
    provider: str,
    model: str,
    entry: catalog.VendorModel | None,
    base: Base | None,
    work: Workload,
    epochs: float,
    method: str,
    max_length: int | None,
    today: date | None,
) -> Row:
    vendor = catalog.vendor(entry.provider if entry else provider)
    day = today or datetime.now(UTC).date()
    tunes = "full" if entry and entry.tunes == ("full",) else "lora"
    cost = vendor_cost(
        provider,
        model,
        tokens=work.tokens,
        epochs=epochs,
        method=method,
        tunes=tunes,
        params_b=base.params_b if base else None,
        validation_tokens=work.validation_tokens,
        evaluations=round(epochs) * _EVALUATIONS_PER_EPOCH,
        rows=work.rows,
        max_length=max_length or work.longest,
        today=today,
    )
    notes = [*work.notes, f"{epochs:g} epochs"]
    if entry is None or entry.tunes:
        notes.append("trains all weights" if tunes == "full" else "trains an adapter (LoRA)")
    reason, available = _availability(entry, method, day)
    if reason:
        notes.append(reason)
    if cost is None:
        notes.append("no training price is known for this model there")
    limit = entry.max_tokens_per_example if entry else None
    if limit and work.longest and work.longest > limit:
        over = vendor.limits.over_length if vendor.limits else None
        notes.append(
            f"the longest row has {work.longest:,} tokens, the limit is {limit:,}"
            + (f" ({over})" if over else "")
        )
    sources = list(cost.sources) if cost else []
    if entry and not sources:
        sources.append({"what": "model", **entry.citation(today)})
    hosting = vendor.hosting
    if hosting:
        notes.append(f"answers need a {hosting.unit} at ${hosting.usd_per_hour:g} per hour")
        sources.append({"what": "hosting", **hosting.fact.citation(today)})
    elif vendor.billing and vendor.billing.hosting_unpriced:
        notes.append("hosting is billed by the hour at a rate that is not in the catalogue")
    tuned = catalog.answer_price(f"ft:{entry.id}", provider) if entry and available else None
    if tuned and tuned[1] is not entry:
        sources.append({"what": "price of answers", **tuned[1].citation(today)})
    shutdown = entry.shutdown_date if entry else None
    return Row(
        provider=provider,
        model=model,
        available=available,
        reason=reason if not available else "",
        price_usd=cost.usd if cost else None,
        price_low_usd=cost.low if cost else None,
        price_high_usd=cost.high if cost else None,
        weights_yours=entry.weights_downloadable if entry else vendor.weights_downloadable,
        ends_on=shutdown.isoformat() if shutdown else None,
        tuned_price=tuned[0] if tuned else None,
        running_usd_per_hour=hosting.usd_per_hour if hosting else None,
        assumptions=tuple([*notes, *(cost.assumptions if cost else ())]),
        sources=tuple(sources),
        settings={"epochs": epochs, "method": method},
    )


def _availability(entry: catalog.VendorModel | None, method: str, day: date) -> tuple[str, bool]:
    """Why a model cannot be trained (or by whom it can), and whether it can at all."""
    if entry is None:
        return "", True
    if entry.shutdown_date and entry.shutdown_date <= day:
        return f"shut down on {entry.shutdown_date}", False
    if entry.new_jobs_until and entry.new_jobs_until < day:  # the last day is still one
        return f"no new jobs after {entry.new_jobs_until}", False
    if entry.trainable == "no":
        return "cannot be fine-tuned", False
    if method not in entry.methods:
        return f"trained there by {', '.join(entry.methods)} only, not {method}", False
    if entry.trainable == "existing customers":
        until = f" until {entry.new_jobs_until}" if entry.new_jobs_until else ""
        return f"only organisations that already fine-tune may start jobs{until}", True
    return "", True


def _refused(
    provider: str, model: str, reason: str, vendor: catalog.Vendor, today: date | None
) -> Row:
    return Row(
        provider=provider,
        model=model,
        available=False,
        reason=reason,
        weights_yours=vendor.weights_downloadable,
        assumptions=(reason,),
        sources=({"what": "provider", **vendor.citation(today)},),
    )

"""When a model ends, and what to do about it.

OpenAI ends self-serve fine-tuning: the models endpoint carries a ``shutdown_date`` (SDK 3.57,
types/model.py), the catalogue knows the rest, and a refused organisation gets HTTP 403 with the
code ``training_not_available``.
"""

from __future__ import annotations

import shlex
from dataclasses import dataclass
from datetime import date

from unift import catalog
from unift.errors import LimitError, ProviderError, UniftError, UsageError
from unift.remote import clock
from unift.spec import TrainSpec
from unift_openai.hosts import Site

WARN_DAYS = 180
REFUSE_DAYS = 14
REFUSED_CODE = "training_not_available"
_INSTEAD = "Qwen/Qwen3-8B"  # fits one 24 GB card with local-qlora


@dataclass(frozen=True)
class Deadlines:
    """Last days of a model: of its answers, and of new jobs. `source` says who says so."""

    model: str
    shutdown: date | None
    new_jobs_until: date | None
    source: str


def base_of(model: str) -> str:
    """``ft:gpt-4o-mini-2024-07-18:org::id`` -> ``gpt-4o-mini-2024-07-18``."""
    return model.split(":")[1] if model.startswith("ft:") and ":" in model[3:] else model


def deadlines(site: Site, model: str, ask: bool) -> Deadlines:
    """From the host's models endpoint if it answers, else from the catalogue."""
    known = entry(site, model)
    shutdown, source = (known.shutdown_date, "the catalogue") if known else (None, "nobody")
    said = _asked(site, model) if ask else None
    if said is not None:
        shutdown, source = said, f"the models endpoint of {site.host.name}"
    return Deadlines(model, shutdown, known.new_jobs_until if known else None, source)


def entry(site: Site, model: str) -> catalog.VendorModel | None:
    """What the catalogue knows of a model at a host."""
    if not site.host.priced:
        return None
    try:
        return catalog.model(base_of(model), site.host.name)
    except UsageError:
        return None


def _asked(site: Site, model: str) -> date | None:
    """One short question; silence is no obstacle, there is the catalogue."""
    import openai  # here: the capabilities of a host are known without its SDK

    from unift_openai._calls import client

    try:
        found = client(site).models.retrieve(model, timeout=5.0)
        return date.fromisoformat(found.shutdown_date) if found.shutdown_date else None
    except (openai.OpenAIError, UniftError, ValueError):
        return None


def check(found: Deadlines, spec: TrainSpec, accept: bool) -> list[str]:
    """Warnings; or the refusal, unless the user accepts the shutdown.

    Raises:
        LimitError: The model ends within 14 days, or takes no new jobs any more.
    """
    today = clock.today()
    if found.new_jobs_until and today > found.new_jobs_until and not accept:
        raise LimitError(
            f"{found.model} takes no new jobs since {found.new_jobs_until}.",
            code="no_new_jobs",
            where="model",
            fix=f"{_ways_out(spec)}; if that date is wrong: {_accept(spec)}",
        )
    if found.shutdown is None:
        return []
    left = (found.shutdown - today).days
    ends = f"{found.model} and every fine-tune of it stop answering on {found.shutdown}"
    if left <= REFUSE_DAYS and not accept:
        raise LimitError(
            f"{ends} (says {found.source}): {'already over' if left < 0 else f'{left} days left'}.",
            code="model_ends",
            where="model",
            fix=f"{_ways_out(spec)}; to train all the same: {_accept(spec)}",
        )
    if left <= WARN_DAYS:
        jobs = f"; new jobs until {found.new_jobs_until}" if found.new_jobs_until else ""
        return [f"{ends}, in {left} days (says {found.source}){jobs}. {_ways_out(spec)}"]
    return []


def refused(found: Deadlines, spec: TrainSpec, uploads: str) -> ProviderError:
    """HTTP 403 ``training_not_available``, as the one thing a user has to know."""
    dates = [
        f"new jobs end on {found.new_jobs_until} for everybody" if found.new_jobs_until else "",
        f"{found.model} and its fine-tunes stop on {found.shutdown}" if found.shutdown else "",
    ]
    when = "; ".join(part for part in dates if part)
    return ProviderError(
        "OpenAI winds its fine-tuning down and takes no new jobs from this organisation"
        + (f" ({when})" if when else "")
        + f". Nothing was started or paid. {uploads} "
        "Listing, downloading, evaluating and recording go on working.",
        code=REFUSED_CODE,
        where=f"model {spec.model}",
        fix=_ways_out(spec),
    )


def _ways_out(spec: TrainSpec) -> str:
    data, provider = shlex.quote(spec.data), spec.provider
    old = shlex.quote(f"{provider}:{spec.model}")
    return (
        f"see what you have: unift migrate inventory --source {provider}; "
        f"plan the way out: unift migrate plan {old} --to local-qlora --train {data}; "
        f"compare what it costs: unift estimate --model {_INSTEAD} --data {data}"
    )


def _accept(spec: TrainSpec) -> str:
    return f"--accept-shutdown (options={{'{spec.provider}': {{'accept_shutdown': True}}}})"

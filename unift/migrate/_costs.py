"""How long an answer takes and what a thousand of them cost, old and new."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any

from unift import catalog
from unift.errors import UniftError

if TYPE_CHECKING:
    from unift.evaluate import Evaluation
    from unift.evaluate._result import Result

# Asked one at a time for a latency that a user would feel; more would say little more.
_ALONE = 8


def latency(found: Evaluation | None, model: str, old: str | None) -> list[dict[str, Any]]:
    """Seconds an answer: median and 95th percentile, old as recorded, new asked one at a time.

    A model that answers in batches has no latency of its own in the comparison; where it runs on
    this machine (asking is free) some rows are asked again, alone.
    """
    if found is None:
        return []
    rows: list[dict[str, Any]] = []
    for one in found.candidates:
        role = "old" if one.name == old else "new" if one is found.candidates[0] else ""
        seconds, how = _seconds(one), "as recorded" if role == "old" else "in the comparison"
        if role == "new" and _here(model):
            seconds, how = _alone(found, model), f"{_ALONE} rows, one at a time, on this machine"
        if seconds:
            rows.append(
                {
                    "name": one.name,
                    "role": role,
                    "median_s": _percentile(seconds, 0.5),
                    "p95_s": _percentile(seconds, 0.95),
                    "n": len(seconds),
                    "how": how,
                }
            )
    return rows


def price_per_1000(
    plan: Mapping[str, Any], found: Evaluation | None, old: str | None
) -> list[dict[str, Any]]:
    """US dollars for 1,000 answers of the size that the comparison had; None where unknown."""
    if found is None:
        return []
    sizes = _sizes(found, old)
    rows = [_old_price(plan["old"], sizes), _new_price(plan)]
    for one in rows:
        one["prompt_tokens"], one["answer_tokens"] = sizes or (None, None)
    return rows


def _old_price(old: Mapping[str, Any], sizes: tuple[float, float] | None) -> dict[str, Any]:
    from unift.estimate.money import answers_cost

    row: dict[str, Any] = {"role": "old", "model": old["reference"], "usd": None, "source": ""}
    name, base = old["id"], old["base"]
    if name != base and not name.startswith("ft:"):  # a tuned model under a name of its own
        name = f"ft:{base}"
    found = catalog.answer_price(name, old["vendor"])
    if found is None:
        row["source"] = "no price of this model's answers is known" + catalog.more_prices()
        return row
    price, fact = found
    if sizes is None:
        row["source"] = "no answer came with token counts"
        return row
    usd = answers_cost(price, *sizes)
    if usd is None:
        row["source"] = "only one side of this model's price is known"
        return row
    row["usd"] = round(usd, 4)
    row["source"] = f"{fact.source[0]} ({fact.as_of})"
    if fact.stale():
        row["source"] += f", {fact.age_days()} days old: check it"
    return row


def _new_price(plan: Mapping[str, Any]) -> dict[str, Any]:
    row: dict[str, Any] = {"role": "new", "model": plan["model"], "usd": None, "source": ""}
    for one in plan["candidates"]:
        if (one["base"], one["provider"]) == (plan["model"], plan["provider"]):
            row["usd"] = one["usd_per_1000_answers"]
            row["source"] = (
                f"{one['hardware'] or one['provider']} running all month at "
                f"{plan.get('answers_per_month') or 'unknown'} answers a month"
            )
            break
    if row["usd"] is None:
        row["source"] = (
            "depends on traffic: set target.answers_per_month and, for hardware of your own, "
            "target.usd_per_hour"
        )
    return row


def _sizes(found: Evaluation, old: str | None) -> tuple[float, float] | None:
    """Mean prompt and answer tokens, of the old model where it says, else of anyone who does."""
    ordered = sorted(found.candidates, key=lambda one: one.name != old)
    for one in ordered:
        prompt = [r.prompt_tokens for r in one.replies if r.prompt_tokens is not None]
        answer = [r.completion_tokens for r in one.replies if r.completion_tokens is not None]
        if prompt and answer:
            return sum(prompt) / len(prompt), sum(answer) / len(answer)
    return None


def _seconds(one: Result) -> list[float]:
    return [reply.seconds for reply in one.replies if reply.seconds is not None]


def _here(model: str) -> bool:
    """True where the model runs on this machine, so that asking is free."""
    if not model.startswith("run:"):
        return False
    from unift.provider import get_provider
    from unift.runs import run

    return get_provider(run(model).provider).capabilities().place == "local"


def _alone(found: Evaluation, model: str) -> list[float]:
    import time

    from unift.provider import Sampling
    from unift.reference import load

    seconds: list[float] = []
    draw = Sampling(**found.details["sampling"])
    try:
        loaded = load(model)
    except UniftError:
        return []
    try:
        loaded.chat(list(found.rows[0].prompt), draw)  # the first one warms up
        for row in found.rows[:_ALONE]:
            began = time.perf_counter()
            loaded.chat(list(row.prompt), draw)
            seconds.append(time.perf_counter() - began)
    finally:
        loaded.close()
    return seconds


def _percentile(values: Sequence[float], share: float) -> float:
    ordered = sorted(values)
    return ordered[min(len(ordered) - 1, int(share * len(ordered)))]

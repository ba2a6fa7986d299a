"""Saying no before anything is spent."""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING, Any, cast

from unift._text import dollars, duration
from unift.errors import LimitError
from unift.spec import Budget

if TYPE_CHECKING:
    from unift.estimate._row import Row


def check_budget(row: Row | Mapping[str, Any], budget: Budget) -> None:
    """Refuse what does not fit or costs more than allowed; nothing was started yet.

    Args:
        row: A row of the table, or the ``estimate`` of a plan (its JSON form).
        budget: US dollars, hours, GiB; None is no limit.

    Raises:
        LimitError: With the numbers and what to change (exit status 4).
    """
    facts = dict(row) if isinstance(row, Mapping) else row.as_dict()
    memory = cast("Mapping[str, Any]", facts.get("memory") or {})
    need = memory.get("device_gib") or memory.get("reserved_gib")
    if facts.get("fits") is False:
        where = memory.get("largest")
        limit = facts.get("usable_gib")
        size = f"{need:.1f} GiB" if need else "more memory"
        has = f", there are {limit:.1f} GiB" if limit else ""
        raise LimitError(
            f"The training needs {size}{has}.",
            code="does_not_fit",
            where=str(facts.get("provider", ""))
            + (f": {where} is the largest part" if where else ""),
            fix=_smaller(facts, memory),
        )
    if budget.memory_gib is not None and need is not None and need > budget.memory_gib:
        raise LimitError(
            f"The training needs {need:.1f} GiB and may use {budget.memory_gib:g} GiB.",
            code="over_memory",
            where="memory_gib",
            fix=_smaller(facts, memory),
        )
    hours = facts.get("hours")
    if budget.hours is not None and hours is not None and hours > budget.hours:
        share = budget.hours / hours
        raise LimitError(
            f"The training takes about {duration(hours * 3600)} and may take "
            f"{duration(budget.hours * 3600)}.",
            code="over_time",
            where="hours",
            fix=f"train on {share:.0%} of the tokens (fewer epochs or rows), or on a faster GPU",
        )
    price = facts.get("price_usd")
    if budget.usd is not None and price is not None and price > budget.usd:
        share = budget.usd / price
        raise LimitError(
            f"The training costs about {dollars(price)} and may cost {dollars(budget.usd)}.",
            code="over_budget",
            where="usd",
            fix=f"raise the budget, train on {share:.0%} of the tokens, or compare providers "
            "with: unift estimate",
        )


_REMEDIES = {
    "weights": "use local-qlora (4-bit base) or a smaller model",
    "optimizer": "use local-lora instead of full fine-tuning",
    "gradients": "use local-lora instead of full fine-tuning",
    "activations": "turn checkpointing on, or lower max_length or the micro-batch",
    "checkpoints": "lower max_length or the micro-batch",
    "recomputed_layer": "lower max_length or the micro-batch",
    "layer_workspace": "lower max_length or the micro-batch",
    "loss": "lower max_length or the micro-batch",
}


def _smaller(facts: Mapping[str, Any], memory: Mapping[str, Any]) -> str:
    advice = facts.get("advice")
    if advice:
        return str(advice)
    return _REMEDIES.get(str(memory.get("largest")), "lower max_length, or use a larger GPU")

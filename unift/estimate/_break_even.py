"""At which traffic a GPU that runs all month costs the same as paying a vendor per answer."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from unift._text import did_you_mean
from unift.errors import UsageError
from unift.estimate._resolve import ANSWER_SHARE, Workload

if TYPE_CHECKING:
    from unift.estimate._row import Row

_HOURS_PER_MONTH = 730.0


@dataclass(frozen=True, slots=True)
class Traffic:
    """How much the model will answer. Sizes default to those of the training rows."""

    answers_per_month: float
    prompt_tokens: float | None = None
    answer_tokens: float | None = None

    def sizes(self, work: Workload) -> tuple[float, float]:
        """Prompt and answer tokens of one answer; of unknown rows a third is answer."""
        answer = self.answer_tokens
        if answer is None:
            answer = work.mean * ANSWER_SHARE
        prompt = self.prompt_tokens
        if prompt is None:
            prompt = max(0.0, work.mean - answer)
        return prompt, answer


def make_traffic(given: int | float | Mapping[str, float] | None) -> Traffic | None:
    """Traffic from a number of answers per month or a mapping.

    Raises:
        UsageError: An unknown key or a number that is not positive.
    """
    if given is None:
        return None
    fields = ("answers_per_month", "prompt_tokens", "answer_tokens")
    values = dict(given) if isinstance(given, Mapping) else {"answers_per_month": given}
    for key, value in values.items():
        if key not in fields:
            raise UsageError(
                f"Traffic has no '{key}'.",
                code="unknown_setting",
                where=f"traffic.{key}",
                fix=did_you_mean(key, fields),
            )
        if value <= 0:
            raise UsageError(
                f"traffic.{key} must be above 0 (got {value}).",
                code="bad_setting",
                where=f"traffic.{key}",
                fix="give answers per month and tokens per answer",
            )
    if "answers_per_month" not in values:
        raise UsageError(
            "Traffic needs answers_per_month.",
            code="bad_setting",
            where="traffic",
            fix='give a number, or {"answers_per_month": 100000}',
        )
    return Traffic(**values)


def break_even(
    rows: Sequence[Row], traffic: Traffic | None, work: Workload | None
) -> dict[str, Any] | None:
    """Answers per month above which the cheapest rented GPU beats the cheapest per-answer price.

    None unless the rows hold both a vendor's price per token and an hourly price of hardware.
    The GPU is taken as running all month (730 hours) and able to keep up.
    """
    from unift.estimate.money import answers_cost

    if work is None:
        return None
    sizes = (traffic or Traffic(1.0)).sizes(work)
    hosted = [
        (answers_cost(row.tuned_price, *sizes) / 1000, row)
        for row in rows
        if row.tuned_price is not None and row.running_usd_per_hour is None
    ]
    owned = [
        (row.running_usd_per_hour * _HOURS_PER_MONTH, row)
        for row in rows
        if row.running_usd_per_hour and row.fits is not False
    ]
    if not hosted or not owned:
        return None
    per_answer, api = min(hosted, key=lambda pair: pair[0])
    monthly, gpu = min(owned, key=lambda pair: pair[0])
    if per_answer <= 0:
        return None
    result: dict[str, Any] = {
        "answers_per_month": round(monthly / per_answer),
        "api": {"provider": api.provider, "model": api.model, "usd_per_answer": per_answer},
        "gpu": {
            "provider": gpu.provider,
            "model": gpu.model,
            "hardware": gpu.hardware,
            "usd_per_month": round(monthly, 2),
        },
        "prompt_tokens": round(sizes[0], 1),
        "answer_tokens": round(sizes[1], 1),
        "assumptions": [
            "the GPU runs all month (730 hours) and keeps up with the traffic",
            "training costs are left out: they are paid once",
        ],
    }
    if traffic is not None:
        api_month = per_answer * traffic.answers_per_month
        result["cheaper_at_your_traffic"] = "gpu" if monthly < api_month else "api"
    return result

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
        if not 0 < value < float("inf"):
            raise UsageError(
                f"traffic.{key} must be above 0 (got {value:g}).",
                code="bad_setting",
                where=f"traffic.{key}",
                fix="give answers a month, or leave traffic out while nobody asks"
                if key == "answers_per_month"
                else "give tokens, or leave it out for those of the training rows",
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
    """Answers a month from which the cheapest hardware of one's own costs less than a vendor.

    The vendor is the one with the lowest price per answer; where none has one, the one whose
    endpoint costs least by the hour. ``answers_per_month`` is 0 where the hardware costs less
    whatever the traffic, None where it never does. None altogether unless the rows hold both sides.
    The hardware is taken as running all month (730 hours) and able to keep up.
    """
    from unift.estimate.money import answers_cost

    if work is None:
        return None
    sizes = (traffic or Traffic(1.0)).sizes(work)
    owned = [
        (row.running_usd_per_hour * _HOURS_PER_MONTH, row)
        for row in rows
        if row.hardware and row.running_usd_per_hour is not None and row.fits is not False
    ]
    per_answer = [
        (usd / 1000, row)
        for row in rows
        if row.tuned_price is not None
        and row.running_usd_per_hour is None
        and (usd := answers_cost(row.tuned_price, *sizes)) is not None
    ]
    by_hour = [
        (row.running_usd_per_hour * _HOURS_PER_MONTH, row)
        for row in rows
        if not row.hardware and row.available and row.running_usd_per_hour is not None
    ]
    if not owned or not (per_answer or by_hour):
        return None
    monthly, gpu = min(owned, key=lambda pair: pair[0])
    each, fixed = 0.0, 0.0
    if per_answer:
        each, api = min(per_answer, key=lambda pair: pair[0])
    else:
        fixed, api = min(by_hour, key=lambda pair: pair[0])
    result: dict[str, Any] = {
        "answers_per_month": _crossing(monthly, fixed, each),
        "api": {
            "provider": api.provider,
            "model": api.model,
            "usd_per_answer": each,
            "usd_per_month": round(fixed, 2),
        },
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
        api_month = fixed + each * traffic.answers_per_month
        result["cheaper_at_your_traffic"] = "gpu" if monthly < api_month else "api"
    return result


def _crossing(monthly: float, fixed: float, each: float) -> int | None:
    """Answers a month at which `fixed` and `each` per answer come to `monthly`."""
    if monthly <= fixed:
        return 0
    return round((monthly - fixed) / each) if each > 0 else None


def break_even_words(found: Mapping[str, Any]) -> str:
    """A break-even as a sentence."""
    api, gpu, point = found["api"], found["gpu"], found["answers_per_month"]
    own = f"one {gpu['hardware']} of your own (${gpu['usd_per_month']:,.0f} a month)"
    if api["usd_per_answer"]:
        price = (
            f"${api['usd_per_answer'] * 1000:.3g} per 1,000 answers of "
            f"{found['answer_tokens']:.0f} tokens to prompts of {found['prompt_tokens']:.0f}"
        )
    else:
        price = f"${api.get('usd_per_month', 0):,.0f} a month, whatever the traffic"
    vendor = f"{api['provider']} ({price})"
    if point is None:
        return f"{own} never costs less than {vendor}"
    if point == 0:
        return f"{own} costs less than {vendor} at any traffic"
    return f"from {point:,} answers a month {own} costs less than {vendor}"

"""One line of the table."""

from __future__ import annotations

from dataclasses import dataclass, field, replace
from typing import Any

from unift import catalog
from unift.estimate._break_even import Traffic
from unift.estimate._resolve import Workload
from unift.estimate.memory import Memory
from unift.estimate.money import answers_cost, batch_cost
from unift.estimate.time import Duration


@dataclass(frozen=True, slots=True)
class Row:
    """One way to train. None means unknown or not applicable, never zero.

    `fits` is None where the vendor sees to it; `advice` says what would fit, or what would need
    less; `price_usd` is the typical price, `low` and `high` bound it; `usd_per_1000_answers` and
    `usd_per_month` need `traffic`, as does `untuned_usd_per_1000_answers`, what the vendor asks for
    answers of the model as it is; `ends_on` is the day on which the model stops answering there.
    """

    provider: str
    model: str
    available: bool = True
    reason: str = ""
    fits: bool | None = None
    memory: Memory | None = None
    duration: Duration | None = None
    price_usd: float | None = None
    price_low_usd: float | None = None
    price_high_usd: float | None = None
    hardware: str | None = None
    usable_gib: float | None = None
    advice: str = ""
    weights_yours: bool | None = None
    ends_on: str | None = None
    tuned_price: catalog.TokenPrice | None = None
    running_usd_per_hour: float | None = None
    usd_per_1000_answers: float | None = None
    usd_per_month: float | None = None
    untuned_usd_per_1000_answers: float | None = None
    assumptions: tuple[str, ...] = ()
    sources: tuple[dict[str, Any], ...] = ()
    settings: dict[str, Any] = field(default_factory=dict[str, Any])

    @property
    def hours(self) -> float | None:
        """Wall-clock hours, None where the vendor does not say."""
        return None if self.duration is None else self.duration.hours

    def with_traffic(self, traffic: Traffic, work: Workload) -> Row:
        """The same row with what running the model costs at that traffic."""
        prompt, answer = traffic.sizes(work)
        return self._untuned(traffic, prompt, answer)._tuned(traffic, prompt, answer)

    def _untuned(self, traffic: Traffic, prompt: float, answer: float) -> Row:
        found = catalog.answer_price(self.model, self.provider)
        if found is None:
            return self
        price, fact = found
        usd = answers_cost(price, prompt, answer)
        if usd is None:
            return self
        monthly = usd * traffic.answers_per_month / 1000
        note = f"{self.model} untuned: ${usd:.3g} per 1,000 answers, ${monthly:,.2f} a month"
        cited = {"what": "price of untuned answers", **fact.citation()}
        return replace(
            self,
            untuned_usd_per_1000_answers=usd,
            assumptions=(*self.assumptions, note),
            sources=(*self.sources, cited),
        )

    def _tuned(self, traffic: Traffic, prompt: float, answer: float) -> Row:
        thousand = self.tuned_price and answers_cost(self.tuned_price, prompt, answer)
        if thousand is not None:
            monthly = thousand * traffic.answers_per_month / 1000
            monthly += (self.running_usd_per_hour or 0.0) * HOURS_PER_MONTH
            notes = self.assumptions
            batch = self.tuned_price and batch_cost(self.tuned_price, prompt, answer)
            if batch is not None:
                notes = (*notes, f"answers that may wait, in batches: ${batch:.3g} per 1,000")
            return replace(
                self, usd_per_1000_answers=thousand, usd_per_month=monthly, assumptions=notes
            )
        if self.running_usd_per_hour is not None:
            monthly = self.running_usd_per_hour * HOURS_PER_MONTH
            thousand = monthly / traffic.answers_per_month * 1000
            return replace(self, usd_per_1000_answers=thousand, usd_per_month=monthly)
        return self

    def as_dict(self) -> dict[str, Any]:
        """JSON form; money in US dollars, memory in GiB."""
        return {
            "provider": self.provider,
            "model": self.model,
            "available": self.available,
            "reason": self.reason,
            "fits": self.fits,
            "memory": None if self.memory is None else self.memory.as_dict(),
            "usable_gib": self.usable_gib,
            "hardware": self.hardware,
            "hours": None if self.hours is None else round(self.hours, 4),
            "time": None if self.duration is None else self.duration.as_dict(),
            "price_usd": _cents(self.price_usd),
            "price_low_usd": _cents(self.price_low_usd),
            "price_high_usd": _cents(self.price_high_usd),
            "usd_per_1000_answers": _cents(self.usd_per_1000_answers),
            "usd_per_month": _cents(self.usd_per_month),
            "untuned_usd_per_1000_answers": _cents(self.untuned_usd_per_1000_answers),
            "weights_yours": self.weights_yours,
            "ends_on": self.ends_on,
            "advice": self.advice,
            "settings": dict(self.settings),
            "assumptions": list(self.assumptions),
            "sources": list(self.sources),
        }


HOURS_PER_MONTH = 730.0


def _cents(usd: float | None) -> float | None:
    return None if usd is None else round(usd, 4)

"""What answers cost at a vendor, and a budget that is never exceeded."""

from __future__ import annotations

import threading
from collections.abc import Iterable
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from unift.errors import LimitError
from unift.evaluate._rows import text_of
from unift.provider import Reply, Sampling

if TYPE_CHECKING:
    from unift.evaluate._answers import Question

# Tokenizers make at most one token of two bytes of usual text, and some ten more of each message.
_BYTES_A_TOKEN = 2
_TOKENS_A_MESSAGE = 10


@dataclass(frozen=True)
class AnswerPrice:
    """Dollars per million tokens, with its source."""

    input: float
    output: float
    source: dict[str, Any]

    def of(self, prompt_tokens: float, completion_tokens: float) -> float:
        return (prompt_tokens * self.input + completion_tokens * self.output) / 1e6


def price_of(reference: str) -> AnswerPrice | None:
    """The price of answers of a model at a vendor; None for local models and unknown prices."""
    from unift import catalog

    provider, _, name = _at_vendor(reference).partition(":")
    found = catalog.answer_price(name, provider)
    if found is None:
        return None
    price, fact = found
    if price.input is None or price.output is None:
        return None
    return AnswerPrice(price.input, price.output, fact.citation())


def _at_vendor(reference: str) -> str:
    if not reference.startswith("run:"):
        return reference
    from unift.runs import run as get_run

    run = get_run(reference.removeprefix("run:"))
    if run.artifact is None or run.artifact.kind != "hosted":
        return reference
    return f"{run.provider}:{run.artifact.reference}"


def usd_per_1000(price: AnswerPrice | None, replies: Iterable[Reply]) -> float | None:
    """Dollars for a thousand such answers; None where price or token counts are unknown."""
    if price is None:
        return None
    costs = [
        price.of(one.prompt_tokens, one.completion_tokens)
        for one in replies
        if one.prompt_tokens is not None and one.completion_tokens is not None
    ]
    return 1000 * sum(costs) / len(costs) if costs else None


def most(question: Question, price: AnswerPrice, sampling: Sampling) -> float:
    """An upper bound of what one question costs."""
    size = sum(
        _TOKENS_A_MESSAGE + len(text_of(one).encode("utf-8", "replace")) / _BYTES_A_TOKEN
        for one in question.prompt
    )
    size += len(str(question.tools)) / _BYTES_A_TOKEN
    return price.of(size, sampling.max_tokens)


class Purse:
    """A budget that several threads pay from.

    The most that a call may cost is set aside before it is made, what it did cost is booked after.
    """

    def __init__(self, budget: float, price: AnswerPrice, sampling: Sampling) -> None:
        self.spent = 0.0
        self._aside = 0.0
        self._budget, self._price, self._sampling = budget, price, sampling
        self._lock = threading.Lock()

    def reserve(self, question: Question) -> float:
        """Set aside what a question may cost.

        Raises:
            LimitError: That much is not left.
        """
        cost = most(question, self._price, self._sampling)
        with self._lock:
            if self.spent + self._aside + cost > self._budget:
                raise LimitError(
                    f"The budget of {self._budget:.4g} USD for answers is used up: "
                    f"{self.spent:.4g} USD are spent.",
                    code="over_budget",
                    where="budget_usd",
                    fix="raise it and start again; every answer so far is kept and free",
                )
            self._aside += cost
        return cost

    def lose(self, question: Question, times: int) -> None:
        """Book answers that never came and may have been charged, at the most that they cost."""
        with self._lock:
            self.spent += times * most(question, self._price, self._sampling)

    def settle(self, aside: float, reply: Reply | None) -> None:
        """Book what a call cost; without token counts, what was set aside for it."""
        known = reply and reply.prompt_tokens is not None and reply.completion_tokens is not None
        with self._lock:
            self._aside -= aside
            if reply is not None and known:
                self.spent += self._price.of(reply.prompt_tokens or 0, reply.completion_tokens or 0)
            elif reply is not None:
                self.spent += aside

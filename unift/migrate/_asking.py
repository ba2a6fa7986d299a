"""Asking the old model: paid calls, each journalled first, within a budget and a rate."""

from __future__ import annotations

import json
import threading
import time
from collections.abc import Callable
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import Any

from unift.catalog import TokenPrice
from unift.errors import ProviderError, RunError, UniftError
from unift.holdings import Busy, Completion
from unift.migrate._golden import Prompt
from unift.migrate._journal import Journal
from unift.migrate._usage import cost_of
from unift.provider import Model, Sampling
from unift.verbs import Completes

_PATIENCE = 8  # times that one call is tried while the vendor says that it is busy
_LONGEST_WAIT = 120.0
_FATAL = frozenset({
    "no_key", "bad_key", "insufficient_quota", "model_not_found", "unreachable", "no_completion",
    "http_401", "http_403", "http_404", "not_found", "busy",
})  # fmt: skip
_HOPELESS = 10  # refusals without a single answer: it is the request, not the prompt
_ANSWER_TOKENS = 1024  # reserved for an answer whose length nobody limits


class OverBudget(Exception):
    """The next call might not be covered."""


class Pace:
    """At most so many calls a minute, and none before the vendor is ready again."""

    def __init__(self, per_minute: float | None) -> None:
        self._gap = 60.0 / per_minute if per_minute else 0.0
        self._next = 0.0
        self._lock = threading.Lock()

    def wait(self, stopped: threading.Event) -> None:
        """Until it is this caller's turn, or the whole recording stops."""
        with self._lock:
            now = time.monotonic()
            turn = max(now, self._next)
            self._next = turn + self._gap
        if turn > now:
            stopped.wait(turn - now)

    def hold(self, seconds: float) -> None:
        """Nobody asks for so long."""
        with self._lock:
            self._next = max(self._next, time.monotonic() + seconds)


@dataclass
class Purse:
    """Money spent and reserved, in US dollars. None for `limit`: no budget; for `price`: unknown.

    A call reserves its dearest outcome before it is made, so that the sum never passes the limit.
    """

    limit: float | None
    price: TokenPrice | None
    spent: float = 0.0
    reserved: float = 0.0

    def __post_init__(self) -> None:
        self._lock = threading.Lock()

    def reserve(self, prompt: Prompt) -> float:
        """Raises OverBudget if it is not covered."""
        if self.price is None:
            return 0.0
        # A token has three bytes or more in ordinary text; what is over is given back.
        text = json.dumps([prompt.messages, prompt.tools], ensure_ascii=False)
        sampling = prompt.sampling
        most = sampling.get("max_completion_tokens") or sampling.get("max_tokens")
        answer = most or _ANSWER_TOKENS
        usd = cost_of(self.price, len(text.encode("utf-8", "replace")) / 3, 0, answer)
        with self._lock:
            if self.limit is not None and self.spent + self.reserved + usd > self.limit:
                raise OverBudget
            self.reserved += usd
        return usd

    def settle(self, reserved: float, completion: Completion | None, doubt: bool) -> float | None:
        """Give back what was reserved and take what it cost; a call in doubt costs all of it."""
        usd = reserved if doubt else self.cost(completion)
        with self._lock:
            self.reserved -= reserved
            self.spent += usd or 0.0
        return usd

    def cost(self, completion: Completion | None) -> float | None:
        usage = completion.usage if completion else None
        if self.price is None or usage is None:
            return 0.0 if completion is None else None
        details: dict[str, Any] = usage.get("prompt_tokens_details") or {}
        cached = details.get("cached_tokens") or 0
        read, written = usage.get("prompt_tokens") or 0, usage.get("completion_tokens") or 0
        return cost_of(self.price, read, cached, written)


class Asker:
    """One answer after the other, from several threads at once."""

    def __init__(
        self,
        model: Model,
        journal: Journal,
        purse: Purse,
        pace: Pace,
        *,
        logprobs: int | None,
        clean: Callable[[Any], Any],
    ) -> None:
        self._model, self._journal, self._purse, self._pace = model, journal, purse, pace
        self._logprobs, self._clean = logprobs, clean
        self._answered = self._refused = 0
        self.stopped = threading.Event()
        # A model without `complete` is one of this machine, and not made for threads.
        self._alone = None if isinstance(model, Completes) else threading.Lock()

    def ask(self, prompt: Prompt, number: int) -> None:
        """Draw one answer and journal it.

        Raises:
            OverBudget: It was not asked.
            ProviderError, RunError: No further answer is to be had.
        """
        for attempt in range(_PATIENCE):
            self._pace.wait(self.stopped)
            if self.stopped.is_set():
                return
            reserved = self._purse.reserve(prompt)
            self._journal.ask(prompt.id, reserved)
            try:
                completion = self._complete(prompt, number)
            except Busy as error:
                self._purse.settle(reserved, None, doubt=error.billed)
                if error.billed:
                    return  # stays in doubt: it is not ours to pay twice
                self._journal.free(prompt.id)
                pause = min(_LONGEST_WAIT, 0.5 * 2**attempt if error.after is None else error.after)
                if attempt == _PATIENCE - 1:
                    raise
                self._pace.hold(pause)
            except UniftError as error:
                self._purse.settle(reserved, None, doubt=False)
                self._refuse(prompt, error)
                return
            else:
                usd = self._purse.settle(reserved, completion, doubt=False)
                self._journal.draw(prompt.id, self._clean(_draw(completion)), usd)
                self._answered += 1
                return

    def _refuse(self, prompt: Prompt, error: UniftError) -> None:
        if error.code in _FATAL or not isinstance(error, ProviderError):
            self._journal.free(prompt.id)
            raise error
        self._journal.refuse(prompt.id, error.code, error.message)
        self._refused += 1
        if not self._answered and self._refused >= _HOPELESS:
            raise RunError(
                f"The first {self._refused} prompts were all refused; the last one so: "
                f"{error.message}",
                code="all_refused",
                where=self._model.reference,
                fix="mend what it says (for logprobs: leave --logprobs out), and record again "
                "into another file",
            )

    def _complete(self, prompt: Prompt, number: int) -> Completion:
        sampling = dict(prompt.sampling)
        if "seed" in sampling:
            sampling["seed"] += number  # else every draw would be the same one
        if isinstance(self._model, Completes):
            body: dict[str, Any] = {"messages": prompt.messages, **sampling}
            if prompt.tools:
                body["tools"] = prompt.tools
            if self._logprobs is not None:
                body["logprobs"] = True
                if self._logprobs:
                    body["top_logprobs"] = self._logprobs
            return self._model.complete(body)
        assert self._alone is not None
        wanted = {key: sampling[key] for key in Sampling.model_fields if key in sampling}
        with self._alone:
            reply = self._model.chat(prompt.messages, Sampling(**wanted))
        counts = {
            "prompt_tokens": reply.prompt_tokens,
            "completion_tokens": reply.completion_tokens,
        }
        return Completion(
            message={"role": "assistant", "content": reply.text},
            finish_reason=reply.finish_reason,
            usage=counts if reply.prompt_tokens is not None else None,
            seconds=reply.seconds,
        )


def _draw(completion: Completion) -> dict[str, Any]:
    draw: dict[str, Any] = {
        "message": completion.message,
        "finish_reason": completion.finish_reason,
    }
    if completion.logprobs is not None:
        draw["logprobs"] = completion.logprobs
    if completion.usage is not None:
        draw["usage"] = completion.usage
    seconds = completion.seconds
    draw["latency_s"] = None if seconds is None else round(seconds, 4)
    draw["at"] = datetime.now(UTC).isoformat()
    return draw

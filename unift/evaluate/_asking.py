"""Every candidate's answers, the cheaper ones first, within one budget."""

from __future__ import annotations

import json
from collections.abc import Callable, Sequence
from functools import partial

from unift.errors import UsageError
from unift.evaluate._answers import AnswerStore, Asker, Question, answer_key
from unift.evaluate._candidates import Candidate, Source, identity_of
from unift.evaluate._commonest import Always
from unift.evaluate._cost import AnswerPrice, Purse, most, price_of
from unift.evaluate._recorded import Recorded
from unift.evaluate._rows import Message, Row
from unift.evaluate._shelf import Shelf, in_order, is_remote, weights_of
from unift.provider import Model, Reply, Sampling
from unift.verbs import Reads

Progress = Callable[[int, int], None]
Notice = Callable[[str], None]

# Calls under way at a remote model, where nobody said how many: what vendors allow new accounts.
_REMOTE = 8
_READ = Sampling(max_tokens=1)  # nothing is drawn from what is read


class Session:
    """Everybody's answers within one evaluation: one store, one budget, one model in memory.

    Args:
        concurrency: Questions under way at a time; None: `_REMOTE` for models behind a network,
            whole batches for those on this machine.
        reuse: False asks again what was asked before.
        budget_usd: Of all questions of the session together; None does not count.
        notice: Called with sentences before anything is asked.
        progress: Called with (answers so far, answers in all) of each `ask`.
        shelf: Where models come from.
    """

    def __init__(
        self,
        *,
        concurrency: int | None = None,
        reuse: bool = True,
        budget_usd: float | None = None,
        notice: Notice | None = None,
        progress: Progress | None = None,
        shelf: Shelf | None = None,
    ) -> None:
        self.reuse = reuse
        self._concurrency, self._left = concurrency, budget_usd
        self._notice, self._progress = notice, progress
        self._shelf = shelf or Shelf()
        self._store = AnswerStore()
        self._doubt = 0

    def __enter__(self) -> Session:
        return self

    def __exit__(self, *_: object) -> None:
        self._shelf.close()
        self._store.close()

    @property
    def said(self) -> list[str]:
        """What a reader of the result should know."""
        if not self._doubt:
            return []
        return [
            f"{self._doubt} questions were under way when an earlier evaluation was killed; their "
            "answers were lost, so they were asked again and may have been charged twice."
        ]

    def model(self, source: Source) -> Model:
        """The model itself, in memory until the next one is asked for."""
        return self._shelf.weights(source)

    def losses(self, source: Source, texts: Sequence[str]) -> list[tuple[float, int]] | None:
        """What `Reads.losses` says of texts, kept like answers; None for a model that cannot."""
        if isinstance(source, Recorded) or (isinstance(source, str) and not weights_of(source)):
            return None
        asked: list[Message] = [{"role": "text", "content": text} for text in texts]
        key = answer_key(identity_of(source), asked, _READ)
        kept = self._store.get(key) if self.reuse else None
        if kept is not None:
            return [(float(nats), int(n)) for nats, n in json.loads(kept.text)]
        model = self._shelf.weights(source)
        if not isinstance(model, Reads):
            return None
        found = list(model.losses(texts))
        self._store.put(key, model.reference, Reply(text=json.dumps(found)))
        return found

    def ask(
        self, candidates: Sequence[Candidate], rows: Sequence[Row], sampling: Sampling
    ) -> list[list[Reply]]:
        """Every candidate's answers, in the order of the candidates and rows.

        Candidates of one model follow each other, and models on one base, so that weights are
        loaded once and freed before others come.

        Raises:
            LimitError: The budget does not hold what the next question may cost.
            UsageError: A budget is given, and the price of a remote model is not known.
        """
        answers: dict[str, list[Reply]] = {}
        # Baselines first: when something is wrong with the data the cheaper models show it.
        order = [*candidates[1:], candidates[0]]
        for one in order:
            if isinstance(one.source, Recorded):
                draws = [one.source.draws(row.prompt, row.tools) for row in rows]
                answers[one.name] = [some[0] for some in draws]
            elif isinstance(one.source, Always):
                answers[one.name] = [one.source.chat(row.prompt) for row in rows]
        live = [one for one in order if not isinstance(one.source, Recorded | Always)]
        bills = {
            one.name: _Bill(
                one, rows, sampling, self._store, self.reuse, self._shelf.identity(one.source)
            )
            for one in live
        }
        self._shelf.expect(
            [one.source for one in live],
            max((_most_tokens(one) for bill in bills.values() for one in bill.questions), default=0)
            + sampling.max_tokens,
        )
        if self._notice is not None:
            _announce(list(bills.values()), self._notice)
        if self._left is not None:
            _check_prices(bills)
        for source in in_order([one.source for one in live], self._shelf.place):
            for one in live:
                if one.source is not source and one.source != source:
                    continue
                told = _teller(self._progress, len(answers), len(order), len(rows))
                answers[one.name] = self._one(source, bills[one.name], sampling, told)
        return [answers[one.name] for one in candidates]

    def _one(self, source: Source, bill: _Bill, sampling: Sampling, told: Progress) -> list[Reply]:
        purse = None
        if self._left is not None and bill.price:
            purse = Purse(self._left, bill.price, sampling)
        at_once = self._concurrency
        if at_once is None:
            at_once = _REMOTE if bill.remote else self._shelf.at_once(source)
        asker = Asker(self._store, sampling, concurrency=at_once, reuse=self.reuse, purse=purse)
        found = asker.ask(partial(self._shelf.get, source), bill.identity, bill.questions, told)
        self._doubt += asker.in_doubt
        if purse is not None and self._left is not None:
            self._left -= purse.spent
        return found


class _Bill:
    """What one candidate has to be asked, and what that costs."""

    def __init__(
        self,
        candidate: Candidate,
        rows: Sequence[Row],
        sampling: Sampling,
        store: AnswerStore,
        reuse: bool,
        identity: str,
    ) -> None:
        self.name = candidate.name
        self.identity = identity
        self.questions = [Question(candidate.shape(row.prompt), row.tools) for row in rows]
        source = candidate.source
        self.remote = isinstance(source, str) and is_remote(source)
        self.price: AnswerPrice | None = price_of(candidate.reference) if self.remote else None
        asker = Asker(store, sampling, reuse=reuse)
        self.missing = list(asker.missing(self.identity, self.questions).values())
        self.most = (
            sum(most(one, self.price, sampling) for one in self.missing) if self.price else None
        )


def _most_tokens(question: Question) -> int:
    """More than the tokens of a prompt: no tokenizer makes two of one byte."""
    said = sum(64 + len(json.dumps(one, ensure_ascii=False).encode("utf-8", "replace"))
               for one in question.prompt)  # fmt: skip
    return said + (len(json.dumps(list(question.tools))) if question.tools else 0)


def _announce(bills: Sequence[_Bill], notice: Notice) -> None:
    """What is about to be asked, and the most that it can cost."""
    asked = sum(len(one.missing) for one in bills)
    kept = sum(len(one.questions) for one in bills) - asked
    if not asked:
        return
    text = f"{asked} questions to ask"
    if kept:
        text += f", {kept} answered before"
    priced = [one.most for one in bills if one.most is not None]
    if priced:
        text += f"; at most {sum(priced):.2g} USD"
    unknown = [one.name for one in bills if one.remote and one.missing and one.price is None]
    if unknown:
        text += f"; no price is known for {', '.join(unknown)}"
    notice(text + ".")


def _check_prices(bills: dict[str, _Bill]) -> None:
    for one in bills.values():
        if one.remote and one.missing:
            check_price(one.name, one.price)


def check_price(name: str, price: AnswerPrice | None) -> None:
    """A budget needs prices.

    Raises:
        UsageError: This one is not known.
    """
    if price is None:
        from unift.catalog import more_prices

        raise UsageError(
            f"The price of answers of {name} is not known, so no budget can be kept.",
            code="unknown_price",
            where="budget_usd",
            fix="leave the budget out, and bound the cost with limit=N (--limit)" + more_prices(),
        )


def _teller(
    progress: Progress | None, finished: int, candidates: int, rows: int
) -> Callable[[int, int], None]:
    """Turns the progress of one candidate, whose equal prompts are asked once, into that of all."""

    def tell(done: int, total: int) -> None:
        if progress is not None:
            progress(finished * rows + round(rows * done / total), candidates * rows)

    return tell

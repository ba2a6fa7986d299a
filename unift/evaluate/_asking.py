"""Every candidate's answers: each model opened once, the cheaper ones first."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import partial
from typing import Any

from unift.errors import UsageError
from unift.evaluate._answers import AnswerStore, Asker, Question
from unift.evaluate._candidates import Candidate, Source, identity_of
from unift.evaluate._cost import AnswerPrice, Purse, most, price_of
from unift.evaluate._recorded import Recorded
from unift.evaluate._rows import Row
from unift.provider import Model, Reply, Sampling

Progress = Callable[[int, int], None]
Notice = Callable[[str], None]

# Calls under way at a remote model, where nobody said how many: what vendors allow new accounts.
_REMOTE = 8


@dataclass(frozen=True)
class Answers:
    """Replies of each candidate, in the order of the candidates and rows, and what to say of it.

    `left` is what is left of the budget.
    """

    replies: list[list[Reply]]
    said: list[str]
    left: float | None


def ask(
    candidates: Sequence[Candidate],
    rows: Sequence[Row],
    sampling: Sampling,
    *,
    concurrency: int | None,
    reuse: bool,
    budget_usd: float | None,
    notice: Notice | None,
    progress: Progress | None,
) -> Answers:
    """Every candidate's answers. Candidates of one model follow each other, so that it is loaded
    once and freed before the next one comes.

    Raises:
        LimitError: The budget does not hold what the next question may cost.
        UsageError: A budget is given, and the price of a remote model is not known.
    """
    store = AnswerStore()
    answers: dict[str, list[Reply]] = {}
    # Baselines first: when something is wrong with the data the cheaper models show it.
    order = [*candidates[1:], candidates[0]]
    for one in order:
        if isinstance(one.source, Recorded):
            draws = [one.source.draws(row.prompt, row.tools) for row in rows]
            answers[one.name] = [some[0] for some in draws]
    live = [one for one in order if not isinstance(one.source, Recorded)]
    doubt, left = 0, budget_usd
    try:
        bills = {one.name: _Bill(one, rows, sampling, store, reuse) for one in live}
        if notice is not None:
            _announce(list(bills.values()), notice)
        if budget_usd is not None:
            _check_prices(bills)
        with _Shelf() as shelf:
            for source in _distinct([one.source for one in live]):
                for one in live:
                    if one.source is not source and one.source != source:
                        continue
                    bill = bills[one.name]
                    purse = (
                        Purse(left, bill.price, sampling)
                        if left is not None and bill.price
                        else None
                    )
                    asker = Asker(
                        store,
                        sampling,
                        concurrency=concurrency or (_REMOTE if bill.remote else None),
                        reuse=reuse,
                        purse=purse,
                    )
                    told = _teller(progress, len(answers), len(order), len(rows))
                    answers[one.name] = asker.ask(
                        partial(shelf.get, source), bill.identity, bill.questions, told
                    )
                    doubt += asker.in_doubt
                    if purse is not None and left is not None:
                        left -= purse.spent
    finally:
        store.close()
    said: list[str] = []
    if doubt:
        said.append(
            f"{doubt} questions were under way when an earlier evaluation was killed; their "
            "answers were lost, so they were asked again and may have been charged twice."
        )
    return Answers([answers[one.name] for one in candidates], said, left)


class _Shelf:
    """The one model in memory; the next one takes over its weights where it can."""

    def __init__(self) -> None:
        self._source: Source | None = None
        self._model: Model | None = None

    def get(self, source: Source) -> Model:
        from unift.reference import load

        if not isinstance(source, str):
            return source
        if self._model is not None and self._source == source:
            return self._model
        old, self._model = self._model, None
        if old is not None and not hasattr(old, "become"):
            old.close()
            old = None
        try:
            new = load(source, reuse=old) if old is not None else load(source)
            self._source, self._model = source, new
        finally:
            if old is not None and self._model is not old:
                old.close()
        return new

    def __enter__(self) -> _Shelf:
        return self

    def __exit__(self, *_: object) -> None:
        if self._model is not None:
            self._model.close()


class _Bill:
    """What one candidate has to be asked, and what that costs."""

    def __init__(
        self,
        candidate: Candidate,
        rows: Sequence[Row],
        sampling: Sampling,
        store: AnswerStore,
        reuse: bool,
    ) -> None:
        self.name = candidate.name
        self.identity = identity_of(candidate.source)
        self.questions = [Question(candidate.shape(row.prompt), row.tools) for row in rows]
        source = candidate.source
        self.remote = isinstance(source, str) and is_remote(source)
        self.price: AnswerPrice | None = price_of(candidate.reference) if self.remote else None
        asker = Asker(store, sampling, reuse=reuse)
        self.missing = list(asker.missing(self.identity, self.questions).values())
        self.most = (
            sum(most(one, self.price, sampling) for one in self.missing) if self.price else None
        )


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
        raise UsageError(
            f"The price of answers of {name} is not known, so no budget can be kept.",
            code="unknown_price",
            where="budget_usd",
            fix="leave the budget out, and bound the cost with limit=N (--limit)",
        )


def is_remote(reference: str) -> bool:
    """Whether somebody else's machine answers, one call each."""
    from unift.provider import get_provider
    from unift.reference import parse

    found = parse(reference)
    if found.scheme == "http":
        return True
    if found.scheme == "run":
        from unift.runs import run as get_run

        return get_provider(get_run(found.rest).provider).capabilities().place == "remote"
    if found.scheme in ("demo", "path", "hf"):
        return False
    return get_provider(found.scheme).capabilities().place == "remote"


def _teller(
    progress: Progress | None, finished: int, candidates: int, rows: int
) -> Callable[[int, int], None]:
    """Turns the progress of one candidate, whose equal prompts are asked once, into that of all."""

    def tell(done: int, total: int) -> None:
        if progress is not None:
            progress(finished * rows + round(rows * done / total), candidates * rows)

    return tell


def _distinct(sources: Sequence[Any]) -> list[Source]:
    found: list[Source] = []
    for source in sources:
        if not any(source is one or source == one for one in found):
            found.append(source)
    return found

"""Step 2: the answers of the old model, on the user's real prompts, while it still gives any."""

from __future__ import annotations

import threading
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from concurrent.futures import FIRST_COMPLETED, Future, ThreadPoolExecutor, wait
from contextlib import ExitStack
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any

from unift import catalog
from unift.catalog import TokenPrice
from unift.data import Scrubber
from unift.errors import DataError, UsageError
from unift.migrate._asking import Asker, OverBudget, Pace, Purse
from unift.migrate._golden import (
    Enough,
    Noise,
    Prompt,
    deviation_of,
    enough,
    noise_of,
    write_golden,
)
from unift.migrate._journal import Journal
from unift.migrate._prompts import prompts_of, read_prompts
from unift.migrate._source import Source, parse_source
from unift.provider import Model
from unift.reference import load

AT_ONCE = 8
STORED = "stored"
Progress = Callable[[int, int], None]


@dataclass(frozen=True)
class Golden:
    """A golden set and how it came about.

    Attributes:
        path: The file, see `unift.migrate._golden`.
        prompts: With at least one answer.
        draws: Answers in all.
        duplicates: Prompts that were given again.
        asked: Calls answered so far, by this recording and those before it into the same file.
        usd: What they cost; None where no price is known. `price_source` says whose price.
        doubtful: Calls that were under way when a recording was killed or a connection broke: paid
            or not, nobody knows. They are not made again unless asked for.
        missing: Answers that are still wanted.
        refused: Prompt id -> why the vendor would not answer it.
        scrubbed: Secrets and personal data taken out by this recording.
        noise: How far the old model agrees with itself.
        enough: Whether the prompts are enough for the margin.
        stopped: ``budget`` if that ended it early, else empty.
    """

    path: Path
    prompts: int
    draws: int
    duplicates: int
    asked: int
    usd: float | None
    price_source: str
    doubtful: int
    missing: int
    noise: Noise
    enough: Enough
    refused: dict[str, dict[str, Any]] = field(default_factory=dict[str, dict[str, Any]])
    scrubbed: int = 0
    stopped: str = ""

    def as_dict(self) -> dict[str, Any]:
        """The ``--json`` shape: the attributes, and `enough` as a sentence too."""
        return {**asdict(self), "path": str(self.path), "sentence": self.enough.sentence()}


def record(
    source: str | None,
    prompts: str | Path | Sequence[str | Path],
    *,
    out: str | Path,
    draws: int = 1,
    sampling: Mapping[str, Any] | None = None,
    logprobs: int | None = None,
    budget: float | None = None,
    price: tuple[float, float] | None = None,
    rate: float | None = None,
    at_once: int = AT_ONCE,
    scrub: bool = False,
    limit: int | None = None,
    margin: float = 0.05,
    ask_doubtful: bool = False,
    progress: Progress | None = None,
) -> Golden:
    """Ask the old model and keep what it says.

    Nothing is paid twice: every call is journalled before it is made (``OUT.journal``), and a
    recording that was stopped in any way goes on with what is missing. Answers that the prompts
    already carry (proxy logs, stored completions) count as draws and are not asked for again.

    Args:
        source: Model reference of the old model; None: ask nobody, only gather answers that the
            prompts carry.
        prompts: Files that `read_prompts` understands, and ``stored``: the completions that the
            vendor stored for this model.
        out: The golden set, ``*.jsonl``.
        draws: Answers of each prompt; two or more show the old model's own noise.
        sampling: How answers are drawn where a prompt does not say, in the OpenAI names. Default:
            ``{"temperature": 0}``.
        logprobs: Ask for log probabilities, with so many alternatives of each token (0 to 20).
        budget: US dollars, for all recordings into `out` together.
        price: US dollars per million tokens read and written, where the catalogue knows none.
        rate: Calls a minute at most.
        at_once: Calls under way at the same time.
        scrub: Take secrets and personal data out, before asking and before writing.
        limit: Only the first so many different prompts.
        margin: What loss would matter, a share of prompts; for `Golden.enough`.
        ask_doubtful: Make calls again of which nobody knows whether they were paid.
        progress: Called with (answers there, answers wanted).

    Raises:
        UsageError: Something is wrong with the call; a budget needs a price.
        DataError: A row of the prompts is broken, or there is none.
        ProviderError: The old model does not answer, now or any more. What was answered is kept.
        RunError: It refuses everything.
    """
    _check(draws, budget, rate, at_once, margin, limit)
    old = parse_source(source) if source and not _local(source) else None
    target = Path(out).expanduser().absolute()
    names = [prompts] if isinstance(prompts, str | Path) else list(prompts)
    settings = dict({"temperature": 0} if sampling is None else sampling)
    with ExitStack() as stack:
        scrubber = stack.enter_context(Scrubber()) if scrub else None
        journal = stack.enter_context(Journal(target.with_name(f"{target.name}.journal")))
        wanted, duplicates = _gather(names, settings, source, old, scrubber, limit)
        if not wanted:
            raise DataError(
                "There are no prompts.",
                code="no_prompts",
                where=", ".join(map(str, names)),
                fix="give files with prompts, or 'stored'",
            )
        for prompt in wanted.values():
            journal.add(prompt)
        journal.sync()
        tariff, price_source = _tariff(source, old, price, budget)
        purse = Purse(budget, tariff, spent=journal.state.most_usd)
        try:
            stopped = ""
            if source is not None:
                model = _open(old, source)
                stack.callback(model.close)
                clean = _Clean(scrubber)
                asker = Asker(
                    model, journal, purse, Pace(rate), logprobs=logprobs, clean=clean.scrub
                )
                todo = list(_todo(journal, wanted, draws, ask_doubtful))
                stopped = _run(asker, todo, at_once, draws * len(wanted), progress)
        finally:
            write_golden(target, journal.state.prompts.values())
        return _result(
            target, journal, wanted, duplicates, draws, margin, stopped,
            usd=purse.spent if tariff is not None else None,
            price_source=price_source,
            scrubbed=scrubber.count if scrubber else 0,
            source=source,
        )  # fmt: skip


def _check(
    draws: int,
    budget: float | None,
    rate: float | None,
    at_once: int,
    margin: float,
    limit: int | None,
) -> None:
    wrong = {
        "draws": draws < 1,
        "budget": budget is not None and budget <= 0,
        "rate": rate is not None and rate <= 0,
        "at_once": not 1 <= at_once <= 256,
        "margin": not 0 < margin < 1,
        "limit": limit is not None and limit < 1,
    }
    for name, is_wrong in wrong.items():
        if is_wrong:
            raise UsageError(
                f"The value of {name} makes no sense.",
                code="bad_value",
                where=name,
                fix="a margin lies between 0 and 1; the others are above 0 (at_once: 256 at most)",
            )


def _local(source: str) -> bool:
    return source == "demo" or source.startswith(("run:", "path:", "hf:", "./", "/", "~"))


def _open(old: Source | None, source: str) -> Model:
    if old is None:
        return load(source)
    if old.reference is None:
        raise UsageError(
            f"'{source}' has many models; say which one is to be recorded.",
            code="model_not_named",
            where="source",
            fix=f"--source {source}:MODEL; unift migrate inventory --source {source} lists them",
        )
    return old.provider.model(source if "://" in source else old.model or "")


def _gather(
    names: Iterable[str | Path],
    sampling: Mapping[str, Any],
    source: str | None,
    old: Source | None,
    scrubber: Scrubber | None,
    limit: int | None,
) -> tuple[dict[str, Prompt], int]:
    """Different prompts by id, and how many came again."""
    wanted: dict[str, Prompt] = {}
    duplicates = 0
    others: set[str] = set()
    name = old.model if old else None
    for prompt in _all(names, sampling, old):
        if prompt.draws and prompt.model and name and not _same(prompt.model, name):
            others.add(prompt.model)
            prompt.draws = []  # somebody else's answers; the prompt is as good
        prompt.model = name or prompt.model or source or ""
        if scrubber is not None:
            prompt.messages = scrubber.scrub(prompt.messages)
            prompt.truth = scrubber.scrub(prompt.truth)
            prompt.draws = scrubber.scrub(prompt.draws)
        known = wanted.get(prompt.id)
        if known is not None:
            duplicates += 1
            known.draws += prompt.draws
            known.truth = known.truth or prompt.truth
        elif limit is None or len(wanted) < limit:
            wanted[prompt.id] = prompt
    if source is None:
        models = {prompt.model for prompt in wanted.values() if prompt.draws and prompt.model}
        if len(models) > 1:
            raise UsageError(
                f"The answers are of {len(models)} models: {', '.join(sorted(models)[:5])}.",
                code="several_models",
                where="source",
                fix="say which one is to be replaced: --source openai:MODEL",
            )
    return wanted, duplicates


def _all(
    names: Iterable[str | Path], sampling: Mapping[str, Any], old: Source | None
) -> Iterator[Prompt]:
    for name in names:
        if name != STORED:
            yield from read_prompts(name, sampling)
            continue
        if old is None:
            raise UsageError(
                "Stored completions lie at a vendor.",
                code="no_vendor",
                where="source",
                fix="name it: --source openai:MODEL",
            )
        for number, row in enumerate(old.keeper.stored(old.model), 1):
            yield from prompts_of(row, sampling, f"stored completion {number}", STORED)


def _same(model: str, name: str) -> bool:
    """A base is answered under its dated name: ``gpt-4o-mini`` as ``gpt-4o-mini-2024-07-18``."""
    return model == name or model.startswith(f"{name}-") or name.startswith(f"{model}-")


def _tariff(
    source: str | None,
    old: Source | None,
    price: tuple[float, float] | None,
    budget: float | None,
) -> tuple[TokenPrice | None, str]:
    if price is not None:
        return TokenPrice(input=price[0], output=price[1]), "the user"
    found = catalog.answer_price(old.model, old.name) if old and old.model else None
    if found is not None:
        return found[0], f"catalogue, {found[1].as_of}: {found[1].source[0]}"
    if budget is not None and source is not None:
        raise UsageError(
            f"Nobody knows a price for {source}, so a budget means nothing.",
            code="no_price",
            where="budget",
            fix="give the price per million tokens read and written: --price 0.30/1.20",
        )
    return None, ""


class _Clean:
    """The detectors share settings, so one text at a time."""

    def __init__(self, scrubber: Scrubber | None) -> None:
        self._scrubber, self._lock = scrubber, threading.Lock()

    def scrub(self, draw: Any) -> Any:
        if self._scrubber is None:
            return draw
        with self._lock:
            cleaned = self._scrubber.scrub(draw["message"])
            if cleaned != draw["message"]:
                draw.pop("logprobs", None)  # they spell out what was taken out
            return {**draw, "message": cleaned}


def _todo(
    journal: Journal, wanted: Mapping[str, Prompt], draws: int, ask_doubtful: bool
) -> Iterator[tuple[Prompt, int]]:
    """All first draws, then all second ones: whatever ends it early leaves most prompts."""
    state = journal.state
    for number in range(draws):
        for id in wanted:
            prompt = state.prompts[id]
            there = len(prompt.draws) + (0 if ask_doubtful else len(state.open.get(id, ())))
            if there <= number and id not in state.refused:
                yield prompt, number


def _run(
    asker: Asker,
    todo: list[tuple[Prompt, int]],
    at_once: int,
    total: int,
    progress: Progress | None,
) -> str:
    """Returns why it ended early: ``budget``, or nothing."""
    stopped, done = "", total - len(todo)
    queue = iter(todo)
    pool = ThreadPoolExecutor(at_once, thread_name_prefix="record")
    running: set[Future[None]] = set()
    try:
        while True:
            while len(running) < at_once and not stopped:
                entry = next(queue, None)
                if entry is None:
                    break
                running.add(pool.submit(asker.ask, *entry))
            if not running:
                return stopped
            finished, running = wait(running, return_when=FIRST_COMPLETED)
            for future in finished:
                try:
                    future.result()
                except OverBudget:
                    stopped = "budget"
                done += 1
            if progress is not None:
                progress(min(done, total), total)
    finally:
        # Also on Ctrl-C: what is under way is paid, so its answers are waited for.
        asker.stopped.set()
        pool.shutdown(wait=True, cancel_futures=True)


def _result(
    target: Path,
    journal: Journal,
    wanted: Mapping[str, Prompt],
    duplicates: int,
    draws: int,
    margin: float,
    stopped: str,
    *,
    usd: float | None,
    price_source: str,
    scrubbed: int,
    source: str | None,
) -> Golden:
    state = journal.state
    answered = [prompt for prompt in state.prompts.values() if prompt.draws]
    noise = noise_of(answered)
    missing = sum(
        max(0, draws - len(state.prompts[id].draws)) for id in wanted if id not in state.refused
    )
    return Golden(
        path=target,
        prompts=len(answered),
        draws=sum(len(prompt.draws) for prompt in answered),
        duplicates=duplicates,
        asked=state.calls,
        usd=usd,
        price_source=price_source,
        doubtful=sum(map(len, state.open.values())),
        missing=missing if source is not None else 0,
        noise=noise,
        enough=enough(len(answered), margin, deviation_of(noise)),
        refused=state.refused,
        scrubbed=scrubbed,
        stopped=stopped,
    )

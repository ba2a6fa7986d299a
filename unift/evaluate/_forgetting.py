"""Did training cost what the model could do before? The model against its base, kind by kind."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import asdict, dataclass
from typing import Any

from unift.evaluate._asking import Session
from unift.evaluate._candidates import Candidate
from unift.evaluate._general import general_set
from unift.evaluate._recorded import Recorded
from unift.evaluate._rows import Row
from unift.evaluate._statistics import holm, paired_difference
from unift.evaluate._verdict import Verdict
from unift.provider import Sampling

# Long enough for every rule of the set.
_SAMPLING = Sampling(temperature=0.0, top_p=1.0, max_tokens=96)


@dataclass(frozen=True)
class Forgotten:
    """Shares of the answers that pass their rule, before and after.

    `worse` is True where the model passes fewer than its base by more than chance explains (exact
    McNemar test, Holm-corrected over the kinds).
    """

    kind: str
    n: int
    model: float
    base: float
    difference: float
    low: float
    high: float
    p_adjusted: float
    worse: bool


def forgetting(
    session: Session, model: Candidate, base: Candidate, *, confidence: float, seed: int
) -> list[Forgotten]:
    """Ask both the general set and compare; nothing where the model only exists as a recording."""
    if isinstance(model.source, Recorded) or isinstance(base.source, Recorded):
        return []
    everything = general_set()
    rows = [Row(({"role": "user", "content": one.prompt},), "", 0) for one in everything]
    found = session.ask([model, base], rows, _SAMPLING)
    mine, theirs = (
        [float(one.passes(reply.text)) for one, reply in zip(everything, replies, strict=True)]
        for replies in found
    )
    kinds = {kind: [i for i, one in enumerate(everything) if one.kind == kind]
             for kind in dict.fromkeys(one.kind for one in everything)}  # fmt: skip
    pairs = [
        paired_difference(
            [mine[i] for i in index], [theirs[i] for i in index], confidence=confidence, seed=seed
        )
        for index in kinds.values()
    ]
    corrected = holm([pair.p for pair in pairs])
    return [
        Forgotten(
            kind, len(index), sum(mine[i] for i in index) / len(index),
            sum(theirs[i] for i in index) / len(index),
            pair.value, pair.low, pair.high, p, p < 1 - confidence and pair.high < 0,
        )
        for (kind, index), pair, p in zip(kinds.items(), pairs, corrected, strict=True)
    ]  # fmt: skip


def with_forgetting(verdict: Verdict, found: Sequence[Forgotten]) -> Verdict:
    """The verdict with what was forgotten named in it."""
    lost = [one for one in found if one.worse]
    if not lost:
        return verdict
    told = ", ".join(f"{one.kind} ({one.difference * 100:+.1f} points)" for one in lost)
    names = tuple(f"general {one.kind}" for one in lost)
    return Verdict(
        verdict.code,
        f"{verdict.sentence} It forgot general skills: {told.replace('-', '−')}.",
        verdict.against,
        (*verdict.exceptions, *names),
    )


def as_dicts(found: Sequence[Forgotten]) -> list[dict[str, Any]]:
    return [asdict(one) for one in found]

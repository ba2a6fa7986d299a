"""Slices: parts of the test rows where an average hides a loss.

Rows are sliced by label (in a classification), by the length of the prompt, by its language where
several are there, and by any key of the rows that the user names.
"""

from __future__ import annotations

from collections.abc import Hashable, Sequence
from dataclasses import asdict, dataclass, replace
from importlib.util import find_spec
from typing import Any

from unift._text import did_you_mean
from unift.errors import UsageError
from unift.evaluate._metrics import Metric, label_of
from unift.evaluate._result import Result
from unift.evaluate._rows import Row, answer_text
from unift.evaluate._statistics import RESAMPLES, holm, paired_difference
from unift.evaluate._task import Task

#: Smaller slices are shown without a test: five rows that all got worse have p = 0.06 at best.
TESTED = 6
#: Lengths are three equal parts from so many rows on.
_LENGTH_ROWS = 30
#: Of a key of the user, the most frequent values; a key with a value for every row is none.
_VALUES = 50
_LANGUAGE_CHARACTERS = 40
_LANGUAGE_ROWS = 10


@dataclass(frozen=True)
class Slice:
    """Scores of one part of the rows, and the model under test against one baseline there.

    `worse` is True where the model lost more than chance explains (paired test, Holm-corrected over
    all tested slices), and more than the margin if there is one; `better` likewise. `difference`,
    `low`, `high`, `p` and `p_adjusted` are None where nothing was compared or the slice has fewer
    than `TESTED` rows.

    `alike` is True where every row differs by the same. The interval allows there for rows that
    were not drawn and differ by the whole scale, which says nothing against a part where nine rows
    of nine lost 40 points: the test alone decides whether that is named.
    """

    by: str
    value: str
    n: int
    scores: dict[str, float]
    against: str | None = None
    difference: float | None = None
    low: float | None = None
    high: float | None = None
    p: float | None = None
    p_adjusted: float | None = None
    worse: bool = False
    better: bool = False
    alike: bool = False

    @property
    def name(self) -> str:
        return f"{self.by} '{self.value}'"

    def as_dict(self) -> dict[str, Any]:
        return asdict(self)


def slice_rows(rows: Sequence[Row], task: Task, keys: Sequence[str]) -> list[tuple[str, list[str]]]:
    """(what it is sliced by, the value of each row) for everything that has two values or more.

    Raises:
        UsageError: No row has such a key.
    """
    found: list[tuple[str, list[str]]] = []
    if task.kind == "labels":
        found.append(("label", [label_of(row.target) for row in rows]))
    found += [("length", values) for values in _lengths(rows)]
    found += [("language", values) for values in _languages(rows)]
    found += [(key, row_key(rows, key)) for key in keys]
    return [(by, values) for by, values in found if len(set(values)) > 1 or by in keys]


def row_key(rows: Sequence[Row], key: str) -> list[str]:
    """The value of a key of the user in each row, as text.

    Raises:
        UsageError: No row has it; the nearest known one is named.
    """
    if not any(key in row.extra for row in rows):
        known = dict.fromkeys(name for row in rows for name in row.extra)
        raise UsageError(
            f"No test row has a key '{key}'.",
            code="unknown_key",
            where=key,
            fix=did_you_mean(key, known)
            if known
            else f'put it beside the messages: {{"messages": [...], "{key}": "..."}}',
        )
    return [str(row.extra.get(key, "(none)")) for row in rows]


def _lengths(rows: Sequence[Row]) -> list[list[str]]:
    sizes = [sum(len(answer_text(one).split()) for one in row.prompt) for row in rows]
    ordered = sorted(sizes)
    first, second = ordered[len(rows) // 3], ordered[2 * len(rows) // 3]
    if len(rows) < _LENGTH_ROWS or first == second or ordered[0] == first:
        return []
    names = (
        f"up to {first - 1} words",
        f"{first} to {second - 1} words",
        f"{second} words or more",
    )
    return [[names[(size >= first) + (size >= second)] for size in sizes]]


def _languages(rows: Sequence[Row]) -> list[list[str]]:
    """py3langid (Lui and Baldwin 2012) where it is installed; short prompts are not guessed."""
    texts = [
        " ".join(answer_text(one) for one in row.prompt if one.get("role") == "user")
        for row in rows
    ]
    if find_spec("py3langid") is None or max(map(len, texts)) < _LANGUAGE_CHARACTERS:
        return []
    from py3langid.langid import (  # pyright: ignore[reportMissingTypeStubs]  # has none
        MODEL_FILE,
        LanguageIdentifier,
    )

    known: Any = LanguageIdentifier
    identifier: Any = known.from_model_file(MODEL_FILE, norm_probs=True)
    values: list[str] = []
    for text in texts:
        letters = sum(char.isalpha() or char.isspace() for char in text[:400])
        clear = len(text) >= _LANGUAGE_CHARACTERS and letters >= 0.8 * len(text[:400])
        language, sure = identifier.classify(text[:400]) if clear else ("", 0.0)
        values.append(language if sure >= 0.9 else "unclear")
    counts = {value: values.count(value) for value in set(values)}
    real = {v for v, n in counts.items() if v != "unclear" and n >= _LANGUAGE_ROWS}
    if len(real) < 2:
        return []
    return [[value if value in real else "other or unclear" for value in values]]


def compare_slices(
    rows: Sequence[Row],
    task: Task,
    keys: Sequence[str],
    results: Sequence[Result],
    rival: str | None,
    *,
    metric: Metric,
    confidence: float,
    seed: int,
    margin: float | None = None,
    groups: Sequence[Hashable] | None = None,
    resamples: int = RESAMPLES,
) -> list[Slice]:
    """Every slice with the scores of all candidates, and the first one against `rival`.

    The level of the test is ``(1 - confidence) / 2``, one-sided, over all slices together, so that
    looking at many slices does not find a loss by chance more often than looking once.
    """
    own = results[0].scores[metric.name]
    theirs = next((one.scores[metric.name] for one in results if one.name == rival), None)
    made: list[Slice] = []
    for by, values in slice_rows(rows, task, keys):
        counts = {value: values.count(value) for value in dict.fromkeys(values)}
        common = sorted(counts, key=lambda value: -counts[value])[:_VALUES]
        if by in keys and len(counts) == len(rows) > 1:
            continue  # an id, no slice
        for value in [one for one in counts if one in common]:
            index = [i for i, one in enumerate(values) if one == value]
            scores = {
                one.name: sum(one.scores[metric.name][i] for i in index) / len(index)
                for one in results
            }
            part = Slice(by, value, len(index), scores)
            if theirs is not None:
                part = _compared(
                    part, index, own, theirs, rival, confidence, seed, groups, resamples
                )
            made.append(part)
    return _judged(made, confidence, margin or 0.0)


def _compared(
    part: Slice,
    index: Sequence[int],
    own: Sequence[float],
    theirs: Sequence[float],
    rival: str | None,
    confidence: float,
    seed: int,
    groups: Sequence[Hashable] | None,
    resamples: int,
) -> Slice:
    if len(index) < TESTED:
        return part
    found = paired_difference(
        [own[i] for i in index],
        [theirs[i] for i in index],
        confidence=confidence,
        seed=seed,
        groups=[groups[i] for i in index] if groups is not None else None,
        resamples=resamples,
    )
    return replace(
        part,
        against=rival,
        difference=found.value,
        low=found.low,
        high=found.high,
        p=found.p,
        alike=found.deviation < 1e-12 < abs(found.value),
    )


def _judged(slices: Sequence[Slice], confidence: float, margin: float) -> list[Slice]:
    tested = [one for one in slices if one.p is not None]
    corrected = holm([one.p or 0.0 for one in tested])
    found = {id(one): p for one, p in zip(tested, corrected, strict=True)}
    return [
        one if id(one) not in found else _verdict(one, found[id(one)], confidence, margin)
        for one in slices
    ]


def _verdict(one: Slice, p: float, confidence: float, margin: float) -> Slice:
    # A two-sided p-value below 1 - confidence is a one-sided one below half of that.
    sure = p < 1 - confidence
    difference = one.difference or 0.0
    worse = sure and (one.alike or (one.high or 0.0) < 0) and difference < -margin
    better = sure and (difference if one.alike else one.low or 0.0) > 0
    return replace(one, p_adjusted=p, worse=worse, better=better)

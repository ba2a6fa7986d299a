"""Few-shot examples: training rows in the prompt, drawn at random or chosen by likeness."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from functools import cache
from pathlib import Path
from random import Random
from typing import Any

from unift.errors import DataError, MissingDependency, UsageError
from unift.evaluate._rows import Message, Row, answer_text, read_rows

PREFIX = "base+few-shot:"
SYSTEM = ("system", "developer")
Choice = Callable[[Sequence[Message]], Sequence[Row]]

# A word, or one sign of a script that is written without spaces.
_TOKEN = r"[\u3040-\u30ff\u3400-\u9fff\uac00-\ud7af]|[^\W\u3040-\u30ff\u3400-\u9fff\uac00-\ud7af]+"


def parse(entry: str) -> tuple[int, bool]:
    """``base+few-shot:5`` -> (5, False); ``base+few-shot:5:similar`` -> (5, True).

    Raises:
        UsageError: Anything else.
    """
    text, colon, how = entry.removeprefix(PREFIX).partition(":")
    if not text.isascii() or not text.isdigit() or int(text) < 1:
        raise UsageError(
            f"'{text}' is no number of examples.",
            code="bad_baseline",
            where=f"against {entry}",
            fix=f"write {PREFIX}5",
        )
    if colon and how != "similar":
        raise UsageError(
            f"Examples cannot be chosen by '{how}'.",
            code="bad_baseline",
            where=f"against {entry}",
            fix=f"write {PREFIX}{text} (drawn at random) or {PREFIX}{text}:similar",
        )
    return int(text), bool(colon)


def usable_rows(train: str | Path, count: int, test_rows: Sequence[Row]) -> list[Row]:
    """The different training rows that may be shown, in the order of the file.

    A training row whose prompt occurs in the test data is never shown: it would hand the answer to
    the baseline. Only rows of plain user and assistant turns qualify.

    Raises:
        DataError: Fewer than `count` rows qualify.
    """
    rows, _ = read_rows(train)
    asked = {row.key for row in test_rows}
    usable = {row.key: row for row in rows if row.key not in asked and _plain_turns(row)}
    if len(usable) < count:
        raise DataError(
            f"{count} examples were asked for, but only {len(usable)} different training rows do "
            "not occur in the test data.",
            code="too_few_examples",
            where=str(train),
            fix=f"ask for {PREFIX}{len(usable)}" if usable else "give other training data",
        )
    return list(usable.values())


def at_random(usable: Sequence[Row], count: int, seed: int) -> Choice:
    """The same `count` rows for every question, drawn with a fixed seed."""
    drawn = Random(seed).sample(list(usable), count)
    return lambda prompt: drawn


def by_likeness(usable: Sequence[Row], count: int) -> Choice:
    """For each question the `count` rows most like it, the likest last, nearest to the question.

    Likeness is the cosine of TF-IDF vectors of words over what users say (scikit-learn's
    TfidfVectorizer with sublinear counts). Rows that are equally like come in the order of the
    file, so that the choice is the same every time.

    Raises:
        MissingDependency: scikit-learn is not installed.
    """
    try:
        from sklearn.feature_extraction.text import (  # pyright: ignore[reportMissingTypeStubs]
            TfidfVectorizer,
        )
    except ImportError as error:
        raise MissingDependency(
            "Choosing examples by likeness needs scikit-learn.",
            where=f"against {PREFIX}{count}:similar",
            fix="pip install 'unift[eval]'",
        ) from error
    vectorizer: Any = TfidfVectorizer(sublinear_tf=True, token_pattern=_TOKEN)
    try:
        known: Any = vectorizer.fit_transform([_said(row.prompt) for row in usable])
    except ValueError:  # no prompt has a word
        return at_random(usable, count, 0)

    @cache
    def nearest(said: str) -> tuple[Row, ...]:
        likeness = (known @ vectorizer.transform([said]).T).toarray().ravel()
        best = (-likeness).argsort(kind="stable")[:count]
        return tuple(usable[int(i)] for i in best[::-1])

    return lambda prompt: nearest(_said(prompt))


def with_shots(choose: Choice) -> Callable[[Sequence[Message]], list[Message]]:
    """The question after the examples, which are earlier turns of the same talk."""

    def shape(prompt: Sequence[Message]) -> list[Message]:
        turns: list[Message] = []
        for row in choose(prompt):
            turns += [message for message in row.prompt if message.get("role") not in SYSTEM]
            turns.append({"role": "assistant", "content": row.target})
        head = [message for message in prompt if message.get("role") in SYSTEM]
        rest = [message for message in prompt if message.get("role") not in SYSTEM]
        return [*head, *turns, *rest]

    return shape


def _said(prompt: Sequence[Message]) -> str:
    return " ".join(answer_text(one) for one in prompt if one.get("role") == "user")


def _plain_turns(row: Row) -> bool:
    allowed = {"user", "assistant", *SYSTEM}
    return all(
        message.get("role") in allowed and not message.get("tool_calls") for message in row.prompt
    )

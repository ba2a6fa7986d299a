"""What a reader should know of the answers before believing the verdict."""

from __future__ import annotations

import json
import re
from collections.abc import Iterable, Sequence
from typing import Any

from unift.evaluate._commonest import NAME as COMMONEST
from unift.evaluate._metrics import ACCURACY, label_of
from unift.evaluate._recorded import reply_text
from unift.evaluate._result import Result
from unift.evaluate._rows import Row
from unift.evaluate._scoring import scored_texts
from unift.evaluate._task import Task

# So many rows before "always the same answer" is more than chance.
_SAME_ROWS = 10
# A share of the answers above which a form that no metric forgives is worth a sentence.
_OFTEN = 0.1
_FEW = 30
_SHOWN = 40  # characters of an answer


def cautions(
    results: Sequence[Result],
    rows: Sequence[Row],
    task: Task,
    skipped: int,
    lineage: dict[str, Any],
    said: Sequence[str] = (),
) -> list[str]:
    """Sentences, those of the caller first."""
    found: list[str] = list(said)
    if skipped:
        found.append(f"{skipped} rows do not end in an answer and were left out.")
    leaked = lineage.get("test_prompts_in_training")
    if leaked:
        found.append(
            f"{leaked} of {len(rows)} test prompts occur in the training data; "
            "the score of the fine-tuned model is too good to be true by as much."
        )
    for one in results:
        found += _of_answers(one, rows, task)
    found += _nobody_right(results, rows, task)
    asked = {json.dumps([row.prompt, row.tools], sort_keys=True) for row in rows}
    repeated = len(rows) - len(asked)
    if repeated:
        found.append(
            f"{repeated} of {len(rows)} rows ask what another row asks; they count as rows of "
            "their own, so that the intervals are too narrow. Leave them out."
        )
    if len(rows) < _FEW:
        few = "1 row is" if len(rows) == 1 else f"{len(rows)} rows are"
        found.append(f"{few} few: only large differences can be told from chance.")
    return found


def _of_answers(one: Result, rows: Sequence[Row], task: Task) -> list[str]:
    found: list[str] = []
    if one.truncated:
        found.append(
            f"{one.truncated} answers of {one.name} were cut at the token limit; "
            "raise it (--max-tokens) if they are right as far as they go."
        )
    texts = [reply_text(reply) for reply in one.replies]
    scored = scored_texts(one.replies, rows)
    reasoned = sum(text != rest for text, rest in zip(texts, scored, strict=True))
    if reasoned:
        found.append(
            f"{reasoned} answers of {one.name} begin with reasoning in tags, which was taken "
            "off before scoring."
        )
    empty = sum(not text.strip() for text in scored)
    if empty:
        found.append(f"{empty} of {len(rows)} answers of {one.name} are empty.")
    varied = len({row.target for row in rows}) > 1
    if len(set(scored)) == 1 and varied and len(rows) >= _SAME_ROWS and one.name != COMMONEST:
        if not empty:
            found.append(
                f"{one.name} gives the same answer to all {len(rows)} questions "
                f"('{_line(scored[0])}'): it does not tell them apart."
            )
    elif task.metrics[0] is ACCURACY:
        found += _among_words(one.name, scored, rows, task.kind == "labels")
    return found


def _among_words(name: str, scored: Sequence[str], rows: Sequence[Row], choice: bool) -> list[str]:
    """Answers that hold the wanted one among further words; of a choice of labels, no other one."""
    every = {label for row in rows if (label := label_of(row.target))} if choice else set[str]()
    either = _any_of(every)
    told = 0
    for text, row in zip(scored, rows, strict=True):
        wanted, given = label_of(row.target), label_of(text)
        if wanted and given != wanted and wanted in given:
            held = (either if choice else _any_of({wanted})).findall(given)
            told += set(held) == {wanted}
    if told < _OFTEN * len(rows):
        return []
    what = "the right label, and no other," if choice else "the wanted answer"
    return [
        f"{told} answers of {name} have {what} among further words; they count as wrong. If they "
        "are good enough, ask for nothing else (prompt:FILE), or score with a function of your own "
        "(--metric MODULE:FUNCTION)."
    ]


def _any_of(texts: Iterable[str]) -> re.Pattern[str]:
    """Longer ones first, so that "not spam" is not "spam"."""
    longest = sorted(texts, key=len, reverse=True)
    return re.compile("|".join(rf"(?<!\w){re.escape(one)}(?!\w)" for one in longest))


def _nobody_right(results: Sequence[Result], rows: Sequence[Row], task: Task) -> list[str]:
    metric = task.metrics[0]
    scores = [one.scores.get(metric.name, ()) for one in results]
    if metric.right != 1.0 or not any(map(len, scores)) or any(any(some) for some in scores):
        return []
    answer = scored_texts(results[0].replies[:1], rows[:1])[0]
    return [
        f"No answer of anybody is right by '{metric.title}', so that it says nothing about who is "
        f"better. Look whether it is too strict: line {rows[0].line} wants "
        f"'{_line(rows[0].target)}', and {results[0].name} says '{_line(answer)}'."
    ]


def _line(text: str) -> str:
    line = " ".join(text.split())
    return line if len(line) <= _SHOWN else f"{line[:_SHOWN]}…"

"""The steps of an evaluation: asking, scoring, comparing, recording; `evaluate` orders them."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

from unift._home import home
from unift.errors import DataError, UsageError
from unift.evaluate import _classification as classification
from unift.evaluate._candidates import (
    Candidate,
    Source,
    base_of,
    identity_of,
    in_training,
    name_of,
    run_of,
)
from unift.evaluate._commonest import NAME as COMMONEST
from unift.evaluate._commonest import Always
from unift.evaluate._json_fields import field_table
from unift.evaluate._judge import Judge
from unift.evaluate._metrics import Metric
from unift.evaluate._recorded import Recorded
from unift.evaluate._result import Evaluation, Result
from unift.evaluate._rows import Row, fingerprint
from unift.evaluate._scoring import scored_texts
from unift.evaluate._shelf import Shelf
from unift.evaluate._statistics import minimum_detectable_effect, rows_needed
from unift.evaluate._task import Task
from unift.evaluate._verdict import Verdict
from unift.evaluate.diagnosis import diagnose
from unift.provider import Sampling

Progress = Callable[[int, int], None]

# Parts of the document that the report holds and the record of a run need not repeat.
_BULKY = ("samples", "labels", "confusion", "slices")


def check(
    limit: int | None,
    concurrency: int | None,
    confidence: float,
    margin: float | None,
    budget_usd: float | None,
) -> None:
    wrong = None
    if limit is not None and limit < 1:
        wrong = ("limit", limit, "a number of rows from 1")
    elif concurrency is not None and concurrency < 1:
        wrong = ("concurrency", concurrency, "a number from 1")
    elif not 0.5 <= confidence < 1:
        wrong = ("confidence", confidence, "a number between 0.5 and 1, such as 0.95")
    elif margin is not None and not 0 < margin < float("inf"):
        wrong = ("margin", margin, "a loss above 0 in units of the metric, such as 0.02")
    elif budget_usd is not None and not 0 <= budget_usd < float("inf"):
        wrong = ("budget_usd", budget_usd, "US dollars from 0")
    if wrong:
        raise UsageError(
            f"{wrong[0]}={wrong[1]} is out of range.",
            code="bad_setting",
            where=wrong[0],
            fix=f"give {wrong[2]}",
        )


def try_metrics(task: Task, rows: Sequence[Row], wanted: Any) -> None:
    """Let a metric of the user score a right answer, so that it fails before anything is asked.

    Raises:
        UsageError: It failed, or returned no number.
    """
    for metric in task.metrics:
        if wanted is not None and metric.targets is None and metric.name != "preference":
            metric.rate(rows[0].target, rows[0].target)


def what_can_be_seen(n: int, task: Task, confidence: float, margin: float | None) -> str:
    """What so many rows can show, said before anything is spent.

    The deviation of the row differences is not known yet; 0.5 is the guess of
    `minimum_detectable_effect`, and a preference needs more.
    """
    # A preference moves a row from -1 to 1, so that half of the rows decided is 0.7.
    preferred = task.metrics[0].name == "preference"
    deviation = 0.7 if preferred else 0.5
    seen = minimum_detectable_effect(n, deviation=deviation, confidence=confidence)
    text = (
        f"With {n} rows, differences below about {seen * 100:.1f} points cannot be told from chance"
    )
    if margin is not None:
        needed = rows_needed(margin, deviation=deviation, confidence=confidence)
        text += f"; to rule out a loss of {margin:g}, about {needed} rows are needed"
    guess = "half of the pairs have a winner" if preferred else "a quarter of the answers change"
    return f"{text} (80% power, if {guess}; {task.metrics[0].title})."


def reference_of(
    margin: float | None, reference: Source | None, against: Sequence[Source]
) -> Source | None:
    """Whom a margin is measured against: the one named, else the only baseline there is."""
    if margin is None:
        if reference is None:
            return None
        raise UsageError(
            "A reference was named, but no margin.",
            code="no_margin",
            where="margin",
            fix="say which loss would matter: margin=0.02 (--margin 0.02 on the command line)",
        )
    if reference is not None:
        return reference
    if len(against) == 1:
        return against[0]
    raise UsageError(
        f"A margin needs one candidate to be measured against, and there are {len(against)}.",
        code="no_reference",
        where="reference",
        fix="name it: reference='base' (--reference on the command line)",
    )


def usual(model: Source, base: Source | None, reference: Source | None) -> tuple[list[Source], str]:
    """Whom to compare with where nobody said, and what to say if there is nobody.

    That is the reference alone, if there is one; else the base, if anybody knows it.
    """
    if reference is not None:
        return [], ""
    try:
        base_of(model, base)
    except UsageError as error:
        if error.code != "unknown_base":
            raise
        return [], (
            f"Nobody knows what {name_of(model)} was before training, so it is compared with "
            "nothing: --base names its base, --against anybody else."
        )
    return ["base"], ""


def phrases(candidates: Sequence[Candidate]) -> dict[str, str]:
    """What a sentence calls a candidate, where that is not its name."""
    return {one.name: one.source.phrase for one in candidates if isinstance(one.source, Always)}


def rival(verdict: Verdict, results: Sequence[Result], metric: Metric) -> str | None:
    """Whom parts and samples are compared with: as the verdict, but with somebody who reads the
    question. The commonest answer is always right on one label, and never on the others."""
    if verdict.against != COMMONEST:
        return verdict.against
    others = [one for one in results[1:] if one.name != COMMONEST]
    return max(others, key=lambda one: one.metrics[metric.name]).name if others else None


def recorded_rows(
    rows: Sequence[Row], candidates: Sequence[Candidate]
) -> tuple[list[Row], list[str]]:
    """The rows that every golden set among the candidates answers, and what to say of the rest.

    Raises:
        DataError: None is left.
    """
    left, said = list(rows), list[str]()
    for one in candidates:
        if not isinstance(one.source, Recorded):
            continue
        known = [row for row in left if one.source.draws(row.prompt, row.tools)]
        if not known:
            raise DataError(
                "None of the test prompts was recorded.",
                code="nothing_recorded",
                where=str(one.source.path),
                fix="record these prompts while the model still answers, or test on the recorded "
                f"ones: data='{one.reference}'",
            )
        if len(known) < len(left):
            said.append(
                f"{len(left) - len(known)} of {len(left)} test prompts are not in {one.reference} "
                "and were left out for everybody."
            )
        left = known
    return left, said


def sampling(rows: Sequence[Row]) -> Sampling:
    # Half a token a byte is twice what tokenizers need for English and for JSON.
    longest = max(len(row.target.encode("utf-8", "surrogatepass")) for row in rows)
    return Sampling(temperature=0.0, top_p=1.0, max_tokens=min(4096, 32 + longest // 2))


def sources(
    candidates: Sequence[Candidate], before: Sequence[Candidate] | None, judge: Any
) -> list[Source]:
    """Everybody who will be asked."""
    found = [one.source for one in [*candidates, *(before or ())]]
    return [*found, judge.model] if isinstance(judge, Judge) else found


def asked(
    margin: float | None,
    reference: str | None,
    group: str | None,
    slices: Sequence[str],
    forgetting: bool,
    judge: Any,
    harness: Any,
    shelf: Shelf,
) -> dict[str, Any]:
    """What was asked for beyond the defaults."""
    given: dict[str, Any] = {
        "margin": margin,
        "reference": reference,
        "group": group,
        "slices": list(slices),
    }
    if forgetting:
        given["forgetting"] = True
    if judge is not None:
        given["judge"] = judge.described
    if harness is not None:
        given["lm_eval"] = harness.wanted.described
    if shelf.engine != Shelf.engine:
        given["engine"] = shelf.engine
    return {key: value for key, value in given.items() if value}


def tables(results: Sequence[Result], rows: Sequence[Row], task: Task) -> dict[str, Any]:
    targets = [row.target for row in rows]
    texts = {one.name: scored_texts(one.replies, rows) for one in results}
    if task.kind == "json":
        return {"fields": field_table(texts, targets)}
    if task.kind == "labels" and classification.available():
        return {
            "labels": {
                name: classification.label_table(given, targets) for name, given in texts.items()
            },
            "confusion": {
                name: classification.confusion(given, targets) for name, given in texts.items()
            },
        }
    return {}


def lineage(model: Source, data: str | Path, rows: Sequence[Row]) -> dict[str, Any]:
    known: dict[str, Any] = {"data": str(data), "data_fingerprint": fingerprint(rows)}
    run_id = run_of(model)
    if run_id:
        from unift.runs import run as get_run

        run = get_run(run_id)
        known |= {
            "run": run.id,
            "training_data": run.plan.spec.data,
            "training_fingerprint": run.plan.fingerprints.get("data"),
            "model_sha256": dict(run.artifact.sha256) if run.artifact else {},
        }
        try:
            known["test_prompts_in_training"] = in_training(rows, run.plan.spec.data)
        except (OSError, UsageError, ValueError):  # the training data has moved since
            known["test_prompts_in_training"] = None
    return known


def diagnosis(model: Source) -> dict[str, Any] | None:
    run_id = run_of(model)
    if not run_id:
        return None
    from unift.runs import run as get_run

    run = get_run(run_id)
    return diagnose(run.events(follow=False), run.plan).as_dict()


def evaluation_id(
    candidates: Sequence[Candidate], rows: Sequence[Row], details: dict[str, Any], task: Task
) -> str:
    parts = [
        [(one.name, identity_of(one.source)) for one in candidates],
        [one.shape(rows[0].prompt) for one in candidates],
        details["lineage"]["data_fingerprint"],
        [metric.name for metric in task.metrics],
        [details["sampling"], details["seed"], details["confidence"]],
        *([details["asked"]] if details["asked"] else []),
        *([details["code"]["tests"]] if details["code"] else []),
    ]
    text = json.dumps(parts, sort_keys=True, default=str)
    return hashlib.sha256(text.encode("utf-8", "surrogatepass")).hexdigest()[:12]


def write(evaluation: Evaluation, model: Source, report: str | Path | None) -> Evaluation:
    from unift.report import write_report

    path = Path(report) if report else home() / "reports" / f"evaluation-{evaluation.id}.html"
    placed = evaluation.with_report(path.expanduser().absolute())
    run_id = run_of(model)
    run = None
    if run_id:
        from unift.runs import run as get_run

        run = get_run(run_id)
    write_report(path, run=run, evaluation=placed)
    return placed


def record(evaluation: Evaluation, candidates: Sequence[Candidate]) -> None:
    from unift.runs import Store

    document = evaluation.as_dict()
    summary = {key: value for key, value in document.items() if key not in _BULKY}
    parents = [f"run:{one}" for one in map(run_of, (c.source for c in candidates)) if one]
    Store().add_evaluation(
        evaluation.id,
        summary,
        [*parents, f"data:{evaluation.details['lineage']['data_fingerprint']}"],
    )

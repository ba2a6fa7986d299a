"""The steps of an evaluation: asking, scoring, comparing, recording; `evaluate` orders them."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

from unift._home import home
from unift.errors import UsageError
from unift.evaluate._answers import AnswerStore, Asker
from unift.evaluate._candidates import (
    Candidate,
    Source,
    identity_of,
    in_training,
    run_of,
)
from unift.evaluate._json_fields import field_table
from unift.evaluate._metrics import Metric, label_table, macro_f1
from unift.evaluate._result import Evaluation, Result
from unift.evaluate._rows import Row, fingerprint
from unift.evaluate._statistics import (
    holm,
    minimum_detectable_effect,
    paired_difference,
    scale,
)
from unift.evaluate._task import Task
from unift.evaluate._verdict import Comparison
from unift.evaluate.diagnosis import diagnose
from unift.provider import Model, Reply, Sampling

Progress = Callable[[int, int], None]


def check(limit: int | None, concurrency: int | None, confidence: float) -> None:
    wrong = None
    if limit is not None and limit < 1:
        wrong = ("limit", limit, "a number of rows from 1")
    elif concurrency is not None and concurrency < 1:
        wrong = ("concurrency", concurrency, "a number from 1")
    elif not 0.5 <= confidence < 1:
        wrong = ("confidence", confidence, "a number between 0.5 and 1, such as 0.95")
    if wrong:
        raise UsageError(
            f"{wrong[0]}={wrong[1]} is out of range.",
            code="bad_setting",
            where=wrong[0],
            fix=f"give {wrong[2]}",
        )


def sampling(rows: Sequence[Row]) -> Sampling:
    # Half a token a byte is twice what tokenizers need for English and for JSON.
    longest = max(len(row.target.encode("utf-8", "surrogatepass")) for row in rows)
    return Sampling(temperature=0.0, top_p=1.0, max_tokens=min(4096, 32 + longest // 2))


def ask(
    candidates: Sequence[Candidate],
    rows: Sequence[Row],
    sampling: Sampling,
    concurrency: int | None,
    reuse: bool,
    progress: Progress | None,
) -> list[list[Reply]]:
    """Every candidate's answers. Candidates of one model follow each other, so that it is loaded
    once and freed before the next one comes."""
    from unift.reference import load

    store = AnswerStore()
    asker = Asker(store, sampling, concurrency=concurrency, reuse=reuse)
    answers: dict[str, list[Reply]] = {}
    # Baselines first: when something is wrong with the data the cheaper models show it.
    order = [*candidates[1:], candidates[0]]
    try:
        for source in _distinct(one.source for one in order):
            loaded: list[Model] = []

            def open_model(source: Source = source, loaded: list[Model] = loaded) -> Model:
                if not isinstance(source, str):
                    return source
                if not loaded:
                    loaded.append(load(source))
                return loaded[0]

            try:
                for one in order:
                    if one.source is source or one.source == source:
                        told = _teller(progress, len(answers), len(order), len(rows))
                        prompts = [one.shape(row.prompt) for row in rows]
                        answers[one.name] = asker.ask(
                            open_model, identity_of(one.source), prompts, told
                        )
            finally:
                for model in loaded:
                    model.close()
    finally:
        store.close()
    return [answers[one.name] for one in candidates]


def _teller(
    progress: Progress | None, finished: int, candidates: int, rows: int
) -> Callable[[int, int], None]:
    """Turns the progress of one candidate, whose equal prompts are asked once, into that of all."""

    def tell(done: int, total: int) -> None:
        if progress is not None:
            progress(finished * rows + round(rows * done / total), candidates * rows)

    return tell


def _distinct(sources: Any) -> list[Source]:
    found: list[Source] = []
    for source in sources:
        if not any(source is one or source == one for one in found):
            found.append(source)
    return found


def score(
    candidate: Candidate, replies: Sequence[Reply], rows: Sequence[Row], task: Task
) -> Result:
    scores = {
        metric.name: tuple(
            metric.rate(reply.text, row.target) for reply, row in zip(replies, rows, strict=True)
        )
        for metric in task.metrics
    }
    means = {name: sum(values) / len(values) for name, values in scores.items()}
    if task.kind == "labels":
        means["macro_f1"] = macro_f1([r.text for r in replies], [row.target for row in rows])
    return Result(
        candidate.name, candidate.reference, candidate.about, tuple(replies), scores, means
    )


def compare(
    results: Sequence[Result], metrics: Sequence[Metric], confidence: float, seed: int
) -> list[Comparison]:
    own, rivals = results[0], results[1:]
    found: list[Comparison] = []
    for metric in metrics:
        key = metric.name
        pairs = [
            paired_difference(own.scores[key], rival.scores[key], confidence=confidence, seed=seed)
            for rival in rivals
        ]
        corrected = holm([pair.p for pair in pairs])
        for rival, pair, p_adjusted in zip(rivals, pairs, corrected, strict=True):
            found.append(
                Comparison(
                    a=own.name,
                    b=rival.name,
                    metric=key,
                    difference=pair.value,
                    low=pair.low,
                    high=pair.high,
                    p=pair.p,
                    p_adjusted=p_adjusted,
                    test=pair.test,
                    n=pair.n,
                    scale=scale(own.scores[key], rival.scores[key]),
                    deviation=pair.deviation,
                    detectable=minimum_detectable_effect(
                        pair.n, deviation=pair.deviation or 0.5, confidence=confidence
                    ),
                )
            )
    return found


def tables(results: Sequence[Result], rows: Sequence[Row], task: Task) -> dict[str, Any]:
    targets = [row.target for row in rows]
    texts = {one.name: [reply.text for reply in one.replies] for one in results}
    if task.kind == "json":
        return {"fields": field_table(texts, targets)}
    if task.kind == "labels":
        return {"labels": {name: label_table(given, targets) for name, given in texts.items()}}
    return {}


def warnings(
    results: Sequence[Result], rows: Sequence[Row], skipped: int, lineage: dict[str, Any]
) -> list[str]:
    found: list[str] = []
    if skipped:
        found.append(f"{skipped} rows do not end in an answer of text and were left out.")
    leaked = lineage.get("test_prompts_in_training")
    if leaked:
        found.append(
            f"{leaked} of {len(rows)} test prompts occur in the training data; "
            "the score of the fine-tuned model is too good to be true by as much."
        )
    for one in results:
        if one.truncated:
            found.append(
                f"{one.truncated} answers of {one.name} were cut at the token limit; "
                "raise max_tokens if they are right as far as they go."
            )
    if len(rows) < 30:
        found.append(f"{len(rows)} rows are few: only large differences can be told from chance.")
    return found


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
    summary = {key: value for key, value in document.items() if key not in ("samples", "labels")}
    parents = [f"run:{one}" for one in map(run_of, (c.source for c in candidates)) if one]
    Store().add_evaluation(
        evaluation.id,
        summary,
        [*parents, f"data:{evaluation.details['lineage']['data_fingerprint']}"],
    )

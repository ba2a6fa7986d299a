"""`unift.evaluate`: ask everybody the same, score, compare, say what it means."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal

from unift.provider import Model, Sampling

# `import unift` imports this module, so whatever does the work waits for the first call.
if TYPE_CHECKING:
    from unift.evaluate._judge import Judge
    from unift.evaluate._lm_eval import LmEval
    from unift.evaluate._metrics import Metric, Score
    from unift.evaluate._result import Evaluation
    from unift.evaluate._served import Engine
    from unift.evaluate._votes import Votes

Progress = Callable[[int, int], None]


def evaluate(
    model: str | Model,
    data: str | Path,
    *,
    metric: str | Metric | Score | Sequence[str | Metric | Score] | None = None,
    against: Sequence[str | Model] | None = None,
    base: str | Model | None = None,
    train: str | Path | None = None,
    limit: int | None = None,
    seed: int = 0,
    sampling: Sampling | None = None,
    concurrency: int | None = None,
    engine: Engine = "auto",
    vllm_python: str | None = None,
    confidence: float = 0.95,
    margin: float | None = None,
    reference: str | Model | None = None,
    group: str | None = None,
    slices: Sequence[str] = (),
    forgetting: bool = False,
    lm_eval: LmEval | Sequence[str] | None = None,
    judge: str | Model | Judge | Votes | None = None,
    run_code: bool = False,
    budget_usd: float | None = None,
    reuse: bool = True,
    report: str | Path | Literal[False] | None = None,
    progress: Progress | None = None,
    notice: Callable[[str], None] | None = None,
) -> Evaluation:
    """Compare a model with what could be had without training it, on the same test rows.

    Args:
        model: A model reference (``run:ID``, a folder, ``openai:...``) or a `Model`.
        data: Chat JSONL; each row is asked up to its last assistant message, which is the target.
            With ``recorded:FILE`` the recorded answers are the targets, and a score is the
            agreement with them: the mean over all draws of a prompt.
        metric: The deciding metric: a name, a `Metric`, a function ``(answer, target) -> float``,
            or a list with the deciding one first. None goes by the targets and says how.
        against: Baselines: ``base``, ``base+few-shot:K``, ``prompt:FILE`` (a system prompt for the
            base), ``recorded:FILE`` (a golden set: the answers that another model gave),
            ``commonest`` (always the commonest answer of the training data), or any model
            reference or `Model`. None: ``base``, if it is known (or `reference` alone), and
            ``commonest`` where answers are labels.
        base: What ``base`` means, where the model itself does not say.
        train: Where few-shot examples are drawn from; by default the run's own training data.
        limit: At most so many rows, drawn at random.
        seed: Of every draw: rows, examples, resampling.
        sampling: How answers are drawn. By default greedily, with room for twice the longest
            target.
        concurrency: Questions under way at a time; None: 8 for models behind a network, whole
            batches for those on this machine (128 where vLLM answers).
        engine: Who answers for models whose weights are here: ``transformers`` in this process,
            ``vllm`` in one that is started with all their adapters, asked over HTTP and stopped at
            the end. ``auto`` is vLLM where it is installed and an NVIDIA card is there, and says
            so. Answers of the two are kept apart.
        vllm_python: The python that has vLLM; None: this one.
        confidence: Level of the intervals and of the verdict, between 0.5 and 1.
        margin: A loss that would matter, in units of the deciding metric (0.02 is two points of
            accuracy). The verdict is then about `reference`: ``not_worse`` if such a loss is ruled
            out (one-sided, at half of ``1 - confidence``).
        reference: The candidate that `margin` is measured against, as in `against` (it is added
            there if need be); by default the only baseline.
        group: A key of the test rows whose equal values mark rows that resemble each other (a
            customer, a document); the statistics then treat each group as one.
        slices: Keys of the test rows to show scores by, besides label, length and language.
        forgetting: True also asks the model and its base a general set of 240 questions with
            answers that rules judge (instructions, arithmetic, formatting, safety), and names what
            got worse. Where the weights of both are on this machine, their losses on general text
            are compared as well.
        lm_eval: Tasks of lm-evaluation-harness to run on the model and its base, both with weights
            on this machine; an `LmEval` for task files of your own and a limit. Reported beside
            the verdict, which does not go by it.
        judge: Who says which of two answers is better: a model reference or `Model`, a `Judge` for
            its prompt and room, or `Votes` of people on a local page. The win rate then decides,
            unless `metric` is given; ``preference`` in the JSON says how it came about.
        run_code: True scores rows with ``tests`` (Python assertions) by running the code of each
            answer with them, on this machine, in a sandbox that is no security boundary.
        budget_usd: Stop before the answers of remote models could cost more than this, at the
            prices of the catalogue. Answers so far are kept.
        reuse: False asks again what was asked before instead of using the kept answers.
        report: Where the HTML page goes; None puts it under the data folder, False writes none.
        progress: Called with (answers so far, answers in all) over all candidates.
        notice: Called with sentences before anything is asked: what so many rows can show, how
            many questions there are and the most that they cost.

    Raises:
        UsageError: An unknown metric, baseline, reference or engine.
        MissingDependency: What a metric or the engine needs is not installed.
        DataError: The test data has no row that can be scored, or too few rows for few-shot.
        LimitError: The budget is used up, or vLLM finds too little memory.
        RunError: vLLM ended while it started or answered.
        ProviderError: A model refuses to answer. Answers so far are kept, as after Ctrl-C.
    """
    from unift.evaluate import _classification as classification
    from unift.evaluate import _code as code
    from unift.evaluate import _forgetting as forgot
    from unift.evaluate import _scoring as scoring
    from unift.evaluate import _steps as steps
    from unift.evaluate._asking import Session
    from unift.evaluate._calibration import calibration
    from unift.evaluate._candidates import always_the_same, build_candidates, name_of
    from unift.evaluate._cautions import cautions
    from unift.evaluate._general_text import general_loss
    from unift.evaluate._preferring import prefer, prepare
    from unift.evaluate._result import Evaluation, pick_samples
    from unift.evaluate._rows import choose_rows, read_rows
    from unift.evaluate._served import shelf_for
    from unift.evaluate._slices import compare_slices, row_key
    from unift.evaluate._task import find_task
    from unift.evaluate._verdict import judge as find_verdict
    from unift.evaluate._verdict import with_slices

    steps.check(limit, concurrency, confidence, margin, budget_usd)
    usual = against is None
    if isinstance(against, str):
        against = [against]  # else each of its letters would be a model
    alone = ""
    if against is None:
        against, alone = steps.usual(model, base, reference)
    reference = steps.reference_of(margin, reference, against)
    if reference is not None:
        against = [*against, reference]
    every_row, skipped = read_rows(data)
    candidates = build_candidates(
        model, against, base=base, train=train, test_rows=every_row, seed=seed
    )
    known_rows, said = steps.recorded_rows(every_row, candidates)
    if alone:
        said.append(alone)
    rows = choose_rows(known_rows, limit, seed)
    task = find_task([row.target for row in rows], metric)
    if usual and task.kind == "labels" and judge is None:  # a judge would cost something
        candidates.append(always_the_same(model, train, every_row))
    steps.try_metrics(task, rows, metric)
    task, ran = code.with_code(task, rows, metric, run_code, notice)
    said += ran
    if group:
        row_key(rows, group)
    for key in slices:
        row_key(rows, key)  # complains now, not after an hour of answers
    draw = sampling or steps.sampling(rows)
    judge, task = prepare(
        judge, task, rows, candidates, draw,
        metric=metric, seed=seed, budget_usd=budget_usd, notice=notice,
    )  # fmt: skip
    if notice is not None and len(candidates) > 1:
        notice(steps.what_can_be_seen(len(rows), task, confidence, margin))
    before = harness = None
    if forgetting or lm_eval is not None:
        before = build_candidates(
            model, ["base"], base=base, train=train, test_rows=every_row, seed=seed
        )
    if lm_eval is not None and before is not None:
        from unift.evaluate._lm_eval import Harness

        harness = Harness(lm_eval, *before)
    general = general_text = harnessed = preference = None
    shelf = shelf_for(engine, vllm_python, steps.sources(candidates, before, judge), notice)
    with Session(
        concurrency=concurrency, reuse=reuse, budget_usd=budget_usd, notice=notice,
        progress=progress, shelf=shelf,
    ) as session:  # fmt: skip
        if harness is not None:  # first, since a wrong task shows here and costs nothing
            harnessed = harness.run(session, confidence=confidence, seed=seed, notice=notice)
        answered = session.ask(candidates, rows, draw)
        if forgetting and before is not None:
            general = forgot.forgetting(session, *before, confidence=confidence, seed=seed)
            general_text = general_loss(session, *before, confidence=confidence, seed=seed)
        if judge is not None:
            preference = prefer(
                judge, session, candidates, answered, rows, confidence=confidence, notice=notice
            )
            rows = [rows[i] for i in preference.rows]
            answered = [[replies[i] for i in preference.rows] for replies in answered]
            said += preference.said
        said += session.said
    against_name = None if reference is None else name_of(reference)
    results = [
        scoring.score(one, replies, rows, task, data)
        for one, replies in zip(candidates, answered, strict=True)
    ]
    if preference is not None:
        results = preference.onto(results, against_name)
    groups = row_key(rows, group) if group else None
    comparisons = scoring.compare(
        results, task.metrics, confidence, seed,
        groups=groups, margin=margin, reference=against_name,
    )  # fmt: skip
    deciding = task.metrics[0]
    if task.kind == "labels" and not classification.available():
        said.append(classification.HINT)
    verdict = find_verdict(
        results[0].name,
        {one.name: one.metrics[deciding.name] for one in results},
        comparisons,
        metric=deciding.name,
        title=deciding.title,
        n=len(rows),
        confidence=confidence,
        phrases=steps.phrases(candidates),
    )
    rival = steps.rival(verdict, results, deciding)
    if preference is not None and deciding.name == "preference":
        verdict = preference.onto_verdict(verdict)
    parts = compare_slices(
        rows, task, slices, results, rival,
        metric=deciding, confidence=confidence, seed=seed, margin=margin, groups=groups,
    )  # fmt: skip
    scale = next((one.scale for one in comparisons if one.metric == deciding.name), 1.0)
    verdict = with_slices(verdict, parts, deciding.title.lower(), scale)
    if general is not None:
        verdict = forgot.with_forgetting(verdict, general)
    details: dict[str, Any] = {
        "n": len(rows),
        "confidence": confidence,
        "seed": seed,
        "sampling": draw.model_dump(),
        "task": {"kind": task.kind, "why": task.why},
        **steps.tables(results, rows, task),
        "slices": [one.as_dict() for one in parts],
        "forgetting": None if general is None else forgot.as_dicts(general),
        "preference": preference and preference.rates(comparisons),
        "general_text": general_text,
        "lm_eval": harnessed,
        "calibration": calibration(results, deciding),
        "non_inferiority": scoring.non_inferiority(comparisons, confidence),
        "asked": steps.asked(
            margin, against_name, group, slices, forgetting, judge, harness, shelf
        ),
        "samples": pick_samples(rows, results, deciding, rival),
        "lineage": steps.lineage(model, data, rows),
        "diagnosis": steps.diagnosis(model),
        "code": code.outcomes(results, rows, task),
    }
    evaluation = Evaluation(
        id=steps.evaluation_id(candidates, rows, details, task),
        candidates=tuple(results),
        comparisons=tuple(comparisons),
        verdict=verdict,
        metrics=task.metrics,
        rows=tuple(rows),
        details=details,
        warnings=tuple(cautions(results, rows, task, skipped, details["lineage"], said)),
    )
    if report is not False:
        evaluation = steps.write(evaluation, model, report)
    steps.record(evaluation, candidates)
    return evaluation

"""unift evaluate: was it worth it."""

from __future__ import annotations

import shlex
from typing import TYPE_CHECKING, Annotated, Any, Literal

import typer

from unift.cli._output import Json, emit, err, out
from unift.cli._progress import counting, keeping
from unift.errors import UsageError

if TYPE_CHECKING:
    from unift.evaluate import Evaluation, Judge, LmEval, Votes


def command(
    model: Annotated[str, typer.Argument(help="run:ID, path:FOLDER, hf:OWNER/NAME, PROVIDER:ID.")],
    data: Annotated[str, typer.Option(help="Test rows that were never trained on.")],
    metric: Annotated[
        str | None, typer.Option(help="Default: chosen by looking at the data.")
    ] = None,
    against: Annotated[
        list[str] | None,
        typer.Option(
            help="base, base+few-shot:K, prompt:FILE, recorded:FILE, commonest, run:ID or any "
            "reference; repeatable. Default: base if known, and commonest for labels."
        ),
    ] = None,
    base: Annotated[
        str | None, typer.Option(help="What 'base' means, if the model does not say.")
    ] = None,
    margin: Annotated[
        float | None,
        typer.Option(help="Loss that would matter (0.02: 2 points); asks if it is ruled out."),
    ] = None,
    reference: Annotated[
        str | None, typer.Option(help="Whom the margin is measured against.")
    ] = None,
    confidence: Annotated[float, typer.Option(help="Level of intervals and verdict.")] = 0.95,
    group: Annotated[
        str | None, typer.Option(help="Key of the rows: equal values resemble each other.")
    ] = None,
    slices: Annotated[
        list[str] | None,
        typer.Option("--slice", help="Key of the rows to show scores by; repeatable."),
    ] = None,
    train: Annotated[str | None, typer.Option(help="Where few-shot examples come from.")] = None,
    forgetting: Annotated[
        bool, typer.Option("--forgetting", help="Also ask what the base knew: 240 questions.")
    ] = False,
    lm_eval: Annotated[
        list[str] | None,
        typer.Option(help="Tasks of lm-evaluation-harness, with commas; for weights here."),
    ] = None,
    lm_eval_tasks: Annotated[
        str | None, typer.Option(help="Folder with task files of your own for --lm-eval.")
    ] = None,
    lm_eval_limit: Annotated[
        int | None, typer.Option(help="At most so many rows of each task.", min=1)
    ] = None,
    judge: Annotated[
        str | None,
        typer.Option(help="A model that says which of two answers is better; decides."),
    ] = None,
    judge_prompt: Annotated[
        str | None,
        typer.Option(help="File with what it goes by: {{ question }}, {{ answer_1 }}, ..."),
    ] = None,
    judge_tokens: Annotated[int, typer.Option(help="Room for one verdict.", min=1)] = 512,
    human: Annotated[
        bool, typer.Option("--human", help="Vote yourself, blind, on a page of this machine.")
    ] = False,
    votes: Annotated[str | None, typer.Option(help="Where votes are kept; with --human.")] = None,
    run_code: Annotated[
        bool,
        typer.Option("--run-code", help="Run the code of answers with the 'tests' of their rows."),
    ] = False,
    concurrency: Annotated[
        int | None, typer.Option(help="Questions under way at a time, for remote models and vLLM.")
    ] = None,
    engine: Annotated[
        Literal["auto", "transformers", "vllm"],
        typer.Option(help="Who answers for weights on this machine; auto: vLLM where it is."),
    ] = "auto",
    vllm_python: Annotated[
        str | None, typer.Option(help="Python of the environment that has vllm.")
    ] = None,
    budget_usd: Annotated[
        float | None, typer.Option(help="Stop before answers could cost more than this.")
    ] = None,
    limit: Annotated[int | None, typer.Option(help="At most so many rows, at random.")] = None,
    max_tokens: Annotated[
        int | None,
        typer.Option(help="Room for an answer; default: twice the longest target.", min=1),
    ] = None,
    seed: Annotated[int, typer.Option(help="Of few-shot choice and resampling.")] = 0,
    report: Annotated[str | None, typer.Option(help="Where the HTML page goes.")] = None,
    markdown: Annotated[
        str | None, typer.Option(help="Write the report as Markdown too, for a pull request.")
    ] = None,
    inspect: Annotated[
        str | None, typer.Option(help="Folder for logs that the viewer of Inspect AI opens.")
    ] = None,
    json: Json = False,
) -> None:
    """Compare a model with what you could have had without training it."""
    import unift
    from unift.provider import Sampling

    room = Sampling(temperature=0.0, top_p=1.0, max_tokens=max_tokens) if max_tokens else None
    kept = "Answers so far are kept: the same command goes on where it stopped."
    with keeping(kept), counting("answering") as update:
        result = unift.evaluate(
            model,
            data=data,
            metric=metric,
            against=against,
            base=base,
            margin=margin,
            reference=reference,
            confidence=confidence,
            group=group,
            slices=slices or (),
            forgetting=forgetting,
            lm_eval=_harness(lm_eval, lm_eval_tasks, lm_eval_limit),
            judge=_who_prefers(judge, judge_prompt, judge_tokens, human, votes),
            run_code=run_code,
            concurrency=concurrency,
            engine=engine,
            vllm_python=vllm_python,
            budget_usd=budget_usd,
            notice=lambda text: err.print(text, style="dim"),
            train=train,
            limit=limit,
            seed=seed,
            sampling=room,
            report=report,
            progress=update,
        )
    logs = [str(path) for path in result.write_inspect(inspect)] if inspect else []
    if markdown:
        markdown = str(result.write_markdown(markdown))
    if json:
        emit({**result.as_dict(), "markdown": markdown, "inspect": logs})
        return
    show(result)
    if markdown:
        out.print(f"markdown {markdown}")
    if logs:
        out.print(f"inspect view start --log-dir {shlex.quote(str(inspect))}")


def _harness(tasks: list[str] | None, folder: str | None, limit: int | None) -> LmEval | None:
    from unift.evaluate import LmEval

    if tasks:
        return LmEval(tasks, folder, limit)
    for flag, given in (("--lm-eval-tasks", folder), ("--lm-eval-limit", limit)):
        if given is not None:
            raise UsageError(
                f"{flag} needs --lm-eval.", where=flag, fix="name the tasks: --lm-eval TASK"
            )
    return None


def _who_prefers(
    judge: str | None, prompt: str | None, tokens: int, human: bool, votes: str | None
) -> Judge | Votes | None:
    from unift.evaluate import Judge, Votes

    for flag, given, needed in (
        ("--judge-prompt", prompt and not judge, "--judge"),
        ("--votes", votes and not human, "--human"),
        ("--human", human and judge, ""),
    ):
        if given:
            raise UsageError(
                f"{flag} needs {needed}." if needed else "Either a judge decides or people do.",
                where=flag,
                fix=f"add {needed}" if needed else "leave out --judge or --human",
            )
    if human:
        return Votes(votes)
    return Judge(judge, prompt, tokens) if judge else None


def show(result: Evaluation) -> None:
    """Candidates, differences, verdict."""
    from rich.table import Table

    document = result.as_dict()
    out.print(f"task {document['task']['kind']}: {document['task']['why']}")
    names = sorted({name for row in document["candidates"] for name in row["metrics"]})
    table = Table("candidate", *names, "n", box=None, pad_edge=False)
    for column in table.columns[1:]:
        column.justify = "right"
    for row in document["candidates"]:
        cells = [f"{row['metrics'][name]:.1%}" if name in row["metrics"] else "-" for name in names]
        table.add_row(row["name"], *cells, str(row["n"]))
    out.print(table)
    for row in document["comparisons"]:
        out.print(
            f"{row['a']} - {row['b']} on {row['metric']}: {row['difference']:+.1%}"
            f" [{row['low']:+.1%}, {row['high']:+.1%}], p = {row['p']:.2g}",
        )
        if row["margin"] is not None:
            ruled = "ruled out" if row["not_worse"] else "not ruled out"
            out.print(
                f"  a loss of {row['margin']:.1%} or more is {ruled} (p = {row['p_not_worse']:.2g})"
            )
    preferred: dict[str, Any] = document["preference"] or {"against": []}
    for one in preferred["against"]:
        out.print(
            f"preferred to {one['b']} in {one['win_rate']:.1%} of {one['n']} rows"
            f" [{one['low']:.1%}, {one['high']:.1%}]: {one['wins']} won, {one['ties']} tied"
            f" ({one['identical']} equal answers), {one['losses']} lost",
        )
        place = one["position"]
        if place and place["n"]:
            out.print(
                f"  the order changed the judge's mind in {place['share']:.1%} of"
                f" {place['n']} pairs [{place['low']:.1%}, {place['high']:.1%}]:"
                f" {place['first']} for the first answer, {place['second']} for the second;"
                f" {one['unreadable']} could not be read",
            )
    ran: dict[str, Any] = document["code"] or {"ended": {}}
    for name, ended in ran["ended"].items():
        ways = ", ".join(f"{n} {how}" for how, n in ended.items())
        out.print(f"code of {name}: {ways}")
    for one in document["slices"]:
        if one["worse"]:
            place = f"{one['by']} '{one['value']}'"
            out.print(f"worse on {place}: {one['difference']:+.1%}, {one['n']} rows")
    general: list[dict[str, Any]] = document["forgetting"] or []
    for one in general:
        out.print(
            f"general {one['kind']}: {one['model']:.1%}, base {one['base']:.1%}"
            f" ({one['difference']:+.1%} on {one['n']} questions)",
        )
    text = document["general_text"]
    if text:
        out.print(
            f"general text: loss {text['model']['loss']:.3f}, base {text['base']['loss']:.3f}"
            f" ({text['difference']:+.3f} [{text['low']:+.3f}, {text['high']:+.3f}] nats a token)",
        )
    harness: dict[str, Any] = document["lm_eval"] or {"rows": []}
    for one in harness["rows"]:
        sides = [
            f"{one[who]:.4g}"
            + (f" ± {one[f'{who}_stderr']:.2g}" if one[f"{who}_stderr"] is not None else "")
            for who in ("model", "base")
        ]
        inside = "" if one["low"] is None else f" [{one['low']:+.4g}, {one['high']:+.4g}]"
        out.print(
            f"{one['task']} {one['metric']} ({one['filter']}): {sides[0]}, base {sides[1]}"
            f" ({one['difference']:+.4g}{inside})",
        )
    sure: dict[str, Any] = document["calibration"]
    for name, one in sure.items():
        if "error" in one:
            out.print(
                f"{name} is sure to {one['confidence']:.1%} and right in {one['accuracy']:.1%}:"
                f" calibration error {one['error']:.3f}, Brier {one['brier']:.3f}",
            )
    for warning in document["warnings"]:
        err.print(f"note: {warning}")
    out.print(str(document["verdict"]), style="bold")
    if document["report"]:
        out.print(f"report {document['report']}")

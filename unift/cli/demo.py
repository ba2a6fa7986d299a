"""unift demo: the main job, start to finish, offline."""

from __future__ import annotations

import os
from typing import TYPE_CHECKING, Annotated, Any

import typer

from unift.cli import estimate as estimate_command
from unift.cli import evaluate as evaluate_command
from unift.cli import validate as validate_command
from unift.cli._output import Json, emit, err, out
from unift.cli._progress import counting, follow

if TYPE_CHECKING:
    from unift.provider import Plan
    from unift.runs import Run

# Settings for the embedded model, which is so small that it wants a far higher rate than the
# default; benchmarks/demo_model/README.md has the table behind them.
SETTINGS: dict[str, Any] = {
    "provider": "local-lora",
    "model": "demo",
    "epochs": 3,
    "learning_rate": 5e-3,
}


def settings_of(task: str) -> dict[str, Any]:
    """What `unift.plan` takes to train one of the demo's tasks."""
    from unift.demo import name_of

    return {
        **SETTINGS,
        "data": name_of(task, "train"),
        "validation": name_of(task, "validation"),
        "name": "demo" if task == "desk" else f"demo-{task}",
    }


def command(
    task: Annotated[
        str,
        typer.Option(
            help="desk: training is worth it. shuffled: nothing can be learnt. minority: a gain "
            "that hides a loss."
        ),
    ] = "desk",
    fresh: Annotated[bool, typer.Option(help="Train again, even if the same run exists.")] = False,
    report: Annotated[str | None, typer.Option(help="Where the HTML page goes.")] = None,
    json: Json = False,
) -> None:
    """Validate, estimate, train, evaluate and report on the embedded model and data."""
    os.environ.setdefault("HF_HUB_OFFLINE", "1")
    import unift
    from unift.demo import TASKS, name_of

    settings = settings_of(task)
    train, held_out, test = settings["data"], settings["validation"], name_of(task, "test")
    say = _silent if json else _headline
    if task != "desk":
        say(f"Task '{task}'", TASKS[task])
    say("1/4  Validate", f"unift validate {train} --validation {held_out} --test {test}")
    with counting("validating", "bytes") as update:
        validation = unift.validate(
            train,
            provider="local-lora",
            model="demo",
            validation=held_out,
            test=test,
            progress=update,
        )
    if not json:
        validate_command.print_report(validation, max_per_code=1)

    say("2/4  Estimate", f"unift estimate --model demo --data {train} --providers local-lora")
    estimate = unift.estimate(
        model="demo", data=train, providers=["local-lora"], epochs=settings["epochs"]
    )
    if not json:
        estimate_command.show(estimate)

    say("3/4  Train", f"unift train --provider local-lora --model demo --data {train} ...")
    plan = unift.plan(**settings)
    run = None if fresh else _same_run(plan)
    if run is not None:
        err.print(f"The same run exists ({run.id}); unift demo --fresh trains again.")
    else:
        run = unift.start(plan)
    if not run.finished:
        follow(run)
    if run.status != "succeeded":
        raise run.error()

    say("4/4  Evaluate", f"unift evaluate {run.model} --data {test} --against base ...")
    with counting("answering") as update:
        result = unift.evaluate(
            run.model,
            data=test,
            against=["base", "base+few-shot:5"],
            train=train,
            engine="transformers",  # sooner done than vLLM is started
            report=report,
            progress=update,
        )
    if json:
        emit(
            {
                "validation": validation.as_dict(),
                "estimate": estimate.as_dict(),
                "run": run.as_dict(),
                "evaluation": result.as_dict(),
                "report": result.as_dict()["report"],
            }
        )
    else:
        evaluate_command.show(result)
        out.print(f"\nTalk to it: unift chat {run.model}")


def _same_run(plan: Plan) -> Run | None:
    """A run of the same data and settings that succeeded or still goes on."""
    import unift

    for run in unift.runs():
        same = run.plan.settings == plan.settings and run.plan.fingerprints == plan.fingerprints
        if (
            same
            and run.plan.spec == plan.spec
            and run.status not in ("failed", "cancelled", "lost")
        ):
            return run.resume() if run.status == "planned" else run
    return None


def _headline(title: str, same_as: str) -> None:
    out.print(f"\n{title}", style="bold", end="  ")
    out.print(same_as, style="dim")


def _silent(title: str, same_as: str) -> None:
    """With --json nothing but the document goes to stdout."""

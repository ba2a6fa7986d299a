"""unift runs: the journal."""

from __future__ import annotations

from typing import TYPE_CHECKING, Annotated, Any

import typer

from unift._text import duration
from unift.cli._output import Json, emit, err, out
from unift.cli._progress import describe, follow
from unift.cli.train import show_plan

if TYPE_CHECKING:
    from unift.evaluate import Diagnosis

app = typer.Typer(help="See and steer runs.", no_args_is_help=True)

Id = Annotated[str, typer.Argument(metavar="ID", help="A run's id, or the beginning of it.")]


@app.command("list")
def list_(
    limit: Annotated[int, typer.Option(help="The newest so many.")] = 20, json: Json = False
) -> None:
    """List runs, newest first."""
    import unift
    from unift.runs import Store

    found = unift.runs(limit=limit)
    unreadable = Store().unreadable()
    if unreadable:
        names = ", ".join(unreadable)
        err.print(f"not shown, because its record cannot be read: {names}", style="yellow")
    if json:
        emit({"runs": [run.as_dict() for run in found], "unreadable": unreadable})
        return
    if not found:
        out.print("No runs yet. unift demo makes the first one.")
        return
    from rich.table import Table

    table = Table("run", "status", "provider", "base", "name", "created", box=None, pad_edge=False)
    left = 0
    for run in found:
        document = run.as_dict()
        left += bool(document["leftovers"])
        created = document["created"][:16].replace("T", " ")
        table.add_row(
            run.id, run.status, run.provider, document["base"], document["name"] or "", created
        )
    out.print(table)
    if left:
        out.print(
            f"{left} of them may have left an upload at its provider: unift runs reconcile",
            style="yellow",
        )


@app.command()
def show(run_id: Id, json: Json = False) -> None:
    """Show one run: status, plan, artifact, lineage."""
    import unift
    from unift.evaluate import diagnose

    run = unift.run(run_id)
    found = diagnose(run.events(follow=False), run.plan)
    document: dict[str, Any] = {**run.as_dict(), "diagnosis": found.as_dict()}
    if json:
        emit(document)
        return
    out.print(run.id, style="bold", end="  ")
    out.print(f"{run.status}  {run.provider}  on {document['base']}")
    if document["message"]:
        out.print(document["message"])
    for line in _progress(document):
        out.print(line)
    for one in document["leftovers"]:
        out.print(
            f"upload {one['id'] or one['name']} may be left at {one['place']}; no job uses it: "
            "unift runs reconcile tells, --delete-orphans deletes it",
            style="yellow",
        )
    if run.failure:
        out.print(f"{run.failure.code}: {run.failure.message}", style="red")
        out.print(f"  fix: {run.failure.fix}", style="green")
    if run.artifact:
        out.print(f"model {run.model}  {run.artifact.kind} at {run.artifact.reference}")
    if found.code != "too_short":
        show_diagnosis(found)
    show_plan(run.plan)
    for edge in document["lineage"]:
        out.print(f"{edge['child']}  {edge['relation']}  {edge['parent']}", style="dim")


def show_diagnosis(found: Diagnosis) -> None:
    """What the curves say, and what to do about it, each thing on a line."""
    style = "" if found.code in ("healthy", "plateau") else "yellow"
    word = found.code.replace("_", " ")
    out.print(f"training looks {word}: {found.sentence}", style=style)
    for one in found.advice:
        more = one.flags or one.command
        out.print(f"  {one.text}" + (f"  {more}" if more else ""), style="dim")


@app.command()
def events(
    run_id: Id,
    follow_: Annotated[
        bool, typer.Option("--follow", "-f", help="Go on until it is finished.")
    ] = False,
    after: Annotated[int, typer.Option(help="Only events after this number.")] = 0,
    json: Json = False,
) -> None:
    """Replay what happened in a run, and follow what happens now."""
    import unift
    from unift.evaluate import watched

    run = unift.run(run_id)
    if json:
        seen = watched(run, after=after) if follow_ else run.events(follow=False, after=after)
        found = [event.model_dump(mode="json") for event in seen]
        emit({"run": run.id, "status": run.status, "events": found})
        return
    for event in run.events(follow=False, after=after):
        out.print(f"{event.seq:5d} {event.at:%H:%M:%S} {event.kind:10s} {describe(event)}")
        after = event.seq
    if follow_:
        follow(run, after=after)
        _status(run_id)


@app.command()
def cancel(run_id: Id, json: Json = False) -> None:
    """End a run; what was trained so far is kept where the provider can."""
    import unift

    run = unift.run(run_id).cancel()
    run.wait(check=False)
    _status(run.id, json)


@app.command()
def pause(run_id: Id, json: Json = False) -> None:
    """Halt a run where the provider can; resume goes on exactly where it stopped."""
    import unift

    run = unift.run(run_id).pause()
    for _ in run.events():  # ends when the run has halted, or was quicker
        pass
    _status(run.id, json)


@app.command()
def resume(
    run_id: Id,
    detach: Annotated[bool, typer.Option(help="Return at once.")] = False,
    json: Json = False,
) -> None:
    """Go on with a run that stopped, from its last checkpoint."""
    import unift

    run = unift.run(run_id)
    seen = max((event.seq for event in run.events(follow=False)), default=0)
    run.resume()
    if not detach:
        follow(run, after=seen)
        if run.status != "succeeded":
            raise run.error()
    _status(run.id, json)


@app.command()
def reconcile(
    delete_orphans: Annotated[
        bool,
        typer.Option("--delete-orphans", help="Delete uploads of ours that no job uses."),
    ] = False,
    json: Json = False,
) -> None:
    """Bring every open run to the truth, for example after a crash; find orphaned uploads."""
    import unift
    from unift.runs import orphans

    outcome = unift.reconcile()
    left = orphans(delete=delete_orphans)
    if json:
        emit(
            {
                "runs": [
                    {**run.as_dict(), "problem": error.as_dict() if error else None}
                    for run, error in outcome
                ],
                "orphans": [one.model_dump() for one in left],
            }
        )
        return
    if not outcome:
        out.print("No open runs.")
    for run, error in outcome:
        out.print(
            f"{run.id}  {run.status}  {error.message if error else run.as_dict()['message']}",
        )
    for one in left:
        out.print(f"{one.run}  {one.describe()}")


def _progress(document: dict[str, Any]) -> list[str]:
    """How far a run is and how long it takes, and what is no longer as planned."""
    found: dict[str, Any] = document["progress"] or {}
    lines: list[str] = []
    if "step" in found and "total_steps" in found:
        parts = [f"step {found['step']} of {found['total_steps']}"]
        if found.get("eta_seconds") and document["status"] == "running":
            parts.append(f"{duration(found['eta_seconds'])} left")
        if found.get("hours"):
            whole = f"{duration(found['hours'] * 3600)} in all"
            if found.get("planned_hours"):
                whole += f" (planned {duration(found['planned_hours'] * 3600)})"
            parts.append(whole)
        lines.append(", ".join(parts))
    if found.get("replanned"):
        now = ", ".join(f"{name} {value}" for name, value in found["replanned"].items())
        lines.append(f"memory ran out, so not as in the plan below: {now}")
    return lines


def _status(run_id: str, json: bool = False) -> None:
    import unift

    run = unift.run(run_id)
    if json:
        emit(run.as_dict())
        return
    message = run.failure.message if run.failure else run.as_dict()["message"]
    out.print(f"run {run.id} {run.status}" + (f": {message}" if message else ""))
    if run.status == "succeeded":
        out.print(f"unift evaluate {run.model} --data TEST.jsonl  says whether it was worth it")

"""How unift migrate shows what its steps found."""

from __future__ import annotations

from collections.abc import Generator, Mapping
from contextlib import contextmanager
from typing import TYPE_CHECKING, Any

from unift._text import dollars
from unift.cli._output import err, out
from unift.cli._progress import counting, describe

if TYPE_CHECKING:
    from unift.migrate import Compared, CutOver, Migration, MigrationPlan, Trained
    from unift.provider import Event

_DOING = {
    "inventory": "listing what the vendor holds",
    "fetch": "fetching the old files",
    "record": "recording the old model's answers",
    "plan": "planning",
    "train": "training",
    "compare": "comparing old and new",
    "cutover": "preparing the switch",
    "report": "writing the page",
}


@contextmanager
def telling(migration: Migration, *, quiet: bool) -> Generator[None]:
    """Say what is going on on stderr. Ctrl-C loses nothing, and says how to go on."""
    seen: set[tuple[str, str]] = set()

    def on_step(step: str, state: str) -> None:
        if not quiet and (step, state) not in seen:
            seen.add((step, state))
            if state == "start":
                err.print(f"{step:10s} {_DOING[step]}")
            elif state == "kept" and (step, "done") not in seen:
                err.print(f"{step:10s} done before", style="dim")

    def on_event(title: str, event: Event) -> None:
        if not quiet and event.kind in ("evaluation", "warning"):
            err.print(f"           {title}: {describe(event)}", style="dim")

    migration.on_step, migration.on_event = on_step, on_event
    try:
        with counting("answers") as update:
            migration.progress = update
            yield
    except KeyboardInterrupt:
        err.print(
            "\nNothing is lost, and nothing that was paid for will be paid again: "
            f"unift migrate run {migration.folder / 'migration.yaml'} goes on.",
        )
        raise


def show_plan(plan: MigrationPlan) -> None:
    """Candidates, mapping, data, warnings."""
    from rich.table import Table

    # Two lines each: eight columns would break every name where a terminal is 80 wide.
    for one in plan.candidates[:8]:
        by = one.provider + (f" ({one.hardware})" if one.hardware else "")
        out.print(f"{'*' if one.recommended else ' '} {one.base}", style="bold", end="")
        out.print(f"  {by}  {one.licence}")
        figures = [
            "" if one.memory_gib is None else f"{one.memory_gib:.1f} GiB",
            "" if one.hours is None else f"{one.hours:.2g} hours",
            "" if one.price_usd is None else f"training {dollars(one.price_usd)}",
            "" if one.usd_per_month is None else f"{dollars(one.usd_per_month)} a month",
            "; ".join(one.against) or one.date_risk,
        ]
        out.print(f"    {', '.join(one for one in figures if one)}", style="dim")
    more = len(plan.candidates) - 8
    if more > 0:
        out.print(f"and {more} more in plan.json", style="dim")
    out.print(f"\nchosen: {plan.model} by {plan.provider}", style="bold")
    settings = Table("old", "new", "certainty", "rule", box=None, pad_edge=False)
    for line in plan.mapping:
        old = "" if line.old is None else f"{line.old_name} {line.old}"
        new = "-" if line.new is None else f"{line.setting} {line.new}"
        settings.add_row(old or line.old_name or "-", new, line.certainty, line.rule)
    out.print(settings)
    rows = plan.data.rows
    out.print(
        f"rows: {rows['train']:,} to learn, {rows['validation']:,} to choose by, "
        f"{rows['test']:,} to test with"
    )
    if len(plan.trials) > 1:
        out.print(f"trainings: {'; '.join(one.title for one in plan.trials)}")
    for warning in plan.warnings:
        out.print(f"note {warning}", style="yellow")


def show_trained(trained: Trained) -> None:
    """Every training, the chosen one first."""
    for one in trained.tried:
        score = "" if one.score is None else f"  {one.metric} {one.score:.3f}"
        loss = "" if one.validation_loss is None else f"  validation loss {one.validation_loss:.4g}"
        out.print(f"run {one.run}  {one.title}{score}{loss}")
    out.print(f"{trained.model}: {trained.why}", style="bold")


def show_compared(compared: Compared) -> None:
    """Verdict, scores, checks, speed, price."""
    document = compared.document
    for title, part in (("on truth", document["truth"]), ("agreement", document["agreement"])):
        if not part:
            continue
        metric = part["metric"]
        for index, one in enumerate(part["candidates"]):
            name = "new" if index == 0 else _named(one["name"], part)
            out.print(f"{title:10s} {name:14s} {one['metrics'][metric]:.1%} {metric}")
    for one in document["behaviour"]:
        name = one["role"] or one["name"]
        out.print(f"declined   {name:14s} {one['refusals']} of {one['n']}")
    for one in document["latency"]:
        name = one["role"] or one["name"]
        out.print(f"median     {name:14s} {one['median_s']:.2f} s ({one['how']})")
    for one in document["price_per_1000_answers"]:
        out.print(f"1,000      {one['role']:14s} {dollars(one['usd'])} ({one['source']})")
    for note in document["notes"]:
        out.print(f"note {note}", style="yellow")
    out.print(compared.verdict.sentence, style="bold")


def show_cutover(ready: CutOver) -> None:
    """What is to be done, to be copied."""
    for way, command in ready.commands.items():
        out.print(f"# {way}", style="dim")
        out.print(command)
    out.print(ready.environment)
    if ready.template is not None:
        out.print(
            f"training and serving read the same {ready.template.tokens:,} tokens of "
            f"{ready.template.rows} rows ({ready.template.served})",
        )
    out.print(f"archive {ready.archive['file']}")
    out.print(f"sha256  {ready.archive['sha256']}  ({ready.archive['files']} files)")


def show_status(document: Mapping[str, Any]) -> None:
    """Steps, verdict, report."""
    done: dict[str, Any] = {one["step"]: one for one in document["steps"]}
    for name in _DOING:
        step = done.get(name)
        state = step["state"] if step else "not begun"
        if name == "cutover" and document["withheld"]:
            state = "withheld: the verdict is no"
        out.print(f"{name:10s} {state}", style="" if state == "done" else "dim")
        error: Any = step["outcome"].get("error") if step and state == "failed" else None
        if error:
            out.print(f"           {error.get('message')}", style="red")
            if error.get("fix"):
                out.print(f"           fix: {error['fix']}", style="green")
    if document["verdict"]:
        out.print(document["verdict"]["sentence"], style="bold")
    if document["report"]:
        out.print(f"report {document['report']}")


def _named(name: str, part: Mapping[str, Any]) -> str:
    asked: Any = part.get("non_inferiority")
    return "old" if asked and name == asked.get("reference") else name

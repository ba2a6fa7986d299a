"""The vendor's half of unift migrate: inventory, record, fetch. Registered by `migrate`."""

from __future__ import annotations

from contextlib import nullcontext
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from unift.cli._output import Json, emit, err, out

if TYPE_CHECKING:
    from unift.holdings import HeldJob
    from unift.migrate import Inventory

Name = Annotated[str, typer.Option(help="Name of the migration, a folder in UNIFT_HOME.")]
Source = Annotated[
    str,
    typer.Option(
        help="Where the old model lives: openai, openai:MODEL, https://HOST/v1 or ...#MODEL."
    ),
]


def inventory(
    source: Source = "openai",
    name: Name = "default",
    usage: Annotated[
        list[str] | None,
        typer.Option(
            help="Usage export (JSON, CSV) or MODEL=INPUT/OUTPUT tokens a month; repeatable."
        ),
    ] = None,
    usage_days: Annotated[
        float | None, typer.Option(help="Days that the usage covers.", min=0.01)
    ] = None,
    html: Annotated[Path | None, typer.Option(help="Also write a page.")] = None,
    json: Json = False,
) -> None:
    """List what you have at the vendor, until when it answers, and what can be taken home."""
    from unift.migrate import inventory as look
    from unift.migrate import migration_folder

    folder = migration_folder(name)
    with err.status("asking the vendor") if err.is_terminal else nullcontext():
        found = look(source, usage=usage, usage_days=usage_days)
    path = found.write(folder)
    page = found.write_html(html) if html else None
    if json:
        written = {"file": str(path), "report": str(page) if page else None}
        emit({**found.as_dict(), **written})
        return
    show_inventory(found)
    err.print(f"written to {path}" + (f" and {page}" if page else ""), markup=False)


def show_inventory(found: Inventory) -> None:
    """One table: models with their jobs and dates; then files, money, what was not seen."""
    from rich.table import Table

    from unift.migrate._inventory import left
    from unift.migrate._inventory_page import headline, size

    held = found.holdings
    out.print(headline(found)["found"], style="bold", markup=False)
    table = Table("model", "trained", "made", "stops answering", box=None, pad_edge=False)
    for column in table.columns[:2]:
        column.overflow = "fold"  # a name that is cut off is no name
    jobs = {job.id: job for job in held.jobs}
    with_model = {model.job for model in held.models}
    for model in held.models:
        job = jobs.get(model.job or "")
        until = model.until.answers
        table.add_row(
            model.id,
            _trained(job, model.base) if job and model.kind == "final" else model.kind,
            f"{model.created:%Y-%m-%d}" if model.created else "",
            f"{until} ({left(until)})" if until else "nobody says",
        )
    for job in held.jobs:
        if job.id not in with_model:
            made = f"{job.created:%Y-%m-%d}" if job.created else ""
            table.add_row(f"{job.id} ({job.word})", _trained(job, job.base), made, "")
    if table.row_count:
        out.print(table)
    takeable = [file for file in held.files if file.downloadable]
    total = size(sum(file.bytes or 0 for file in takeable))
    out.print(f"{len(takeable)} of {len(held.files)} files can be downloaded, {total} in all.")
    for file in held.files:
        if not file.downloadable:
            out.print(f"  not {file.id} {file.name}: {file.note}", markup=False)
    for one in found.deadlines:
        names = ", ".join(one.models[:3]) + (" ..." if len(one.models) > 3 else "")
        when = f"{one.on} ({left(one.on)})"
        out.print(f"{when}: {one.what}: {names} (says the {one.source})", markup=False)
    for spend in found.spend:
        money = f"${spend.usd:,.2f}" if spend.usd is not None else "no price known"
        out.print(
            f"{spend.model}: {money} in 30 days, {spend.input_tokens:,.0f} tokens in, "
            f"{spend.output_tokens:,.0f} out ({spend.source or 'no price in the catalogue'})",
            markup=False,
        )
    for line in held.unseen:
        out.print(f"not seen: {line}", style="yellow", markup=False)
    for line in held.notes:
        out.print(line, style="dim", markup=False)


def _trained(job: HeldJob, base: str) -> str:
    short = {"n_epochs": "epochs", "batch_size": "batch", "learning_rate_multiplier": "lr x"}
    settings = {key: value for key, value in job.settings.items() if key not in ("seed", "grader")}
    parts = [f"{short.get(key, key)} {value}" for key, value in settings.items()]
    if job.trained_tokens is not None:
        parts.append(f"{job.trained_tokens:,} tokens")
    return f"{job.method} of {base}: {', '.join(parts)}"

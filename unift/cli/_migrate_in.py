"""The vendor's half of unift migrate: inventory, record, fetch. Registered by `migrate`."""

from __future__ import annotations

from contextlib import nullcontext
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from unift._text import dollars
from unift.cli._output import Json, emit, err, out
from unift.cli._progress import counting
from unift.errors import UsageError

if TYPE_CHECKING:
    from unift.holdings import HeldJob
    from unift.migrate import Golden, Inventory

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
    err.print(f"written to {path}" + (f" and {page}" if page else ""))


def show_inventory(found: Inventory) -> None:
    """One table: models with their jobs and dates; then files, money, what was not seen."""
    from rich.table import Table

    from unift.migrate._inventory import left
    from unift.migrate._inventory_page import headline, size

    held = found.holdings
    out.print(headline(found)["found"], style="bold")
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
            out.print(f"  not {file.id} {file.name}: {file.note}")
    for one in found.deadlines:
        names = ", ".join(one.models[:3]) + (" ..." if len(one.models) > 3 else "")
        when = f"{one.on} ({left(one.on)})"
        out.print(f"{when}: {one.what}: {names} (says the {one.source})")
    for spend in found.spend:
        money = dollars(spend.usd, "no price known")
        out.print(
            f"{spend.model}: {money} in 30 days, {spend.input_tokens:,.0f} tokens in, "
            f"{spend.output_tokens:,.0f} out ({spend.source or 'no price in the catalogue'})",
        )
    for line in held.unseen:
        out.print(f"not seen: {line}", style="yellow")
    for line in held.notes:
        out.print(line, style="dim")


def _trained(job: HeldJob, base: str) -> str:
    short = {"n_epochs": "epochs", "batch_size": "batch", "learning_rate_multiplier": "lr x"}
    settings = {key: value for key, value in job.settings.items() if key not in ("seed", "grader")}
    parts = [f"{short.get(key, key)} {value}" for key, value in settings.items()]
    if job.trained_tokens is not None:
        parts.append(f"{job.trained_tokens:,} tokens")
    return f"{job.method} of {base}: {', '.join(parts)}"


def record(
    prompts: Annotated[
        list[str] | None,
        typer.Argument(
            help="JSONL with prompts: training files, requests, the proxy's log, exported stored "
            "completions; or 'stored', to list them at the vendor."
        ),
    ] = None,
    source: Annotated[
        str | None,
        typer.Option(help="The old model: openai:MODEL, https://HOST/v1#MODEL, run:ID."),
    ] = None,
    name: Name = "default",
    to: Annotated[
        Path | None, typer.Option("--out", help="Default: golden.jsonl of the migration.")
    ] = None,
    draws: Annotated[int, typer.Option(help="Answers of each prompt; 2 show the noise.")] = 1,
    temperature: Annotated[
        float, typer.Option(help="Where a prompt does not say.", min=0, max=2)
    ] = 0.0,
    top_p: Annotated[float | None, typer.Option(help="Likewise.", min=0, max=1)] = None,
    max_tokens: Annotated[int | None, typer.Option(help="Likewise.", min=1)] = None,
    seed: Annotated[int | None, typer.Option(help="Likewise; draw N gets seed + N.")] = None,
    logprobs: Annotated[
        int | None,
        typer.Option(help="Keep log probabilities, with so many alternatives.", min=0, max=20),
    ] = None,
    budget: Annotated[float | None, typer.Option(help="US dollars at most, in all.")] = None,
    price: Annotated[
        str | None, typer.Option(help="US dollars per million tokens, IN/OUT.")
    ] = None,
    rate: Annotated[float | None, typer.Option(help="Calls a minute at most.")] = None,
    at_once: Annotated[int, typer.Option(help="Calls under way at once.")] = 8,
    scrub: Annotated[
        bool, typer.Option("--scrub", help="Take secrets and personal data out.")
    ] = False,
    limit: Annotated[int | None, typer.Option(help="Only the first so many prompts.")] = None,
    margin: Annotated[float, typer.Option(help="Loss that would matter, as a share.")] = 0.05,
    ask_doubtful: Annotated[
        bool,
        typer.Option("--ask-doubtful", help="Repeat calls that may have been paid already."),
    ] = False,
    proxy: Annotated[
        bool, typer.Option("--proxy", help="Record live traffic, in front of the application.")
    ] = False,
    upstream: Annotated[
        str, typer.Option(help="With --proxy: where the old model answers.")
    ] = "https://api.openai.com/v1",
    host: Annotated[str, typer.Option(help="With --proxy: address to listen at.")] = "127.0.0.1",
    port: Annotated[int, typer.Option(help="With --proxy.", min=1, max=65535)] = 8100,
    new: Annotated[
        str | None,
        typer.Option(help="With --proxy: the new model, URL#NAME; its key is in UNIFT_API_KEY."),
    ] = None,
    rollback_at: Annotated[
        float,
        typer.Option(help="With --proxy: share of failures that ends it.", min=0.001, max=1),
    ] = 0.2,
    body_mib: Annotated[
        float, typer.Option(help="With --proxy: larger requests are not recorded.", min=0.001)
    ] = 32.0,
    json: Json = False,
) -> None:
    """Record what the old model answers, on your real prompts, while it still does."""
    from unift.migrate import migration_folder
    from unift.migrate import record as go

    if proxy:
        if prompts:
            raise UsageError(
                "The proxy records what passes through it, not a file.",
                where="PROMPTS",
                fix="leave the files out, or --proxy",
            )
        _serve_proxy(
            migration_folder(name), upstream, host, port, source, new, scrub, rollback_at, body_mib
        )
        return
    if not prompts:
        raise UsageError(
            "There is nothing to record from.",
            where="PROMPTS",
            fix="name JSONL files with prompts, or 'stored'; or --proxy to record live traffic",
        )
    given = {"temperature": temperature, "top_p": top_p, "max_tokens": max_tokens, "seed": seed}
    with counting("recording", unit="answers") as update:
        found = go(
            source,
            prompts,
            out=to or migration_folder(name) / "golden.jsonl",
            draws=draws,
            sampling={key: value for key, value in given.items() if value is not None},
            logprobs=logprobs,
            budget=budget,
            price=_price(price),
            rate=rate,
            at_once=at_once,
            scrub=scrub,
            limit=limit,
            margin=margin,
            ask_doubtful=ask_doubtful,
            progress=update,
        )
    if json:
        emit(found.as_dict())
    else:
        show_golden(found)
    if found.stopped:
        raise typer.Exit(4)


def show_golden(found: Golden) -> None:
    """What is there, what it cost, what is missing and why."""
    out.print(
        f"{found.prompts:,} prompts with {found.draws:,} answers in {found.path}",
        style="bold",
    )
    if found.duplicates:
        out.print(f"{found.duplicates:,} prompts came more than once and are kept once.")
    if found.usd is not None:
        out.print(f"{found.asked:,} calls, {dollars(found.usd)} ({found.price_source})")
    if found.noise.agreement is not None:
        out.print(
            f"The old model says the same twice in {found.noise.agreement:.1%} of cases "
            f"({found.noise.prompts:,} prompts drawn more than once): nobody can agree more."
        )
    out.print(found.enough.sentence())
    if found.scrubbed:
        out.print(f"{found.scrubbed:,} secrets and personal data taken out.")
    for reason in list({one["message"]: None for one in found.refused.values()})[:3]:
        out.print(f"refused ({len(found.refused)} prompts): {reason}", style="yellow")
    if found.doubtful:
        out.print(
            f"{found.doubtful} calls were under way when a recording was broken off; they may have "
            "been paid, so they are not repeated. --ask-doubtful repeats them.",
            style="yellow",
        )
    if found.stopped == "budget":
        out.print(
            f"The budget does not cover the next answer at its longest; {found.missing:,} are "
            "missing. The same command with a larger --budget goes on, a small --max-tokens helps.",
            style="yellow",
        )


def _price(text: str | None) -> tuple[float, float] | None:
    if text is None:
        return None
    try:
        read, written = (float(part) for part in text.split("/"))
    except ValueError:
        raise UsageError(
            f"'{text}' is no price.", where="--price", fix="--price 0.30/1.20"
        ) from None
    return read, written


def fetch(
    source: Annotated[
        str | None,
        typer.Option(
            help="openai:MODEL for the files of one model; openai for all jobs. Default: the "
            "inventory of the migration."
        ),
    ] = None,
    name: Name = "default",
    to: Annotated[Path | None, typer.Option(help="Default: files/ of the migration.")] = None,
    everything: Annotated[
        bool, typer.Option("--everything", help="Also files that no job names.")
    ] = False,
    json: Json = False,
) -> None:
    """Take training data, results and settings home, checked against what the jobs say."""
    from unift.migrate import Inventory, migration_folder
    from unift.migrate import fetch as go
    from unift.migrate._inventory_page import size

    folder = migration_folder(name)
    what = source or Inventory.read(folder)
    with counting("fetching", unit="bytes") as update:
        found = go(what, to or folder / "files", everything=everything, progress=update)
    if json:
        emit(found.as_dict())
    else:
        for file in found.files:
            roles = ", ".join(f"{role} of {job}" for job, role in file.roles.items())
            mark = "verified" if file.verified else "NOT as the vendor says"
            out.print(f"{file.file} ({size(file.bytes)}, {roles or file.purpose}): {mark}")
            for check in file.checks:
                out.print(f"  {check}", style="dim")
        for one in found.missing:
            place = ", ".join(one.jobs) or one.name
            out.print(f"not fetched: {one.id} ({place}): {one.why}", style="yellow")
        err.print(f"written to {found.folder}")
    if any(not file.verified for file in found.files):
        raise typer.Exit(1)


def _serve_proxy(
    folder: Path,
    upstream: str,
    host: str,
    port: int,
    source: str | None,
    new: str | None,
    scrub: bool,
    rollback_at: float,
    body_mib: float,
) -> None:
    import logging
    import os

    from unift.migrate.proxy import Settings, serve_proxy

    # `openai:ft:...` or `URL#NAME`: only answers of that model are recorded.
    model = None
    if source:
        model = source.partition("#")[2] if "://" in source else source.partition(":")[2]
    logging.basicConfig(level=logging.WARNING, format="%(message)s")
    serve_proxy(
        Settings(
            upstream=upstream,
            folder=folder,
            model=model or None,
            new=new,
            new_key=os.environ.get("UNIFT_API_KEY", "none"),
            scrub=scrub,
            rollback_at=rollback_at,
            body_mib=body_mib,
        ),
        host=host,
        port=port,
        on_start=lambda: err.print(
            f"unift proxy: http://{host}:{port}/v1 in front of {upstream}\n"
            f"Set base_url of the application to it. Answers go to {folder / 'proxy.jsonl'}; "
            f"http://{host}:{port}/healthz says how it is."
        ),
    )


def traffic(
    name: Name = "default",
    share: Annotated[
        float | None, typer.Option(help="Share of users that the new model answers, 0 to 1.")
    ] = None,
    shadow: Annotated[
        float | None, typer.Option(help="Share of the other requests that both answer, 0 to 1.")
    ] = None,
    rollback: Annotated[
        bool, typer.Option("--rollback", help="Everything back to the old model, now.")
    ] = False,
    json: Json = False,
) -> None:
    """Who answers behind the proxy: move traffic to the new model, and back at once."""
    from unift.migrate import migration_folder
    from unift.migrate.proxy import read_traffic, roll_back, shadow_summary, write_traffic

    folder = migration_folder(name)
    if rollback and (share or shadow):
        raise UsageError("A rollback sets both shares to 0.", where="--rollback", fix="one of them")
    if rollback:
        found = roll_back(folder, "asked for on the command line")
    elif share is not None or shadow is not None:
        found = write_traffic(folder, share=share, shadow=shadow)
    else:
        found = read_traffic(folder)
    compared = shadow_summary(folder / "shadow.jsonl")
    if json:
        emit({**found.model_dump(), "compared": compared})
        return
    out.print(f"new model: {found.share:.1%} of users; shadow: {found.shadow:.1%} of the others")
    if found.rolled_back:
        out.print(f"rolled back {found.rolled_back}", style="yellow")
    if compared["answers"]:
        out.print(
            f"compared so far: {compared['answers']:,} answers, {compared['same']:.1%} the same, "
            f"{compared['failed']:,} failed; median {compared['old_median_s']:.2f} s old, "
            f"{compared['new_median_s']:.2f} s new"
        )

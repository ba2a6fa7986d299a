"""unift estimate: will it fit, how long, how much."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from unift._text import dollars, duration
from unift.cli._output import Json, emit, err, out
from unift.errors import UsageError

if TYPE_CHECKING:
    from unift.estimate import Estimate


def command(
    model: Annotated[str, typer.Option(help="demo, a folder, a hub id, or a vendor's model id.")],
    data: Annotated[str | None, typer.Option(help="Chat JSONL to count, or demo:train.")] = None,
    validation: Annotated[
        str | None, typer.Option(help="Rows to watch; evaluating them takes time.")
    ] = None,
    tokens: Annotated[
        int | None, typer.Option(help="Tokens of one epoch, instead of --data.")
    ] = None,
    rows: Annotated[int | None, typer.Option(help="Rows of one epoch, with --tokens.")] = None,
    epochs: Annotated[float, typer.Option(help="Passes over the data.")] = 3.0,
    providers: Annotated[
        str, typer.Option(help="Names with commas between them, or all that apply.")
    ] = "all",
    gpu: Annotated[str | None, typer.Option(help="For local training, e.g. h100-sxm-80gb.")] = None,
    usd_per_hour: Annotated[float | None, typer.Option(help="What your GPU costs.")] = None,
    rank: Annotated[int, typer.Option(help="Rank of the adapter.")] = 16,
    target: Annotated[
        list[str] | None, typer.Option(help="Module that gets an adapter; may be repeated.")
    ] = None,
    max_length: Annotated[int | None, typer.Option(help="Tokens per row.")] = None,
    watts: Annotated[float | None, typer.Option(help="What your own hardware draws.")] = None,
    usd_per_kwh: Annotated[float | None, typer.Option(help="Your price of electricity.")] = None,
    traffic: Annotated[
        float | None, typer.Option(help="Answers a month, for what running the model costs.")
    ] = None,
    prompt_tokens: Annotated[
        float | None, typer.Option(help="Tokens of a prompt, with --traffic.")
    ] = None,
    answer_tokens: Annotated[
        float | None, typer.Option(help="Tokens of an answer, with --traffic.")
    ] = None,
    budget: Annotated[
        float | None,
        typer.Option("--budget", "--usd", help="US dollars; exit with 4 if nothing is cheaper."),
    ] = None,
    deadline: Annotated[
        float | None, typer.Option(help="Hours; exit with 4 if nothing is faster.")
    ] = None,
    probe: Annotated[
        bool,
        typer.Option("--probe", help="Run the largest step on this machine first; seconds."),
    ] = False,
    html: Annotated[Path | None, typer.Option(help="Write the table and plot there.")] = None,
    json: Json = False,
) -> None:
    """Estimate memory, time and price, with the source and date of every figure."""
    import unift
    from unift.estimate._resolve import check_numbers

    check_numbers({"--budget": budget, "--deadline": deadline}, {})
    sizes = {"prompt_tokens": prompt_tokens, "answer_tokens": answer_tokens}
    given = {name: value for name, value in sizes.items() if value is not None}
    if given and traffic is None:
        raise UsageError(
            "Tokens of a prompt or an answer need the answers a month.",
            code="bad_setting",
            where=f"--{next(iter(given)).replace('_', '-')}",
            fix="add --traffic NUMBER",
        )
    found = unift.estimate(
        model=model,
        data=data,
        validation=validation,
        tokens=tokens,
        rows=rows,
        epochs=epochs,
        providers=_names(providers),
        gpu=gpu,
        usd_per_hour=usd_per_hour,
        rank=rank,
        targets=target,
        max_length=max_length,
        watts=watts,
        usd_per_kwh=usd_per_kwh,
        traffic=None if traffic is None else {"answers_per_month": traffic, **given},
        probe=probe,
    )
    document = found.as_dict()
    if html is not None:
        from unift.report import write_estimate

        write_estimate(document, html, f"Ways to fine-tune {model}")
        err.print(f"wrote {html}")
    if json:
        emit(document)
    else:
        show(found)
    able = [
        row
        for row in document["rows"]
        if row["available"] and row["fits"] is not False and _within(row, budget, deadline)
    ]
    if not able:
        err.print(_why_not(document["rows"], budget, deadline))
        raise typer.Exit(4)
    if not json and (budget is not None or deadline is not None):
        names = ", ".join(f"{row['provider']} {row['model']}" for row in able)
        out.print(f"\nwithin budget and deadline: {names}")


def _names(given: str) -> list[str] | str:
    """``all``, or the names between the commas."""
    names = [name.strip() for name in given.split(",") if name.strip()]
    if not names or ("all" in names and len(names) > 1):
        raise UsageError(
            "--providers takes names with commas between them, or all.",
            code="bad_setting",
            where="--providers",
            fix="give --providers all, or --providers local-lora,together",
        )
    return "all" if names == ["all"] else names


def _within(row: dict[str, Any], budget: float | None, deadline: float | None) -> bool:
    """Whether a way keeps both limits; what a vendor does not say keeps no limit."""
    return all(
        limit is None or (value is not None and value <= limit)
        for value, limit in ((row["price_usd"], budget), (row["hours"], deadline))
    )


def _why_not(rows: list[dict[str, Any]], budget: float | None, deadline: float | None) -> str:
    """Why the exit status is 4, and which way comes nearest."""
    able = [row for row in rows if row["available"] and row["fits"] is not False]
    if not able:
        return "none of these ways can train the model: the table says why"
    limits = [dollars(budget)] if budget is not None else []
    limits += [duration(deadline * 3600)] if deadline is not None else []
    said = f"none of these ways is known to stay within {' and '.join(limits)}"
    priced = [row for row in able if row["price_usd"] is not None]
    timed = [row for row in able if row["hours"] is not None]
    if budget is not None and priced:
        best = min(priced, key=lambda row: row["price_usd"])
        said += f"; cheapest: {best['provider']}, {dollars(best['price_usd'])}"
    if deadline is not None and timed:
        best = min(timed, key=lambda row: row["hours"])
        said += f"; fastest: {best['provider']}, {duration(best['hours'] * 3600)}"
    return said


def show(found: Estimate) -> None:
    """One line a provider, then what the figures rest on."""
    from rich.table import Table

    document = found.as_dict()
    running = any(row["usd_per_month"] is not None for row in document["rows"])
    ends = any(row["ends_on"] for row in document["rows"]) and out.width >= 110
    names = ["provider", "model", "fits", "GiB", "hours", "USD"]
    names += ["USD/1,000", "USD/month"] if running else []
    table = Table(
        *names, "yours", *(["ends on"] if ends else []), box=None, pad_edge=False, padding=(0, 1)
    )
    for column in table.columns:
        column.no_wrap = column.header != "model"  # only a long name may take two lines
    table.columns[1].overflow, table.columns[1].min_width = "fold", 15
    for column in table.columns[3 : len(names)]:
        column.justify = "right"
    for row in document["rows"]:
        memory: dict[str, float | None] = row["memory"] or {}
        table.add_row(
            row["provider"],
            row["model"] + (f"\nends {row['ends_on']}" if row["ends_on"] and not ends else ""),
            {True: "yes", False: "no", None: "-"}[row["fits"]],
            _number(memory.get("reserved_gib"), ".1f"),
            # What does not fit takes no time there; the document has what it would take.
            *(
                ["-", "-"]
                if row["fits"] is False
                else [_number(row["hours"], ".3g"), _number(row["price_usd"], ",.2f")]
            ),
            *(
                [
                    _number(row["usd_per_1000_answers"], ",.2f"),
                    _number(row["usd_per_month"], ",.0f"),
                ]
                if running
                else []
            ),
            {True: "yes", False: "no", None: "-"}[row["weights_yours"]],
            *([row["ends_on"] or "-"] if ends else []),
        )
    out.print(table)
    _advice(document["rows"])
    _notes("what this rests on", {row["provider"]: row["assumptions"] for row in document["rows"]})
    _notes(
        "sources",
        {row["provider"]: [_source(one) for one in row["sources"]] for row in document["rows"]},
    )
    if found.break_even:
        from unift.estimate._break_even import break_even_words

        said = [break_even_words(found.break_even), *found.break_even["assumptions"]]
        out.print("\nbreak-even: " + "; ".join(said))


def _advice(rows: list[dict[str, Any]]) -> None:
    """Of each way that does not fit, what it needs, what of it is largest, and what would fit; of
    others what would need less."""
    from unift.estimate.planner import MARGIN

    advised = [row for row in rows if row["memory"] and row["advice"]]
    if advised:
        out.print("\nadvice", style="bold")
    for row in advised:
        memory = row["memory"]
        largest = memory["largest"].replace("_", " ")
        need = (
            f"needs {memory['device_gib']:.1f} GiB, {largest} most of all "
            f"({memory['terms'][memory['largest']]:.1f}); there are {row['usable_gib']:.1f}, of "
            f"which {MARGIN:.0%} stay free; "
        )
        said = row["advice"] if row["fits"] else need + row["advice"]
        out.print(f"  {row['provider']}: {said}")


def _notes(title: str, by_provider: dict[str, list[str]]) -> None:
    """Each line once, with the providers that it is true of."""
    who: dict[str, list[str]] = {}
    for provider, lines in by_provider.items():
        for line in lines:
            who.setdefault(line, []).append(provider)
    if who:
        out.print(f"\n{title}", style="bold")
    for line, providers in who.items():
        names = "all" if len(providers) == len(by_provider) > 1 else ", ".join(providers)
        out.print(f"  {names}: {line}", style="dim")


def _source(one: dict[str, Any]) -> str:
    stale = ", check it before relying on it" if one.get("stale") else ""
    place = "; ".join(one["source"])
    return f"{one['what']}: {place} ({one['as_of']}, {one['age_days']} days old{stale})"


def _number(value: float | None, form: str) -> str:
    return "-" if value is None else format(value, form)

"""unift estimate: will it fit, how long, how much."""

from __future__ import annotations

from typing import TYPE_CHECKING, Annotated, Any

import typer

from unift.cli._output import Json, emit, out

if TYPE_CHECKING:
    from unift.estimate import Estimate


def command(
    model: Annotated[str, typer.Option(help="demo, a folder, a hub id, or a vendor's model id.")],
    data: Annotated[str | None, typer.Option(help="Chat JSONL to count, or demo:train.")] = None,
    tokens: Annotated[
        int | None, typer.Option(help="Tokens of one epoch, instead of --data.")
    ] = None,
    rows: Annotated[int | None, typer.Option(help="Rows of one epoch, with --tokens.")] = None,
    epochs: Annotated[float, typer.Option(help="Passes over the data.")] = 3.0,
    provider: Annotated[
        list[str] | None, typer.Option(help="Only this one; repeatable. Default: all that apply.")
    ] = None,
    gpu: Annotated[str | None, typer.Option(help="For local training, e.g. h100-sxm-80gb.")] = None,
    usd_per_hour: Annotated[float | None, typer.Option(help="What your GPU costs.")] = None,
    rank: Annotated[int, typer.Option(help="Rank of the adapter.")] = 16,
    max_length: Annotated[int | None, typer.Option(help="Tokens per row.")] = None,
    usd: Annotated[float | None, typer.Option(help="Exit with 4 if nothing is cheaper.")] = None,
    json: Json = False,
) -> None:
    """Estimate memory, time and price, with the source and date of every figure."""
    import unift

    found = unift.estimate(
        model=model,
        data=data,
        tokens=tokens,
        rows=rows,
        epochs=epochs,
        providers=provider or "all",
        gpu=gpu,
        usd_per_hour=usd_per_hour,
        rank=rank,
        max_length=max_length,
    )
    if json:
        emit(found.as_dict())
    else:
        show(found)
    fitting = [row for row in found.as_dict()["rows"] if row["fits"] is not False]
    prices = [row["price_usd"] for row in fitting if row["price_usd"] is not None]
    if not fitting or (usd is not None and (not prices or min(prices) > usd)):
        raise typer.Exit(4)


def show(found: Estimate) -> None:
    """One line a provider, then what the figures rest on."""
    from rich.table import Table

    document = found.as_dict()
    table = Table("provider", "model", "fits", "GiB", "hours", "USD", box=None, pad_edge=False)
    for column in table.columns[3:]:
        column.justify = "right"
    for row in document["rows"]:
        memory: dict[str, float | None] = row["memory"] or {}
        table.add_row(
            row["provider"],
            row["model"],
            {True: "yes", False: "no", None: "-"}[row["fits"]],
            _number(memory.get("reserved_gib"), ".1f"),
            _number(row["hours"], ".3g"),
            _number(row["price_usd"], ",.2f"),
        )
    out.print(table)
    _notes("what this rests on", {row["provider"]: row["assumptions"] for row in document["rows"]})
    _notes(
        "sources",
        {row["provider"]: [_source(one) for one in row["sources"]] for row in document["rows"]},
    )
    if found.break_even:
        out.print(_break_even(found.break_even), markup=False)


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
        out.print(f"  {names}: {line}", style="dim", markup=False)


def _source(one: dict[str, Any]) -> str:
    stale = ", check it before relying on it" if one.get("stale") else ""
    place = "; ".join(one["source"])
    return f"{one['what']}: {place} ({one['as_of']}, {one['age_days']} days old{stale})"


def _break_even(found: dict[str, Any]) -> str:
    api, gpu = found["api"], found["gpu"]
    return (
        f"\nbreak-even: from {found['answers_per_month']:,} answers a month a "
        f"{gpu['hardware']} of your own (${gpu['usd_per_month']:,.0f} a month) costs less than "
        f"{api['provider']} (${api['usd_per_answer'] * 1000:.3g} per 1,000 answers of "
        f"{found['answer_tokens']:.0f} tokens to prompts of {found['prompt_tokens']:.0f}); "
        + "; ".join(found["assumptions"])
    )


def _number(value: float | None, form: str) -> str:
    return "-" if value is None else format(value, form)

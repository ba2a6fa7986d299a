"""unift validate: everything that is wrong with a file, at once."""

from __future__ import annotations

from collections import defaultdict
from typing import TYPE_CHECKING, Annotated

import typer

from unift.cli._output import Json, emit, err, out
from unift.cli._progress import counting

if TYPE_CHECKING:
    from rich.text import Text

    from unift.data import Finding, Report
    from unift.data.shown import ShownRow

_STYLE = {"error": "bold red", "warning": "yellow", "advice": "cyan"}
_ORDER = {"error": 0, "warning": 1, "advice": 2}


def command(
    file: Annotated[str, typer.Argument(help="JSON Lines, Parquet, or demo:train.")],
    provider: Annotated[
        list[str] | None, typer.Option(help="Check this provider's limits too; repeatable.")
    ] = None,
    model: Annotated[str | None, typer.Option(help="Count tokens as this model does.")] = None,
    validation: Annotated[
        str | None, typer.Option(help="Look for rows shared with this file.")
    ] = None,
    test: Annotated[str | None, typer.Option(help="Look for rows shared with this file.")] = None,
    max_length: Annotated[int | None, typer.Option(help="Tokens that a row may have.")] = None,
    max_per_code: Annotated[int, typer.Option(help="Show so many findings of one kind.")] = 5,
    fix: Annotated[
        str | None, typer.Option(help="Write a mended copy here, and the list of changes.")
    ] = None,
    show: Annotated[
        int, typer.Option(help="Show so many rows as the model sees them (needs --model).")
    ] = 0,
    report: Annotated[str | None, typer.Option(help="Write all findings as an HTML page.")] = None,
    format: Annotated[
        str | None, typer.Option(help="Format of the rows, if looking at them is not enough.")
    ] = None,
    deep: Annotated[
        bool,
        typer.Option(help="Near duplicates, secrets, personal data, languages too; slower."),
    ] = False,
    epochs: Annotated[
        float, typer.Option(help="Passes over the data, for the tokens that are charged for.")
    ] = 1.0,
    region: Annotated[
        str | None,
        typer.Option(help="With --deep: country of phone numbers without a country code, as US."),
    ] = None,
    drop: Annotated[
        list[str] | None,
        typer.Option(
            help="What rows may lose where a provider needs them converted, as unift convert"
            " --drop; repeatable."
        ),
    ] = None,
    json: Json = False,
) -> None:
    """Check training data: every fault with its line, the reason and the fix."""
    import unift

    with counting("validating", "bytes") as update:
        found = unift.validate(
            file,
            provider=provider or None,
            model=model,
            validation=validation,
            test=test,
            max_length=max_length,
            progress=update,
            fix=fix,
            format=format,
            deep=deep,
            epochs=epochs,
            region=region,
            drop=drop or (),
        )
    rows: list[ShownRow] = []
    if show:
        from unift.data.shown import show_rows

        rows = show_rows(file, model, show, max_length=max_length)
    document = found.as_dict()
    if show:
        document["shown"] = [row.as_dict() for row in rows]
    page = ""
    if report is not None:
        from unift.report import write_report

        page = str(write_report(report, validation=document))
        document["report"] = page
    if json:
        emit(document)
    else:
        print_report(found, max_per_code)
        for row in rows:
            _print_row(row)
        if rows:
            cut = "; after ✂ is too long" if any(row.cut for row in rows) else ""
            told = f"coloured, or in ⟦brackets⟧, is what is learnt{cut}"
            out.print(told, style="dim")
        if page:
            err.print(f"report: {page}")
    # With --fix, what counts is whether everything could be mended.
    if not found.ok and (found.fixed is None or found.fixed.left_out or not found.fixed.after.ok):
        raise typer.Exit(3)


def print_report(report: Report, max_per_code: int = 5) -> None:
    """Findings grouped by code, the worst first, then the verdicts and the totals."""
    groups: dict[str, list[Finding]] = defaultdict(list)
    # A code may be an error for one provider and less for another: the worst come first.
    for finding in sorted(report.findings, key=lambda one: _ORDER[one.severity]):
        groups[finding.code].append(finding)
    ranked = sorted(groups.items(), key=lambda item: (_ORDER[item[1][0].severity], item[0]))
    for code, members in ranked:
        _print_group(code, members, report.counts.get(code, len(members)), max_per_code)
    if report.verdicts:
        _print_verdicts(report)
    tokens = "" if report.tokens is None else f", {report.tokens:,} tokens ({report.tokens_method})"
    if report.format_reason and report.format != "openai-chat":
        out.print(f"format: {report.format} ({report.format_reason})")
    out.print(_verdict(report.ok), end="")
    out.print(
        f": {report.rows:,} rows{tokens}; {report.errors} errors,"
        f" {report.warnings} warnings, {report.advice} advice"
    )
    fixed = report.fixed
    if fixed is not None:
        state = "ready" if fixed.after.ok else "not ready"
        out.print(
            f"mended copy: {fixed.file} ({state}): {fixed.rows:,} rows, {fixed.left_out} left out,"
            f" {fixed.changed} changes listed in {fixed.log}",
        )


def _print_group(code: str, members: list[Finding], count: int, most: int) -> None:
    from unift.data import explain

    first = members[0]
    style = _STYLE[first.severity]
    out.print(f"{first.severity} {code}", style=style, end=" ")
    out.print(f"{explain(code).title} ({count})")
    for finding in members[:most]:
        place = finding.file + (f":{finding.line}" if finding.line else "")
        where = f" {finding.path}" if finding.path else ""
        only = f" ({', '.join(finding.providers)})" if finding.providers else ""
        out.print(f"  {place}{where}: {finding.message}{only}")
        for line in finding.excerpt.splitlines():
            out.print(f"    {line}", style="dim")
    if count > most:
        out.print(f"  and {count - most} more (--max-per-code, --json, --report)", style="dim")
    # One fix for all of them, unless each has its own.
    fixes = list(dict.fromkeys(finding.fix for finding in members[:most]))
    for fix in fixes:
        out.print(f"  fix: {fix}", style="green")


def _verdict(good: bool) -> Text:
    from rich.text import Text

    return Text("ready", "bold green") if good else Text("not ready", "bold red")


def _print_verdicts(report: Report) -> None:
    from rich.table import Table

    table = Table(box=None, pad_edge=False)
    epochs = next((one.epochs for one in report.bills.values()), 1.0)
    passes = "an epoch" if epochs == 1 else f"for {epochs:g} epochs"
    for name in ("provider", "verdict", "errors", f"tokens billed {passes}", "because of"):
        right = name == "errors" or name.startswith("tokens")
        table.add_column(name, justify="right" if right else "left")
    for name, good in report.verdicts.items():
        codes = report.refusals.get(name, {})
        because = ", ".join(f"{code} ({count})" for code, count in codes.items())
        billed = f"{report.bills[name].tokens:,}" if name in report.bills else "-"
        table.add_row(name, _verdict(good), f"{sum(codes.values()):,}", billed, because)
    out.print(table)
    for name, bill in report.bills.items():
        notes = f" ({'; '.join(bill.notes)})" if bill.notes else ""
        out.print(f"{name} bills {bill.rule}{notes}", style="dim", highlight=False)


# A token is told from the next one by its shade. Without colour what is learnt is in brackets.
_LEARNT = ("black on green", "black on bright_green")
_GIVEN = ("dim", "dim underline")


def _print_row(row: ShownRow) -> None:
    from rich.text import Text

    out.print(f"\n{row.file}:{row.line}: {row.summary}", style="bold")
    coloured = out.is_terminal and not out.no_color
    text = Text()
    before = False
    for number, (piece, trained) in enumerate(row.pieces):
        if row.cut_at and number == row.cut_at:
            text.append("✂", "bold red" if coloured else "")
        if not coloured and trained != before:
            text.append("⟦" if trained else "⟧")
        before = trained
        text.append(piece, (_LEARNT if trained else _GIVEN)[number % 2] if coloured else "")
    if before and not coloured:
        text.append("⟧")
    out.print(text)

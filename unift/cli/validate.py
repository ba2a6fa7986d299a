"""unift validate: everything that is wrong with a file, at once."""

from __future__ import annotations

from collections import defaultdict
from typing import TYPE_CHECKING, Annotated

import typer

from unift.cli._output import Json, emit, out
from unift.cli._progress import counting

if TYPE_CHECKING:
    from unift.data import Report

_STYLE = {"error": "bold red", "warning": "yellow", "advice": "cyan"}


def command(
    file: Annotated[str, typer.Argument(help="Chat JSONL, or demo:train.")],
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
    json: Json = False,
) -> None:
    """Check training data: every fault with its line, the reason and the fix."""
    import unift

    with counting("validating", "bytes") as update:
        report = unift.validate(
            file,
            provider=provider or None,
            model=model,
            validation=validation,
            test=test,
            max_length=max_length,
            progress=update,
        )
    if json:
        emit(report.as_dict())
    else:
        show(report, max_per_code)
    if not report.ok:
        raise typer.Exit(3)


def show(report: Report, max_per_code: int = 5) -> None:
    """Findings grouped by code, the worst first, then the totals."""
    groups: dict[str, list[int]] = defaultdict(list)
    for index, finding in enumerate(report.findings):
        groups[finding.code].append(index)
    order = {"error": 0, "warning": 1, "advice": 2}
    ranked = sorted(
        groups.items(), key=lambda item: (order[report.findings[item[1][0]].severity], item[0])
    )
    for code, members in ranked:
        first = report.findings[members[0]]
        out.print(f"[{_STYLE[first.severity]}]{first.severity} {code}[/] ({len(members)})")
        for index in members[:max_per_code]:
            finding = report.findings[index]
            place = finding.file + (f":{finding.line}" if finding.line else "")
            where = f" {finding.path}" if finding.path else ""
            out.print(f"  {place}{where}: {finding.message}", markup=False)
        if len(members) > max_per_code:
            out.print(
                f"  and {len(members) - max_per_code} more (--max-per-code, --json)", style="dim"
            )
        out.print(f"  fix: {first.fix}", style="green", markup=False)
    counts = {name: sum(f.severity == name for f in report.findings) for name in order}
    tokens = "" if report.tokens is None else f", {report.tokens:,} tokens ({report.tokens_method})"
    verdict = "[bold green]ready[/]" if report.ok else "[bold red]not ready[/]"
    out.print(
        f"{verdict}: {report.rows:,} rows{tokens}; {counts['error']} errors,"
        f" {counts['warning']} warnings, {counts['advice']} advice"
    )

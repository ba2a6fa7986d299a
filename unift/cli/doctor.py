"""unift doctor: what is installed, what is missing, what mends it."""

from __future__ import annotations

from unift.cli._output import Json, emit, out


def command(json: Json = False) -> None:
    """Say what works here, what does not, and the one command that mends each thing."""
    import unift

    checks = unift.doctor()
    if json:
        emit({"checks": [check.model_dump() for check in checks]})
        return
    from rich.table import Table

    mark = {True: "[green]ok[/]", False: "[red]missing[/]", None: "-"}
    table = Table("", "what", "found", "disables", "mend with", box=None, pad_edge=False)
    for check in checks:
        table.add_row(mark[check.ok], check.name, check.detail, check.disables, check.fix)
    out.print(table)

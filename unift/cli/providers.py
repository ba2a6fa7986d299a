"""unift providers: who can train."""

from __future__ import annotations

from unift.cli._output import Json, emit, out


def command(json: Json = False) -> None:
    """List the providers that are installed, and whether each can be used here."""
    import unift

    found = unift.providers()
    if json:
        emit({"providers": [info.model_dump() for info in found]})
        return
    from rich.table import Table

    table = Table("provider", "usable", "package", "what to do", box=None, pad_edge=False)
    for info in found:
        table.add_row(info.name, "yes" if info.available else "no", info.package, info.fix)
    out.print(table)

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
    from rich.markup import escape

    mark = {True: "[green]ok[/]", False: "[red]no[/]", None: "- "}
    width = max(len(check.name) for check in checks)
    for check in checks:
        out.print(f"{mark[check.ok]}  {check.name:<{width}}  {escape(check.detail)}", markup=True)
        # A line of its own, never cut: it is there to be copied.
        for word, text in (("without it", check.disables), ("mend with", check.fix)):
            if text:
                out.print(f"      [dim]{word:<10}[/]  {escape(text)}", markup=True)

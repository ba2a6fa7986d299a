"""unift catalog: the facts that prices and limits come from."""

from __future__ import annotations

from typing import Annotated

import typer

from unift.cli._output import Json, emit, out

app = typer.Typer(help="Prices, limits and dates.", no_args_is_help=True)


@app.callback()
def root() -> None:
    """Prices, limits and dates."""


@app.command()
def update(
    source: Annotated[str, typer.Option("--from", help="A JSON file, or an https:// address.")],
    json: Json = False,
) -> None:
    """Take newer facts over, checked against the schema; they win over the shipped ones by id."""
    from unift.catalog import update as take

    done = take(source)
    if json:
        emit(
            {
                "path": str(done.path),
                "entries": done.entries,
                "oldest": done.oldest,
                "newest": done.newest,
            }
        )
        return
    counts = ", ".join(f"{count} {name}" for name, count in done.entries.items())
    out.print(f"{counts}, facts of {done.oldest} to {done.newest}, in {done.path}")

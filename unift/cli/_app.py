"""The list of commands. Adding one: a module with one function, and a line here."""

from __future__ import annotations

import typer

from unift.cli import (
    catalog,
    chat,
    convert,
    data,
    demo,
    doctor,
    estimate,
    evaluate,
    migrate,
    providers,
    runs,
    serve,
    train,
    validate,
)

app = typer.Typer(
    name="unift",
    help="Fine-tune a language model, on your GPUs or through a vendor's API.",
    no_args_is_help=True,
    pretty_exceptions_enable=False,
    context_settings={"help_option_names": ["-h", "--help"]},
)
for module in (
    demo,
    doctor,
    providers,
    validate,
    convert,
    estimate,
    train,
    evaluate,
    chat,
    serve,
):
    app.command(module.__name__.rpartition(".")[2])(module.command)
app.add_typer(catalog.app, name="catalog")
app.add_typer(data.app, name="data")
app.add_typer(runs.app, name="runs")
app.add_typer(migrate.app, name="migrate")


def _version(wanted: bool) -> None:
    if wanted:
        from unift import __version__

        typer.echo(f"unift {__version__}")
        raise typer.Exit


@app.callback()
def root(
    version: bool = typer.Option(
        False, "--version", callback=_version, is_eager=True, help="Show the version."
    ),
) -> None:
    """Options before the command."""

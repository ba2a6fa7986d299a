"""unift migrate: off a vendor's API before it closes."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, Protocol, TypeVar

import typer

from unift.cli import _migrate_in
from unift.cli._migrate_show import (
    show_compared,
    show_cutover,
    show_plan,
    show_status,
    show_trained,
    telling,
)
from unift.cli._output import Json, emit, out
from unift.errors import UsageError

if TYPE_CHECKING:
    from unift.migrate import Migration

app = typer.Typer(help="Off a vendor's API before it closes, step by step.", no_args_is_help=True)
app.command("inventory")(_migrate_in.inventory)
app.command("record")(_migrate_in.record)
app.command("traffic")(_migrate_in.traffic)
app.command("fetch")(_migrate_in.fetch)

Which = Annotated[
    str, typer.Argument(metavar="MIGRATION", help="migration.yaml, or the name of a migration.")
]
Again = Annotated[bool, typer.Option("--again", help="Do it again although it is done.")]


@app.command()
def plan(
    source: Annotated[
        str,
        typer.Argument(help="The old model (openai:ft:...), a migration.yaml, or a name."),
    ],
    name: Annotated[str | None, typer.Option(help="Name of the migration.")] = None,
    to: Annotated[str | None, typer.Option(help="Who trains; default: recommended.")] = None,
    model: Annotated[str | None, typer.Option(help="The new base; default: recommended.")] = None,
    gpu: Annotated[str | None, typer.Option(help="Card to train on, such as h100.")] = None,
    train: Annotated[
        str | None, typer.Option(help="Training file, instead of the fetched one.")
    ] = None,
    validation: Annotated[str | None, typer.Option(help="Validation file, likewise.")] = None,
    test: Annotated[str | None, typer.Option(help="Test file; default: held out.")] = None,
    margin: Annotated[
        float | None, typer.Option(help="How much worse is acceptable, such as 0.03.")
    ] = None,
    successor: Annotated[
        str | None, typer.Option(help="The vendor's untuned successor, to compare with.")
    ] = None,
    answers_per_month: Annotated[
        int | None, typer.Option(help="Traffic, for prices and the break-even.")
    ] = None,
    licence: Annotated[
        list[str] | None, typer.Option(help="Licence that is allowed; repeatable.")
    ] = None,
    language: Annotated[
        list[str] | None, typer.Option(help="Language that it must know; repeatable.")
    ] = None,
    again: Again = False,
    json: Json = False,
) -> None:
    """Decide where to, with which settings, at what cost; write migration.yaml and migrate.py."""
    import unift

    if source.endswith((".yaml", ".yml")) or _is_name(source):
        migration = find(source)
    else:
        migration = unift.migrate(
            source,
            name=name,
            to=to,
            model=model,
            old={"successor": successor} if successor else None,
            data=_given(train=train, validation=validation, test=test),
            target=_given(
                gpu=gpu, answers_per_month=answers_per_month, licence=licence, languages=language
            ),
            compare=_given(margin=margin),
        )
    with telling(migration, quiet=json):
        found = migration.plan(again=again)
    written = {
        "yaml": str(migration.folder / "migration.yaml"),
        "script": str(migration.folder / "migrate.py"),
    }
    if json:
        emit({"migration": migration.name, **found.as_dict(), **written})
        return
    show_plan(found)
    out.print(f"\nwritten {written['yaml']}")
    out.print(f"    and {written['script']}")
    out.print("review them, then: unift migrate run " + written["yaml"])


class _Told(Protocol):
    def as_dict(self) -> dict[str, Any]: ...


_Found = TypeVar("_Found", bound=_Told)


def _step(
    which: str, json: bool, work: Callable[[Migration], _Found], show: Callable[[_Found], None]
) -> None:
    migration = find(which)
    with telling(migration, quiet=json):
        found = work(migration)
    if json:
        emit({"migration": migration.name, **found.as_dict()})
    else:
        show(found)


@app.command()
def train(which: Which, again: Again = False, json: Json = False) -> None:
    """Train what was planned, once; with a sweep, choose by validation rows."""
    _step(which, json, lambda migration: migration.train(again=again), show_trained)


@app.command()
def compare(
    which: Which,
    model: Annotated[
        str | None, typer.Option(help="Compare this model instead of the trained one.")
    ] = None,
    again: Again = False,
    json: Json = False,
) -> None:
    """Old against new: truth, the old model's own answers, slices, form, speed, price."""
    _step(which, json, lambda migration: migration.compare(model=model, again=again), show_compared)


@app.command()
def cutover(
    which: Which,
    server: Annotated[
        str | None, typer.Option(help="Check the tokens of this running server: http://HOST/v1.")
    ] = None,
    again: Again = False,
    json: Json = False,
) -> None:
    """Start commands, environment diff, template check, archive. Nothing is switched by itself."""
    _step(
        which, json, lambda migration: migration.cutover(again=again, server=server), show_cutover
    )


@app.command()
def report(which: Which, json: Json = False) -> None:
    """The whole story on one page to sign, also as Markdown and JSON."""
    migration = find(which)
    found = migration.report()
    if json:
        emit({"migration": migration.name, **found.as_dict()})
    else:
        for path in found.as_dict().values():
            out.print(path)


@app.command()
def run(
    which: Which,
    until: Annotated[str | None, typer.Option(help="Stop after this step.")] = None,
    json: Json = False,
) -> None:
    """Every step that is not done yet, inventory to report. Exit status 1 if the verdict is no."""
    migration = find(which)
    with telling(migration, quiet=json):
        found = migration.run(until=until)
    if json:
        emit(found)
    else:
        show_status(found)
    if found["withheld"]:
        raise typer.Exit(1)


@app.command()
def status(
    which: Annotated[
        str | None, typer.Argument(metavar="MIGRATION", help="One of them; default: all.")
    ] = None,
    json: Json = False,
) -> None:
    """How far a migration is, or every one."""
    if which is not None:
        found = find(which).as_dict()
        if json:
            emit(found)
        else:
            show_status(found)
        return
    names = _names()
    documents = [find(name).as_dict() for name in names]
    if json:
        emit({"migrations": documents})
        return
    if not documents:
        out.print("No migrations yet. unift migrate plan openai:ft:... begins one.")
    for document in documents:
        verdict = document["verdict"]["code"] if document["verdict"] else ""
        out.print(
            f"{document['migration']}  next: {document['next'] or 'nothing'}  {verdict}",
        )


@app.command()
def verify(
    archive: Annotated[Path, typer.Argument(help="NAME.tar.gz of a cut-over.")],
    json: Json = False,
) -> None:
    """Hold every file of an archive against the digest that it was packed with."""
    from unift.migrate import verify as check

    found = check(archive)
    if json:
        emit(found.as_dict())
    else:
        out.print(f"{found.files} files, {'all as packed' if found.ok else 'NOT as packed'}")
        for word in ("changed", "missing", "extra"):
            for name in getattr(found, word):
                out.print(f"  {word} {name}")
    if not found.ok:
        raise typer.Exit(1)


def find(which: str) -> Migration:
    """A migration by its file or its name.

    Raises:
        UsageError: There is none; the nearest name is given.
    """
    import unift
    from unift._text import did_you_mean
    from unift.migrate import migration_folder

    if which.endswith((".yaml", ".yml")):
        return unift.migrate(which)
    if not _is_name(which):
        raise UsageError(
            f"There is no migration '{which}'.",
            code="unknown_migration",
            where="MIGRATION",
            fix=did_you_mean(which, _names()) + "; or give a migration.yaml",
        )
    return unift.migrate(migration_folder(which) / "migration.yaml")


def _is_name(text: str) -> bool:
    from unift._home import home

    known = "/" not in text and ":" not in text
    return known and (home() / "migrations" / text / "migration.yaml").is_file()


def _names() -> list[str]:
    """Migrations that have a plan, the one that was busy last first."""
    from unift.runs import owners

    names = [owner.removeprefix("migration:") for owner in owners("migration:")]
    return [name for name in names if _is_name(name)]


def _given(**values: Any) -> dict[str, Any]:
    return {key: value for key, value in values.items() if value is not None}

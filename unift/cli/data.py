"""unift data: split a file, count what is in it, compare two."""

from __future__ import annotations

from typing import TYPE_CHECKING, Annotated

import typer

from unift.cli._output import Json, emit, out
from unift.errors import UsageError

if TYPE_CHECKING:
    from unift.data import Diff, Split, Stats

app = typer.Typer(help="Split, count and compare training data.", no_args_is_help=True)

File = Annotated[str, typer.Argument(help="JSON Lines, Parquet, or demo:train.")]


@app.command("split")
def split_command(
    file: File,
    folder: Annotated[str, typer.Option("--out", help="Folder for the parts.")],
    part: Annotated[
        list[str] | None,
        typer.Option(help="NAME=SHARE; repeatable. Without: train=.8 validation=.1 test=.1."),
    ] = None,
    seed: Annotated[int, typer.Option(help="Another seed, another split.")] = 0,
    near: Annotated[
        bool, typer.Option(help="Keep nearly equal rows together too (unift[data]).")
    ] = True,
    force: Annotated[
        bool, typer.Option("--force", help="Replace earlier parts that have other rows.")
    ] = False,
    json: Json = False,
) -> None:
    """Split into parts that share no prompt and no nearly equal row; labels in proportion."""
    from unift.data import PARTS, split

    parts = dict(map(_part, part)) if part else PARTS
    done = split(file, folder, parts=parts, seed=seed, near=near, force=force)
    if json:
        emit(done.as_dict())
    else:
        _print_split(done)


@app.command("stats")
def stats_command(file: File, json: Json = False) -> None:
    """Count rows, roles, lengths, labels and repeats."""
    from unift.data import stats

    found = stats(file)
    if json:
        emit(found.as_dict())
    else:
        _print_stats(found)


@app.command("diff")
def diff_command(
    first: File,
    second: Annotated[str, typer.Argument(help="The other file.")],
    json: Json = False,
) -> None:
    """Compare two files by what their rows say; status 1 if they differ."""
    from unift.data import diff

    found = diff(first, second)
    if json:
        emit(found.as_dict())
    else:
        _print_diff(found)
    if not found.equal:
        raise typer.Exit(1)


def _part(text: str) -> tuple[str, float]:
    name, _, share = text.partition("=")
    try:
        return name, float(share)
    except ValueError:
        raise UsageError(
            f"{text!r} is no part.", code="bad_parts", where="--part", fix="--part train=0.9"
        ) from None


def _print_split(done: Split) -> None:
    for part, file in done.files.items():
        out.print(f"{part}: {done.rows[part]:,} rows in {file}")
    near = "equal prompts and nearly equal rows" if done.near else "equal prompts"
    out.print(f"{done.groups:,} groups ({near} kept together), largest {done.largest_group}")
    for label, counts in list(done.labels.items())[:20]:
        shown = ", ".join(f"{part} {count}" for part, count in counts.items())
        out.print(f"  {label[:40]!r}: {shown}")


def _print_stats(found: Stats) -> None:
    def spread(values: dict[int, int]) -> str:
        return ", ".join(
            f"{'longest' if share == 100 else f'{share}%'} {value:,}"
            for share, value in values.items()
        )

    repeats = found.rows - found.distinct_rows
    lines = (
        f"{found.file}: {found.rows:,} rows of {found.format}, {repeats:,} of them repeats,"
        f" {found.distinct_prompts:,} prompts",
        f"fingerprint {found.fingerprint}",
        "messages: " + ", ".join(f"{role} {count:,}" for role, count in found.roles.items()),
        f"messages in a row: {spread(found.messages)}",
        f"characters in a row: {spread(found.characters)}",
        f"characters in an answer: {spread(found.answers)}",
        f"system prompts: {found.systems:,}; rows with tools {found.with_tools:,}, with images"
        f" {found.with_images:,}",
    )
    for line in lines:
        out.print(line)
    for label, count in list(found.labels.items())[:20]:
        out.print(f"  {label[:60]!r}: {count:,} ({count / found.rows:.0%})")


def _print_diff(found: Diff) -> None:
    if found.equal:
        out.print(f"equal: {found.same:,} rows in the same order")
        return
    order = ", in another order" if found.reordered else ""
    out.print(
        f"{found.same:,} rows are the same{order}; {found.removed:,} removed,"
        f" {found.added:,} added, {found.changed:,} answered differently"
    )
    for name, lines in (("removed", found.removed_lines), ("added", found.added_lines)):
        if lines:
            more = ", ..." if len(lines) > 20 else ""
            out.print(f"  {name}: lines {', '.join(map(str, lines[:20]))}{more}")
    for one, other in found.changed_lines[:20]:
        out.print(f"  answered differently: line {one}, now line {other}")

"""unift convert: training data in another format."""

from __future__ import annotations

from typing import Annotated

import typer

from unift.cli._output import Json, emit, out
from unift.cli._progress import counting


def command(
    file: Annotated[str, typer.Argument(help="JSON Lines, Parquet, or demo:train.")],
    to: Annotated[
        str,
        typer.Option(
            help="openai-chat, openai-preference, openai-rft, gemini, gemini-preference,"
            " gemini-rft, trl-preference, prompt-completion, alpaca or sharegpt."
        ),
    ],
    output: Annotated[str, typer.Option("--out", help="File to write; .gz and .zst too.")],
    source: Annotated[
        str | None, typer.Option("--from", help="Format of the input; found by looking.")
    ] = None,
    drop: Annotated[
        list[str] | None,
        typer.Option(help="What may be lost: tools, weights, images, turns, ...; repeatable."),
    ] = None,
    json: Json = False,
) -> None:
    """Convert training data; fails, with the rows named, if something would be lost."""
    import unift

    with counting("converting", "bytes") as update:
        done = unift.convert(file, output, to=to, source=source, drop=drop or (), progress=update)
    if json:
        emit(done.as_dict())
        return
    out.print(
        f"{done.file}: {done.rows:,} rows, from {done.source_format} ({done.source_reason})"
        f" to {done.target_format}",
    )
    for kind, rows in done.lost.items():
        out.print(f"  dropped {kind} in {rows:,} rows", style="yellow")
    for line, why in done.left_out[:5]:
        out.print(f"  left out line {line}: {why}", style="yellow")
    if len(done.left_out) > 5:
        out.print(f"  and {len(done.left_out) - 5} more rows left out (--json)", style="yellow")

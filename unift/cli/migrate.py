"""unift migrate: off a vendor's API before it closes."""

from __future__ import annotations

import typer

from unift.cli import _migrate_in

app = typer.Typer(help="Off a vendor's API before it closes, step by step.", no_args_is_help=True)
app.command("inventory")(_migrate_in.inventory)
app.command("record")(_migrate_in.record)
app.command("traffic")(_migrate_in.traffic)
app.command("fetch")(_migrate_in.fetch)

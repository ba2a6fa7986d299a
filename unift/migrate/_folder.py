"""Where a migration keeps its files."""

from __future__ import annotations

import re
from pathlib import Path

from unift._home import home
from unift.errors import UsageError


def migration_folder(name: str = "default") -> Path:
    """``$UNIFT_HOME/migrations/NAME``, made on first use.

    Raises:
        UsageError: The name is no plain folder name, or the folder cannot be created.
    """
    if not re.fullmatch(r"[\w][\w.-]{0,99}", name):
        raise UsageError(
            f"'{name}' is no name for a migration.",
            code="bad_migration_name",
            where="name",
            fix="letters, digits, dots, dashes and underscores, 100 at most",
        )
    folder = home() / "migrations" / name
    try:
        folder.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise UsageError(
            f"The folder of the migration cannot be created: {error.strerror}.",
            code="home_unwritable",
            where=str(folder),
            fix="set UNIFT_HOME to a folder that you may write to",
        ) from error
    return folder

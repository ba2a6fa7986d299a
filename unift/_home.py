"""Where unift keeps its records: one folder, overridable with ``UNIFT_HOME``."""

from __future__ import annotations

import os
from pathlib import Path

from unift.errors import UsageError


def home() -> Path:
    """The folder with the run store, made on first use.

    Raises:
        UsageError: It cannot be created (read-only disk, a file in its place).
    """
    override = os.environ.get("UNIFT_HOME")
    if override:
        folder = Path(override).expanduser().absolute()
    else:
        from platformdirs import user_data_path

        folder = user_data_path("unift")
    try:
        folder.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise UsageError(
            f"The data folder cannot be created: {error.strerror}.",
            code="home_unwritable",
            where=str(folder),
            fix="set UNIFT_HOME to a folder that you may write to",
        ) from error
    return folder

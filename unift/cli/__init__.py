"""The command line. Each command parses, calls the public API and prints; nothing more."""

from __future__ import annotations

import io
import sys

from unift.errors import UniftError


def main() -> None:
    """Entry point of ``unift``. Errors of a user are one paragraph, never a traceback."""
    as_json = "--json" in sys.argv[1:]
    for stream in (sys.stdout, sys.stderr):
        if isinstance(stream, io.TextIOWrapper):  # a letter that a terminal lacks stops nothing
            stream.reconfigure(errors="backslashreplace")
    try:
        from unift.cli._app import app  # within the try: Ctrl-C may come while this loads

        status = app(standalone_mode=False) or 0
        if status == 130:  # typer's word for Ctrl-C while a command works
            raise KeyboardInterrupt
        sys.exit(status)
    except UniftError as error:
        from unift.cli._output import fail

        sys.exit(fail(error, as_json))
    except KeyboardInterrupt:
        from unift.cli._output import interrupted

        sys.exit(interrupted(as_json))
    except Exception as error:  # noqa: BLE001 - the last line of defence: log, say where, exit 1
        from unift.cli._output import fail_unexpected

        sys.exit(fail_unexpected(error, as_json))

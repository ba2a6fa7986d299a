"""How every command speaks: one JSON document on stdout, or words; the rest goes to stderr."""

from __future__ import annotations

import errno
import json
import math
import os
import sys
import traceback
from datetime import UTC, datetime
from typing import Annotated, Any, NoReturn, cast

import typer
from rich.console import Console
from typer.exceptions import TyperException

from unift.errors import UniftError, UsageError

Json = Annotated[
    bool, typer.Option("--json", help="One JSON document on stdout, everything else on stderr.")
]


def _nobody_reads() -> NoReturn:
    """The reader went away (``unift runs list | head``); that is no error of ours."""
    os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())  # for what is unwritten
    raise SystemExit(0)


class _Plain(Console):
    def on_broken_pipe(self) -> None:
        _nobody_reads()


def _console(stderr: bool = False) -> Console:
    """No emoji: "demo:train:3" is a place, not a tram. No markup: nor is "unift[local]" a style."""
    # A file or a pipe has no width of its own, and nobody can pull it wider.
    stream = sys.stderr if stderr else sys.stdout
    width = None if stream.isatty() else 160
    return _Plain(
        stderr=stderr, width=width, highlight=False, soft_wrap=True, emoji=False, markup=False
    )


out, err = _console(), _console(stderr=True)


def emit(document: dict[str, Any]) -> None:
    """Write the one JSON document of a command."""
    narrow = (sys.stdout.encoding or "").lower().replace("-", "") != "utf8"
    text = json.dumps(_finite(document), ensure_ascii=narrow, indent=2, default=str)
    try:
        sys.stdout.write(text + "\n")
        sys.stdout.flush()
    except BrokenPipeError:
        _nobody_reads()


def _finite(value: Any) -> Any:
    """JSON has no word for the loss of a run that diverged: null."""
    if isinstance(value, float):
        return value if math.isfinite(value) else None
    if isinstance(value, dict):
        return {key: _finite(one) for key, one in cast("dict[Any, Any]", value).items()}
    if isinstance(value, list | tuple):
        return [_finite(one) for one in cast("list[Any]", value)]
    return value


def fail(error: UniftError, as_json: bool) -> int:
    """Show a deliberate error; returns the exit status."""
    if as_json:
        emit({"error": error.as_dict()})
    else:
        _paragraph(error)
    return error.exit_status


def fail_usage(error: TyperException, as_json: bool) -> int:
    """Wrong flags, in the same shape as every other error."""
    where = getattr(getattr(error, "ctx", None), "command_path", "unift")
    return fail(UsageError(error.format_message(), where=where, fix=f"{where} --help"), as_json)


def interrupted(as_json: bool) -> int:
    """Ctrl-C: a document is promised whatever happens, so there is one."""
    sys.stderr.write("Interrupted.\n")
    if as_json:
        emit({"error": UniftError("Interrupted.", code="interrupted").as_dict()})
    return 130


def fail_unexpected(error: Exception, as_json: bool) -> int:
    """A defect of ours, or a world nobody thought of: keep the traceback, show a sentence."""
    if isinstance(error, typer.Exit):
        return error.exit_code
    if isinstance(error, typer.Abort):
        return interrupted(as_json)
    if isinstance(error, TyperException):
        return fail_usage(error, as_json)
    if isinstance(error, OSError) and (known := _of_the_system(error)):
        return fail(known, as_json)
    log = _log(error)
    return fail(
        UniftError(
            f"Something unforeseen happened ({type(error).__name__}: {error}).",
            code="unexpected",
            where=log,
            fix="please report it with that file; nothing that was already started is lost",
        ),
        as_json,
    )


def _of_the_system(error: OSError) -> UniftError | None:
    """What a disk or a path is to blame for; None for anything that may be our defect."""
    said = f"{error.strerror}."
    where = str(error.filename or "")
    if error.errno in (errno.ENOSPC, errno.EDQUOT, errno.EFBIG):
        return UniftError(
            f"It could not be written: {said}",
            code="disk_full",
            where=where or "disk",
            fix="free some space, or set UNIFT_HOME (or the output) to another disk",
        )
    if where and error.errno in (errno.EACCES, errno.EPERM, errno.EROFS, errno.ENAMETOOLONG):
        return UsageError(
            said, code="not_accessible", where=where, fix="check the path and its permissions"
        )
    return None


def _paragraph(error: UniftError) -> None:
    err.print("error", style="bold red", end=" ")
    place = f"{error.where}: " if error.where else ""
    err.print(f"{place}{error.message}")
    if error.fix:
        err.print("  fix", style="bold green", end=" ")
        err.print(error.fix)


def _log(error: Exception) -> str:
    from unift._home import home

    text = "".join(traceback.format_exception(error))
    try:
        folder = home() / "logs"
        folder.mkdir(exist_ok=True)
        path = folder / f"{datetime.now(UTC):%Y%m%dT%H%M%S}.log"
        path.write_text(text)
    except (OSError, UniftError):
        sys.stderr.write(text)
        return "see above"
    return str(path)

"""Every error that unift raises on purpose.

    UniftError                     code, message, where, fix and the exit status of the command line
    ├── UsageError        (2)      the call is wrong: unknown name, impossible value, missing file
    │   └── MissingDependency      an optional package is missing; `fix` installs it
    ├── DataError         (3)      the data has errors; `findings` lists all of them
    ├── LimitError        (4)      over budget, does not fit in memory, or later than the deadline
    ├── ProviderError     (5)      the provider refused: no key, no access, wound down
    └── RunError          (1)      the work started and failed
        └── LostError              nobody can say what became of a run; nothing is tried twice

Each one answers four questions: what happened (`message`), where (`where`: file, line, field or
run), why it matters or what caused it (in the message) and what to do next (`fix`). They are
picklable, because errors cross process borders.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, ClassVar


class UniftError(Exception):
    """Root of all deliberate errors.

    Args:
        message: What happened and why, in one or two sentences.
        code: Stable, machine-readable name such as ``"unknown_provider"``.
        where: File, line, field, run or setting that the error is about; empty if nowhere.
        fix: The next step for the user, ideally a command or a value.
    """

    exit_status: ClassVar[int] = 1
    default_code: ClassVar[str] = "failed"

    def __init__(
        self, message: str, *, code: str | None = None, where: str = "", fix: str = ""
    ) -> None:
        super().__init__(message)
        self.message = message
        self.code = code or self.default_code
        self.where = where
        self.fix = fix

    def __reduce__(self) -> tuple[Any, ...]:
        return (_rebuild, (type(self), self.__dict__.copy()))

    def __str__(self) -> str:
        place = f"{self.where}: " if self.where else ""
        return f"{place}{self.message}" + (f"\n  fix: {self.fix}" if self.fix else "")

    def as_dict(self) -> dict[str, str]:
        """The ``error`` object of every ``--json`` document."""
        return {"code": self.code, "message": self.message, "where": self.where, "fix": self.fix}


class UsageError(UniftError):
    """The call itself is wrong."""

    exit_status = 2
    default_code = "usage"


class MissingDependency(UsageError, ImportError):
    """An optional package is missing; ``fix`` holds the command that installs it."""

    default_code = "missing_dependency"


class DataError(UniftError, ValueError):
    """The data has errors that would waste the run.

    Args:
        message: The summary; the first finding is worth quoting in it.
        findings: Every finding, in file order (see `unift.data.Finding`).
    """

    exit_status = 3
    default_code = "data_errors"

    def __init__(
        self,
        message: str,
        *,
        code: str | None = None,
        where: str = "",
        fix: str = "",
        findings: Sequence[Any] = (),
    ) -> None:
        super().__init__(message, code=code, where=where, fix=fix)
        self.findings = tuple(findings)


class LimitError(UniftError):
    """Over budget, over memory, or past a deadline. Nothing was started."""

    exit_status = 4
    default_code = "over_limit"


class ProviderError(UniftError):
    """The provider refused or cannot do what was asked."""

    exit_status = 5
    default_code = "provider_refused"


class RunError(UniftError, RuntimeError):
    """A run started and did not succeed."""

    exit_status = 1
    default_code = "run_failed"


class LostError(RunError):
    """The truth about a run cannot be found; unift does not guess and does not pay again."""

    default_code = "run_lost"


def _rebuild(cls: type[UniftError], state: dict[str, Any]) -> UniftError:
    error = cls.__new__(cls)
    Exception.__init__(error, state.get("message", ""))
    error.__dict__.update(state)
    return error

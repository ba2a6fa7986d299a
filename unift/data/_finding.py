"""What the validator says: findings and the report that collects them."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

from unift.data.codes import Severity
from unift.errors import DataError

if TYPE_CHECKING:
    from unift.data._bill import Bill
    from unift.data._mend import Fixed

Path = tuple[str | int, ...]


@dataclass(frozen=True, slots=True)
class Finding:
    """One fault, or one thing worth a look.

    Attributes:
        code: Row of the code table (`unift.data.explain`).
        severity: ``error``, ``warning`` or ``advice``, for the providers that were asked about.
        file: As the user named it.
        line: 1-based; 0 for the file as a whole.
        path: JSON path inside the row, such as ``messages[1].content``; empty for the row.
        message: What is wrong, with the values at hand.
        fix: What to do next.
        providers: Those concerned; empty for everybody.
        excerpt: The line around the fault and a caret below it; empty where there is none.
        column: 1-based character within the line; 0 if unknown.
    """

    code: str
    severity: Severity
    file: str
    line: int
    path: str
    message: str
    fix: str
    providers: tuple[str, ...] = ()
    excerpt: str = ""
    column: int = 0

    @property
    def where(self) -> str:
        """``file:line`` and the path, for people and editors."""
        place = f"{self.file}:{self.line}" if self.line else self.file
        return f"{place} {self.path}".rstrip()

    def as_dict(self) -> dict[str, Any]:
        """The finding as the ``--json`` document has it."""
        return {
            "code": self.code,
            "severity": self.severity,
            "file": self.file,
            "line": self.line,
            "path": self.path,
            "message": self.message,
            "fix": self.fix,
            "providers": list(self.providers),
            "excerpt": self.excerpt,
            "column": self.column,
        }


@dataclass(frozen=True, slots=True)
class Report:
    """The outcome of `unift.validate`.

    Attributes:
        file: The training file as the user named it.
        rows: Non-blank lines of the training file, good and bad.
        tokens: Tokens of its good rows; None if none could be counted.
        tokens_method: How they were counted, and how exact that is.
        findings: In file and line order. At most `max_findings` of the call are kept.
        counts: Code -> how often it was found, including findings that were not kept.
        verdicts: Provider asked about -> True if it has no error there.
        refusals: Provider asked about -> code -> how many errors of that kind it has there.
        characters: Characters of all texts of the good rows.
        longest_row: (tokens, line) of the longest row, or None.
        tokens_per_row: Percentile (50, 90, 99, 100) -> tokens, over the good rows.
        bills: Provider asked about -> what it charges for (`Bill`), as it counts; those that
            charge nothing are not in it.
        format: In which the rows are (`unift.data.formats`).
        format_reason: How that was found out.
        fixed: What was written with ``fix=``; None without.
    """

    file: str
    rows: int
    tokens: int | None
    tokens_method: str
    findings: tuple[Finding, ...]
    counts: Mapping[str, int] = field(default_factory=dict[str, int])
    verdicts: Mapping[str, bool] = field(default_factory=dict[str, bool])
    characters: int = 0
    longest_row: tuple[int, int] | None = None
    tokens_per_row: Mapping[int, int] = field(default_factory=dict[int, int])
    errors: int = 0
    warnings: int = 0
    advice: int = 0
    refusals: Mapping[str, Mapping[str, int]] = field(default_factory=dict[str, Mapping[str, int]])
    fixed: Fixed | None = None
    bills: Mapping[str, Bill] = field(default_factory=dict[str, "Bill"])
    format: str = "openai-chat"
    format_reason: str = ""

    @property
    def billed(self) -> dict[str, int]:
        """Provider asked about -> training tokens that one epoch is charged for."""
        return {name: one.epoch_tokens for name, one in self.bills.items()}

    @property
    def ok(self) -> bool:
        """True if there is no error."""
        return self.errors == 0

    @property
    def left_out(self) -> int:
        """How many findings were counted but not kept."""
        return self.errors + self.warnings + self.advice - len(self.findings)

    def as_dict(self) -> dict[str, Any]:
        """The ``--json`` document of ``unift validate``."""
        return {
            "ok": self.ok,
            "file": self.file,
            "rows": self.rows,
            "format": self.format,
            "format_reason": self.format_reason,
            "tokens": self.tokens,
            "tokens_method": self.tokens_method,
            "characters": self.characters,
            "longest_row": None
            if self.longest_row is None
            else {"tokens": self.longest_row[0], "line": self.longest_row[1]},
            "tokens_per_row": {f"p{share}": count for share, count in self.tokens_per_row.items()},
            "errors": self.errors,
            "warnings": self.warnings,
            "advice": self.advice,
            "counts": dict(self.counts),
            "verdicts": dict(self.verdicts),
            "billed": self.billed,
            "bills": {name: one.as_dict() for name, one in self.bills.items()},
            "refusals": {name: dict(codes) for name, codes in self.refusals.items()},
            "left_out": self.left_out,
            "findings": [finding.as_dict() for finding in self.findings],
            **({} if self.fixed is None else {"fixed": self.fixed.as_dict()}),
        }

    def raise_if_bad(self) -> None:
        """Raise if there is an error.

        Raises:
            DataError: With the first error quoted and all findings attached.
        """
        if not self.ok:
            raise self.error()

    def error(self) -> DataError:
        """What `raise_if_bad` raises."""
        return data_error(self.findings, self.errors, self.file)


def data_error(findings: Iterable[Finding], errors: int, file: str) -> DataError:
    """The error for a file with errors, led by the first of them."""
    kept = tuple(findings)
    first = next((finding for finding in kept if finding.severity == "error"), None)
    more = f" There {'is' if errors == 2 else 'are'} {errors - 1} more." if errors > 1 else ""
    if first is None:
        return DataError(f"The data has {errors} errors.", where=file, findings=kept)
    return DataError(
        f"{first.code}: {first.message}{more}",
        where=first.where,
        fix=first.fix,
        findings=kept,
    )


def format_path(path: Path) -> str:
    """``("messages", 1, "content")`` as ``messages[1].content``."""
    text = ""
    for part in path:
        if isinstance(part, int):
            text += f"[{part}]"
        elif part.isidentifier():
            text += f".{part}" if text else part
        else:
            text += f"[{part[:60]!r}]"
    return text

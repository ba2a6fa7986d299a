"""Where faults become findings: severity for the providers asked about, counts, the cap."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Mapping

from unift.data._finding import Finding, Path, format_path
from unift.data._locate import excerpt, locate
from unift.data.codes import Severity, explain


class Sink:
    """Collects findings.

    Args:
        families: Provider asked about -> the family under which codes know it.
        keep: How many findings to keep; all are counted.
        failed: Told (file, line, code) of every error.
    """

    def __init__(
        self,
        families: Mapping[str, str],
        keep: int,
        failed: Callable[[str, int, str], None] | None = None,
    ) -> None:
        self._families = families
        self.keep = keep
        self._on_error = failed
        self._told: set[tuple[str, str, Path]] = set()  # what is told once
        self.findings: list[Finding] = []
        self.counts: Counter[str] = Counter()
        self.severities: Counter[str] = Counter()
        # Provider asked about -> code -> errors that it has there.
        self.failed: dict[str, Counter[str]] = {name: Counter() for name in families}

    def add(
        self,
        code: str,
        *,
        file: str,
        line: int = 0,
        path: Path = (),
        message: str,
        fix: str | None = None,
        text: str | None = None,
        at: int | None = None,
        severity: Severity | None = None,
        providers: tuple[str, ...] | None = None,
    ) -> Severity:
        """Add a finding and answer how bad it is.

        Args:
            text: The line, for the excerpt.
            at: Character offset in `text`; found through `path` if None.
            severity: None for the one of the code table, given who asks.
            providers: Those concerned; None likewise.
        """
        kind = explain(code)
        if kind.once:
            if (code, file, path) in self._told:
                return kind.severity
            self._told.add((code, file, path))
        if severity is None:
            severity, concerned = self._judge(kind.severity, kind.refused_by)
            providers = concerned if providers is None else providers
        providers = providers or ()
        self.counts[code] += 1
        self.severities[severity] += 1
        if severity == "error":
            for name in providers or self._families:
                if name in self.failed:
                    self.failed[name][code] += 1
            if self._on_error is not None:
                self._on_error(file, line, code)
        if len(self.findings) < self.keep:
            shown, column = "", 0
            if text is not None:
                at = locate(text, path) if at is None else at
                shown, column = excerpt(text, at), at + 1
            self.findings.append(
                Finding(
                    code=code,
                    severity=severity,
                    file=file,
                    line=line,
                    path=format_path(path),
                    message=message,
                    fix=fix or kind.fix,
                    providers=providers,
                    excerpt=shown,
                    column=column,
                )
            )
        return severity

    def more(self, code: str, count: int) -> None:
        """Count findings that are not kept. Only of codes that are no error for anybody."""
        if count:
            self.counts[code] += count
            self.severities[explain(code).severity] += count

    def _judge(
        self, severity: Severity, refused_by: tuple[str, ...]
    ) -> tuple[Severity, tuple[str, ...]]:
        if not refused_by or severity == "error":
            return severity, ()
        if not self._families:
            return severity, refused_by
        refusing = tuple(name for name, family in self._families.items() if family in refused_by)
        return ("error", refusing) if refusing else (severity, ())

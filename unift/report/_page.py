"""Write the page."""

from __future__ import annotations

import os
from collections.abc import Mapping
from contextlib import suppress
from pathlib import Path
from typing import TYPE_CHECKING, Any, Protocol

from unift.errors import UsageError

if TYPE_CHECKING:
    from unift.runs import Run


class Document(Protocol):
    """Anything that has a ``--json`` shape."""

    def as_dict(self) -> dict[str, Any]: ...


def write_report(
    path: str | Path,
    *,
    run: Run | None = None,
    evaluation: Document | Mapping[str, Any] | None = None,
    validation: Document | Mapping[str, Any] | None = None,
    estimate: Document | Mapping[str, Any] | None = None,
    diagnosis: Document | Mapping[str, Any] | None = None,
) -> Path:
    """Write one self-contained HTML page; any part may be absent.

    The page needs no network and no script, and everything that comes from users, models and
    vendors is escaped. The same input gives the same page, apart from the date in its head.

    Args:
        path: Where the page goes; missing folders are made, an old page is replaced as a whole.
        run: Its events give the curves, its plan the settings and, where `estimate` is absent,
            what was expected of it.
        evaluation: `unift.evaluate.Evaluation` or its dict.
        validation: Report of `unift.validate` or its dict.
        estimate: Table of `unift.estimate` or its dict.
        diagnosis: `unift.evaluate.Diagnosis` or its dict; by default the one of the evaluation.

    Returns:
        The absolute path of the page.

    Raises:
        UsageError: The page cannot be written there.
    """
    from unift.report._render import render

    page = render(
        run=run,
        evaluation=_document(evaluation),
        validation=_document(validation),
        estimate=_document(estimate),
        diagnosis=_document(diagnosis),
    )
    return save(path, page, "report=FILE (--report on the command line)")


def save(path: str | Path, text: str, setting: str) -> Path:
    """Write a report as a whole; missing folders are made, an old one is replaced.

    Raises:
        UsageError: It cannot be written there; `setting` says how to give another place.
    """
    target = Path(path).expanduser().absolute()
    draft = target.with_name(f".{target.name}.{os.getpid()}")
    try:
        target.parent.mkdir(parents=True, exist_ok=True)
        draft.write_text(text, "utf-8", errors="replace")
        draft.replace(target)
    except OSError as error:
        with suppress(OSError):  # the first complaint is the one to hear
            draft.unlink(missing_ok=True)
        raise UsageError(
            f"The report cannot be written: {error.strerror}.",
            code="report_unwritable",
            where=str(target),
            fix=f"give another place with {setting}",
        ) from error
    return target


def _document(value: Document | Mapping[str, Any] | None) -> Mapping[str, Any] | None:
    return value if value is None or isinstance(value, Mapping) else value.as_dict()

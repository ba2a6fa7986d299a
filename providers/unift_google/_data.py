"""The user's rows as Google takes them: checked, converted where needed, within its split rules."""

from __future__ import annotations

import hashlib
import os
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from unift._home import home
from unift.errors import DataError, UsageError
from unift.spec import TrainSpec
from unift_google.families import (
    GEMINI_MANY_ROWS,
    GEMINI_SHARE,
    OPEN_VALIDATION_BYTES,
    Family,
)
from unift_google.options import GoogleOptions
from unift_google.site import Site

_DATA, _VALIDATION = "data", "validation"


@dataclass(frozen=True)
class Part:
    """One file of rows.

    Attributes:
        source: As the user named it.
        local: Where it can be read on this machine.
        format: In which the rows are.
        target: In which they are uploaded.
        rows: How many.
        size: Bytes that are uploaded.
        sha256: Of these bytes.
        uri: Where they are already, if the user gave gs:// in the right format.
    """

    source: str
    local: str
    format: str
    target: str
    rows: int
    size: int
    sha256: str
    uri: str | None = None


@dataclass(frozen=True)
class Rows:
    """All rows of a job, checked."""

    parts: dict[str, Part]
    tokens: int | None
    tokens_how: str
    warnings: tuple[str, ...]

    @property
    def count(self) -> int:
        return self.parts[_DATA].rows


def read(spec: TrainSpec, family: Family, options: GoogleOptions, place: Site | None) -> Rows:
    """Check and count the rows of a spec.

    Args:
        place: For rows that are given as gs://; None: there can be none.

    Raises:
        DataError: Rows that Google would refuse, or a split that it does not take.
        UsageError: No such file.
    """
    from unift.data import validate

    named = {_DATA: spec.data}
    if spec.validation is not None:
        named[_VALIDATION] = spec.validation
    local = {part: _local(name, place) for part, name in named.items()}
    report = validate(
        local[_DATA],
        provider="google",
        model=spec.model,
        validation=local.get(_VALIDATION),
        drop=options.drop,
    )
    with _ways_to_drop():
        report.raise_if_bad()
    target = family.data_format(spec.method)
    parts = {part: _part(named[part], path, target, options.drop) for part, path in local.items()}
    if _VALIDATION in parts:
        _check_split(parts[_DATA], parts[_VALIDATION], family)
    found = [one for one in report.findings if one.severity == "warning"][:1]
    warnings = tuple(
        f"data: {one.message} ({one.where}; {report.warnings} warnings in all, unift validate "
        "shows them)"
        for one in found
    )
    return Rows(parts, report.tokens, report.tokens_method, warnings)


def write(part: dict[str, Any], drop: tuple[str, ...]) -> Path:
    """The file to upload, made anew from the source if it has to be converted.

    Raises:
        UsageError: The source changed since it was planned.
    """
    source = Path(part["local"])
    changed = UsageError(
        "The data changed between planning and training.",
        code="data_changed",
        where=part["source"],
        fix="plan again",
    )
    if not source.is_file():
        raise changed
    made = source
    if not _as_it_is(source, part["format"], part["target"]):
        made = _converted(source, part["target"], drop)
    if _sha256(made) != part["sha256"]:
        raise changed
    return made


def _local(name: str, place: Site | None) -> str:
    from unift.demo import resolve

    if name.startswith("gs://"):
        from unift_google import _storage
        from unift_google._calls import our_words

        if place is None:
            raise UsageError("gs:// needs a project.", where=name, fix="unift doctor")
        with our_words(name):
            return str(_storage.download_rows(place, name))
    path = Path(resolve(name)).absolute()
    if not path.is_file():
        raise UsageError(
            "The data file does not exist.",
            code="file_not_found",
            where=name,
            fix="check the path",
        )
    return str(path)


def _part(source: str, local: str, target: str, drop: tuple[str, ...]) -> Part:
    from unift.data import count_rows, validate

    path = Path(local)
    given = validate(local, max_findings=0).format
    exact = _as_it_is(path, given, target)
    made = path if exact else _converted(path, target, drop)
    return Part(
        source=source,
        local=local,
        format=given,
        target=target,
        rows=count_rows(local),
        size=made.stat().st_size,
        sha256=_sha256(made),
        uri=source if exact and source.startswith("gs://") else None,
    )


def _as_it_is(path: Path, given: str, target: str) -> bool:
    return given == target and path.suffix == ".jsonl"


def _converted(path: Path, target: str, drop: tuple[str, ...]) -> Path:
    """Rows in another format, under the name of what they were made from."""
    from unift.data import convert

    mark = hashlib.sha256(f"{_sha256(path)} {target} {sorted(drop)}".encode()).hexdigest()[:24]
    made = home() / "google" / "converted" / f"{mark}.jsonl"
    if made.exists():
        return made
    made.parent.mkdir(parents=True, exist_ok=True)
    # The file appears when it is whole; two processes may make it at once.
    draft = made.with_name(f"{mark}.{os.getpid()}.jsonl")
    with _ways_to_drop():
        # Keys that nobody learns from can go; `validate` has told of them.
        convert(path, draft, to=target, drop=(*drop, "extra"))
    draft.replace(made)
    return made


@contextmanager
def _ways_to_drop() -> Iterator[None]:
    """Say how a training is told what may be lost."""
    try:
        yield
    except DataError as error:
        if any(one.code == "UD907" for one in error.findings):
            error.fix += (
                "; with unift train the way to allow it is --option google.drop='[\"...\"]'"
            )
        raise


def _check_split(train: Part, validation: Part, family: Family) -> None:
    fix = "unift data split FILE --out FOLDER --part train=.9 --part validation=.1"
    most, why = family.validation_rows, ""
    if validation.rows > most:
        why = f"{validation.rows:,} validation rows, at most {most:,} are taken"
        fix = f"keep the first {most:,} rows"
    elif family.open and validation.size > OPEN_VALIDATION_BYTES * train.size:
        why = (
            f"the validation file has {validation.size:,} bytes, "
            f"{validation.size / train.size:.0%} of the training file's; Google takes at most "
            f"{OPEN_VALIDATION_BYTES:.0%} for open models"
        )
    elif (
        not family.open
        and validation.rows > GEMINI_MANY_ROWS
        and validation.rows > GEMINI_SHARE * train.rows
    ):
        why = (
            f"{validation.rows:,} validation rows for {train.rows:,} training rows; above "
            f"{GEMINI_MANY_ROWS:,} Google takes at most {GEMINI_SHARE:.0%}"
        )
    if why:
        raise DataError(
            f"The split is refused: {why}.",
            code="validation_too_large",
            where=validation.source,
            fix=fix,
        )


def _sha256(path: Path) -> str:
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()

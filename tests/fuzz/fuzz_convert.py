"""Coverage-guided fuzzing of the converters; not part of the suite.

    pip install atheris
    python tests/fuzz/fuzz_convert.py -max_total_time=200 tests/fuzz/seeds

The first byte of an input picks the target, the rest is the file. What is written without a loss
validates in its format, and comes back: converting to and fro once more gives the same bytes.
"""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import atheris

with atheris.instrument_imports(include=["unift.data"]):
    from unift.data import convert, validate
    from unift.data.formats import FORMATS, LOSSES
    from unift.errors import DataError, UniftError

from _common import FOLDER, deliberate, main

TARGETS = sorted(FORMATS)


def one(data: bytes) -> None:
    """One input."""
    if not data:
        return
    to = TARGETS[data[0] % len(TARGETS)]
    path, there, back, again = (FOLDER / f"{name}.jsonl" for name in ("in", "to", "back", "again"))
    path.write_bytes(data[1:])
    try:
        done = convert(path, there, to=to)
    except UniftError as error:
        deliberate(error)
        dropped(path, to)
        return
    report = validate(there, format=to)
    assert report.ok, [finding.message for finding in report.findings]
    try:
        convert(there, back, to=done.source_format, source=to)
    except DataError as error:
        # Keys that a format does not have are read anyway, and kept where there is a place.
        assert all("extra (" in finding.message for finding in error.findings), error  # noqa: PT017
        return
    convert(back, again, to=to, source=done.source_format)
    assert said(there) == said(again)


def said(path: Path) -> list[Any]:
    """The rows without what says nothing: null, and the weight that every answer has."""

    def filled(fields: dict[str, Any]) -> dict[str, Any]:
        weighs = fields.get("weight") == 1
        return {k: v for k, v in fields.items() if v is not None and not (k == "weight" and weighs)}

    rows = path.read_bytes().split(b"\n")[:-1]
    return [json.loads(row, object_hook=filled) for row in rows]


def dropped(path: Path, to: str) -> None:
    """With everything given up, rows are written or listed, and what is written can be read."""
    out = FOLDER / "dropped.jsonl"
    try:
        done = convert(path, out, to=to, drop=LOSSES)
    except UniftError as error:
        deliberate(error)
        return
    errors = {f.code for f in validate(out, format=to).findings if f.severity == "error"}
    # An answer that was a picture is empty without it; no row may be left at all.
    assert errors <= {"UD500", "UD001", "UD232"}, errors
    assert done.lost or not done.left_out


if __name__ == "__main__":
    main(one)

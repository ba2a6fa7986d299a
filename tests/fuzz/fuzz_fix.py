"""Coverage-guided fuzzing of ``--fix``; not part of the suite.

    pip install atheris
    python tests/fuzz/fuzz_fix.py -max_total_time=200 tests/data/bad tests/fuzz/seeds

The input is the file. The copy has no error; a line of which no change is listed is in it byte for
byte, in its place; mending the copy changes nothing.
"""

from __future__ import annotations

import json

import atheris

with atheris.instrument_imports(include=["unift.data"]):
    from unift.data import validate

from _common import FOLDER, main


def one(data: bytes) -> None:
    """One input."""
    path, out, again = (FOLDER / f"{name}.jsonl" for name in ("in", "out", "again"))
    path.write_bytes(data)
    report = validate(path, fix=out)
    fixed = report.fixed
    assert fixed is not None
    left = {finding.code for finding in fixed.after.findings if finding.severity == "error"}
    assert left <= {"UD001"}, left
    with open(fixed.log, encoding="utf-8") as log:
        listed = [json.loads(line) for line in log]
    told = {change["line"] for change in listed}
    written = iter(out.read_bytes().split(b"\n"))
    # Of a file that is no JSON Lines as a whole only that is listed.
    whole = {"UD002", "UD009", "UD010", "UD011"}
    if 0 not in told and not whole & report.counts.keys():
        for number, line in enumerate(data.split(b"\n"), 1):
            if number not in told and line.strip():
                assert any(row == line.strip() for row in written), (number, line[:80])
    if fixed.rows:
        second = validate(out, fix=again).fixed
        assert second is not None
        assert (second.changed, again.read_bytes()) == (0, out.read_bytes())


if __name__ == "__main__":
    main(one)

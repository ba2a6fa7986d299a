"""Coverage-guided fuzzing of the validator, the mender and the converter; not part of the suite.

    pip install atheris
    python tests/fuzz/fuzz_validate.py -max_total_time=600 tests/data/bad

For every input: no exception but the deliberate ones, no line missed (each line that the standard
library refuses has an error), a mended copy without errors. A hang is a failure of libFuzzer's own
(-timeout=10). What fails is written to a file crash-* that is to become a file in tests/data/bad.
"""

from __future__ import annotations

import json
import sys
import tempfile
from pathlib import Path

import atheris

with atheris.instrument_imports(include=["unift.data"]):
    from unift.data import codes, convert, fingerprint, validate
    from unift.data.formats import FORMATS, LOSSES
    from unift.errors import UniftError

FOLDER = Path(tempfile.mkdtemp(prefix="unift-fuzz-"))
SUFFIXES = (".jsonl", ".jsonl", ".jsonl", ".jsonl.gz", ".jsonl.zst")
TARGETS = sorted(FORMATS)


def one(data: bytes) -> None:
    """One input: its first byte picks what is done, the rest is the file."""
    if not data:
        return
    path = FOLDER / f"in{SUFFIXES[data[0] % len(SUFFIXES)]}"
    path.write_bytes(data[1:])
    report = validate(path, provider=("openai", "google") if data[0] & 64 else None)
    assert set(report.counts) <= set(codes())
    json.dumps(report.as_dict())
    if path.suffix == ".jsonl" and not report.counts.keys() & {"UD002", "UD009", "UD010", "UD011"}:
        missed(data[1:], {finding.line for finding in report.findings})
    if report.format == "openai-chat" and data[0] & 128:
        fixed = validate(path, fix=FOLDER / "out.jsonl").fixed
        assert fixed is not None
        left = {f.code for f in fixed.after.findings if f.severity == "error"}
        assert left <= {"UD001"}, left
    for act in (
        lambda: fingerprint(path),
        lambda: convert(path, FOLDER / "to.jsonl", to=TARGETS[data[0] % len(TARGETS)], drop=LOSSES),
    ):
        try:
            act()
        except UniftError as error:
            deliberate(error)


def deliberate(error: UniftError) -> None:
    """An error in words has a code, and a place or a way out."""
    assert error.code
    assert error.where or error.fix


def missed(data: bytes, told: set[int]) -> None:
    """Fail if a line is no JSON and there is no finding about it."""
    for number, line in enumerate(data.removeprefix(b"\xef\xbb\xbf").split(b"\n"), 1):
        if not line.strip():
            continue
        try:
            json.loads(line.decode("utf-8"))
        except (ValueError, RecursionError):
            assert number in told, (number, line[:80])


if __name__ == "__main__":
    atheris.Setup(sys.argv, one)
    atheris.Fuzz()

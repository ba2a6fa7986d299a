"""Coverage-guided fuzzing of the validator; not part of the suite.

    pip install atheris
    python tests/fuzz/fuzz_validate.py -max_total_time=600 tests/data/bad

For every input: no exception but the deliberate ones, and no line missed (each line that the
standard library refuses has an error). A hang is a failure of libFuzzer's own
(-timeout=10). What fails is written to a file crash-* that is to become a file in tests/data/bad.
"""

from __future__ import annotations

import json

import atheris

with atheris.instrument_imports(include=["unift.data"]):
    from unift.data import codes, fingerprint, validate
    from unift.errors import UniftError

from _common import FOLDER, deliberate, main

SUFFIXES = (".jsonl", ".jsonl", ".jsonl", ".jsonl.gz", ".jsonl.zst")


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
    try:
        fingerprint(path)
    except UniftError as error:
        deliberate(error)


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
    main(one)

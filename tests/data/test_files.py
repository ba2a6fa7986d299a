"""Files that are packed, damaged, misnamed or made of endless lines."""

from __future__ import annotations

import gzip
import io
import json
import os
import subprocess
import sys
import zipfile
from pathlib import Path
from typing import Any

import pytest
import zstandard

from tests.data.rows import answer, user
from unift.data import Report, validate
from unift.errors import UsageError

PACKERS = {".gz": gzip.compress, ".zst": zstandard.compress}
MANY = 400


def rows(first: int = 0, many: int = MANY) -> bytes:
    made = (
        {"messages": [user(f"Question {at}?"), answer(f"The answer is {at * 7919 % 10007}.")]}
        for at in range(first, first + many)
    )
    return b"".join(json.dumps(row).encode() + b"\n" for row in made)


def errors(report: Report) -> list[tuple[str, int]]:
    return [(f.code, f.line) for f in report.findings if f.severity == "error"]


@pytest.mark.parametrize("suffix", PACKERS)
def test_all_members_of_a_packed_file_are_read(tmp_path: Path, suffix: str) -> None:
    path = tmp_path / f"train.jsonl{suffix}"
    pack = PACKERS[suffix]
    path.write_bytes(pack(rows()) + pack(rows(MANY)))
    report = validate(path)
    assert (report.rows, errors(report)) == (2 * MANY, [])


def test_gzip_may_be_filled_up_with_zeros_and_zstd_may_have_empty_frames(tmp_path: Path) -> None:
    padded, skipping = tmp_path / "a.jsonl.gz", tmp_path / "b.jsonl.zst"
    padded.write_bytes(gzip.compress(rows()) + bytes(700))
    skipped = b"\x53\x2a\x4d\x18\x04\0\0\0abcd"
    skipping.write_bytes(
        skipped + zstandard.compress(rows()) + skipped + zstandard.compress(rows(MANY))
    )
    for path, many in ((padded, MANY), (skipping, 2 * MANY)):
        report = validate(path)
        assert (report.rows, errors(report)) == (many, [])


@pytest.mark.parametrize("suffix", PACKERS)
@pytest.mark.parametrize("rest", [b"x", b"this is something else\n" * 9, b"\x1f"])
def test_rows_before_garbage_are_checked(tmp_path: Path, suffix: str, rest: bytes) -> None:
    path = tmp_path / f"train.jsonl{suffix}"
    packed = PACKERS[suffix](rows())
    path.write_bytes(packed + rest)
    report = validate(path)
    assert report.rows == MANY
    assert errors(report) == [("UD007", MANY + 1)]
    assert f"From byte {len(packed) + 1} on" in report.findings[-1].message


@pytest.mark.parametrize("suffix", PACKERS)
def test_rows_before_the_end_of_a_file_that_was_cut_off_are_checked(
    tmp_path: Path, suffix: str
) -> None:
    path = tmp_path / f"train.jsonl{suffix}"
    more = PACKERS[suffix](rows(MANY, 4000))
    path.write_bytes(PACKERS[suffix](rows()) + more[: len(more) * 2 // 3])
    report = validate(path)
    assert MANY < report.rows < MANY + 4000
    # No half of a row is taken for a row.
    assert errors(report) == [("UD007", report.rows + 1)]
    assert f"after byte {path.stat().st_size}" in report.findings[-1].message


def test_rows_before_a_wrong_checksum_are_checked(tmp_path: Path) -> None:
    path = tmp_path / "train.jsonl.gz"
    packed = bytearray(gzip.compress(rows()))
    packed[-6] ^= 0xFF
    path.write_bytes(packed)
    report = validate(path)
    assert 0 < report.rows <= MANY
    assert errors(report) == [("UD007", report.rows + 1)]
    assert "incorrect data check" in report.findings[-1].message


def _zip(name: str) -> bytes:
    buffer = io.BytesIO()
    with zipfile.ZipFile(buffer, "w") as file:
        file.writestr(name, "<Types/>")
    return buffer.getvalue()


@pytest.mark.parametrize(
    ("name", "content", "said", "fix"),
    [
        ("a.jsonl", gzip.compress(rows()), "gzip data", "ends in .gz"),
        ("a.jsonl", zstandard.compress(rows()), "zstd data", "ends in .zst"),
        ("a.jsonl", b"PAR1" + bytes(99), "a Parquet file", ".parquet"),
        ("a.jsonl", _zip("[Content_Types].xml"), "Excel", "read_excel"),
        ("a.jsonl", b"\xd0\xcf\x11\xe0\xa1\xb1\x1a\xe1" + bytes(99), "Excel", "read_excel"),
        ("a.jsonl", _zip("train.jsonl"), "a zip archive", "unzip"),
        ("a.jsonl", b"t" + bytes(256) + b"ustar" + bytes(99), "a tar archive", "tar -xf"),
        ("a.jsonl", b"prompt,completion\nHi,Yo\n", "a table", "JSON Lines"),
        ("a.jsonl.gz", zstandard.compress(rows()), "ends in .gz but is zstd data", ".zst"),
        ("a.jsonl.zst", gzip.compress(rows()), "ends in .zst but is gzip data", ".gz"),
        ("a.jsonl.gz", rows(), "is plain text", "does not end in .gz"),
        ("a.parquet", rows(), "is plain text", "does not end in .parquet"),
        ("a.jsonl.gz", b"neither this nor that", "no gzip data", ""),
    ],
)
def test_a_file_that_is_something_else_is_named(
    tmp_path: Path, name: str, content: bytes, said: str, fix: str
) -> None:
    path = tmp_path / name
    path.write_bytes(content)
    [finding] = validate(path).findings
    assert finding.severity == "error"
    assert said in finding.message
    assert fix in finding.fix


def test_a_pipe_is_refused_in_words(tmp_path: Path) -> None:
    os.mkfifo(tmp_path / "rows.jsonl")
    with pytest.raises(UsageError) as caught:
        validate(tmp_path / "rows.jsonl")
    assert caught.value.code == "not_a_file"


WORDS = "five " * 11_000_000
LONG: dict[str, tuple[Any, list[str]]] = {
    "text": (lambda: json.dumps({"messages": [user(WORDS), answer("Yo")]}), []),
    "numbers": (lambda: '{"messages": [' + "1," * 20_000_000 + "1]}", ["UD006"]),
    "objects": (lambda: '{"messages": [' + '{"a":1},' * 5_000_000 + "1]}", ["UD006"]),
    "broken": (lambda: json.dumps({"messages": [user(WORDS), answer("Yo")]})[:-1], ["UD100"]),
}
PEAK = """
import json, re, sys
from unift.data import validate
report = validate(sys.argv[1], model=sys.argv[2] or None, max_findings=10)
peak = re.search(r"VmHWM:\\s*(\\d+)", open("/proc/self/status").read())
print(json.dumps([report.rows, [f.code for f in report.findings if f.severity == "error"], int(peak[1]) >> 10]))
"""  # noqa: E501


@pytest.mark.parametrize(
    ("kind", "model"),
    [("text", "gpt-4.1-mini"), ("numbers", ""), ("objects", ""), ("broken", "")],
)
def test_a_line_of_55_megabytes_takes_less_than_300_mib(
    tmp_path: Path, kind: str, model: str
) -> None:
    make, codes = LONG[kind]
    path = tmp_path / "long.jsonl"
    path.write_bytes(rows(0, 3) + make().encode() + b"\n" + rows(3, 3))
    done = subprocess.run(
        [sys.executable, "-c", PEAK, str(path), model], capture_output=True, text=True, check=True
    )
    found, faults, peak = json.loads(done.stdout)
    assert (found, faults) == (7, codes)
    assert peak < 300


def test_commas_in_a_long_text_are_no_values(tmp_path: Path) -> None:
    path = tmp_path / "commas.jsonl"
    text = "one, two, {three}, " * 300_000
    path.write_bytes(json.dumps({"messages": [user(text), answer("Yo")]}).encode())
    assert errors(validate(path)) == []

"""What holds for every input: no crash, no missed line, the fast way agrees with the slow one."""

from __future__ import annotations

import gzip
import json
from pathlib import Path
from typing import Any

import pytest
from hypothesis import HealthCheck, assume, example, given, settings
from hypothesis import strategies as st

from tests.data.strategies import lines, odd_rows, plain_rows, spellings, tidy_rows
from unift.data import codes, count_rows, fingerprint, read_examples, validate
from unift.data._parse import parse
from unift.data._row import check_row
from unift.data._rows import plain
from unift.errors import DataError

QUIET = settings(deadline=None, suppress_health_check=list(HealthCheck), max_examples=300)
GOOD = b'{"messages": [{"role": "user", "content": "Hi"}, {"role": "assistant", "content": "Yo"}]}'


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tmp_path_factory.mktemp("properties")


def strictly_json(line: bytes) -> Any:
    """The value of a line by the standard library, or ValueError; the other opinion."""

    def refuse(word: str) -> Any:
        raise ValueError(word)

    return json.loads(line.decode("utf-8"), parse_constant=refuse)


def noted(line: bytes) -> list[str]:
    found: list[str] = []

    def note(code: str, *_: Any, **__: Any) -> None:
        found.append(code)

    text, row = parse(line, note)
    if text is not None and not found:
        check_row(row, note)
    return found


def complaint(read: Any, path: Path) -> DataError | None:
    try:
        read(path)
    except DataError as error:
        return error
    return None


@QUIET
@given(line=st.one_of(spellings(st.one_of(tidy_rows, plain_rows)), lines))
@example(line=GOOD.replace(b"Yo", b"\\u0054ODO"))
@example(line=GOOD.replace(b'"content": "Yo"', b'"content": "a", "content": "Yo"'))
@example(line=GOOD.replace(b"Yo", rb"say \":\" and \\"))
def test_the_fast_way_passes_only_what_the_slow_way_passes(line: bytes) -> None:
    fast = plain(line)
    if fast is not None:
        assert noted(line) == []
        row = json.loads(line)
        assert [message["role"] for message in row["messages"]] == list(fast[0])
        assert [message["content"] for message in row["messages"]] == list(fast[1])


@QUIET
@given(body=st.lists(lines, max_size=6))
def test_no_line_is_missed_and_none_is_invented(folder: Path, body: list[bytes]) -> None:
    # A good first line keeps the file from being taken for another kind of file as a whole.
    path = folder / "lines.jsonl"
    path.write_bytes(b"\n".join([GOOD, *body]) + b"\n")
    report = validate(path)
    if "UD002" in report.counts:  # binary as a whole
        return
    assert report.rows == 1 + sum(1 for line in body if line.strip(b" \t\r\x0b\x0c"))
    bad = {f.line for f in report.findings if f.severity == "error"}
    assert bad <= set(range(2, len(body) + 2))
    for number, line in enumerate(body, 2):
        try:
            value = strictly_json(line)
        except (ValueError, RecursionError):
            assert number in bad or not line.strip(b" \t\r\x0b\x0c")
            continue
        if not isinstance(value, dict) or not isinstance(value.get("messages"), list):
            assert number in bad


@QUIET
@given(data=st.binary(max_size=300))
def test_any_bytes_are_reported_and_never_crash(folder: Path, data: bytes) -> None:
    for name in ("any.jsonl", "any.jsonl.gz", "any.jsonl.zst"):
        path = folder / name
        path.write_bytes(data)
        report = validate(path)
        assert report.findings
        assert all(f.code in codes() for f in report.findings)
        json.dumps(report.as_dict())
        for read in (fingerprint, count_rows, lambda path: list(read_examples(path))):
            fault = complaint(read, path)
            assert fault is None or (fault.code and fault.where)


@QUIET
@given(rows=st.lists(odd_rows, min_size=1, max_size=4))
def test_examples_are_read_exactly_when_there_is_no_error(folder: Path, rows: list[Any]) -> None:
    path = folder / "rows.jsonl"
    body = b"\n".join(json.dumps(row).encode() for row in rows)
    path.write_bytes(body)
    if validate(path).ok:
        assert [e.messages for e in read_examples(path)] == [row["messages"] for row in rows]
    else:
        with pytest.raises(DataError):
            list(read_examples(path))


@QUIET
@given(rows=st.lists(tidy_rows, min_size=1, max_size=4), data=st.data())
def test_the_fingerprint_sees_content_only(folder: Path, rows: list[Any], data: Any) -> None:
    one, other = folder / "one.jsonl", folder / "other.jsonl.gz"
    assume("\ufeff" not in json.dumps(rows[0]))
    one.write_bytes(b"\n".join(data.draw(spellings(st.just(row))) for row in rows))
    spelled = b"\r\n\n".join(data.draw(spellings(st.just(row))) for row in rows)
    other.write_bytes(gzip.compress(spelled, mtime=0))
    assert fingerprint(one) == fingerprint(other)
    assert count_rows(one) == count_rows(other) == len(rows)

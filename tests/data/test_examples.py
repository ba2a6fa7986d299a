"""Reading examples, counting rows, fingerprints."""

from __future__ import annotations

import gzip
import json
import re
from pathlib import Path
from typing import Any

import pytest

from unift.data import Example, count_rows, fingerprint, read_examples
from unift.errors import DataError, UsageError

ROW: dict[str, Any] = {
    "messages": [{"role": "user", "content": "Hi"}, {"role": "assistant", "content": "Yo"}]
}
TOOL = {"type": "function", "function": {"name": "f", "parameters": {}}}


def save(path: Path, *lines: str) -> Path:
    path.write_text("\n".join(lines) + "\n")
    return path


def test_rows_come_as_they_are_with_their_place(tmp_path: Path) -> None:
    with_tools = {**ROW, "tools": [TOOL]}
    path = save(tmp_path / "a.jsonl", json.dumps(ROW), "", json.dumps(with_tools))
    assert list(read_examples(path)) == [
        Example(ROW["messages"], None, str(path), 1),
        Example(ROW["messages"], [TOOL], str(path), 3),
    ]


def test_reading_streams_up_to_the_first_bad_row(tmp_path: Path) -> None:
    path = save(tmp_path / "a.jsonl", json.dumps(ROW), '{"messages": []}', json.dumps(ROW))
    rows = read_examples(path)
    assert next(rows).line == 1
    with pytest.raises(DataError, match="UD202") as caught:
        next(rows)
    assert caught.value.where.startswith(f"{path}:2")
    assert caught.value.findings[0].line == 2


def test_warnings_do_not_stop_reading(tmp_path: Path) -> None:
    path = save(tmp_path / "a.jsonl", json.dumps({**ROW, "id": 1}))
    assert len(list(read_examples(path))) == 1


@pytest.mark.parametrize("content", ["", "\n\n"])
def test_a_file_without_rows_is_an_error(tmp_path: Path, content: str) -> None:
    path = tmp_path / "a.jsonl"
    path.write_text(content)
    with pytest.raises(DataError, match="UD001"):
        list(read_examples(path))


def test_an_array_is_refused_with_the_way_out(tmp_path: Path) -> None:
    path = save(tmp_path / "a.jsonl", json.dumps([ROW, ROW]))
    with pytest.raises(DataError, match="UD009") as caught:
        list(read_examples(path))
    assert "jq" in caught.value.fix


def test_a_missing_file_is_a_usage_error(tmp_path: Path) -> None:
    for read in (read_examples, count_rows, fingerprint):
        with pytest.raises(UsageError):
            list(read(tmp_path / "no.jsonl"))  # type: ignore[arg-type]  # raises before


def test_the_demo_can_be_named() -> None:
    rows = list(read_examples("demo:train"))
    assert count_rows("demo:train") == len(rows) >= 100
    assert rows[0].file == "demo:train"
    with pytest.raises(UsageError, match="demo"):
        next(read_examples("demo:nothing"))


def test_fingerprints_tell_content_from_spelling(tmp_path: Path) -> None:
    other = {"messages": [dict(reversed(message.items())) for message in ROW["messages"]]}
    base = save(tmp_path / "a.jsonl", json.dumps(ROW), json.dumps({**ROW, "id": 1}))
    same = tmp_path / "b.jsonl.gz"
    spelled = json.dumps(other, separators=(",", ":")).replace("Hi", "\\u0048i")
    same.write_bytes(gzip.compress(f"{spelled}\r\n\r\n{json.dumps({'id': 1, **ROW})}".encode()))
    assert re.fullmatch("sha256:[0-9a-f]{64}", fingerprint(base))
    assert fingerprint(base) == fingerprint(same)


def test_fingerprints_depend_on_values_and_on_the_order_of_rows(tmp_path: Path) -> None:
    one, two = json.dumps(ROW), json.dumps(ROW).replace("Yo", "yo")
    prints = {
        fingerprint(save(tmp_path / "a.jsonl", *rows))
        for rows in ([one, two], [two, one], [one], [one, one], [one, two, two])
    }
    assert len(prints) == 5


def test_a_fingerprint_is_the_same_tomorrow(tmp_path: Path) -> None:
    path = save(tmp_path / "a.jsonl", json.dumps(ROW))
    assert fingerprint(path) == (
        "sha256:"
        + __import__("hashlib")
        .sha256(
            b'{"messages":[{"content":"Hi","role":"user"},{"content":"Yo","role":"assistant"}]}\n'
        )
        .hexdigest()
    )


def test_a_fingerprint_needs_json(tmp_path: Path) -> None:
    with pytest.raises(DataError, match="UD100") as caught:
        fingerprint(save(tmp_path / "a.jsonl", json.dumps(ROW), "{oops"))
    assert f"{tmp_path / 'a.jsonl'}:2" in caught.value.where

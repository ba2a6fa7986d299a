"""Parquet as data sets come in it: structs, lists, nulls, dictionaries, dates."""

from __future__ import annotations

import json
from datetime import UTC, datetime
from decimal import Decimal
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from tests.data.rows import answer, load, user
from unift.data import convert, validate

PARAMETERS = {
    "type": "object",
    "properties": {"city": {"type": "string"}},
    "required": ["city"],
}


def call(id: str, city: str) -> dict[str, Any]:
    function = {"name": "weather", "arguments": json.dumps({"city": city})}
    return {"id": id, "type": "function", "function": function}


def rows() -> list[dict[str, Any]]:
    """Rows of which each has keys that others have not: Arrow fills them with nulls."""
    tool = {"type": "function", "function": {"name": "weather", "parameters": PARAMETERS}}
    called = [
        user("Oslo and Rome?"),
        {"role": "assistant", "tool_calls": [call("a", "Oslo"), call("b", "Rome")]},
        {"role": "tool", "tool_call_id": "a", "content": "3"},
        {"role": "tool", "tool_call_id": "b", "content": "19"},
        answer("3 and 19."),
    ]
    plain = [user("Hi"), answer("No.", weight=0), user("Please"), answer("Yes.", weight=1)]
    return [
        {"messages": called, "tools": [tool], "parallel_tool_calls": True},
        *({"messages": [*plain[:-1], answer(f"Yes {n}.", weight=1)]} for n in range(12)),
    ]


def write(path: Path, table: Any) -> Path:
    pq.write_table(table, path)
    return path


def test_structs_come_back_as_the_rows_that_they_were(tmp_path: Path) -> None:
    path = write(tmp_path / "a.parquet", pa.Table.from_pylist(rows()))
    report = validate(path, provider="openai")
    assert report.verdicts == {"openai": True}
    convert(path, tmp_path / "b.jsonl", to="openai-chat")
    assert load(tmp_path / "b.jsonl") == rows()


def test_large_strings_dictionaries_and_notes_of_any_type_are_read(tmp_path: Path) -> None:
    questions = pa.array([f"Question {n}?" for n in range(20)], pa.large_string())
    answers = pa.array(["yes", "no"] * 10).dictionary_encode()
    table = pa.table(
        {
            "prompt": questions,
            "completion": answers,
            "created_at": [datetime(2026, 11, 25, tzinfo=UTC)] * 20,
            "id": [Decimal("1.50")] * 20,
            "source": pa.array([None] * 19 + [float("nan")], pa.float64()),
        }
    )
    report = validate(write(tmp_path / "a.parquet", table))
    assert (report.ok, report.rows, report.format) == (True, 20, "prompt-completion")
    notes = [one.path for one in report.findings if one.code == "UD204"]
    assert sorted(notes) == ["created_at", "id"], "an empty column is no note"
    convert(tmp_path / "a.parquet", tmp_path / "b.jsonl", to="openai-chat")
    first = load(tmp_path / "b.jsonl")[0]
    assert first["messages"][1]["content"] == "yes"
    assert first["created_at"].startswith("2026-11-25T00:00:00")


@pytest.mark.parametrize(
    ("change", "code", "path"),
    [
        ({"messages": [user("Hi"), {"role": "assistant"}]}, "UD213", "messages[1]"),
        (
            {"messages": [user("Hi"), answer("Yo"), {"role": "bot", "content": "Yo"}]},
            "UD212",
            "messages[2].role",
        ),
        ({"messages": []}, "UD202", "messages"),
        ({}, "UD200", ""),
    ],
)
def test_a_fault_in_a_struct_has_its_row_and_path(
    tmp_path: Path, change: dict[str, Any], code: str, path: str
) -> None:
    found = rows()
    found[5] = change
    report = validate(write(tmp_path / "a.parquet", pa.Table.from_pylist(found)))
    [one] = [one for one in report.findings if one.severity == "error"]
    assert (one.code, one.line, one.path) == (code, 6, path)


def test_messages_that_are_json_in_a_string_are_told_as_that(tmp_path: Path) -> None:
    texts = [json.dumps(row["messages"]) for row in rows()]
    report = validate(write(tmp_path / "a.parquet", pa.table({"messages": texts})))
    assert report.counts["UD201"] == len(texts)
    assert "JSON in a string" in report.findings[-1].fix


def test_a_table_without_rows_is_told_as_empty(tmp_path: Path) -> None:
    table = pa.table({"messages": pa.array([], pa.string())})
    assert "UD001" in validate(write(tmp_path / "a.parquet", table)).counts


def test_large_rows_are_read_a_few_at_a_time(tmp_path: Path) -> None:
    sizes: list[int] = []
    text = "word " * 400_000
    table = pa.Table.from_pylist(
        [{"prompt": f"{n} {text}", "completion": f"Yes {n}."} for n in range(12)]
    )
    path = write(tmp_path / "a.parquet", table)
    from unift.data._lines import blocks

    sizes = [block.count for block in blocks(path, lambda *_: None)]
    assert sum(sizes) == 12
    assert max(sizes) < 12

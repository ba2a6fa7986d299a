"""`unift.convert`: round trips, and nothing lost that was not given up."""

from __future__ import annotations

import gzip
import json
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq
import pytest

import unift
from tests.data.rows import answer, load, plain, save, user
from unift.data import diff
from unift.errors import DataError, UsageError

HUMAN = {"from": "human", "value": "1"}
ASK = {"role": "user", "parts": [{"text": "1"}]}
MODEL = {"role": "model", "parts": [{"text": "2"}]}
PAIR = {
    "input": {"messages": [{"role": "system", "content": "Be kind."}, user("Hi")]},
    "preferred_output": [answer("Hello!")],
    "non_preferred_output": [answer("What?")],
}
GRADED = {"messages": [user("6 times 7?")], "answer": "42"}


@pytest.mark.parametrize(
    ("row", "source", "to"),
    [
        (PAIR, "openai-preference", "gemini-preference"),
        (GRADED, "openai-rft", "gemini-rft"),
    ],
)
def test_pairs_and_graded_prompts_go_to_google_and_back(
    tmp_path: Path, row: Any, source: str, to: str
) -> None:
    there, back = tmp_path / "b.jsonl", tmp_path / "c.jsonl"
    done = unift.convert(save(tmp_path / "a.jsonl", [row]), there, to=to)
    assert (done.source_format, done.target_format) == (source, to)
    assert unift.convert(there, back, to=source).source_format == to
    assert load(back) == [row]


def test_the_preferred_answer_can_be_learnt_alone(tmp_path: Path) -> None:
    source, out = save(tmp_path / "a.jsonl", [PAIR]), tmp_path / "b.jsonl"
    with pytest.raises(DataError, match="rejected"):
        unift.convert(source, out, to="openai-chat")
    assert unift.convert(source, out, to="openai-chat", drop=["rejected"]).lost == {"rejected": 1}
    assert load(out) == [{"messages": [*PAIR["input"]["messages"], answer("Hello!")]}]


TOOL = {"type": "function", "function": {"name": "f", "parameters": {"type": "object"}}}
CALL = {"id": "c", "type": "function", "function": {"name": "f", "arguments": "{}"}}
WITH_CALL = [
    user("Hi"),
    {"role": "assistant", "tool_calls": [CALL]},
    {"role": "tool", "tool_call_id": "c", "content": "3"},
    answer("It is 3."),
]
PICTURE = {"type": "image_url", "image_url": {"url": "https://example.com/a.png"}}


@pytest.mark.parametrize(
    ("row", "to", "kind", "left"),
    [
        (
            {"messages": WITH_CALL, "tools": [TOOL]},
            "alpaca",
            "tools",
            {"instruction": "Hi", "input": "", "output": "It is 3."},
        ),
        (
            {"messages": [user("Hi"), answer("A", weight=0), user("And?"), answer("B")]},
            "alpaca",
            "weights",
            {"instruction": "And?", "input": "", "output": "B", "history": [["Hi", "A"]]},
        ),
        (
            {"messages": [user([{"type": "text", "text": "What?"}, PICTURE]), answer("A cat.")]},
            "gemini",
            "images",
            {
                "contents": [
                    {"role": "user", "parts": [{"text": "What?"}]},
                    {"role": "model", "parts": [{"text": "A cat."}]},
                ]
            },
        ),
        (
            {"messages": [user("1"), answer("2"), user("3"), answer("4")]},
            "prompt-completion",
            "turns",
            {"prompt": "3", "completion": "4"},
        ),
        (
            {"messages": [{"role": "developer", "content": "S"}, user("1"), answer("2")]},
            "prompt-completion",
            "system",
            {"prompt": "1", "completion": "2"},
        ),
        (
            {"messages": [user("1"), answer("2")], "id": 7},
            "gemini",
            "extra",
            {
                "contents": [
                    {"role": "user", "parts": [{"text": "1"}]},
                    {"role": "model", "parts": [{"text": "2"}]},
                ]
            },
        ),
        (
            {"messages": [{**user("1"), "name": "Ann"}, answer("2")]},
            "sharegpt",
            "names",
            {"conversations": [{"from": "human", "value": "1"}, {"from": "gpt", "value": "2"}]},
        ),
    ],
)
def test_each_loss_fails_with_the_row_named_until_it_is_given_up(
    tmp_path: Path, row: Any, to: str, kind: str, left: Any
) -> None:
    fine = {"messages": [user("Hello"), answer("Hi")]}
    source, out = save(tmp_path / "a.jsonl", [fine, row]), tmp_path / "b.jsonl"
    with pytest.raises(DataError) as caught:
        unift.convert(source, out, to=to)
    assert caught.value.exit_status == 3
    assert [(f.code, f.line) for f in caught.value.findings] == [("UD907", 2)]
    assert f"--drop {kind}" in caught.value.fix
    assert not out.exists()
    assert list(tmp_path.iterdir()) == [source]
    done = unift.convert(source, out, to=to, drop=[kind])
    assert done.lost == {kind: 1}
    assert load(out)[1] == left


def test_rows_with_errors_are_not_converted(tmp_path: Path) -> None:
    rows = [{"instruction": "a", "output": "b"}, {"instruction": "a", "output": 1}]
    source, out = save(tmp_path / "a.jsonl", rows), tmp_path / "b.jsonl"
    with pytest.raises(DataError, match="UD901") as caught:
        unift.convert(source, out, to="gemini")
    assert caught.value.findings[0].line == 2
    assert not out.exists()


def test_alpaca_inputs_and_sharegpt_calls_are_understood(tmp_path: Path) -> None:
    out = tmp_path / "b.jsonl"
    alpaca = {"instruction": "Add.", "input": "1 2", "output": "3", "system": "S"}
    unift.convert(save(tmp_path / "a.jsonl", [alpaca]), out, to="openai")
    system = {"role": "system", "content": "S"}
    assert load(out) == [{"messages": [system, user("Add.\n1 2"), answer("3")]}]
    shared = {
        "conversations": [
            {"from": "human", "value": "Hi"},
            {"from": "function_call", "value": '{"name": "f", "arguments": {}}'},
            {"from": "observation", "value": "3"},
            {"from": "gpt", "value": "It is 3."},
        ],
        "tools": json.dumps([TOOL["function"]]),
    }
    unift.convert(save(tmp_path / "a.jsonl", [shared]), out, to="openai")
    assert [plain(row) for row in load(out)] == [plain({"messages": WITH_CALL, "tools": [TOOL]})]


def test_parquet_and_compressed_files_are_read_and_written(tmp_path: Path) -> None:
    rows = [{"messages": [user(f"Hi {i}"), answer("Yo")]} for i in range(60)]
    rows[3]["messages"][1]["weight"] = 1
    pq.write_table(pa.Table.from_pylist(rows), tmp_path / "a.parquet")
    report = unift.validate(tmp_path / "a.parquet")
    assert report.ok
    assert report.rows == 60
    unift.convert(tmp_path / "a.parquet", tmp_path / "b.jsonl.gz", to="openai-chat")
    written = gzip.decompress((tmp_path / "b.jsonl.gz").read_bytes())
    assert [json.loads(line) for line in written.splitlines()] == rows
    unift.convert(tmp_path / "b.jsonl.gz", tmp_path / "c.jsonl.zst", to="gemini", drop=["weights"])
    assert unift.validate(tmp_path / "c.jsonl.zst").format == "gemini"


def test_a_damaged_parquet_file_and_one_with_bytes_are_reported(tmp_path: Path) -> None:
    path = tmp_path / "a.parquet"
    path.write_bytes(b"PAR1 nothing")
    assert "UD007" in unift.validate(path).counts
    pq.write_table(pa.table({"prompt": ["a", "b"], "picture": [None, b"\xff\xd8"]}), path)
    [found] = [one for one in unift.validate(path).findings if one.code == "UD002"]
    assert (found.line, "'picture' has bytes" in found.message) == (2, True)


@pytest.mark.parametrize(
    ("row", "name"),
    [
        ({"messages": [user("1"), answer("2")]}, "openai-chat"),
        (GRADED, "openai-rft"),
        (PAIR, "openai-preference"),
        ({"contents": [{"role": "user", "parts": [{"text": "x"}]}]}, "gemini"),
        ({"prompt": "1", "completion": "2"}, "prompt-completion"),
        ({"instruction": "1", "output": "2"}, "alpaca"),
        ({"conversations": [{"from": "human", "value": "1"}]}, "sharegpt"),
    ],
)
def test_the_format_is_found_by_looking_and_the_reason_is_told(
    tmp_path: Path, row: Any, name: str
) -> None:
    report = unift.validate(save(tmp_path / "a.jsonl", [row]))
    assert report.format == name
    assert report.format_reason
    assert report.as_dict()["format"] == name
    given = unift.validate(tmp_path / "a.jsonl", format="sharegpt")
    assert (given.format, given.format_reason) == ("sharegpt", "as given")
    assert given.ok == unift.validate(tmp_path / "a.jsonl").ok if name == "sharegpt" else True


def test_a_provider_refuses_formats_that_cannot_become_what_it_trains_on(tmp_path: Path) -> None:
    rows = [{"instruction": f"{i}", "output": "x"} for i in range(60)]
    path = save(tmp_path / "a.jsonl", rows)
    report = unift.validate(path, provider=["openai", "together"])
    [finding] = [f for f in report.findings if f.code == "UD906"]
    assert finding.severity == "advice"
    assert finding.providers == ("openai", "together")
    assert report.ok
    ask = [{"text": "1"}]
    contents = [{"role": "user", "parts": ask}]
    graded = [{"contents": contents, "references": {"answer": f"{i}"}} for i in range(60)]
    report = unift.validate(save(path, graded), provider=["google", "together"])
    [finding] = [f for f in report.findings if f.code == "UD906"]
    assert (finding.severity, finding.providers) == ("error", ("together",))
    assert report.verdicts == {"google": True, "together": False}


@pytest.mark.parametrize(
    ("row", "code", "path"),
    [
        ({"instruction": "1", "output": "2", "inptu": "x"}, "UD203", "inptu"),
        ({"prompt": "1", "completion": "2", "id": 1}, "UD204", "id"),
        (
            {
                "conversations": [
                    {"from": "human", "value": "1"},
                    {"from": "gpt", "value": "2", "w": 1},
                ]
            },
            "UD216",
            "conversations[1].w",
        ),
        (
            {"contents": [{"role": "user", "parts": [{"text": "1", "thought": True}]}, MODEL]},
            "UD216",
            "contents[0].parts[0].thought",
        ),
        ({"contents": [ASK, MODEL], "lables": {}}, "UD203", "lables"),
        ({"contents": [{**ASK, "weight": 1}, MODEL]}, "UD216", "contents[0].weight"),
        (
            {
                "input": {"messages": [user("1")], "model": "x"},
                "preferred_output": [answer("2")],
                "non_preferred_output": [answer("3")],
            },
            "UD216",
            "input.model",
        ),
    ],
)
def test_keys_that_nobody_reads_are_told_in_every_format_and_not_lost_in_silence(
    tmp_path: Path, row: Any, code: str, path: str
) -> None:
    file = save(tmp_path / "a.jsonl", [row])
    found = [
        (f.code, f.path)
        for f in unift.validate(file).findings
        if f.code in ("UD203", "UD204", "UD216")
    ]
    assert found == [(code, path)]
    if code == "UD216" and "input" not in row:
        with pytest.raises(DataError, match="extra"):
            unift.convert(file, tmp_path / "b.jsonl", to="openai-chat")


def test_a_key_of_a_message_is_not_lost_in_silence(tmp_path: Path) -> None:
    file = save(tmp_path / "a.jsonl", [{"messages": [user("1"), answer("2", mood="good")]}])
    with pytest.raises(DataError, match="mood"):
        unift.convert(file, tmp_path / "b.jsonl", to="gemini")


def test_paths_are_those_of_the_format(tmp_path: Path) -> None:
    row = {"contents": [{"role": "user", "parts": [{"text": "x"}]}] * 2}
    row["contents"][1:] = [{"role": "model", "parts": [{"text": " cafÃ© "}]}]
    found = {f.code: f.path for f in unift.validate(save(tmp_path / "a.jsonl", [row])).findings}
    assert found["UD504"] == found["UD506"] == "contents[1]"


@pytest.mark.parametrize(
    ("arguments", "code"),
    [
        ({"to": "gemni"}, "unknown_format"),
        ({"to": "gemini", "drop": ["tool"]}, "unknown_loss"),
        ({"to": "gemini", "source": "x"}, "unknown_format"),
        ({"to": "openai-rft"}, "other_kind"),
    ],
)
def test_wrong_words_are_usage_errors_with_the_nearest_one(
    tmp_path: Path, arguments: Any, code: str
) -> None:
    path = save(tmp_path / "a.jsonl", [{"messages": [user("1"), answer("2")]}])
    with pytest.raises(UsageError) as caught:
        unift.convert(path, tmp_path / "b.jsonl", **arguments)
    assert caught.value.code == code
    assert caught.value.fix
    assert not (tmp_path / "b.jsonl").exists()


def test_the_input_is_never_overwritten(tmp_path: Path) -> None:
    path = save(tmp_path / "a.jsonl", [{"messages": [user("1"), answer("2")]}])
    before = path.read_bytes()
    for out in (path, tmp_path, tmp_path / "no" / "b.jsonl"):
        with pytest.raises(UsageError):
            unift.convert(path, out, to="gemini")
    assert path.read_bytes() == before


def test_a_file_and_its_conversion_are_no_different(tmp_path: Path) -> None:
    rows = [
        {"messages": WITH_CALL, "tools": [TOOL]},
        {"messages": [user("Hi"), answer("Hello")]},
    ]
    source, out = save(tmp_path / "a.jsonl", rows), tmp_path / "b.jsonl"
    unift.convert(source, out, to="gemini")
    assert diff(source, out).equal
    save(source, [rows[0], {"messages": [user("Hi"), answer("Yes")]}])
    assert diff(source, out).changed_lines == ((2, 2),)

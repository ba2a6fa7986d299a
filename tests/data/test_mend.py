"""`validate(fix=...)`: what can be mended is, every change is listed, nothing bad is written."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from tests.data.strategies import json_values, lines, spellings, tidy_rows
from unift.data import codes, explain, validate
from unift.errors import UsageError

GOOD: dict[str, Any] = {
    "messages": [{"role": "user", "content": "Hi"}, {"role": "assistant", "content": "Yo"}]
}
BAD = sorted((Path(__file__).parent / "bad").iterdir())
SMALL = {"UD700", "UD701"}


def with_answer(**fields: Any) -> dict[str, Any]:
    return {"messages": [GOOD["messages"][0], {**GOOD["messages"][1], **fields}]}


def fix(tmp_path: Path, data: bytes, **more: Any) -> tuple[Any, list[Any]]:
    source, target = tmp_path / "in.jsonl", tmp_path / "out.jsonl"
    source.write_bytes(data)
    fixed = validate(source, fix=target, **more).fixed
    assert fixed is not None
    assert source.read_bytes() == data
    return fixed, [json.loads(line) for line in target.read_bytes().splitlines()]


CALL = {"id": "c", "type": "function", "function": {"name": "f", "arguments": {"a": "ü"}}}


@pytest.mark.parametrize(
    ("row", "code", "path", "mended"),
    [
        (with_answer(role="gpt"), "UD212", "messages[1].role", GOOD),
        (with_answer(role=" Assistant"), "UD212", "messages[1].role", GOOD),
        (with_answer(weight=True), "UD230", "messages[1].weight", with_answer(weight=1)),
        (with_answer(weight=1.0), "UD230", "messages[1].weight", with_answer(weight=1)),
        (with_answer(content=" Yo\n"), "UD504", "messages[1].content", GOOD),
        (with_answer(content="Y\0o"), "UD107", "messages[1].content", GOOD),
        (with_answer(content="Yo\ud83d"), "UD106", "messages[1].content", GOOD),
        (
            {**GOOD, "parallel_tool_calls": "False"},
            "UD313",
            "parallel_tool_calls",
            {**GOOD, "parallel_tool_calls": False},
        ),
        (
            with_answer(tool_calls=[CALL]),
            "UD301",
            "messages[1].tool_calls[0].function.arguments",
            with_answer(
                tool_calls=[{**CALL, "function": {"name": "f", "arguments": '{"a": "ü"}'}}]
            ),
        ),
    ],
)
def test_a_remedy_changes_how_it_is_written_and_says_so(
    tmp_path: Path, row: Any, code: str, path: str, mended: Any
) -> None:
    fixed, rows = fix(tmp_path, (json.dumps(GOOD) + "\n" + json.dumps(row)).encode())
    assert rows == [GOOD, mended]
    assert [(c.line, c.path, c.code, c.left_out) for c in fixed.changes] == [(2, path, code, False)]


def test_the_weight_of_a_user_is_removed(tmp_path: Path) -> None:
    row = {"messages": [{**GOOD["messages"][0], "weight": 1}, GOOD["messages"][1]]}
    assert fix(tmp_path, json.dumps(row).encode())[1] == [GOOD]


def test_a_key_that_comes_twice_is_mended_only_if_both_say_the_same(tmp_path: Path) -> None:
    same = json.dumps(GOOD).replace('"content": "Yo"', '"content": "Yo", "content": "Yo"')
    other = json.dumps(GOOD).replace('"content": "Yo"', '"content": "No", "content": "Yo"')
    fixed, rows = fix(tmp_path, f"{same}\n{other}\n".encode())
    assert rows == [GOOD]
    assert [(c.line, c.code, c.left_out) for c in fixed.changes] == [
        (1, "UD102", False),
        (2, "UD102", True),
    ]


@pytest.mark.parametrize(
    ("data", "code"),
    [
        (json.dumps([GOOD, GOOD], indent=1), "UD009"),
        (json.dumps([GOOD, GOOD]), "UD009"),
        (json.dumps(GOOD, indent=2) + "\n" + json.dumps(GOOD, indent=2), "UD010"),
    ],
)
def test_rows_that_are_not_on_lines_are_put_on_lines(tmp_path: Path, data: str, code: str) -> None:
    fixed, rows = fix(tmp_path, data.encode())
    assert rows == [GOOD, GOOD]
    assert [change.code for change in fixed.changes] == [code, code]


def test_good_rows_are_not_touched(tmp_path: Path) -> None:
    odd = (
        b'{"messages" :[{"content":"\\u0048i","role":"user"},{"role":"assistant","content":"Yo"}]}'
    )
    fix(tmp_path, b"\xef\xbb\xbf" + odd + b"\r\n\n")
    assert (tmp_path / "out.jsonl").read_bytes() == odd + b"\n"


def test_what_a_provider_refuses_is_left_out_for_it_alone(tmp_path: Path) -> None:
    data = (json.dumps({**with_answer(mood="glad")}) + "\n").encode() * 12
    assert len(fix(tmp_path, data)[1]) == 12
    fixed, rows = fix(tmp_path, data, provider="openai")
    assert rows == []
    assert fixed.left_out == 12


def test_rows_over_a_limit_are_left_out_and_listed(tmp_path: Path) -> None:
    long = with_answer(content="word " * 5000 + "end")
    data = "\n".join(map(json.dumps, [GOOD, long, GOOD])).encode()
    fixed, rows = fix(tmp_path, data, model="demo", max_length=100)
    assert rows == [GOOD, GOOD]
    assert [(c.line, c.code, c.left_out) for c in fixed.changes] == [(2, "UD703", True)]
    assert fixed.after.ok


def test_the_log_has_every_change(tmp_path: Path) -> None:
    fixed, rows = fix(tmp_path, (json.dumps(GOOD) + "\n\n").encode() * 3000)
    assert len(rows) == 3000
    assert (fixed.changed, len(fixed.changes)) == (3000, 1000)
    logged = [json.loads(line) for line in Path(fixed.log).read_text().splitlines()]
    assert [entry["line"] for entry in logged] == list(range(2, 6001, 2))


def test_the_file_itself_is_never_overwritten(tmp_path: Path) -> None:
    path = tmp_path / "in.jsonl"
    path.write_text(json.dumps(GOOD))
    for target in (path, tmp_path / "out.jsonl.gz", tmp_path, tmp_path / "no" / "out.jsonl"):
        with pytest.raises(UsageError):
            validate(path, fix=target)
    assert path.read_text() == json.dumps(GOOD)


@pytest.mark.parametrize("path", BAD, ids=lambda path: path.name)
def test_whatever_the_fault_the_copy_has_no_error(path: Path, tmp_path: Path) -> None:
    report = validate(path, fix=tmp_path / "out.jsonl")
    assert report.fixed is not None
    errors = {f.code for f in report.fixed.after.findings if f.severity == "error"}
    assert errors <= {"UD001"}  # nothing could be kept


def test_what_is_mended_is_what_the_table_says(tmp_path: Path) -> None:
    mended: set[str] = set()
    for path in BAD:
        fixed, code = validate(path, fix=tmp_path / "out.jsonl").fixed, path.name[:5]
        assert fixed is not None
        if not fixed.left_out and fixed.rows and code not in fixed.after.counts:
            mended.add(code)
        elif explain(code).severity == "error":
            left = [change for change in fixed.changes if change.left_out]
            assert all(change.what.startswith("left out: ") for change in left)
            assert left or not fixed.rows
        else:
            assert code in fixed.after.counts or not fixed.rows
    assert mended == {code.code for code in codes().values() if code.mended}


@settings(deadline=None, suppress_health_check=list(HealthCheck), max_examples=100)
@given(body=st.lists(st.one_of(lines, spellings(tidy_rows)), max_size=5))
def test_no_row_is_lost_without_a_word(
    tmp_path_factory: pytest.TempPathFactory, body: list[bytes]
) -> None:
    folder = tmp_path_factory.mktemp("mend")
    fixed, rows = fix(folder, b"\n".join([json.dumps(GOOD).encode(), *body]))
    report = validate(folder / "in.jsonl")
    if "UD002" in report.counts:
        return
    assert len(rows) == fixed.rows
    assert fixed.rows + fixed.left_out == report.rows
    assert validate(folder / "out.jsonl").ok


TEXT = {"text": " Yo\n"}
FORMS: list[tuple[str, Any, Any]] = [
    (
        "openai-preference",
        {
            "input": {"messages": [GOOD["messages"][0]]},
            "preferred_output": [{"role": "gpt", "content": "Yo\n"}],
            "non_preferred_output": [{"role": "assistant", "content": "No"}],
        },
        {
            "input": {"messages": [GOOD["messages"][0]]},
            "preferred_output": [GOOD["messages"][1]],
            "non_preferred_output": [{"role": "assistant", "content": "No"}],
        },
    ),
    (
        "openai-rft",
        {"messages": [{"role": "user", "content": "Hi", "weight": 1}], "answer": "Yo"},
        {"messages": [GOOD["messages"][0]], "answer": "Yo"},
    ),
    (
        "gemini",
        {"contents": [{"role": "human", "parts": "Hi"}, {"role": "assistant", "parts": TEXT}]},
        {
            "contents": [
                {"role": "user", "parts": [{"text": "Hi"}]},
                {"role": "model", "parts": [{"text": "Yo"}]},
            ]
        },
    ),
    (
        "gemini-preference",
        {
            "contents": [{"role": "user", "parts": [{"text": "Hi"}]}],
            "completions": [
                {"score": score, "completion": {"role": "model", "parts": [{"text": text}]}}
                for score, text in (("1", "Yo"), (False, "No"))
            ],
        },
        {
            "contents": [{"role": "user", "parts": [{"text": "Hi"}]}],
            "completions": [
                {"score": score, "completion": {"role": "model", "parts": [{"text": text}]}}
                for score, text in ((1, "Yo"), (0, "No"))
            ],
        },
    ),
    (
        "prompt-completion",
        {"prompt": "Hi ->", "completion": " Yo\n"},
        {"prompt": "Hi ->", "completion": " Yo"},
    ),
    (
        "alpaca",
        {"instruction": "Hi\0", "output": " Yo"},
        {"instruction": "Hi", "output": "Yo"},
    ),
    (
        "sharegpt",
        {"conversations": [{"from": "Human", "value": "Hi"}, {"from": "bot", "value": "Yo "}]},
        {"conversations": [{"from": "human", "value": "Hi"}, {"from": "gpt", "value": "Yo"}]},
    ),
]


@pytest.mark.parametrize(("name", "row", "mended"), FORMS, ids=[one[0] for one in FORMS])
def test_every_format_is_mended_and_once_is_enough(
    tmp_path: Path, name: str, row: Any, mended: Any
) -> None:
    for data in (json.dumps(row), json.dumps([row, row]), f"{json.dumps(row)}{json.dumps(row)}"):
        fixed, rows = fix(tmp_path, data.encode())
        assert rows
        assert all(one == mended for one in rows)
        assert (fixed.left_out, fixed.after.ok, fixed.after.format) == (0, True, name)
        again, same = fix(tmp_path, (tmp_path / "out.jsonl").read_bytes())
        assert (again.changed, same) == (0, rows)


LINE = json.dumps(GOOD)


@pytest.mark.parametrize(
    "data",
    [
        f"{LINE},\n{LINE}\n".encode(),
        f"{LINE}{LINE}\n".encode(),
        f"{GOOD!r}\n{GOOD!r}\n".encode(),
        f"{LINE}\r\n{LINE}\r\n".encode("utf-16"),
    ],
    ids=["comma", "one line", "Python", "UTF-16"],
)
def test_other_ways_of_writing_the_same_rows(tmp_path: Path, data: bytes) -> None:
    fixed, rows = fix(tmp_path, data)
    assert rows == [GOOD, GOOD]
    assert fixed.changed > 0
    assert fixed.left_out == 0


def test_a_raw_tab_is_escaped_and_kept(tmp_path: Path) -> None:
    assert fix(tmp_path, LINE.replace("Hi", "H\ti").encode())[1][0]["messages"][0] == {
        "role": "user",
        "content": "H\ti",
    }


@settings(deadline=None, suppress_health_check=list(HealthCheck), max_examples=100)
@given(data=st.data(), form=st.sampled_from(FORMS), body=st.lists(lines, max_size=3))
def test_mending_twice_changes_nothing_more(
    tmp_path_factory: pytest.TempPathFactory, data: Any, form: Any, body: list[bytes]
) -> None:
    folder = tmp_path_factory.mktemp("twice")
    odd = data.draw(
        st.dictionaries(st.sampled_from([*form[1], "x"]), json_values, max_size=2).map(
            lambda more: {**form[1], **more}
        )
    )
    whole = [json.dumps(form[1]).encode(), json.dumps(odd).encode(), *body]
    fix(folder, b"\n".join(whole), format=form[0])
    once = (folder / "out.jsonl").read_bytes()
    again, _ = fix(folder, once, format=form[0])
    assert (folder / "out.jsonl").read_bytes() == once
    # Bytes that are no text leave no row at all.
    assert (again.changed, again.after.ok) == (0, bool(once))


def test_old_calls_are_mended_whole_or_not_at_all(tmp_path: Path) -> None:
    call = {"role": "assistant", "content": None, "function_call": {"name": "f", "arguments": "{}"}}
    result = {"role": "function", "name": "g", "content": "3"}
    messages = [GOOD["messages"][0], call, result, {"role": "assistant", "content": "It is 3."}]
    row = {"messages": messages, "functions": [{"name": "f"}]}
    fixed, rows = fix(tmp_path, json.dumps(row).encode())
    assert (fixed.changed, rows) == (0, [row])
    messages[2] = {**result, "name": "f"}
    fixed, [made] = fix(tmp_path, json.dumps(row).encode())
    assert fixed.changed == 1
    assert "functions" not in made
    assert made["messages"][2]["tool_call_id"] == made["messages"][1]["tool_calls"][0]["id"]

"""What holds for every input: no crash, no missed line, the fast way agrees with the slow one."""

from __future__ import annotations

import gzip
import json
from pathlib import Path
from typing import Any

import pytest
from hypothesis import HealthCheck, assume, example, given, settings
from hypothesis import strategies as st

from tests.data.strategies import (
    format_rows,
    lines,
    noted_rows,
    odd_rows,
    plain_rows,
    spellings,
    tidy_rows,
)
from unift.data import codes, count_rows, fingerprint, read_examples, validate
from unift.data._lines import Block
from unift.data._other import check_other
from unift.data._parse import parse
from unift.data._plain import identity
from unift.data._row import check_row
from unift.data._rows import plain_rows as quick_rows
from unift.data._scan import content_of
from unift.data._shapes import SHAPES
from unift.data.formats import FORMATS
from unift.errors import DataError

QUIET = settings(deadline=None, suppress_health_check=list(HealthCheck), max_examples=300)
PLAIN = {
    "openai-preference": b'{"input": {"messages": [{"role": "user", "content": "Hi"}]}, '
    b'"preferred_output": [{"role": "assistant", "content": "Yo"}], "non_preferred_output": '
    b'[{"role": "assistant", "content": "No"}]}',
    "gemini": b'{"systemInstruction": {"parts": [{"text": "S"}]}, "contents": [{"role": "user", '
    b'"parts": [{"text": "Hi"}]}, {"role": "model", "parts": [{"text": "Yo"}]}]}',
    "gemini-preference": b'{"contents": [{"role": "user", "parts": [{"text": "Hi"}]}], '
    b'"completions": [{"score": 1.0, "completion": {"role": "model", "parts": [{"text": "Yo"}]}}, '
    b'{"score": 0.0, "completion": {"role": "model", "parts": [{"text": "No"}]}}]}',
    "prompt-completion": b'{"prompt": "Hi", "completion": "Yo"}',
    "trl-preference": b'{"prompt": "Hi", "chosen": "Yo", "rejected": "No"}',
    "alpaca": b'{"instruction": "Hi", "input": "you", "output": "Yo", "system": "S"}',
    "sharegpt": b'{"system": "S", "conversations": [{"from": "human", "value": "Hi"}, '
    b'{"from": "gpt", "value": "Yo"}]}',
}
GOOD = b'{"messages": [{"role": "user", "content": "Hi"}, {"role": "assistant", "content": "Yo"}]}'
BRIEFLY = GOOD.replace(b"[{", b'[{"role": "system", "content": "Briefly."}, {', 1)
OTHERWISE = BRIEFLY.replace(b"Briefly.", b"Be brief.")


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
@given(body=st.lists(st.one_of(spellings(st.one_of(tidy_rows, plain_rows)), lines), min_size=1))
@example(body=[GOOD, GOOD.replace(b"Yo", b"\\u0054ODO")])
@example(body=[GOOD.replace(b'"content": "Yo"', b'"content": "a", "content": "Yo"')])
@example(body=[GOOD.replace(b'"content": "Yo"', b'"content" : "a", "content": "Yo"')])
@example(body=[GOOD.replace(b"Yo", rb"say \":\" and \\"), GOOD])
@example(body=[GOOD + b" " + GOOD, b""])
@example(body=[OTHERWISE, BRIEFLY, OTHERWISE, OTHERWISE, OTHERWISE])
@example(body=[OTHERWISE, OTHERWISE, GOOD, OTHERWISE, OTHERWISE])
@example(body=[OTHERWISE, OTHERWISE.replace(b'"Yo"', b'"Yo", "weight": 0'), OTHERWISE])
@example(body=[OTHERWISE.replace(b"Be brief.", b"{{mood}}")] * 3)
@example(body=[OTHERWISE.replace(b"Be brief.", b"")] * 3)
@example(body=[OTHERWISE.replace(b"Be brief.", rb"\u0000 Be brief.")] * 3)
@example(body=[GOOD[:-1], b"}", GOOD + GOOD, b""])
@example(body=[GOOD, GOOD.replace(b'"Yo"', b'" Yo"'), GOOD.replace(b'"Hi"', b'" "')])
@example(body=[GOOD.replace(b'"Yo"', '"Ãº Yo and more of that"'.encode()), GOOD])
@example(body=[GOOD.replace(b"Yo", b"As an AI I will not do that, whatever you say"), GOOD])
@example(body=[GOOD.replace(b"Yo", b"{{name}} is a very good name for a cat"), GOOD])
@example(body=[GOOD.replace(b"Yo", b"[INST]"), GOOD.replace(b"Hi", b"x]"), GOOD])
def test_the_fast_way_passes_only_what_the_slow_way_passes(body: list[bytes]) -> None:
    data = b"\n".join(body)
    assume(data)
    block = Block(1, data, 0)
    assert block.lines == data.split(b"\n")
    fast = quick_rows(block)
    texts = iter(fast.texts)
    for index, roles in zip(fast.lines, fast.roles, strict=True):
        line = block.lines[index]
        assert set(noted(line)) <= ({"UD204"} if fast.notes else set())
        row = json.loads(line)
        assert [message["role"] for message in row["messages"]] == list(roles)
        assert [message["content"] for message in row["messages"]] == [next(texts) for _ in roles]
    assert list(texts) == []
    assert fast.answers() == [row[-1].content for row in fast.rows]
    assert fast.lengths.tolist() == list(map(len, fast.texts))
    assert all(len(row) == fast.width for row in fast.rows) or not fast.width
    # The same row has the same identity, whatever way it goes.
    for at, (prompt, answer) in enumerate(zip(*fast.identities(), strict=True)):
        said = [message.content for message in fast.rows[at]]
        assert identity(fast.roles[at], said, "") == (prompt, answer)


@pytest.mark.parametrize("name", sorted(format_rows))
@settings(QUIET, max_examples=100)
@given(data=st.data())
def test_the_fast_way_agrees_with_the_slow_one_in_every_format(name: str, data: Any) -> None:
    mine = spellings(noted_rows(format_rows[name]))
    body = data.draw(st.lists(st.one_of(mine, lines), min_size=1, max_size=5))
    more = data.draw(st.booleans())
    body += [PLAIN.get(name, GOOD)] * (3 if more else 0)
    assume(any(body))
    block = Block(1, b"\n".join(body), 0)
    fast = quick_rows(block, SHAPES[name])
    texts = iter(fast.texts)
    noted: list[Any] = []
    for index, roles in zip(fast.lines, fast.roles, strict=True):
        line = block.lines[index]
        text, row = parse(line, lambda *fault, **_: noted.append(fault))
        note = lambda *fault, **_: noted.append(fault)  # noqa: E731
        chat = row if name == "openai-chat" else check_other(row, FORMATS[name], note)
        assert chat is not None
        if name == "openai-chat":
            check_row(row, note)
        # Of notes it tells once a block, not row by row.
        assert {fault[0] for fault in noted} <= {"UD204"}
        assert {fault[1][0] for fault in noted} <= set(fast.notes)
        content = content_of(chat)
        assert content.roles == roles
        assert content.texts == [next(texts) for _ in roles]
        assert not content.extra
        assert text
    assert list(texts) == []
    assert fast.lengths.tolist() == list(map(len, fast.texts))
    assert not fast.notes or noted
    if more and name != "trl-preference":  # a block of two of its kinds goes the slow way
        assert {*range(len(body) - 3, len(body))} <= {*fast.lines}


FAULTS = [
    "", " ", "\n", "TODO", "...", " a space before and many words", "a space and words after ",
    "I'm sorry, but I can't help you with that", "As an AI I will not do that for you",
    "<think>hm</think> quite a few words of it", "{{name}} is here with quite a few words",
    "cafÃ© and quite a few words of it", "\ufffd and quite a few words of it",
    "\0 and quite a few words of it", "[INST] and quite a few words of it", "/INST] and words",
    "```python and quite a few words of it", "<|im_end|> and quite a few words of it",
    "A text without any fault, of quite a few words", "label", 'a "quoted" word \\ and: "b":',
]  # fmt: skip


@pytest.mark.parametrize("name", [*sorted(PLAIN), "openai-chat", "with system"])
@pytest.mark.parametrize("ascii", [True, False])
def test_one_row_with_a_fault_among_others_goes_the_slow_way(name: str, ascii: bool) -> None:
    plain = PLAIN.get(name, OTHERWISE if name == "with system" else GOOD)
    name = name if name in PLAIN else "openai-chat"
    form = FORMATS[name]
    noted: list[Any] = []

    def note(*found: Any, **_: Any) -> None:
        noted.append(found)

    for text in ("Hi", "Yo", "No", "Be brief.", "S"):
        if f'"{text}"' not in plain.decode():
            continue
        for fault in FAULTS:
            line = plain.replace(
                f'"{text}"'.encode(), json.dumps(fault, ensure_ascii=ascii).encode()
            )
            noted.clear()
            value = parse(line, note)[1]
            check_row(value, note) if name == "openai-chat" else check_other(value, form, note)
            body = [plain, plain, line, plain, plain]
            fast = quick_rows(Block(1, b"\n".join(body), 0), SHAPES[name])
            assert {0, 1, 3, 4} <= {*fast.lines}
            assert not (noted and 2 in fast.lines), (text, fault)


TRL = [
    PLAIN["trl-preference"],
    b'{"prompt": [{"role": "user", "content": "Hi"}], "chosen": [{"role": "assistant", "content": '
    b'"Yo"}], "rejected": [{"role": "assistant", "content": "No"}]}',
    b'{"chosen": [{"role": "user", "content": "Hi"}, {"role": "assistant", "content": "Yo"}], '
    b'"rejected": [{"role": "user", "content": "Hi"}, {"role": "assistant", "content": "No"}]}',
]
NOTES = b', "id": %d, "metadata": {"by": "a \\"b\\" {{c}} <d>", "n": {"x": 1}}, "source": true}'


@pytest.mark.parametrize("name", [*sorted(PLAIN), "openai-chat", "with system", 0, 1, 2])
@pytest.mark.parametrize("all_plain", [True, False])
def test_rows_with_notes_take_the_fast_way(name: str | int, all_plain: bool) -> None:
    plain = TRL[name] if isinstance(name, int) else PLAIN.get(name, GOOD)
    if name == "with system":
        plain = OTHERWISE
    name = "trl-preference" if isinstance(name, int) else name
    shape = SHAPES[name if name in PLAIN else "openai-chat"]
    body = [plain[:-1] + NOTES % n for n in range(4)]
    slow: list[bytes] = []
    if not all_plain:
        note = body[0][len(plain) - 1 : -1]
        slow = [
            body[0].replace(b'"id": 0', b'"id": NaN'),
            body[0].replace(b'"x": 1', b'"x": 1, "x": 2'),
            body[0].replace(b'"id": 0', b'"id": 36893488147419103232'),
            body[0].replace(b"a ", rb"\ud800"),
            plain[:-1] + note + note + b"}",
            plain[:-1] + NOTES % 1 + b" {}",
        ]
    block = Block(1, b"\n".join([*body, *slow, *([] if all_plain else [plain])]), 0)
    fast = quick_rows(block, shape)
    assert {*range(4)} <= {*fast.lines}
    assert not {*range(4, 4 + len(slow))} & {*fast.lines}
    assert (fast.notes, fast.noted) == (("id", "metadata", "source"), 0)
    assert all_plain or 4 + len(slow) in fast.lines, "a row without notes, too"


def test_notes_are_told_once_with_the_first_row_that_has_them(tmp_path: Path) -> None:
    rows = [GOOD, *[GOOD[:-1] + b', "id": %d}' % n for n in range(9)]]
    path = tmp_path / "a.jsonl"
    path.write_bytes(b"\n".join(rows))
    [found] = [one for one in validate(path).findings if one.code == "UD204"]
    assert (found.line, found.path, found.column) == (2, "id", rows[1].index(b" 0}") + 2)


def test_rows_without_a_fault_take_the_fast_way_beside_rows_with_one() -> None:
    more = [
        GOOD.replace(b"Yo", rb"say \"\u00e9\" <b> ]"),
        GOOD.replace(b'"Yo"', b'"Yo", "weight": 1'),
        GOOD + b"\r",
    ]
    body = [GOOD, b"{", *more, b"", GOOD.replace(b"Yo", b""), GOOD]
    for data, fast in (((b"\n".join(body)), [0, 2, 3, 4, 7]), (b"\n".join(more), [0, 1, 2])):
        assert list(quick_rows(Block(1, data, 0)).lines) == fast


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
    report = validate(path)
    # Prompts with a further key are rows for graders, in which there is no answer to read.
    if report.ok and report.format == "openai-chat":
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

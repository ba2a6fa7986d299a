"""`unift.convert`: round trips, and nothing lost that was not given up."""

from __future__ import annotations

import gzip
import json
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

import unift
from unift.data.formats import FORMATS, LOSSES
from unift.errors import DataError, UsageError
from unift.provider import Capabilities, Plan
from unift.spec import TrainSpec

QUIET = settings(deadline=None, suppress_health_check=list(HealthCheck), max_examples=150)

words = st.text(
    st.characters(exclude_categories=("Cs",), exclude_characters="\0"), min_size=1, max_size=12
).filter(str.strip)
names = st.from_regex(r"[a-z_]{1,8}", fullmatch=True)
arguments = st.dictionaries(words, st.one_of(words, st.integers(-9, 9), st.booleans()), max_size=2)


def user(text: Any) -> dict[str, Any]:
    return {"role": "user", "content": text}


def answer(text: Any, **more: Any) -> dict[str, Any]:
    return {"role": "assistant", "content": text, **more}


HUMAN = {"from": "human", "value": "1"}
ASK = {"role": "user", "parts": [{"text": "1"}]}
MODEL = {"role": "model", "parts": [{"text": "2"}]}


@st.composite
def turns(draw: st.DrawFn, tools: list[str]) -> list[dict[str, Any]]:
    """A question, perhaps calls and their results, an answer."""
    parts: Any = draw(words)
    if draw(st.booleans()):
        parts = [{"type": "text", "text": text} for text in draw(st.lists(words, min_size=2))]
        if draw(st.booleans()):
            parts.append({"type": "image_url", "image_url": {"url": "gs://bucket/a.png"}})
    messages = [user(parts)]
    calls = draw(st.lists(st.sampled_from(tools), max_size=2)) if tools else []
    if calls:
        ids = [f"id{index}" for index in range(len(calls))]
        messages.append(
            {
                "role": "assistant",
                "tool_calls": [
                    {
                        "id": one,
                        "type": "function",
                        "function": {"name": name, "arguments": json.dumps(draw(arguments))},
                    }
                    for one, name in zip(ids, calls, strict=True)
                ],
            }
        )
        result = st.one_of(words, arguments.map(json.dumps), st.just('{"output": "x"}'))
        messages += [{"role": "tool", "tool_call_id": one, "content": draw(result)} for one in ids]
    return [*messages, answer(draw(words))]


@st.composite
def chats(draw: st.DrawFn, *, rich: bool = True) -> dict[str, Any]:
    tools = draw(st.lists(names, max_size=2, unique=True)) if rich else []
    messages = draw(st.sampled_from([[], [{"role": "system", "content": "Be kind."}]]))
    for _ in range(draw(st.integers(1, 3))):
        if rich:
            messages = [*messages, *draw(turns(tools))]
        else:
            messages = [*messages, user(draw(words)), answer(draw(words))]
    row: dict[str, Any] = {"messages": messages}
    if tools:
        row["tools"] = [
            {"type": "function", "function": {"name": name, "parameters": {"type": "object"}}}
            for name in tools
        ]
    return row


def plain(row: dict[str, Any]) -> Any:
    """A chat row without what no conversion promises: ids of calls, spelling of arguments."""
    ids: dict[str, str] = {}
    count = 0
    out: list[Any] = []
    for message in row["messages"]:
        copy = {key: value for key, value in message.items() if value not in (None, "")}
        calls = []
        for call in message.get("tool_calls") or []:
            count += 1
            ids[call["id"]] = f"#{count}"
            function = call["function"]
            calls.append((ids[call["id"]], function["name"], json.loads(function["arguments"])))
        if calls:
            copy["tool_calls"] = calls
        if "tool_call_id" in copy:
            copy["tool_call_id"] = ids[copy["tool_call_id"]]
        out.append(copy)
    return out, row.get("tools")


def save(path: Path, rows: list[Any]) -> Path:
    path.write_text("".join(json.dumps(row) + "\n" for row in rows))
    return path


def load(path: Path) -> list[Any]:
    return [json.loads(line) for line in path.read_bytes().split(b"\n") if line]


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tmp_path_factory.mktemp("convert")


@QUIET
@given(rows=st.lists(chats(), min_size=1, max_size=3))
def test_chat_to_gemini_and_back_is_the_same(folder: Path, rows: list[Any]) -> None:
    source, there, back = save(folder / "a.jsonl", rows), folder / "b.jsonl", folder / "c.jsonl"
    unift.convert(source, there, to="gemini")
    assert unift.validate(there, provider="google").refusals["google"].keys() <= {"UD700"}
    unift.convert(there, back, to="openai-chat")
    assert [plain(row) for row in load(back)] == [plain(row) for row in rows]


@QUIET
@given(rows=st.lists(chats(rich=False), min_size=1, max_size=3), to=st.sampled_from(["alpaca"]))
def test_texts_to_alpaca_and_back_are_the_same(folder: Path, rows: list[Any], to: str) -> None:
    source, there, back = save(folder / "a.jsonl", rows), folder / "b.jsonl", folder / "c.jsonl"
    unift.convert(source, there, to=to)
    assert unift.validate(there).ok
    unift.convert(there, back, to="openai-chat")
    assert load(back) == rows


@QUIET
@given(rows=st.lists(chats(), min_size=1, max_size=3), to=st.sampled_from(sorted(FORMATS)))
def test_a_conversion_keeps_everything_or_names_what_goes(
    folder: Path, rows: list[Any], to: str
) -> None:
    if FORMATS[to].kind != "chat":
        return
    source, there, back = save(folder / "a.jsonl", rows), folder / "b.jsonl", folder / "c.jsonl"
    there.unlink(missing_ok=True)
    error = None
    try:
        unift.convert(source, there, to=to)
    except DataError as caught:
        error = caught
    if error is not None:
        assert not there.exists()
        assert all(finding.code == "UD907" and finding.line for finding in error.findings)
        lossy = {finding.line for finding in error.findings}
        done = unift.convert(source, there, to=to, drop=LOSSES)
        assert done.lost
        assert done.rows + len(done.left_out) == len(rows)
        kept = [row for number, row in enumerate(rows, 1) if number not in lossy]
        unift.convert(there, back, to="openai-chat") if done.rows else back.write_text("")
        found = [plain(row) for row in load(back)]
        assert all(plain(row) in found for row in kept)
        return
    unift.convert(there, back, to="openai-chat")
    assert [plain(row) for row in load(back)] == [plain(row) for row in rows]


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
    pq.write_table(pa.table({"messages": [b"\xff\xd8"]}), path)
    assert "UD002" in unift.validate(path).counts


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
        ({"prompt": "1", "completion": "2", "id": 1}, "UD203", "id"),
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
        (f.code, f.path) for f in unift.validate(file).findings if f.code in ("UD203", "UD216")
    ]
    assert found == [(code, path)]
    if code == "UD216" and "input" not in row:
        with pytest.raises(DataError, match="extra"):
            unift.convert(file, tmp_path / "b.jsonl", to="openai-chat")


def test_a_key_of_a_message_is_not_lost_in_silence(tmp_path: Path) -> None:
    file = save(tmp_path / "a.jsonl", [{"messages": [user("1"), answer("2", mood="good")]}])
    with pytest.raises(DataError, match="mood"):
        unift.convert(file, tmp_path / "b.jsonl", to="gemini")


class Reader:
    """A provider that keeps the spec it was asked to plan."""

    name = "reader"
    formats: tuple[str, ...] = ("openai-chat",)

    def capabilities(self, model: str | None) -> Capabilities:
        return Capabilities(place="local", weights_downloadable=True, formats=self.formats)

    def plan(self, spec: TrainSpec) -> Plan:
        return Plan(spec=spec, settings=())


@pytest.mark.parametrize("suffix", [".jsonl", ".jsonl.gz", ".parquet"])
def test_training_reads_every_format_that_becomes_chat_without_a_loss(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, suffix: str
) -> None:
    monkeypatch.setenv("UNIFT_HOME", str(tmp_path / "home"))
    monkeypatch.setattr("unift._train.get_provider", lambda name: Reader())
    rows = [{"instruction": f"Add {i}.", "output": f"{i + 1}", "id": f"{i}"} for i in range(3)]
    path = tmp_path / f"a{suffix}"
    if suffix == ".parquet":
        pq.write_table(pa.Table.from_pylist(rows), path)
    else:
        text = "".join(json.dumps(row) + "\n" for row in rows).encode()
        path.write_bytes(gzip.compress(text) if suffix.endswith("gz") else text)
    plan = unift.plan(provider="reader", model="x", data=str(path), validation=str(path))
    assert load(Path(plan.spec.data)) == [
        {"messages": [user(f"Add {i}."), answer(f"{i + 1}")], "id": f"{i}"} for i in range(3)
    ]
    found = {one.name: one for one in plan.settings}
    assert set(found) == {"data_format", "validation_format"}
    assert found["data_format"].origin == "mapping rule"
    assert "alpaca" in found["data_format"].why
    # The same data, the same file.
    again = unift.plan(provider="reader", model="x", data=str(path))
    assert again.spec.data == plan.spec.data == plan.spec.validation


def test_training_does_not_convert_what_is_read_as_it_is(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("UNIFT_HOME", str(tmp_path / "home"))
    monkeypatch.setattr("unift._train.get_provider", lambda name: Reader())
    path = str(save(tmp_path / "a.jsonl", [{"messages": [user("1"), answer("2")]}]))
    assert unift.plan(provider="reader", model="x", data=path).spec.data == path
    monkeypatch.setattr(Reader, "formats", ("alpaca",))
    path = str(save(tmp_path / "a.jsonl", [{"instruction": "1", "output": "2"}]))
    assert unift.plan(provider="reader", model="x", data=path).spec.data == path


def test_training_on_a_format_that_loses_something_names_the_rows(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("UNIFT_HOME", str(tmp_path / "home"))
    monkeypatch.setattr("unift._train.get_provider", lambda name: Reader())
    pair = {"preferred_output": [answer("Yes.")], "non_preferred_output": [answer("No.")]}
    path = str(save(tmp_path / "a.jsonl", [{"input": {"messages": [user("1")]}, **pair}] * 3))
    with pytest.raises(DataError) as caught:
        unift.plan(provider="reader", model="x", data=path)
    assert [(f.code, f.line) for f in caught.value.findings] == [("UD907", n) for n in (1, 2, 3)]
    assert "--drop rejected" in caught.value.fix
    assert not list((tmp_path / "home" / "data").glob("*"))


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

"""`validate` over whole files: limits, providers, repeats, leaks, compression, progress."""

from __future__ import annotations

import gzip
import json
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import zstandard

from unift.data import Report, validate
from unift.errors import DataError, UniftError, UsageError

Write = Callable[..., str]


def chat(*texts: str, **more: Any) -> dict[str, Any]:
    roles = ["user", "assistant"] * len(texts)
    pairs = zip(roles, texts, strict=False)
    return {"messages": [{"role": role, "content": text} for role, text in pairs], **more}


@pytest.fixture
def write(tmp_path: Path) -> Write:
    def save(rows: list[Any], name: str = "train.jsonl", start: int = 0) -> str:
        path = tmp_path / name
        path.write_text("".join(json.dumps(row) + "\n" for row in rows))
        return str(path)

    return save


def many(count: int, answer: str = "Answer {}.") -> list[dict[str, Any]]:
    return [chat(f"Question {i}?", answer.format(i)) for i in range(count)]


def found(report: Report, code: str) -> list[tuple[str, int, tuple[str, ...]]]:
    return [(f.severity, f.line, f.providers) for f in report.findings if f.code == code]


def test_clean_data_is_ok_and_counted(write: Write) -> None:
    report = validate(write(many(60)))
    assert report.ok
    assert report.findings == ()
    assert report.rows == 60
    assert (report.tokens or 0) > 60
    report.raise_if_bad()


def test_the_json_document_has_the_agreed_shape(write: Write) -> None:
    document = validate(write([*many(60), {"messages": 1}])).as_dict()
    assert json.loads(json.dumps(document)) == document
    assert {"ok", "rows", "tokens", "findings"} <= set(document)
    assert document["ok"] is False
    [finding] = document["findings"]
    keys = {"code", "severity", "file", "line", "path", "message", "fix", "providers"}
    assert keys <= set(finding)
    assert (finding["code"], finding["line"], finding["path"]) == ("UD201", 61, "messages")


def test_all_faults_of_a_line_are_told_at_once(write: Write) -> None:
    row = {
        "messages": [
            {"role": "bot", "content": 5},
            {"role": "user", "content": "x", "weight": 3},
            {"role": "assistant", "content": "", "colour": 1},
        ],
        "tools": {},
    }
    report = validate(write([row]))
    assert {"UD212", "UD214", "UD230", "UD231", "UD500", "UD216", "UD307"} <= set(report.counts)


def test_the_caret_points_at_the_fault(write: Write) -> None:
    report = validate(write([chat("Hi " * 50, "x", "ok", "y"), {"messages": [{"role": "wat"}]}]))
    [finding] = [f for f in report.findings if f.code == "UD212"]
    shown, caret = finding.excerpt.split("\n")
    assert shown[caret.index("^") :].startswith('"wat"')
    assert finding.column == len('{"messages": [{"role": ') + 1


def test_a_caret_in_a_long_line_points_at_the_fault(write: Write) -> None:
    row = chat("ü" * 5000, "answer")
    row["messages"][1]["weight"] = 7
    report = validate(write([row]))
    [finding] = [f for f in report.findings if f.code == "UD230"]
    shown, caret = finding.excerpt.split("\n")
    assert len(shown) < 90
    assert shown[caret.index("^")] == "7"


@pytest.mark.parametrize("name", ["nothing.jsonl", "train.jsnol"])
def test_a_missing_file_is_a_usage_error(write: Write, tmp_path: Path, name: str) -> None:
    write(many(1))
    with pytest.raises(UsageError) as caught:
        validate(tmp_path / name)
    assert caught.value.exit_status == 2
    assert caught.value.where.endswith(name)
    if name == "train.jsnol":
        assert "train.jsonl" in caught.value.fix


def test_a_folder_is_a_usage_error_that_names_its_files(write: Write, tmp_path: Path) -> None:
    write(many(1))
    with pytest.raises(UsageError, match="folder") as caught:
        validate(tmp_path)
    assert "train.jsonl" in caught.value.fix


def test_an_unknown_provider_is_a_usage_error(write: Write) -> None:
    with pytest.raises(UniftError) as caught:
        validate(write(many(1)), provider="opnai")
    assert caught.value.exit_status == 2


def test_providers_decide_what_is_an_error(write: Write) -> None:
    rows = many(60)
    rows[4]["messages"][0]["colour"] = "red"
    path = write(rows)
    assert found(validate(path), "UD216") == [("warning", 5, ("openai", "azure"))]
    assert found(validate(path, provider="local-lora"), "UD216") == [("warning", 5, ())]
    both = validate(path, provider=["openai", "local-lora"])
    assert found(both, "UD216") == [("error", 5, ("openai",))]
    assert both.verdicts == {"openai": False, "local-lora": True}


def test_too_few_rows_matter_only_to_providers_that_say_so(write: Write) -> None:
    path = write(many(9))
    assert validate(path, provider="local-lora").ok
    assert found(validate(path, provider="openai"), "UD700") == [("error", 0, ("openai",))]
    assert found(validate(path), "UD700") == [("warning", 0, ("openai", "azure"))]
    assert not found(validate(write(many(10)), provider="openai"), "UD700")


def test_few_rows_are_pointed_out(write: Write) -> None:
    assert found(validate(write(many(49)), provider="openai"), "UD701") == [("advice", 0, ())]
    assert not found(validate(write(many(50)), provider="openai"), "UD701")


def test_long_rows_are_cut_by_openai_and_refused_by_google(write: Write) -> None:
    long = chat("word " * 150_000, "Short.")
    path = write([*many(60), long])
    report = validate(path, provider=["openai", "google"], model="gpt-4.1-mini-2025-04-14")
    details = {(f.severity, f.providers, f.line) for f in report.findings if f.code == "UD703"}
    assert details == {("warning", ("openai",), 61), ("error", ("google",), 61)}
    assert report.longest_row is not None
    assert report.longest_row[1] == 61


def test_max_length_is_checked_exactly_with_a_tokenizer(write: Write) -> None:
    path = write(many(60))
    longest = validate(path, model="demo").longest_row
    assert longest is not None
    assert validate(path, model="demo", max_length=longest[0]).ok
    report = validate(path, model="demo", max_length=longest[0] - 1)
    assert not report.ok
    assert {f.code for f in report.findings} == {"UD703"}


def test_an_estimate_of_tokens_does_not_stop_a_run(write: Write) -> None:
    report = validate(write(many(60)), model="somebody/unknown-model", max_length=2)
    assert report.ok
    assert {f.severity for f in report.findings if f.code == "UD703"} == {"warning"}
    assert "estimate" in report.tokens_method


def test_limits_and_billed_tokens_are_those_of_the_catalogue(
    write: Write, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    from unift import catalog

    path = write(many(60))
    report = validate(path, provider=["openai", "together", "local-lora"], max_length=4096)
    assert report.billed == {"openai": report.tokens, "together": 60 * 4096}
    assert report.as_dict()["billed"] == dict(report.billed)
    openai = next(one for one in catalog.providers() if one.id == "openai")
    assert openai.limits is not None
    tighter = openai.model_copy(
        update={"limits": openai.limits.model_copy(update={"min_examples": 61})}
    )
    monkeypatch.setattr(catalog, "vendor", lambda name: tighter)
    assert found(validate(path, provider="openai"), "UD700") == [("error", 0, ("openai",))]


def test_bills_count_as_each_vendor_does(write: Write) -> None:
    rows = [*many(60), chat("word " * 70_000, "Short.")]
    path, held = write(rows), write(many(7, "Held {}."), "held.jsonl")
    report = validate(
        path,
        provider=["openai", "together", "google", "local-lora"],
        model="gpt-4.1-mini-2025-04-14",
        validation=held,
        epochs=3,
    )
    assert set(report.bills) == {"openai", "together", "google"}
    openai, together = report.bills["openai"], report.bills["together"]
    apart = validate(held, model="gpt-4.1-mini-2025-04-14").tokens or 0
    longest = (report.longest_row or (0, 0))[0]
    # What is cut off is not learnt; validation is free.
    assert openai.epoch_tokens == (report.tokens or 0) - longest + 65_536
    assert (openai.tokens, openai.validation_tokens) == (3 * openai.epoch_tokens, 0)
    assert (together.epoch_tokens, together.validation_tokens) == (report.tokens, 3 * apart)
    assert together.tokens == together.training_tokens + together.validation_tokens
    assert together.minimum_usd > 0
    assert together.source
    document = report.as_dict()["bills"]
    assert document["together"]["tokens"] == together.tokens
    assert json.loads(json.dumps(document)) == document


@pytest.mark.parametrize("epochs", [0, -1, float("nan"), float("inf")])
def test_epochs_have_to_be_a_number_of_passes(write: Write, epochs: float) -> None:
    with pytest.raises(UsageError) as caught:
        validate(write(many(3)), epochs=epochs)
    assert caught.value.code == "bad_epochs"


def test_images_are_counted_for_each_provider(write: Write) -> None:
    picture = {"type": "image_url", "image_url": {"url": "https://example.com/a.png"}}
    row = chat("x", "Cats.")
    row["messages"][0]["content"] = [{"type": "text", "text": "What?"}, *[picture] * 11]
    path = write([*many(60), row])
    assert found(validate(path, provider="openai"), "UD403") == [("error", 61, ("openai",))]
    assert not found(validate(path, provider="azure"), "UD403")


def test_leaks_are_found_in_the_held_out_files(write: Write) -> None:
    rows = many(60)
    held = write([*many(3, "Other {}."), rows[10], chat("New?", "Yes.")], "held.jsonl")
    report = validate(write(rows), test=held)
    assert [(f.code, f.line) for f in report.findings if f.file == held] == [
        ("UD603", 1),
        ("UD603", 2),
        ("UD603", 3),
        ("UD602", 4),
    ]
    assert "line 11 of" in next(f.message for f in report.findings if f.code == "UD602")


def test_errors_of_validation_data_count(write: Write) -> None:
    held = write([{"messages": []}], "val.jsonl")
    report = validate(write(many(60)), validation=held)
    assert not report.ok
    assert report.rows == 60
    assert [f.file for f in report.findings if f.severity == "error"] == [held]


def test_tool_rows_with_other_tools_are_no_duplicates(write: Write) -> None:
    def tool(name: str) -> dict[str, Any]:
        return {"type": "function", "function": {"name": name, "parameters": {}}}

    rows = [chat("Hi", "Yo", tools=[tool("a")]), chat("Hi", "Yo", tools=[tool("b")])]
    assert not found(validate(write(rows)), "UD600")
    assert found(validate(write([*rows, rows[0]])), "UD600") == [("warning", 3, ())]


def test_arguments_are_checked_to_the_bottom_and_the_path_goes_into_them(write: Write) -> None:
    place = {"type": "object", "properties": {"zip": {"type": "string", "pattern": "^(0+)+$"}}}
    schema = {"type": "object", "properties": {"stops": {"type": "array", "items": place}}}
    tool = {"type": "function", "function": {"name": "go", "parameters": schema}}
    arguments = json.dumps({"stops": [{"zip": "000"}, {"zip": "0" * 5000 + "x"}, {"zip": 3}]})
    call = {"id": "a", "type": "function", "function": {"name": "go", "arguments": arguments}}
    said = [{"role": "user", "content": "Go."}, {"role": "assistant", "tool_calls": [call]}]
    report = validate(write([*many(60), {"messages": said, "tools": [tool]}]))
    inside = "messages[1].tool_calls[0].function.arguments"
    assert [(f.code, f.line, f.path) for f in report.findings] == [
        ("UD312", 61, f"{inside}.stops[1].zip"),
        ("UD312", 61, f"{inside}.stops[2].zip"),
    ]
    # The caret is where the arguments start: what is inside them has no place of its own.
    shown, caret = report.findings[0].excerpt.split("\n")
    assert shown[caret.index("^") :].startswith('"{')
    assert all(len(finding.message) < 250 for finding in report.findings)


@pytest.mark.parametrize("pack", [gzip.compress, zstandard.compress])
def test_compressed_files_are_read(write: Write, tmp_path: Path, pack: Any) -> None:
    plain = Path(write([*many(60), {"messages": []}]))
    suffix = ".gz" if pack is gzip.compress else ".zst"
    packed = tmp_path / f"train.jsonl{suffix}"
    packed.write_bytes(pack(plain.read_bytes()))
    one, other = validate(plain), validate(packed)
    assert [(f.code, f.line) for f in one.findings] == [(f.code, f.line) for f in other.findings]
    assert (one.rows, one.tokens) == (other.rows, other.tokens)


def test_a_bomb_is_stopped_before_its_rows_are_looked_at(tmp_path: Path) -> None:
    path = tmp_path / "bomb.jsonl.zst"
    packer = zstandard.ZstdCompressor(level=1).compressobj()
    with path.open("wb") as file:
        for _ in range(330):
            file.write(packer.compress(b"{}\n" * (1 << 18) + b" " * (1 << 20)))
        file.write(packer.flush())
    report = validate(path)
    assert list(report.counts) == ["UD008"]
    assert not report.ok


def test_a_bomb_behind_good_rows_is_stopped_there(tmp_path: Path) -> None:
    path = tmp_path / "bomb.jsonl.gz"
    rows = "".join(json.dumps(row) + "\n" for row in many(20_000)).encode()
    with gzip.open(path, "wb") as file:
        file.write(rows)
        for _ in range(96):
            file.write(b"{}\n" * (1 << 18) + b" " * (1 << 18))
    report = validate(path)
    assert report.counts["UD008"] == 1
    assert report.rows <= 20_000
    assert report.errors == 1


def test_rows_that_repeat_are_no_bomb(tmp_path: Path) -> None:
    path = tmp_path / "same.jsonl.gz"
    path.write_bytes(gzip.compress((json.dumps(chat("Hi " * 300, "Yo")) + "\n").encode() * 20_000))
    report = validate(path, max_findings=10)
    assert report.ok
    assert report.rows == 20_000


def test_oversampled_rows_are_no_bomb(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    path = tmp_path / "same.jsonl.zst"
    packer = zstandard.ZstdCompressor(level=1).compressobj()
    rows = (json.dumps(chat("Hi " * 3000, "Yo")) + "\n").encode() * 100
    with path.open("wb") as file:
        for _ in range(40):
            file.write(packer.compress(rows))
        file.write(packer.flush())
    report = validate(path, max_findings=10)
    assert (report.ok, report.rows) == (True, 4000)
    monkeypatch.setattr("unift.data._unpack.MOST_REPEATED", 1 << 20)
    assert "UD008" in validate(path, max_findings=10).counts


def test_an_endless_line_is_skipped_and_the_next_one_is_read(tmp_path: Path) -> None:
    path = tmp_path / "long.jsonl"
    good = json.dumps(chat("Hi", "Yo")).encode() + b"\n"
    with path.open("wb") as file:
        file.write(good)
        for _ in range(70):
            file.write(b"x" * (1 << 20))
        file.write(b"\n" + good + b"nonsense\n")
    report = validate(path)
    assert [(f.code, f.line) for f in report.findings if f.severity == "error"] == [
        ("UD006", 2),
        ("UD100", 4),
    ]


def test_findings_are_capped_but_counted(write: Write) -> None:
    report = validate(write([{"messages": []}] * 500), max_findings=20)
    assert len(report.findings) == 20
    assert report.counts["UD202"] == 500
    assert report.left_out == report.errors + report.warnings + report.advice - 20
    with pytest.raises(DataError, match="499 more"):
        report.raise_if_bad()


def test_progress_runs_to_the_end(write: Write) -> None:
    calls: list[tuple[int, int]] = []
    path, held = write(many(2000)), write(many(2000, "B {}."), "held.jsonl")
    validate(path, test=held, progress=lambda done, total: calls.append((done, total)))
    total = Path(path).stat().st_size + Path(held).stat().st_size
    assert calls[-1] == (total, total)
    assert [done for done, _ in calls] == sorted(done for done, _ in calls)


def test_the_demo_can_be_named() -> None:
    report = validate("demo:train", model="demo", provider="local-lora")
    assert report.ok
    assert report.rows >= 100
    assert not validate("demo:dirty").ok


def test_a_line_that_spans_reads_is_kept_whole(tmp_path: Path) -> None:
    path = tmp_path / "wide.jsonl"
    rows = [chat(f"{i} " + "x" * 700_000, "Fine.") for i in range(5)]
    path.write_text("\n".join(json.dumps(row) for row in rows))  # no line end at the end
    report = validate(path, provider="local-lora")
    assert report.ok
    assert report.rows == 5


def test_memory_does_not_grow_with_the_file(tmp_path: Path) -> None:
    path = tmp_path / "big.jsonl"
    with path.open("w") as file:
        for i in range(60_000):
            file.write(json.dumps(chat(f"{i} " + "lorem " * 150, f"ipsum {i} " * 40)) + "\n")
    # VmHWM, not ru_maxrss: the latter starts from the size of the process that forked, which is
    # this one, with everything that other tests have imported.
    script = (
        "import re, sys; from unift.data import validate; "
        "report = validate(sys.argv[1]); assert report.rows == 60000, report.rows; "
        "print(re.search(r'VmHWM:\\s*(\\d+) kB', open('/proc/self/status').read())[1])"
    )
    done = subprocess.run(
        [sys.executable, "-c", script, str(path)], capture_output=True, text=True, check=True
    )
    assert path.stat().st_size > 80e6
    assert int(done.stdout) >> 10 < 150  # MiB; torch or the file in memory would be above that

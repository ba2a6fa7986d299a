"""unift validate: what it prints, writes and returns."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from tests.cli.conftest import Cli

ROW = '{"messages": [{"role": "user", "content": "Hi"}, {"role": "assistant", "content": "Yo"}]}'


@pytest.fixture
def bad(tmp_path: Path) -> Path:
    path = tmp_path / "bad.jsonl"
    wrong = ROW.replace('"assistant"', '"bot"')
    surplus = ROW.replace('"Yo"', '"Yo", "mood": 1')
    path.write_text("\n".join([ROW.replace("Hi", f"Hi {i}") for i in range(12)]))
    path.write_text(path.read_text() + f"\n{wrong}\n{surplus}\n")
    return path


def test_findings_have_place_excerpt_caret_and_fix(cli: Cli, bad: Path) -> None:
    result = cli("validate", str(bad))
    assert result.status == 3
    lines = result.out.splitlines()
    at = next(i for i, line in enumerate(lines) if "There is no role 'bot'" in line)
    assert f"{bad}:13 messages[1].role" in lines[at]
    assert lines[at + 1][lines[at + 2].index("^") :].startswith('"bot"')
    assert "fix: did you mean" in result.out


def test_one_table_of_verdicts_for_all_providers(cli: Cli, bad: Path) -> None:
    options = [f"--provider={name}" for name in ("openai", "google", "local-lora")]
    result = cli("validate", str(bad), *options)
    rows = {line.split()[0]: line for line in result.out.splitlines() if "ready" in line}
    assert "UD216" in rows["openai"]
    assert "UD216" not in rows["google"]
    document = cli("validate", str(bad), *options, "--json").json
    assert document["verdicts"] == {"openai": False, "google": False, "local-lora": False}
    assert document["refusals"]["local-lora"] == {"UD212": 1, "UD220": 1}


def test_fix_writes_a_copy_that_is_ready(cli: Cli, bad: Path, tmp_path: Path) -> None:
    copy = tmp_path / "copy.jsonl"
    result = cli("validate", str(bad), "--fix", str(copy), "--json")
    assert result.status == 0
    assert result.json["ok"] is False
    assert result.json["fixed"]["ok"] is True
    assert [change["line"] for change in result.json["fixed"]["changes"]] == [13]
    assert cli("validate", str(copy)).status == 0
    # A row that cannot be mended keeps the status.
    bad.write_text(bad.read_text() + "{oops\n")
    result = cli("validate", str(bad), "--fix", str(copy))
    assert result.status == 3
    assert "1 left out" in result.out


def test_the_page_has_every_finding(cli: Cli, bad: Path, tmp_path: Path) -> None:
    bad.write_text(bad.read_text() + "{<b>oops</b>\n" * 40)
    page = tmp_path / "page.html"
    cli("validate", str(bad), "--report", str(page), "--provider", "openai", "--json")
    text = page.read_text()
    for line in range(15, 55):
        assert f"{bad}:{line} " in text
    assert "<b>oops" not in text
    assert "&lt;b&gt;oops" in text
    assert "Not ready" in text


def test_show_colours_what_is_learnt(cli: Cli, tmp_path: Path) -> None:
    page = tmp_path / "page.html"
    args = ("validate", "demo:train", "--model", "demo", "--show", "2", "--report", str(page))
    [one, two] = cli(*args, "--json").json["shown"]
    assert one["line"], two["line"] == (1, 2)
    learnt = "".join(piece["text"] for piece in one["pieces"] if piece["trained"])
    from unift.data import read_examples

    example = next(iter(read_examples("demo:train")))
    assert learnt.startswith(example.messages[-1]["content"])
    assert learnt.endswith(one["stop"])
    assert 0 < one["trained"] < one["tokens"]
    assert '<mark class="good">' in page.read_text()
    assert example.messages[-1]["content"] in cli(*args).out


def test_show_says_how_much_is_too_long_and_needs_a_model(cli: Cli) -> None:
    args = ("validate", "demo:train", "--show", "1", "--json")
    shown = cli(*args, "--model", "demo", "--max-length", "100").json["shown"]
    assert shown[0]["cut"] == shown[0]["tokens"] - 100
    result = cli(*args)
    assert result.status == 2
    assert json.loads(result.out)["error"]["code"] == "no_model"


def test_colons_in_names_are_no_emoji(cli: Cli) -> None:
    assert "demo:train:" in cli("validate", "demo:train").out


def test_a_code_that_is_an_error_for_one_provider_stands_among_the_errors(
    cli: Cli, tmp_path: Path
) -> None:
    path = tmp_path / "long.jsonl"
    rows = [ROW.replace("Hi", f"Hi {n}") for n in range(12)]
    path.write_text("\n".join([*rows, ROW.replace("Hi", "word " * 140_000)]))
    result = cli("validate", str(path), "--provider=openai", "--provider=google")
    assert result.status == 3
    [head] = [
        line for line in result.out.splitlines() if "UD703" in line and "Row too long" in line
    ]
    assert head.startswith("error")

"""unift convert: what it prints and returns."""

from __future__ import annotations

import json
from pathlib import Path

from tests.cli.conftest import Cli


def test_convert_there_and_back(cli: Cli, tmp_path: Path) -> None:
    there, back = str(tmp_path / "a.jsonl"), str(tmp_path / "b.jsonl")
    result = cli("convert", "demo:train", "--to", "gemini", "--out", there)
    assert result.status == 0
    assert "600 rows, from openai-chat (row 1 has `messages`) to gemini" in result.out
    document = cli("convert", there, "--to", "openai", "--out", back, "--json").json
    assert (document["from"], document["to"], document["rows"]) == ("gemini", "openai-chat", 600)


def test_what_would_be_lost_is_status_3_until_it_is_dropped(cli: Cli, tmp_path: Path) -> None:
    out = tmp_path / "a.jsonl"
    args = ("convert", "demo:train", "--to", "prompt-completion", "--out", str(out))
    result = cli(*args, "--json")
    assert result.status == 3
    assert "--drop system" in json.loads(result.out)["error"]["fix"]
    assert not out.exists()
    result = cli(*args, "--drop", "system")
    assert result.status == 0
    assert "dropped system in 600 rows" in result.out
    assert cli("convert", "demo:train", "--to", "gemni", "--out", str(out)).status == 2

"""unift data: split, stats, diff."""

from __future__ import annotations

from pathlib import Path

from tests.cli.conftest import Cli


def test_split_and_diff(cli: Cli, tmp_path: Path) -> None:
    args = ("data", "split", "demo:train", "--out", str(tmp_path), "--part", "a=3", "--part", "b=1")
    done = cli(*args, "--json").json
    assert done["rows"] == {"a": 450, "b": 150}
    assert "a: 450 rows in" in cli(*args).out
    found = cli("data", "diff", "demo:train", done["files"]["a"], "--json")
    assert found.status == 1
    assert (found.json["same"], found.json["removed"], found.json["added"]) == (450, 150, 0)
    assert cli("data", "diff", "demo:train", "demo:train").status == 0
    assert "150 removed" in cli("data", "diff", "demo:train", done["files"]["a"]).out


def test_stats(cli: Cli) -> None:
    found = cli("data", "stats", "demo:train", "--json").json
    assert found["rows"] == 600
    text = cli("data", "stats", "demo:train").out
    assert found["fingerprint"] in text
    assert "600 rows of openai-chat" in text


def test_wrong_parts_are_status_2(cli: Cli, tmp_path: Path) -> None:
    for part in ("a", "a=x", "a=1"):
        result = cli("data", "split", "demo:train", "--out", str(tmp_path), "--part", part)
        assert result.status == 2
        assert "fix" in result.err

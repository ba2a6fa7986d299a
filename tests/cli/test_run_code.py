"""`unift evaluate --run-code`: off, it says so; on, it warns and says how the runs ended."""

from __future__ import annotations

import json
from pathlib import Path

from tests.cli.conftest import Cli


def test_code_is_run_only_when_asked_for(cli: Cli, tmp_path: Path) -> None:
    asked = {"role": "user", "content": "Write add(a, b)."}
    right, wrong = (
        {"role": "assistant", "content": f"def add(a, b):\n    return a {sign} b"} for sign in "+-"
    )
    data, golden = tmp_path / "test.jsonl", tmp_path / "golden.jsonl"
    data.write_text(json.dumps({"messages": [asked, right], "tests": "assert add(1, 2) == 3"}))
    golden.write_text(json.dumps({"messages": [asked], "draws": [{"message": wrong}]}))
    command = (
        "evaluate", f"recorded:{golden}", "--data", str(data), "--against", f"recorded:{golden}",
        "--report", str(tmp_path / "page.html"),
    )  # fmt: skip
    off = cli(*command)
    assert "code was not run" in off.err
    assert "code of model" not in off.out
    on = cli(*command, "--run-code")
    assert "code of model: 1 AssertionError" in on.out
    assert "no security boundary" in on.err

"""Pipes, terminals, names and signals that are not as one would wish."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from datetime import UTC, datetime

import pytest

import unift
from tests.cli.conftest import Cli
from unift.provider import Event


def start(data: str, **more: str) -> unift.Run:
    return unift.train(provider="echo", model="base", data=data, **more)  # type: ignore[arg-type]


def test_brackets_in_a_name_are_no_style(cli: Cli, capitals: str) -> None:
    start(capitals, name="[red] v2[/]").wait()
    assert "[red] v2[/]" in cli("runs", "list").out


def test_a_document_for_who_is_interrupted(cli: Cli, monkeypatch: pytest.MonkeyPatch) -> None:
    def interrupted(**_: object) -> None:
        raise KeyboardInterrupt

    monkeypatch.setattr(unift, "runs", interrupted)
    result = cli("runs", "list", "--json")
    assert (result.status, result.json["error"]["code"]) == (130, "interrupted")
    assert cli("runs", "list").err == "Interrupted.\n"


def test_json_has_no_nan(cli: Cli, capitals: str) -> None:
    run = start(capitals).wait()
    data = {"step": 9, "loss": float("nan"), "all": [float("inf"), 1.5]}
    run.note(Event(id="odd", at=datetime.now(UTC), kind="metrics", data=data))
    shown = cli("runs", "events", run.id, "--json").out

    def refuse(word: str) -> None:
        raise AssertionError(f"{word} is not JSON")

    last = json.loads(shown, parse_constant=refuse)["events"][-1]
    assert last["data"] == {"step": 9, "loss": None, "all": [None, 1.5]}


def test_a_path_that_is_too_long(cli: Cli) -> None:
    result = cli("validate", "x" * 300, "--json")
    assert (result.status, result.json["error"]["code"]) == (2, "not_accessible")


@pytest.mark.parametrize("flags", [[], ["--json"]])
def test_a_terminal_without_the_letters(capitals: str, flags: list[str]) -> None:
    start(capitals, name="Prüfung 你好").wait()
    environment = {**os.environ, "PYTHONIOENCODING": "ascii"}
    command = [sys.executable, "-m", "unift", "runs", "list", *flags]
    done = subprocess.run(command, env=environment, capture_output=True, timeout=120, check=True)
    text = done.stdout.decode("ascii")
    assert json.loads(text)["runs"][0]["name"] == "Prüfung 你好" if flags else "Pr\\xfcfung" in text


def test_a_reader_that_leaves_is_no_failure(capitals: str) -> None:
    start(capitals).wait()
    command = [sys.executable, "-m", "unift", "runs", "list"]
    process = subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.PIPE)
    assert process.stdout is not None
    process.stdout.close()
    _, words = process.communicate(timeout=120)
    assert (process.returncode, words) == (0, b"")

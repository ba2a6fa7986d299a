"""What bad input gets: place, reason, next step, the right status, and no run that looks done."""

from __future__ import annotations

import json
import os
import shutil
import signal
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from tests.cli.conftest import Cli, Result
from unift.demo import model_path
from unift.provider import State
from unift.runs import Store

GOOD = {"messages": [{"role": "user", "content": "hi"}, {"role": "assistant", "content": "ho"}]}


def row(**changes: Any) -> str:
    return json.dumps({**GOOD, **changes})


def checked(result: Result, status: int) -> dict[str, str]:
    """The error of a command that was refused, and nothing was left that looks like success."""
    assert result.status == status, result
    error = result.json["error"]
    assert error["message"]
    assert error["fix"], error
    assert all(run.state is not State.SUCCEEDED for run in Store().list())
    return error


def train(cli: Cli, data: str, model: str = "demo", *more: str) -> Result:
    return cli(
        "train", "--provider", "local-lora", "--model", model, "--data", data, "--json", *more
    )


BAD_FILES: dict[str, tuple[bytes, int]] = {
    "empty": (b"", 3),
    "binary": (os.urandom(64) + b"\x00\xff\xfe" * 50, 3),
    "utf8": (row().encode() + b"\n" + row().encode().replace(b"hi", b"h\xff"), 3),
    "json": (row().encode() + b'\n{"messages": [\n', 3),
    "no-messages": (b'{"text": "hello"}\n', 3),
    "role": (
        row(messages=[{"role": "robot", "content": "x"}, GOOD["messages"][1]]).encode(),
        3,
    ),
    "no-answer": (row(messages=GOOD["messages"][:1]).encode(), 3),
    "role-order": (
        row(messages=[{"role": "user", "content": "a"}, *GOOD["messages"]]).encode(),
        3,
    ),
    "too-long": (
        row(
            messages=[{"role": "user", "content": "very long " * 3000}, GOOD["messages"][1]]
        ).encode(),
        3,
    ),
}


@pytest.mark.parametrize("name", BAD_FILES)
def test_bad_data_never_reaches_the_trainer(cli: Cli, tmp_path: Path, name: str) -> None:
    content, status = BAD_FILES[name]
    path = tmp_path / "bad.jsonl"
    path.write_bytes(content)
    error = checked(train(cli, str(path)), status)
    assert "bad.jsonl" in error["where"] + error["message"]


@pytest.mark.parametrize("name", sorted(set(BAD_FILES) - {"role-order", "too-long"}))
def test_validate_says_the_same(cli: Cli, tmp_path: Path, name: str) -> None:
    path = tmp_path / "bad.jsonl"
    path.write_bytes(BAD_FILES[name][0])
    result = cli("validate", str(path), "--json")
    assert result.status == 3
    errors = [f for f in result.json["findings"] if f["severity"] == "error"]
    assert errors
    assert all(f["code"].startswith("UD") and f["message"] and f["fix"] for f in errors)


def test_a_missing_file(cli: Cli) -> None:
    for command in (
        ["validate"],
        ["train", "--provider", "local-lora", "--model", "demo", "--data"],
    ):
        result = cli(*command, "/no/such.jsonl", "--json")
        assert result.status in (2, 3)
        assert "/no/such.jsonl" in result.out


def test_one_bad_line_in_a_million(cli: Cli, tmp_path: Path) -> None:
    path = tmp_path / "big.jsonl"
    block = "".join(
        json.dumps(
            {
                "messages": [
                    {"role": "user", "content": f"question {i}"},
                    {"role": "assistant", "content": f"answer {i}"},
                ]
            }
        )
        + "\n"
        for i in range(10_000)
    )
    with path.open("w") as file:
        for i in range(100):
            file.write(block if i != 73 else block + '{"messages": "oops"}\n')
    result = cli("validate", str(path), "--json")
    assert result.status == 3
    [error] = [f for f in result.json["findings"] if f["severity"] == "error"]
    assert error["line"] == 740_001
    assert result.json["rows"] == 1_000_001


@pytest.fixture
def model_folder(tmp_path: Path) -> Callable[[], Path]:
    def copy() -> Path:
        folder = tmp_path / "model"
        shutil.copytree(model_path(), folder)
        return folder

    return copy


def test_a_model_folder_without_weights(
    cli: Cli, capitals: str, model_folder: Callable[[], Path]
) -> None:
    folder = model_folder()
    (folder / "model.safetensors").unlink()
    error = checked(train(cli, capitals, str(folder)), 2)
    assert "safetensors" in error["message"] + error["fix"]


def test_pickled_weights_are_never_opened(
    cli: Cli, capitals: str, model_folder: Callable[[], Path], tmp_path: Path
) -> None:
    folder = model_folder()
    (folder / "model.safetensors").unlink()
    trap = tmp_path / "opened"
    (folder / "pytorch_model.bin").write_bytes(
        f"cbuiltins\nopen\n(V{trap}\nVw\ntR.".encode()  # a pickle that makes a file when loaded
    )
    error = checked(train(cli, capitals, str(folder)), 2)
    assert "safetensors" in error["message"] + error["fix"]
    assert not trap.exists()


def test_training_on_bad_data_tells_every_error(cli: Cli) -> None:
    listed = cli("validate", "demo:dirty", "--provider", "local-lora", "--json").json["findings"]
    errors = sum(finding["severity"] == "error" for finding in listed)
    assert errors > 1
    error = checked(train(cli, "demo:dirty"), 3)
    assert f"There are {errors - 1} more" in error["message"]
    assert "unift validate demo:dirty" in error["fix"]


def test_unknown_option_names_the_nearest(cli: Cli, capitals: str) -> None:
    error = checked(train(cli, capitals, "demo", "--option", "local-lora.micro_bach=2"), 2)
    assert "micro_batch" in error["fix"]


def test_a_budget_that_is_too_small(cli: Cli, capitals: str) -> None:
    error = checked(train(cli, capitals, "demo", "--memory-gib", "0.001"), 4)
    assert "0.001" in error["message"]


def test_an_unwritable_data_folder(
    cli: Cli, capitals: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "file").write_text("")
    monkeypatch.setenv("UNIFT_HOME", str(tmp_path / "file"))
    result = train(cli, capitals)
    assert result.status == 2
    assert "UNIFT_HOME" in result.json["error"]["fix"]


@pytest.mark.slow
@pytest.mark.parametrize("delay", [0.2, 0.4, 1.0, 2.0, 4.0])
def test_ctrl_c_at_any_moment(capitals: str, delay: float) -> None:
    """Interrupted while starting, planning or following: one line, status 130, no half run."""
    command = [
        sys.executable,
        "-m",
        "unift",
        "train",
        "--provider",
        "local-lora",
        "--model",
        "demo",
    ]
    command += ["--data", capitals, "--epochs", "400"]
    process = subprocess.Popen(
        command, stderr=subprocess.PIPE, text=True, env=dict(os.environ), start_new_session=True
    )
    time.sleep(delay)  # the moment is the point of this test
    os.killpg(process.pid, signal.SIGINT)
    _, words = process.communicate(timeout=60)
    assert process.returncode in (130, -signal.SIGINT), words
    assert "Traceback" not in words
    for found in Store().list():
        assert found.state is not State.SUCCEEDED
    subprocess.run([sys.executable, "-m", "unift", "runs", "reconcile"], check=True, timeout=60)
    for found in Store().list():
        if not found.state.finished:
            subprocess.run(
                [sys.executable, "-m", "unift", "runs", "cancel", found.id], check=True, timeout=120
            )

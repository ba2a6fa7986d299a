"""Every command through the front door, with a provider that needs no GPU and no second."""

from __future__ import annotations

import os
import pty
import re
import signal
import subprocess
import sys
from pathlib import Path

import pytest

from tests.cli.conftest import Cli
from unift.provider import State
from unift.runs import Store

TRAIN = ("train", "--provider", "echo", "--model", "base")


def test_train_runs_show_events_list(cli: Cli, capitals: str) -> None:
    trained = cli(*TRAIN, "--data", capitals, "--name", "first", "--json")
    assert trained.status == 0
    document = trained.json
    assert set(document) >= {
        "run",
        "provider",
        "status",
        "model",
        "events",
        "plan",
        "artifact",
        "error",
    }
    assert document["status"] == "succeeded"
    assert document["model"] == f"run:{document['run']}"

    shown = cli("runs", "show", document["run"][:5], "--json").json
    assert shown.pop("diagnosis")["code"]  # of `runs show` alone
    assert {**shown, "events": 0} == {**document, "events": 0}
    words = cli("runs", "show", document["run"])
    assert "succeeded" in words.out
    assert "epochs" in words.out

    listed = cli("runs", "list", "--json").json["runs"]
    assert [run["run"] for run in listed] == [document["run"]]
    assert "first" in cli("runs", "list").out

    events = cli("runs", "events", document["run"], "--json").json["events"]
    assert [event["seq"] for event in events] == list(range(1, len(events) + 1))
    replay = cli("runs", "events", document["run"])
    assert "step 3/3" in replay.out


def test_human_output_says_what_to_do_next(cli: Cli, capitals: str) -> None:
    done = cli(*TRAIN, "--data", capitals)
    assert done.status == 0
    assert "unift evaluate run:" in done.out


def test_dry_run_shows_the_plan_and_starts_nothing(cli: Cli, capitals: str) -> None:
    shown = cli(*TRAIN, "--data", capitals, "--dry-run")
    assert "learns by heart at once" in shown.out
    document = cli(*TRAIN, "--data", capitals, "--epochs", "2", "--dry-run", "--json").json
    assert document["plan"]["settings"][0] == {
        "name": "epochs",
        "value": 2.0,
        "origin": "user",
        "why": "",
    }
    assert Store().list() == []


def test_detach_then_follow_then_resume(cli: Cli, capitals: str) -> None:
    options = ("--option", "echo.fail_at=2", "--detach", "--json")
    run = cli(*TRAIN, "--data", capitals, *options).json["run"]
    followed = cli("runs", "events", run, "--follow", "--json").json
    assert followed["status"] == "failed"
    failed = cli("runs", "show", run, "--json").json
    assert failed["error"]["fix"] == "run it again"
    resumed = cli("runs", "resume", run, "--json")
    assert resumed.status == 0
    assert resumed.json["status"] == "succeeded"


def test_a_failed_run_exits_with_1_and_its_cause(cli: Cli, capitals: str) -> None:
    failed = cli(*TRAIN, "--data", capitals, "--option", "echo.fail_at=1", "--json")
    assert failed.status == 1
    assert failed.json["error"]["code"] == "echo_broke"


def test_cancel_and_reconcile(cli: Cli, capitals: str) -> None:
    options = ("--option", "echo.steps=100000", "--detach", "--json")
    run = cli(*TRAIN, "--data", capitals, *options).json["run"]
    assert cli("runs", "reconcile", "--json").json["runs"][0]["run"] == run
    assert cli("runs", "cancel", run, "--json").json["status"] == "cancelled"
    assert "No open runs" in cli("runs", "reconcile").out


def test_providers_and_doctor(cli: Cli, monkeypatch: pytest.MonkeyPatch) -> None:
    names = {info["name"] for info in cli("providers", "--json").json["providers"]}
    assert {"echo", "local-full", "local-lora", "local-qlora"} <= names
    assert "local-lora" in cli("providers").out
    monkeypatch.setenv("OPENAI_API_KEY", "sk-very-secret")
    found = cli("doctor", "--json")
    assert "sk-very-secret" not in found.out
    checks = {check["name"]: check for check in found.json["checks"]}
    assert checks["OPENAI_API_KEY"]["detail"] == "set"
    assert checks["torch"]["ok"]
    assert all(check["fix"] for check in checks.values() if check["ok"] is False)
    assert "sk-very-secret" not in cli("doctor").out


def test_chat_once(cli: Cli, capitals: str) -> None:
    run = cli(*TRAIN, "--data", capitals, "--json").json["model"]
    assert cli("chat", run, "--prompt", "Capital of Japan?").out.strip() == "Tokyo"
    assert cli("chat", run, "-p", "Capital of Japan?", "--json").json["text"] == "Tokyo"


@pytest.mark.parametrize(
    ("args", "where", "fix"),
    [
        (("train", "--provider", "ecko", "--model", "m", "--data", "d"), "provider", "'echo'"),
        (("train", "--model", "m", "--data", "d"), "unift train", "--help"),
        (("no-such-command",), "unift", "--help"),
        (("runs", "show", "nope"), "run", "unift runs list"),
        (("chat", "demmo", "-p", "x"), "model", "demo"),
        (("chat", "openia:gpt", "-p", "x"), "model", "before the colon"),
        (
            ("train", "--provider", "echo", "--model", "m", "--data", "d", "--option", "x"),
            "--option",
            "=",
        ),
        (
            ("train", "--provider", "echo", "--model", "m", "--data", "d", "--epochs", "-1"),
            "epochs",
            "epochs",
        ),
    ],
)
def test_a_slip_is_one_paragraph_and_exit_2(
    cli: Cli, args: tuple[str, ...], where: str, fix: str
) -> None:
    plain = cli(*args)
    assert plain.status == 2
    assert plain.out == ""
    assert "fix" in plain.err
    document = cli(*args, "--json")
    assert document.status == 2
    error = document.json["error"]
    assert set(error) == {"code", "message", "where", "fix"}
    assert where in error["where"]
    assert fix in error["fix"]


def test_something_unforeseen_is_logged_not_thrown(
    cli: Cli, capitals: str, home: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    from unift_echo import Echo

    def plan(self: Echo, spec: object) -> None:
        raise ZeroDivisionError("oops")

    monkeypatch.setattr(Echo, "plan", plan)
    failed = cli(*TRAIN, "--data", capitals, "--json")
    assert failed.status == 1
    assert "ZeroDivisionError" in Path(failed.json["error"]["where"]).read_text()


def test_estimate_says_each_thing_once(cli: Cli) -> None:
    shown = cli("estimate", "--model", "demo", "--data", "demo:train").out
    assert "local-full" in shown
    assert "local-qlora" in shown
    assert shown.count("tokens in 600 rows") == 1


def test_estimate_takes_names_with_commas_or_all(cli: Cli) -> None:
    base = ("estimate", "--model", "demo", "--rows", "100", "--gpu", "h100", "--providers")
    shown = cli(*base, "local-lora,local-full").out
    assert "local-lora" in shown
    assert "local-full" in shown
    assert "local-qlora" not in shown
    assert "local-qlora" in cli(*base, "all").out
    for wrong in ("all,local-lora", ","):
        refused = cli(*base, wrong)
        assert refused.status == 2
        assert "commas" in refused.err


def test_estimate_that_finds_no_way_says_which_comes_nearest(cli: Cli) -> None:
    base = ("estimate", "--model", "Qwen/Qwen3-8B", "--rows", "1000", "--gpu", "h100")
    base = (*base, "--providers", "local-lora,tinker")
    refused = cli(*base, "--budget", "0.01", "--deadline", "0.001")
    assert refused.status == 4
    assert "cheapest: local-lora" in refused.err
    assert "fastest: local-lora" in refused.err
    assert cli(*base, "--budget", "100", "--deadline", "10").status == 0
    for wrong in ("nan", "-1", "0"):
        assert cli(*base, "--budget", wrong).status == 2


def test_the_table_of_an_estimate_is_whole_in_a_pipe(cli: Cli) -> None:
    base = ("estimate", "--model", "Qwen/Qwen3-8B", "--rows", "1000", "--traffic", "200000")
    shown = cli(*base, "--providers", "openai,local-lora", "--gpu", "h100").out
    head, *rows = shown.splitlines()[:6]
    assert "USD/month" in head
    assert any("gpt-4.1-mini-2025-04-14" in row and "2027-01-14" in row for row in rows)
    assert "\u2026" not in shown


def test_ctrl_c_stops_following_not_training(capitals: str) -> None:
    command = [sys.executable, "-m", "unift", *TRAIN, "--data", capitals]
    command += ["--option", "echo.steps=1000000"]
    process = subprocess.Popen(command, stderr=subprocess.PIPE, text=True, env=dict(os.environ))
    assert process.stderr is not None
    assert process.stderr.readline().startswith("run ")
    process.send_signal(signal.SIGINT)
    _, words = process.communicate(timeout=30)
    # If the interrupt falls into code made from text (dataclasses), Python ends by the signal,
    # whoever caught it; a shell calls both 130.
    assert process.returncode in (130, -signal.SIGINT)
    assert "unift runs events" in words
    assert "Traceback" not in words
    assert Store().list()[0].state in (State.QUEUED, State.RUNNING)


def test_a_terminal_sees_a_bar_and_a_pipe_does_not(cli: Cli, capitals: str) -> None:
    quiet = cli(*TRAIN, "--data", capitals)
    assert "\x1b[" not in quiet.err + quiet.out
    master, slave = pty.openpty()
    command = [sys.executable, "-m", "unift", *TRAIN, "--data", capitals]
    environment = {**os.environ, "TERM": "xterm-256color", "COLUMNS": "120"}
    process = subprocess.Popen(command, stdout=slave, stderr=slave, env=environment)
    os.close(slave)
    seen = b""
    try:
        while chunk := os.read(master, 65536):
            seen += chunk
    except OSError:
        pass  # Linux says EIO when the other end is closed
    os.close(master)
    assert process.wait(30) == 0
    assert re.search(rb"training", seen)


def test_estimate_says_yes_or_no_to_budget_and_deadline(cli: Cli, tmp_path: Path) -> None:
    call = [
        "estimate",
        "--model",
        "Qwen/Qwen3-8B",
        "--tokens",
        "1000000",
        "--gpu",
        "h100",
        "--json",
    ]
    assert cli(*call, "--budget", "1000", "--deadline", "10").status == 0
    assert cli(*call, "--budget", "0.0001").status == 4
    assert cli(*call, "--deadline", "0.0001").status == 4
    assert cli(*call, "--answer-tokens", "50").status == 2
    page = tmp_path / "table.html"
    found = cli(*call, "--traffic", "100000", "--html", str(page))
    assert found.status == 0
    assert "<svg" in page.read_text()
    assert "h100-sxm-80gb</span>" in page.read_text()
    # Nobody trains this one (status 4), but what it costs as it is can be said.
    only = ("estimate", "--model", "gpt-6-luna", "--rows", "9", "--traffic", "9")
    assert cli(*only, "--html", str(page)).status == 4
    assert re.search(r"untuned 0\.\d+", page.read_text())

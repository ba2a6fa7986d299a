"""Killed at any moment, nothing that was answered is asked again; and answers come fast enough."""

from __future__ import annotations

import json
import multiprocessing
import os
import signal
import sqlite3
import subprocess
import sys
import time
import urllib.request
from collections.abc import Callable, Iterator
from contextlib import closing
from pathlib import Path
from typing import Any

import pytest

from unift.errors import LimitError, UsageError
from unift.evaluate import evaluate
from unift.provider import Sampling

SERVER = Path(__file__).with_name("counting_server.py")
ROWS = 120
AT_ONCE = 4
PRELOADED = [
    "unift.data", "unift.evaluate._asking", "unift.evaluate._scoring", "unift.evaluate._slices",
    "unift.evaluate._steps", "unift_openai._model", "unift_openai", "scipy.stats",
]  # fmt: skip


class Counted:
    """The counting server as a process of its own."""

    def __init__(self, latency: float) -> None:
        self.process = subprocess.Popen(
            [sys.executable, str(SERVER), str(latency)], stdout=subprocess.PIPE, text=True
        )
        assert self.process.stdout is not None
        self.url = f"http://127.0.0.1:{int(self.process.stdout.readline())}"
        self.model = f"{self.url}/v1#m"

    def counts(self) -> dict[str, int]:
        with urllib.request.urlopen(f"{self.url}/counts") as answer:
            return json.load(answer)

    def close(self) -> None:
        self.process.kill()
        self.process.communicate()


@pytest.fixture
def server(request: pytest.FixtureRequest) -> Iterator[Counted]:
    running = Counted(getattr(request, "param", 0.01))
    yield running
    running.close()


@pytest.fixture
def rows(chat_file: Callable[..., str]) -> str:
    return chat_file([(f"q{i}", f"answer to q{i}") for i in range(ROWS)], "test.jsonl")


def answer_all(home: str, model: str, data: str) -> None:
    """What the killed process does."""
    os.environ["UNIFT_HOME"] = home
    try:
        evaluate(model, data, against=[], concurrency=AT_ONCE, report=False)
    except KeyboardInterrupt:
        raise SystemExit(130) from None


def stored(home: Path) -> set[str]:
    """The prompts whose answers are kept."""
    if not (home / "answers.db").exists():
        return set()
    with closing(sqlite3.connect(home / "answers.db", timeout=30)) as db:
        rows = db.execute("SELECT reply FROM answers").fetchall()
    return {json.loads(row[0])["text"].removeprefix("answer to ") for row in rows}


def killed_after(n: int, number: int, server: Counted, home: Path, rows: str) -> None:
    """Start an evaluation and send a signal once so many questions have come in."""
    context = multiprocessing.get_context("forkserver")
    context.set_forkserver_preload(PRELOADED)
    child = context.Process(target=answer_all, args=(str(home), server.model, rows))
    child.start()
    while child.is_alive() and sum(server.counts().values()) < n:
        child.join(0.005)  # the other process has to get there first
    if child.pid and child.is_alive():
        os.kill(child.pid, number)
    child.join()


def test_killed_at_many_moments_no_kept_answer_is_asked_again(
    server: Counted, home: Path, rows: str
) -> None:
    kills = (1, 9, 23, 47, 80, 111)
    for n in kills:
        before, known = server.counts(), stored(home)
        killed_after(n, signal.SIGKILL, server, home, rows)
        after = server.counts()
        assert {q: after[q] for q in known} == {q: before[q] for q in known}
    known = stored(home)
    before = server.counts()
    found = evaluate(server.model, rows, against=[], concurrency=AT_ONCE, report=False)
    after = server.counts()
    assert found.candidates[0].metrics["exact_match"] == 1.0
    assert {q: after[q] for q in known} == {q: before[q] for q in known}
    # All that can be lost is what was under way at the moment of a kill, and that is said.
    repeated = sum(after.values()) - ROWS
    assert repeated <= AT_ONCE * len(kills)
    again = evaluate(server.model, rows, against=[], concurrency=AT_ONCE, report=False)
    assert server.counts() == after
    assert not any("under way" in one for one in again.warnings)


def test_what_was_lost_with_a_killed_process_is_said(
    server: Counted, home: Path, rows: str
) -> None:
    killed_after(20, signal.SIGKILL, server, home, rows)
    lost = sum(server.counts().values()) - len(stored(home))
    found = evaluate(server.model, rows, against=[], concurrency=AT_ONCE, report=False)
    said = [one for one in found.warnings if "under way when an earlier evaluation" in one]
    assert len(said) == (1 if lost else 0)


def test_ctrl_c_repeats_nothing_at_all(server: Counted, home: Path, rows: str) -> None:
    for n in (5, 40, 77):
        killed_after(n, signal.SIGINT, server, home, rows)
        assert len(stored(home)) == sum(server.counts().values())
    evaluate(server.model, rows, against=[], concurrency=AT_ONCE, report=False)
    assert set(server.counts().values()) == {1}


@pytest.mark.parametrize("server", [0.05], indirect=True)
def test_a_thousand_answers_come_within_1_3_times_the_ideal(
    server: Counted, chat_file: Callable[..., str]
) -> None:
    data = chat_file([(f"q{i}", f"answer to q{i}") for i in range(1000)])
    evaluate(server.model, data, against=[], limit=8, report=False)  # imports and connections
    at_once, ideal = 8, 1000 * 0.05 / 8
    began, worked = time.perf_counter(), time.process_time()
    evaluate(server.model, data, against=[], concurrency=at_once, reuse=False, report=False)
    wall, cpu = time.perf_counter() - began, time.process_time() - worked
    assert cpu < 0.6 * ideal, f"{cpu:.1f} s of CPU for 1,000 answers"
    assert wall < 1.3 * ideal, f"{wall:.1f} s, ideally {ideal:.2f} s; the CPU did {cpu:.1f} s"


def test_a_budget_is_never_exceeded_and_its_answers_are_kept(
    server: Counted, chat_file: Callable[..., str], monkeypatch: pytest.MonkeyPatch
) -> None:
    """At the catalogue's prices of a model that the counting server stands for."""
    model = "openai:gpt-4o-mini-2024-07-18"
    rows = chat_file([(f"q{i} {'word ' * 400}", "yes") for i in range(ROWS)])
    monkeypatch.setenv("OPENAI_API_KEY", "k")
    monkeypatch.setenv("OPENAI_BASE_URL", f"{server.url}/v1")
    said: list[str] = []
    wanted: dict[str, Any] = {
        "against": [], "concurrency": AT_ONCE, "report": False,
        "sampling": Sampling(max_tokens=100),
    }  # fmt: skip
    # 1,000 tokens in and 100 out: 1000 * 0.15e-6 + 100 * 0.60e-6 = 0.00021 USD an answer.
    with pytest.raises(LimitError) as caught:
        evaluate(model, rows, budget_usd=0.005, notice=said.append, **wanted)
    assert caught.value.code == "over_budget"
    assert 10 < sum(server.counts().values()) <= 0.005 / 0.00021
    assert "120 questions to ask; at most 0.025 USD" in said[0]
    found = evaluate(model, rows, budget_usd=0.1, **wanted)
    assert set(server.counts().values()) == {1}
    assert found.candidates[0].usd_per_1000_answers == pytest.approx(0.21)
    with pytest.raises(UsageError) as refused:
        evaluate(server.model, rows, budget_usd=1.0, **wanted)
    assert refused.value.code == "unknown_price"

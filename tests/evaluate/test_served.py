"""Weights on this machine answered by vLLM: the stand-in's process is real, its answers are not."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from tests.evaluate.fakes import Fake
from tests.vendors.clock import stopped_clock
from unift.errors import LimitError, MissingDependency, RunError, UsageError
from unift.evaluate import evaluate

STANDIN = Path(__file__).parents[1] / "serve" / "standin"
ROWS = [(f"q{i}", f"one on q{i}") for i in range(40)]


class Standin:
    """The journal and the wishes of the stand-in."""

    def __init__(self, folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
        self.journal = folder / "journal"
        self._patch = monkeypatch
        path = os.pathsep.join([str(STANDIN), os.environ["PYTHONPATH"]])
        monkeypatch.setenv("PYTHONPATH", path)
        self.wish()

    def wish(self, **wanted: Any) -> None:
        self._patch.setenv("STANDIN", json.dumps({"journal": str(self.journal), **wanted}))

    def lines(self, key: str) -> list[Any]:
        if not self.journal.exists():
            return []
        found = [json.loads(line) for line in self.journal.read_text().splitlines()]
        return [one for one in found if key in one]

    def gone(self) -> bool:
        """Whether every process that was started has ended."""
        return not any(_alive(one["pid"]) for one in self.lines("start"))


def _alive(pid: int) -> bool:
    try:
        with open(f"/proc/{pid}/stat") as file:
            return file.read().rpartition(")")[2].split()[0] != "Z"
    except FileNotFoundError:
        return False


@pytest.fixture
def vllm(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Standin:
    return Standin(tmp_path, monkeypatch)


@pytest.fixture
def adapters(tmp_path: Path) -> list[str]:
    """Two adapters of the embedded model, of different ranks; nobody loads their weights."""
    made: list[str] = []
    for name, rank in (("one", 8), ("two, =odd", 40)):
        folder = tmp_path / name
        folder.mkdir()
        config = {"base_model_name_or_path": "demo", "r": rank}
        (folder / "adapter_config.json").write_text(json.dumps(config))
        made.append(f"path:{folder}")
    return made


@pytest.fixture
def rows(chat_file: Callable[..., str]) -> str:
    return chat_file(ROWS, "test.jsonl")


def ask(adapters: list[str], rows: str, **more: Any) -> Any:
    wanted: dict[str, Any] = {"against": ["base", adapters[1]], "report": False, "engine": "vllm"}
    return evaluate(adapters[0], rows, **wanted | more)


def test_base_and_all_adapters_come_from_one_process_and_nothing_is_asked_twice(
    vllm: Standin, adapters: list[str], rows: str, home: Path
) -> None:
    said: list[str] = []
    found = ask(adapters, rows, notice=said.append)
    assert [one.replies[3].text for one in found.candidates] == [
        "one on q3", "model on q3", "two, =odd on q3",
    ]  # fmt: skip
    assert found.verdict.code == "better"
    [start] = vllm.lines("start")
    flags = start["start"]
    assert flags[flags.index("--max-lora-rank") + 1] == "64", "40 is none that vLLM takes"
    assert any("2 adapters" in one for one in said)
    assert len(vllm.lines("asked")) == 3 * len(ROWS)
    assert vllm.gone()
    assert not list((home / "logs").iterdir()), "the log of what went well is nobody's business"
    again = ask(adapters, rows)
    assert again.id == found.id
    assert len(vllm.lines("start")) == 1
    assert found.as_dict()["asked"] == {"engine": "vllm"}


def test_answers_of_the_two_engines_are_kept_apart(
    vllm: Standin, chat_file: Callable[..., str]
) -> None:
    rows = chat_file(ROWS[:2], "few.jsonl")
    both = [
        evaluate("demo", rows, against=[], report=False, engine=engine)
        for engine in ("vllm", "transformers", "auto")
    ]
    texts = [[reply.text for reply in one.candidates[0].replies] for one in both]
    assert texts[0] == ["model on q0", "model on q1"]
    assert texts[1] == texts[2] != texts[0], "without a card, auto is transformers"
    assert both[1].id == both[2].id != both[0].id
    assert len(vllm.lines("start")) == 1


def test_auto_is_vllm_where_it_is_installed_and_a_card_is_there(
    vllm: Standin, adapters: list[str], rows: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    tool = tmp_path / "bin" / "nvidia-smi"
    tool.parent.mkdir()
    tool.write_text("#!/bin/sh\necho NVIDIA H100 80GB HBM3, 81559\n")
    tool.chmod(0o755)
    monkeypatch.setenv("PATH", f"{tool.parent}:{os.environ['PATH']}")
    from unift.estimate import _hardware

    _hardware._first_gpu.cache_clear()
    try:
        said: list[str] = []
        found = ask(adapters, rows, engine="auto", notice=said.append)
        assert found.candidates[0].replies[0].text == "one on q0"
        assert any("--engine transformers" in one for one in said)
        fake = Fake("fake:x", lambda m: "x")
        evaluate(fake, rows, against=[], report=False)
        assert len(vllm.lines("start")) == 1, "nothing here for it to answer"
    finally:
        _hardware._first_gpu.cache_clear()


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGKILL])
def test_interrupted_it_leaves_no_process_behind_and_repeats_no_answer(
    vllm: Standin, adapters: list[str], rows: str, home: Path, number: int
) -> None:
    vllm.wish(latency=0.05)
    command = [sys.executable, "-m", "unift", "evaluate", adapters[0], "--data", rows]
    command += ["--engine", "vllm", "--concurrency", "4"]
    running = subprocess.Popen(command, stderr=subprocess.DEVNULL)
    while len(vllm.lines("asked")) < 20:
        assert running.poll() is None
        time.sleep(0.02)  # the other process has to get there first
    running.send_signal(number)
    running.wait(60)
    while not vllm.gone():
        time.sleep(0.02)
    before = len(vllm.lines("asked"))
    assert before < 2 * len(ROWS)
    ask(adapters, rows, against=["base"])
    repeated = len(vllm.lines("asked")) - 2 * len(ROWS)
    assert repeated == 0 if number == signal.SIGINT else repeated <= 4


@pytest.mark.parametrize(
    ("says", "kind", "code", "fix"),
    [
        ("ValueError: Free memory on device (3.1/79 GiB) is less", LimitError, "out_of_memory",
         "nvidia-smi"),
        ("OSError: [Errno 98] Address already in use", RunError, "vllm_failed", "start again"),
        ("KeyError: 'odd_architecture'", RunError, "vllm_failed", "--engine transformers"),
    ],
)  # fmt: skip
def test_why_it_did_not_start_is_said(
    vllm: Standin, adapters: list[str], rows: str, says: str, kind: Any, code: str, fix: str
) -> None:
    vllm.wish(fail=says)
    with pytest.raises(kind, match="vLLM") as caught:
        ask(adapters, rows)
    assert (caught.value.code, says in caught.value.message) == (code, True)
    assert fix in caught.value.fix
    assert says in Path(caught.value.where).read_text(), "the log is where the error says"


def test_an_engine_that_ends_while_it_answers_is_said_and_its_answers_are_kept(
    vllm: Standin, adapters: list[str], rows: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    stopped_clock(monkeypatch)
    vllm.wish(die_after=50)
    with pytest.raises(RunError, match="ended with exit status 1 while it answered"):
        ask(adapters, rows, concurrency=2)
    asked = len(vllm.lines("asked"))
    vllm.wish()
    ask(adapters, rows)
    assert len(vllm.lines("asked")) - asked == 3 * len(ROWS) - 50


def test_without_vllm_the_fix_installs_it(adapters: list[str], rows: str) -> None:
    with pytest.raises(MissingDependency, match="has no vllm") as caught:
        ask(adapters, rows)
    assert "pip install vllm" in caught.value.fix
    with pytest.raises(UsageError, match="no engine 'fast'"):
        ask(adapters, rows, engine="fast")


def test_another_chat_template_is_another_process_and_context_is_no_more_than_needed(
    vllm: Standin, adapters: list[str], rows: str, home: Path
) -> None:
    other = "{% for m in messages %}{{ m.content }}\n{% endfor %}é"
    folder = Path(adapters[1].removeprefix("path:"))
    (folder / "chat_template.jinja").write_text(other)
    ask(adapters, rows)
    flags = [one["start"] for one in vllm.lines("start")]
    given = ["--chat-template" in one for one in flags]
    assert given == [False, True], "the base and the adapter with its template; the other one"
    assert [one.count("--lora-modules") for one in flags] == [1, 1]
    assert not list((home / "logs").iterdir())
    from unift.evaluate._served import _context

    base = json.dumps({"max_position_embeddings": 32768})
    (folder / "config.json").write_text(base)
    assert (_context(str(folder), 5000), _context(str(folder), 50_000)) == (5000, None)

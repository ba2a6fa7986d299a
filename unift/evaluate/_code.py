"""Metric ``code``: an answer is right if the tests of its row pass; off unless asked for.

The share of answers that pass is functional pass@1 (Chen et al. 2021,
https://arxiv.org/abs/2107.03374, section 2.1); with several draws of a prompt, their mean.

Each answer runs in a separate ``python -I`` with limits, an empty environment, a temporary folder
and a time-out, without network where Linux lets a user have namespaces. That keeps mistakes away
from this machine. It is no security boundary against code that means harm.
"""

from __future__ import annotations

import hashlib
import json
import os
import re
import secrets
import select
import shutil
import signal
import subprocess
import sys
import tempfile
import time
import warnings
from collections import Counter
from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import suppress
from dataclasses import dataclass, replace
from functools import cache
from pathlib import Path
from typing import TYPE_CHECKING, Any, cast

from unift.errors import DataError, UsageError
from unift.evaluate._metrics import Metric
from unift.evaluate._recorded import reply_text
from unift.evaluate._task import Task, find_task

if TYPE_CHECKING:
    from unift.evaluate._result import Result
    from unift.evaluate._rows import Row

TESTS = "tests"
PASSED = "passed"
_FENCED = re.compile(r"^[ \t]*```[ \t]*([\w+-]*)[^\n]*\n(.*?)(?:^[ \t]*```|\Z)", re.M | re.S)
_PYTHON = ("python", "py", "python3")
_MIB = 1 << 20


@dataclass(frozen=True)
class Limits:
    """What one answer may use: seconds of processor and of wall time, MiB of memory and file."""

    cpu_seconds: int = 5
    wall_seconds: float = 20.0  # so much more than above that a busy machine changes no score
    memory_mib: int = 1024
    file_mib: int = 16

    def rlimits(self) -> list[tuple[str, int]]:
        return [
            ("RLIMIT_CPU", self.cpu_seconds),
            ("RLIMIT_AS", self.memory_mib * _MIB),
            ("RLIMIT_FSIZE", self.file_mib * _MIB),
            ("RLIMIT_NPROC", 64),  # Linux does not hold root to it
            ("RLIMIT_NOFILE", 64),
            ("RLIMIT_CORE", 0),
        ]


def extract(answer: str) -> str:
    """The code of an answer: its first fenced Python block, else its first block, else all of it.

    A block that never ends goes to the end of the answer.
    """
    blocks = [(tag.lower(), text) for tag, text in _FENCED.findall(answer)]
    named = [text for tag, text in blocks if tag in _PYTHON]
    return (named or [text for _, text in blocks] or [answer])[0]


@cache
def isolation() -> tuple[str, ...]:
    """The command that takes network and processes of others away; empty where none works."""
    tool = shutil.which("unshare")
    for flags in ("-rnpf", "--kill-child"), ("-rn",):
        probe = [str(tool), *flags, sys.executable, "-I", "-c", ""]
        if tool and not subprocess.run(probe, capture_output=True).returncode:
            return (tool, *flags)
    return ()


def run_code(code: str, tests: str, limits: Limits | None = None) -> str:
    """Run code and then its tests in one namespace; ``passed`` or, in a word or two, why not."""
    limits = limits or Limits()
    token = secrets.token_hex(16)
    ours, theirs = os.pipe()
    job = {
        "code": code, "tests": tests, "token": token, "result": theirs,
        "home": str(Path.home()), "limits": limits.rlimits(),
    }  # fmt: skip
    child = str(Path(__file__).with_name("_code_child.py"))
    command = [*isolation(), sys.executable, "-I", "-X", "utf8", child]
    try:
        with tempfile.TemporaryDirectory(prefix="unift-code-", ignore_cleanup_errors=True) as own:
            process = subprocess.Popen(
                command, cwd=own, stdin=subprocess.PIPE, stdout=subprocess.DEVNULL,
                stderr=subprocess.DEVNULL, start_new_session=True, pass_fds=(theirs,),
                # One thread each: the address space that libraries reserve grows with them.
                env={"TMPDIR": own, "OMP_NUM_THREADS": "1", "OPENBLAS_NUM_THREADS": "1"},
            )  # fmt: skip
            try:
                os.close(theirs)
                said, in_time = _talk(process, ours, job, limits.wall_seconds)
            finally:
                with suppress(ProcessLookupError, PermissionError):  # it is gone
                    os.killpg(process.pid, signal.SIGKILL)
                process.wait()
    finally:
        os.close(ours)
    if said.get("token") == token:
        return PASSED
    why = said.get("why")
    if why:  # the answer may have made up a name, and this one is counted and ends on screens
        plain = isinstance(why, str) and why.isidentifier() and why != PASSED
        return why[:60] if plain else "an error"
    # Some versions of unshare say 1 where a signal ended the child, so any number counts.
    if not in_time or process.returncode:
        return "too slow or killed"
    return "ended early"


def _talk(
    process: subprocess.Popen[bytes], result: int, job: dict[str, Any], seconds: float
) -> tuple[dict[str, Any], bool]:
    """What the child says, and whether it spoke or ended in time."""
    deadline = time.monotonic() + seconds
    with suppress(BrokenPipeError), cast("Any", process.stdin) as pipe:
        pipe.write(json.dumps(job).encode() + b"\n")
    while True:
        left = deadline - time.monotonic()
        ended = process.poll() is not None
        if select.select([result], [], [], 0 if ended else max(0.0, min(left, 0.1)))[0]:
            said = os.read(result, 4096)
            break
        if ended or left <= 0:  # a process that it left behind may hold the other end open
            return {}, ended
    try:
        found = json.loads(said)
    except ValueError:  # nothing: it is gone, and how it ended is known in a moment
        found = None
        with suppress(subprocess.TimeoutExpired):
            process.wait(1)
    return (cast("dict[str, Any]", found) if isinstance(found, dict) else {}), True


class Runs:
    """The score of `CODE` once code may run; remembers why each answer failed."""

    def __init__(self) -> None:
        self.found: dict[tuple[str, str], str] = {}

    def __call__(self, answer: str, tests: str) -> float:
        return float(self.why(answer, tests) == PASSED)

    def why(self, answer: str, tests: str) -> str:
        key = (extract(answer), tests)
        if key not in self.found:
            self.found[key] = run_code(*key)
        return self.found[key]


def _off(answer: str, target: str) -> float:
    raise UsageError(
        "The metric 'code' runs what models wrote, and that was not switched on.",
        code="code_not_run",
        where="metric code",
        fix="run_code=True of unift.evaluate (--run-code on the command line)",
    )


def tests_of(row: Row) -> str:
    """The tests of a row as one program.

    Raises:
        DataError: There are none, or they are no Python.
    """
    value = row.extra.get(TESTS)
    parts: list[Any] = cast("list[Any]", value) if isinstance(value, list) else [value]
    wrong = None
    text = ""
    if not parts or not all(isinstance(one, str) and one.strip() for one in parts):
        wrong = f"The row has no '{TESTS}', so its code cannot be checked"
        if value is not None:
            wrong = f"'{TESTS}' is neither a text nor a list of texts"
    else:
        text = "\n".join(parts)
        try:
            with warnings.catch_warnings():
                warnings.simplefilter("ignore")
                compile(text, "<tests>", "exec", dont_inherit=True)
        except (SyntaxError, ValueError, RecursionError, MemoryError) as error:
            wrong = f"'{TESTS}' is no Python: {error}"
    if wrong:
        raise DataError(
            f"{wrong}.",
            code="bad_tests",
            where=f"line {row.line}, {TESTS}",
            fix='give Python assertions: "tests": "assert add(1, 2) == 3"',
        )
    return text


CODE = Metric(
    "code",
    _off,
    "Tests passed",
    "The answer's code, then the tests of its row, run without an error (pass@1).",
    targets=lambda row: (tests_of(row),),
)


def with_code(
    task: Task,
    rows: Sequence[Row],
    metric: Any,
    run: bool,
    notice: Callable[[str], None] | None,
) -> tuple[Task, list[str]]:
    """The task with `CODE` in it if code may run, and without it if not; and what to say of that.

    Raises:
        DataError: Code is to be run and a row has no tests.
        UsageError: It cannot be run on this system.
    """
    found = metric is None or metric == "auto"
    tested = sum(TESTS in row.extra for row in rows)
    if not run:
        if CODE not in task.metrics and not (found and tested):
            return task, []
        left = tuple(one for one in task.metrics if one is not CODE) or (
            find_task([row.target for row in rows]).metrics
        )
        why = (
            f"{tested} of {len(rows)} rows carry tests, but code was not run, so "
            f"{left[0].title} decides. --run-code (run_code=True) runs it on this machine; the "
            "sandbox is no protection against hostile code."
        )
        if notice is not None:
            notice(why)
        return replace(task, metrics=left, why=f"{left[0].title} decides; code was not run."), [why]
    if os.name != "posix":
        raise UsageError(
            "Code of answers can be run on Linux and macOS only.",
            code="cannot_run_code",
            where="run_code",
            fix="leave out run_code (--run-code), or evaluate on Linux",
        )
    for row in rows:
        tests_of(row)
    try:
        trial = run_code("x = 1", "assert x == 1")
    except OSError as error:
        trial = str(error)
    if trial != PASSED:  # else every answer would count as wrong
        raise UsageError(
            f"Not even 'x = 1' can be run in the sandbox here: {trial}.",
            code="cannot_run_code",
            where="run_code",
            fix="leave out run_code (--run-code), or see that this user may start "
            f"{sys.executable} in {tempfile.gettempdir()}",
        )
    running = replace(CODE, score=Runs())
    metrics = tuple(running if one is CODE else one for one in task.metrics)
    if found:
        task = replace(
            task, kind="code", metrics=(running, *metrics),
            why="Every row carries tests, so the code of each answer is run with them.",
        )  # fmt: skip
    else:
        task = replace(task, metrics=metrics if running in metrics else (*metrics, running))
    network = (
        "without network"
        if isolation()
        else "and its network is only refused inside Python (unshare -rn does not work here)"
    )
    warning = (
        f"Code that models wrote is run on this machine, {network}. The sandbox keeps mistakes "
        "away; it is no security boundary against hostile code."
    )
    if notice is not None:
        notice(warning)
    right = in_parallel(lambda row: running.rate(row.target, tests_of(row)), rows)
    failed = [str(row.line) for row, one in zip(rows, right, strict=True) if not one]
    if not failed:
        return task, [warning]
    some = ", ".join(failed[:5]) + (", ..." if len(failed) > 5 else "")
    unsound = f"{len(failed)} of {len(rows)} expected answers fail their own tests (lines {some})."
    if notice is not None:
        notice(unsound)
    return task, [warning, unsound]


def in_parallel(one: Callable[[Any], float], items: Sequence[Any]) -> list[float]:
    """One at a time a core, in order."""
    with ThreadPoolExecutor(os.cpu_count()) as pool:
        return list(pool.map(one, items))


def outcomes(results: Sequence[Result], rows: Sequence[Row], task: Task) -> dict[str, Any] | None:
    """How the runs of each candidate ended, as counts; None if no code was run."""
    runs = next((one.score for one in task.metrics if isinstance(one.score, Runs)), None)
    if runs is None:
        return None
    tests = [tests_of(row) for row in rows]
    ended: dict[str, dict[str, int]] = {}
    for one in results:
        draws = one.draws or [(reply,) for reply in one.replies]
        found = Counter(
            runs.why(reply_text(reply), wanted)
            for some, wanted in zip(draws, tests, strict=True)
            for reply in some
        )
        ended[one.name] = dict(found.most_common())
    return {
        "isolation": " ".join(isolation()[1:]) or None,
        "tests": hashlib.sha256(json.dumps(tests).encode()).hexdigest()[:12],
        "ended": ended,
    }

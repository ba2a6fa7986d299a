"""Metric `code`: answers that are run with the tests of their rows, and what they cannot do."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from tests.evaluate.fakes import Fake, question
from unift.errors import DataError, UsageError
from unift.evaluate import evaluate, get_metric
from unift.evaluate._code import PASSED, Limits, extract, isolation, run_code

Rows = Callable[..., str]
RIGHT = "Sure:\n\n```python\ndef add(a, b):\n    return a + b\n```\nUse it as `add(1, 2)`."
WRONG = "```python\ndef add(a, b):\n    return a - b\n```"
TESTS = ["assert add(1, 2) == 3", "from answer import add as same\nassert same(0, 0) == 0"]
BRIEF = Limits(cpu_seconds=1, wall_seconds=8.0)


@pytest.fixture
def code_file(tmp_path: Path) -> Rows:
    def write(tests: Any = TESTS, answer: str = RIGHT, n: int = 8) -> str:
        path = tmp_path / "code.jsonl"
        rows: list[dict[str, Any]] = [
            {
                "messages": [
                    {"role": "user", "content": f"Write add, number {i}."},
                    {"role": "assistant", "content": answer},
                ],
                "tests": tests,
            }
            for i in range(n)
        ]
        path.write_text("\n".join(map(json.dumps, rows)))
        return str(path)

    return write


def every_other(messages: Any) -> str:
    return RIGHT if int(question(messages).split()[-1].rstrip(".")) % 2 else WRONG


def test_answers_whose_tests_pass_are_right_and_reports_say_how_the_others_ended(
    code_file: Rows, tmp_path: Path
) -> None:
    said: list[str] = []
    evaluation = evaluate(
        Fake("fake:right", lambda m: RIGHT), code_file(), against=[Fake("fake:half", every_other)],
        run_code=True, report=tmp_path / "page.html", notice=said.append,
    )  # fmt: skip
    found = evaluation.as_dict()
    assert (found["metric"], found["task"]["kind"]) == ("code", "code")
    assert [one["metrics"]["code"] for one in found["candidates"]] == [1.0, 0.5]
    assert list(found["code"]["ended"].values()) == [
        {"passed": 8},
        {"AssertionError": 4, "passed": 4},
    ]
    assert any("no security boundary" in text for text in said)
    assert any("no security boundary" in text for text in found["warnings"])
    page = (tmp_path / "page.html").read_text()
    assert "How the code ended" in page
    assert '<th scope="row">fake:half</th><td class="num">4</td><td class="num">4</td>' in page
    text = evaluation.write_markdown(tmp_path / "pr.md").read_text()
    assert "| code of | passed | AssertionError |" in text
    assert "| `model` | 8 | 0 |" in text
    log: Any = pytest.importorskip("inspect_ai.log", reason="pip install 'unift[inspect]'")
    half = log.read_eval_log(str(evaluation.write_inspect(tmp_path / "logs")[1]))
    told = [one.scores["code"].explanation for one in half.samples]
    assert told.count("The code ended with: AssertionError.") == 4
    assert told.count("The code passed its tests.") == 4


@pytest.mark.parametrize("metric", [None, "code", ["code", "exact_match"]])
def test_without_leave_no_code_runs_and_the_next_metric_decides(
    code_file: Rows, tmp_path: Path, metric: Any
) -> None:
    trace = tmp_path / "ran"
    answer = f"```python\nopen({str(trace)!r}, 'w')\n```"
    model = Fake("fake:m", lambda m: answer)
    found = evaluate(model, code_file(), against=[], metric=metric, report=False)
    assert found.metrics[0].name == ("exact_match" if isinstance(metric, list) else "token_f1")
    assert any("code was not run" in text and "--run-code" in text for text in found.warnings)
    assert found.as_dict()["code"] is None
    assert not trace.exists()
    with pytest.raises(UsageError) as caught:
        get_metric("code").rate(answer, "pass")
    assert caught.value.code == "code_not_run"


@pytest.mark.parametrize("tests", ["", 3, [], ["assert True", 1], "assert add(", "a\0b"])
def test_tests_that_are_none_are_refused_before_anything_is_asked(
    code_file: Rows, tests: Any
) -> None:
    model = Fake("fake:m", lambda m: RIGHT)
    with pytest.raises(DataError) as caught:
        evaluate(model, code_file(tests), against=[], run_code=True, report=False)
    assert (caught.value.code, model.asked) == ("bad_tests", [])
    assert "line 1" in str(caught.value.where)


def test_expected_answers_that_fail_their_own_tests_are_named(code_file: Rows) -> None:
    model = Fake("fake:m", lambda m: RIGHT)
    data = code_file(answer=WRONG, n=2)
    found = evaluate(model, data, against=[], metric="code", run_code=True, report=False)
    assert found.candidates[0].metrics == {"code": 1.0}
    assert any("2 of 2 expected answers fail" in text and "1, 2" in text for text in found.warnings)


@pytest.mark.parametrize(
    ("code", "why"),
    [
        ("while True: pass", "too slow or killed"),
        ("x = bytearray(8 << 30)", "MemoryError"),
        ("import os\nos.fork()", "PermissionError"),
        ("import subprocess\nsubprocess.run(['true'])", "PermissionError"),
        ("import socket\nsocket.create_connection(('127.0.0.1', 9))", "PermissionError"),
        ("open('big', 'wb').write(bytes(64 << 20))", "OSError"),
        ("import shutil\nshutil.rmtree('/nowhere')", "PermissionError"),
        ("import sys\nsys.exit(0)", "SystemExit"),
        ("import os\nos._exit(0)", "ended early"),
        ("def f(:", "SyntaxError"),
        ("class passed(Exception): pass\nraise passed", "an error"),
        ("raise type('\\x1b[31m', (Exception,), {})", "an error"),
        ("input()", "EOFError"),
    ],
)
def test_what_code_may_not_do_fails(code: str, why: str) -> None:
    assert run_code(code, "pass", BRIEF) == why


def test_garbage_on_the_output_changes_nothing() -> None:
    noise = (
        "import os\nfor i in range(2000): print('{\"why\": \"\"}' * 99)\nos.write(2, b'\\xff' * 9)"
    )
    assert run_code(noise, "open('own', 'w').write('x'); assert open('own').read()") == PASSED
    assert run_code(noise, "assert False") == "AssertionError"


def test_the_home_folder_and_the_environment_stay_unread(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "key").write_text("secret")
    monkeypatch.setenv("HOME", str(tmp_path))
    monkeypatch.setenv("OPENAI_API_KEY", "secret")
    tests = "import os\nassert 'HOME' not in os.environ and 'secret' not in str(os.environ)"
    assert run_code("", tests) == PASSED
    for code in (f"open({str(tmp_path / 'key')!r})", f"import os\nos.listdir({str(tmp_path)!r})"):
        assert run_code(code, "pass") == "PermissionError"


@pytest.mark.skipif(not isolation(), reason="unshare -rn does not work here")
def test_without_python_s_refusal_there_is_still_no_network() -> None:
    # /proc shows what the kernel gives: no interface but the loopback one.
    seen = "lines = open('/proc/self/net/dev').read().splitlines()[2:]"
    assert run_code(seen, "assert [one.split(':')[0].strip() for one in lines] == ['lo']") == PASSED


def test_without_namespaces_python_refuses_the_network_and_it_is_said(
    code_file: Rows, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("PATH", "")
    isolation.cache_clear()
    try:
        found = evaluate(
            Fake("fake:m", lambda m: "import socket\nsocket.create_connection(('127.0.0.1', 9))"),
            code_file("pass", n=1), against=[], run_code=True, report=False,
        )  # fmt: skip
    finally:
        isolation.cache_clear()
    assert found.as_dict()["code"]["isolation"] is None
    assert found.as_dict()["code"]["ended"] == {"model": {"PermissionError": 1}}
    assert any("only refused inside Python" in text for text in found.warnings)


@pytest.mark.parametrize("python", ["/bin/false", "/no/such/python"])
def test_a_sandbox_that_cannot_start_counts_no_answer_as_wrong(
    code_file: Rows, monkeypatch: pytest.MonkeyPatch, python: str
) -> None:
    data = code_file(n=1)
    monkeypatch.setattr("sys.executable", python)
    isolation.cache_clear()
    model = Fake("fake:m", lambda m: RIGHT)
    try:
        with pytest.raises(UsageError) as caught:
            evaluate(model, data, against=[], run_code=True, report=False)
    finally:
        isolation.cache_clear()
    assert (caught.value.code, model.asked) == ("cannot_run_code", [])


def test_draws_of_a_golden_set_are_run_each_and_other_tests_are_another_evaluation(
    code_file: Rows, tmp_path: Path
) -> None:
    golden = tmp_path / "golden.jsonl"
    row = {
        "messages": [{"role": "user", "content": "Write add, number 0."}],
        "draws": [{"message": {"role": "assistant", "content": one}} for one in (RIGHT, WRONG)],
    }
    golden.write_text(json.dumps(row))
    ids: set[str] = set()
    for tests in (TESTS, TESTS[:1]):
        found = evaluate(
            f"recorded:{golden}", code_file(tests, n=1), against=[], metric="code", run_code=True,
            report=False,
        )  # fmt: skip
        assert found.candidates[0].metrics == {"code": 0.5}
        assert found.as_dict()["code"]["ended"]["model"] == {"passed": 1, "AssertionError": 1}
        ids.add(found.id)
    assert len(ids) == 2


@pytest.mark.parametrize(
    ("answer", "code"),
    [
        ("x = 1", "x = 1"),
        ("```\na\n```\n```python\nb\n```", "b\n"),
        ("```py\na\n```\nor\n```py\nb\n```", "a\n"),
        ("```bash\na\n```", "a\n"),
        ("So:\n```python\nnever ends\n", "never ends\n"),
    ],
)
def test_the_code_of_an_answer(answer: str, code: str) -> None:
    assert extract(answer) == code

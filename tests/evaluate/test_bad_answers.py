"""A host that refuses, breaks off or answers with what is no answer, and what that costs."""

from __future__ import annotations

import json
from collections import Counter
from collections.abc import Callable, Iterator
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from threading import Thread
from typing import Any, cast

import pytest

from unift.errors import LimitError, ProviderError
from unift.evaluate import Evaluation, evaluate
from unift.provider import Sampling
from unift.remote import Clock

Write = Callable[..., str]
MODEL = "openai:gpt-4o-mini-2024-07-18"
AT_ONCE = 4
#: Status and body of answers that are none; None breaks the connection off.
ODD: dict[str, tuple[int, bytes] | None] = {
    "busy": (429, b'{"error": {"message": "slow down", "code": "rate_limit_exceeded"}}'),
    "down": (500, b"oops"),
    "broken off": None,
    "half": (200, b'{"choices": [{"mess'),
    "nothing": (200, b"{}"),
    "a list": (200, b"[]"),
    "no choice": (200, b'{"choices": []}'),
    "a page": (200, b"<html>proxy</html>"),
    "an error with 200": (200, b'{"error": {"message": "upstream failed"}}'),
}
TOO_LONG = (
    400,
    b'{"error": {"message": "Too many tokens", "code": "context_length_exceeded"}}',
)
FILTERED = (400, b'{"error": {"message": "The prompt was filtered", "code": "content_filter"}}')


class Host(ThreadingHTTPServer):
    """Answers chat completions; `odd` says otherwise for the n-th time that something is asked."""

    daemon_threads = True

    def __init__(self, odd: Callable[[str, int], Any]) -> None:
        super().__init__(("127.0.0.1", 0), Asked)
        self.odd, self.asked = odd, Counter[str]()
        Thread(target=self.serve_forever, args=(0.01,), daemon=True).start()


class Asked(BaseHTTPRequestHandler):
    def do_POST(self) -> None:
        host = cast(Host, self.server)
        size = int(self.headers["Content-Length"])
        question = json.loads(self.rfile.read(size))["messages"][-1]["content"].split()[0]
        host.asked[question] += 1
        message = {"content": [{"type": "text", "text": f"answer to {question}"}]}
        usage = {"prompt_tokens": 1000, "completion_tokens": 100}
        good = (200, json.dumps({"choices": [{"message": message}], "usage": usage}).encode())
        odd = host.odd(question, host.asked[question])
        if odd is None:
            self.close_connection = True
            return
        status, body = odd or good
        self.send_response(status)
        self.send_header("Content-Length", str(len(body)))
        self.end_headers()
        self.wfile.write(body)

    def log_message(self, format: str, *args: Any) -> None:
        pass


@pytest.fixture
def host(monkeypatch: pytest.MonkeyPatch) -> Iterator[Callable[..., Host]]:
    monkeypatch.setattr(Clock, "sleep", lambda self, seconds: None)
    monkeypatch.setenv("OPENAI_API_KEY", "k")
    hosts: list[Host] = []

    def start(odd: Callable[[str, int], Any]) -> Host:
        hosts.append(Host(odd))
        url = f"http://127.0.0.1:{hosts[-1].server_address[1]}/v1"
        monkeypatch.setenv("OPENAI_BASE_URL", url)
        return hosts[-1]

    yield start
    for one in hosts:
        one.shutdown()
        one.server_close()


def ask(chat_file: Write, rows: int = 12, **given: Any) -> Evaluation:
    data = chat_file([(f"q{i} {'word ' * 400}", f"answer to q{i}") for i in range(rows)])
    wanted: dict[str, Any] = {"against": [], "concurrency": AT_ONCE, "report": False}
    return evaluate(MODEL, data, sampling=Sampling(max_tokens=100), **wanted, **given)


def test_what_is_no_answer_is_asked_for_again(host: Callable[..., Host], chat_file: Write) -> None:
    kinds = list(ODD)

    def odd(question: str, time: int) -> Any:
        return ODD[kinds[int(question[1:]) % len(kinds)]] if time == 1 else False

    running = host(odd)
    found = ask(chat_file)
    assert found.candidates[0].metrics["exact_match"] == 1.0
    assert max(running.asked.values()) == 2
    before = running.asked.total()
    ask(chat_file)
    assert running.asked.total() == before, "what was mended is kept"


@pytest.mark.parametrize("kind", ["nothing", "a page"])
def test_an_answer_that_never_comes_ends_it_by_name_and_keeps_the_rest(
    host: Callable[..., Host], chat_file: Write, kind: str
) -> None:
    running = host(lambda question, time: question == "q7" and ODD[kind])
    with pytest.raises(ProviderError) as caught:
        ask(chat_file)
    assert caught.value.code == "no_completion"
    assert "The question was 'q7 word" in caught.value.message
    running.odd = lambda question, time: False
    assert ask(chat_file).candidates[0].metrics["exact_match"] == 1.0
    assert all(n == 1 for question, n in running.asked.items() if question != "q7")


def test_a_row_that_is_too_long_is_named(host: Callable[..., Host], chat_file: Write) -> None:
    host(lambda question, time: question == "q7" and TOO_LONG)
    with pytest.raises(ProviderError) as caught:
        ask(chat_file)
    assert caught.value.code == "context_length_exceeded"
    assert "Too many tokens. The question was 'q7 word" in caught.value.message
    assert "leave out such rows" in caught.value.fix


def test_what_a_filter_refuses_is_an_empty_answer(
    host: Callable[..., Host], chat_file: Write
) -> None:
    running = host(lambda question, time: question == "q7" and FILTERED)
    found = ask(chat_file)
    assert found.candidates[0].metrics["exact_match"] == pytest.approx(11 / 12)
    assert "1 of 12 answers of model are empty." in found.warnings
    assert running.asked["q7"] == 1


def test_answers_that_broke_off_count_in_the_budget(
    host: Callable[..., Host], chat_file: Write
) -> None:
    """They may have been charged. 1,000 tokens in and 100 out are 0.00021 USD an answer."""
    running = host(lambda question, time: None if time == 1 else False)
    with pytest.raises(LimitError):
        ask(chat_file, rows=120, budget_usd=0.005)
    assert 10 < running.asked.total() <= 0.005 / 0.00021 + AT_ONCE

"""Who gets in, how much, and how the server ends."""

from __future__ import annotations

import asyncio
import json
import socket
import subprocess
import sys
import threading
from pathlib import Path
from typing import Any

import httpx2
import pytest

from tests.serve.conftest import Server, launch, unift
from unift.serve import Settings, create_app

CHAT: dict[str, Any] = {
    "model": "demo",
    "messages": [{"role": "user", "content": "hello"}],
    "max_tokens": 3,
}


def code(answer: httpx2.Response) -> tuple[int, Any]:
    return answer.status_code, answer.json()["error"]["code"]


@pytest.mark.parametrize("key", ["", "sk-unift-wrong"])
@pytest.mark.parametrize(
    ("verb", "path"),
    [
        ("GET", "/v1/models"),
        ("GET", "/v1/files"),
        ("GET", "/v1/fine_tuning/jobs"),
        ("POST", "/v1/chat/completions"),
        ("GET", "/metrics"),
    ],
)
def test_nothing_without_a_key(server: Server, key: str, verb: str, path: str) -> None:
    with server.client(key) as http:
        assert code(http.request(verb, path, json=CHAT)) == (401, "invalid_api_key")
        assert http.get("/healthz").status_code == 200


def test_a_stranger_is_refused_before_the_body_is_read(server: Server) -> None:
    """The body is never sent: an answer that waits for it would not come."""
    host, port = server.root.removeprefix("http://").split(":")
    with socket.create_connection((host, int(port)), timeout=30) as line:
        head = "POST /v1/files HTTP/1.1\r\nHost: x\r\nContent-Length: 400000000\r\n"
        kind = "Content-Type: multipart/form-data; boundary=b\r\n\r\n"
        line.sendall((head + kind).encode())
        assert line.recv(12) == b"HTTP/1.1 401"


def test_a_key_does_what_it_is_for_and_is_hashed_at_rest(tmp_path: Path, server: Server) -> None:
    assert server.key not in server.keys.read_text()
    assert server.keys.stat().st_mode & 0o077 == 0
    again = unift("--add-key", "all", "--key-file", str(server.keys), check=False)
    assert again.returncode == 2
    wrong = unift("--add-key", "x", "--scope", "chatt", "--key-file", "k.json", check=False)
    assert wrong.returncode == 2
    assert b"did you mean 'chat'" in wrong.stderr


def test_scopes_and_rates(tmp_path: Path) -> None:
    keys = tmp_path / "narrow" / "keys.json"
    keys.parent.mkdir()
    flags = ("--key-file", str(keys), "--scope", "chat", "--requests-per-minute", "2")
    key = unift("--add-key", "narrow", *flags).stdout.decode().strip()
    narrow = launch(keys.parent)
    with narrow.client(key) as http:
        assert code(http.get("/v1/files")) == (403, "wrong_scope")
        assert [http.get("/v1/models").status_code for _ in range(2)] == [200, 200]
        refused = http.get("/v1/models")
        assert code(refused) == (429, "rate_limit_exceeded")
        assert int(refused.headers["Retry-After"]) > 0
    assert narrow.stop() == 0


def test_no_open_port_without_a_key() -> None:
    for flags in ((), ("--insecure-loopback", "--host", "0.0.0.0")):
        refused = unift(*flags, "--json", check=False)
        assert refused.returncode == 2
        assert json.loads(refused.stdout)["error"]["fix"]


def test_a_body_that_is_too_large_is_refused(server: Server) -> None:
    with server.client() as http:
        body = b"x" * (9 << 20)
        assert code(http.post("/v1/chat/completions", content=body)) == (413, "too_large")
        assert code(http.post("/v1/chat/completions", content=iter([body]))) == (413, "too_large")
        assert http.post("/v1/chat/completions", json=CHAT).status_code == 200


@pytest.mark.parametrize(
    ("change", "param"),
    [
        ({"model": "gpt-9"}, "model"),
        ({"n": 2}, "n"),
        ({"temperature": 3}, "temperature"),
        ({"tools": [{"type": "function", "function": {"name": "f"}}]}, "tools"),
        ({"response_format": {"type": "json_object"}}, "response_format.type"),
        ({"messages": []}, "messages"),
        ({"surprise": 1}, "surprise"),
    ],
)
def test_what_cannot_be_honoured_is_refused(
    server: Server, change: dict[str, Any], param: str
) -> None:
    with server.client() as http:
        answer = http.post("/v1/chat/completions", json={**CHAT, **change})
        assert answer.status_code in (400, 404)
        assert answer.json()["error"]["param"] == param


def test_a_bad_file_is_refused_when_the_job_is_made(server: Server) -> None:
    with server.client() as http:
        sent = {"file": ("../../t.jsonl", b'{"messages": "no"}\n')}
        file = http.post("/v1/files", files=sent, data={"purpose": "fine-tune"}).json()
        assert file["filename"] == "t.jsonl"
        body = {"model": "demo", "training_file": file["id"]}
        answer = http.post("/v1/fine_tuning/jobs", json=body)
        assert code(answer) == (400, "invalid_training_file")
        body = {"model": "demo", "training_file": "file-x"}
        assert code(http.post("/v1/fine_tuning/jobs", json=body)) == (404, "not_found")
        body = {**body, "method": {"type": "dpo", "dpo": {"hyperparameters": {"beta": 0.1}}}}
        answer = http.post("/v1/fine_tuning/jobs", json=body)
        assert code(answer) == (400, "unsupported_method")
        assert answer.json()["error"]["param"] == "method.type"
        assert "'supervised' alone, not by 'dpo'" in answer.json()["error"]["message"]


def test_metrics_count(server: Server) -> None:
    with server.client() as http:
        http.post("/v1/chat/completions", json=CHAT)
        assert code(http.get("/metrics")) == (403, "wrong_scope"), "it tells of others, too"
    with server.client(server.operator) as http:
        text = http.get("/metrics").text
    assert 'unift_requests_total{path="/v1/chat/completions",status="200"}' in text
    assert server.key not in text


def test_a_port_that_is_taken(server: Server) -> None:
    port = server.root.rpartition(":")[2]
    refused = unift("--port", port, "--insecure-loopback", "--json", check=False)
    assert refused.returncode == 2
    assert json.loads(refused.stdout)["error"]["code"] == "address_in_use"


def test_sigterm_lets_an_answer_finish(tmp_path: Path) -> None:
    ending = launch(tmp_path / "ending", with_keys=False)
    got: list[str] = []
    begun = threading.Event()

    def read() -> None:
        body = {**CHAT, "max_tokens": 300, "stream": True, "temperature": 2, "seed": 3}
        url = f"{ending.url}/chat/completions"
        with httpx2.stream("POST", url, json=body, timeout=60) as answer:
            for line in answer.iter_lines():
                got.append(line)
                begun.set()

    reader = threading.Thread(target=read)
    reader.start()
    assert begun.wait(30)
    ending.process.terminate()
    reader.join(60)
    assert [line for line in got if line][-1] == "data: [DONE]"
    assert ending.process.wait(60) == 0


def test_schemathesis_finds_no_500(server: Server, tmp_path: Path) -> None:
    document = tmp_path / "openapi.json"
    document.write_text(httpx2.get(f"{server.root}/openapi.json").text)
    # fmt: off
    command = [
        sys.executable, "-m", "schemathesis.cli", "run", str(document), "--url", server.root,
        "-H", f"Authorization: Bearer {server.key}", "--checks", "not_a_server_error",
        "--phases", "examples,coverage,fuzzing", "--max-examples", "25", "--seed", "7",
        "--suppress-health-check", "all", "--request-timeout", "60",
    ]
    # fmt: on
    done = subprocess.run(command, capture_output=True, text=True, timeout=400, cwd=tmp_path)
    assert done.returncode == 0, done.stdout[-5000:] + done.stderr[-2000:]


def test_whoever_leaves_takes_the_question_along(monkeypatch: pytest.MonkeyPatch) -> None:
    from unift.serve._answers import Answer

    ended: list[str] = []

    async def endless(self: Answer) -> dict[str, Any]:
        try:
            await asyncio.Event().wait()
        finally:
            ended.append("ended")
        return {}

    monkeypatch.setattr(Answer, "whole", endless)
    app = create_app(Settings(model="demo", insecure_loopback=True))
    coming = [
        {"type": "http.request", "body": json.dumps(CHAT).encode(), "more_body": False},
        {"type": "http.disconnect"},
    ]
    sent: list[Any] = []

    async def receive() -> Any:
        return coming.pop(0)

    async def send(message: Any) -> None:
        sent.append(message)

    scope = {
        "type": "http", "asgi": {"version": "3.0"}, "http_version": "1.1", "method": "POST",
        "path": "/v1/chat/completions", "raw_path": b"/v1/chat/completions", "query_string": b"",
        "headers": [(b"content-type", b"application/json")], "client": ("127.0.0.1", 1),
        "server": ("127.0.0.1", 8000), "scheme": "http", "root_path": "",
    }  # fmt: skip
    asyncio.run(asyncio.wait_for(app(scope, receive, send), 60))
    assert ended == ["ended"]

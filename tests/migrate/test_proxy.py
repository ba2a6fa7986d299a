"""The proxy: passes everything on, keeps what it may, and never stands in the way."""

from __future__ import annotations

import json
import os
import signal
import socket
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import httpx2
import pytest
import uvicorn

from tests.migrate.upstream import Upstream
from unift.migrate import migration_folder, record
from unift.migrate.proxy import Proxy, Settings, read_traffic, roll_back, shadow_summary
from unift.migrate.proxy import write_traffic as steer

KEY = "sk-never-to-be-written"


@pytest.fixture
def old() -> Iterator[Upstream]:
    with Upstream("old") as running:
        yield running


@pytest.fixture
def new() -> Iterator[Upstream]:
    with Upstream("new") as running:
        yield running


@contextmanager
def running(folder: Path, upstream: str, **settings: Any) -> Iterator[httpx2.Client]:
    """The proxy in a thread; leaving waits until everything is on the disk."""
    app = Proxy(Settings(upstream=upstream, folder=folder, **settings))
    with socket.socket(proto=socket.IPPROTO_TCP) as listener:  # as run_app, for TCP_NODELAY
        listener.bind(("127.0.0.1", 0))
        listener.listen(256)  # requests wait until the server is up
        server = uvicorn.Server(uvicorn.Config(app, log_level="error"))
        thread = threading.Thread(target=server.run, kwargs={"sockets": [listener]})
        thread.start()
        url = f"http://127.0.0.1:{listener.getsockname()[1]}"
        limits = httpx2.Limits(max_connections=None)
        with httpx2.Client(base_url=url, timeout=30, limits=limits) as client:
            client.headers["authorization"] = f"Bearer {KEY}"
            try:
                yield client
            finally:
                server.should_exit = True
                thread.join()


def ask(client: httpx2.Client, text: str = "hi", **more: Any) -> httpx2.Response:
    body = {"model": "old-model", "messages": [{"role": "user", "content": text}], **more}
    return client.post("/v1/chat/completions", json=body)


def log(folder: Path, name: str = "proxy.jsonl") -> list[dict[str, Any]]:
    return [json.loads(line) for line in (folder / name).read_text().splitlines()]


def until(true: Callable[[], bool]) -> None:
    end = time.monotonic() + 30
    while not true():
        assert time.monotonic() < end


def test_passes_on_and_records_what_record_reads(old: Upstream, tmp_path: Path) -> None:
    with running(tmp_path, old.url) as client:
        answer = ask(client, temperature=0.5)
        assert answer.json()["choices"][0]["message"]["content"] == "old"
        assert answer.headers["x-unift-recording"] == "on"
        assert answer.headers["x-request-id"] == "req-1"
        assert old.headers[0]["authorization"] == f"Bearer {KEY}"
        assert client.get("/v1/models?limit=2").json() == {"path": "/v1/models?limit=2"}
        ask(client, stream=True)
        old.status = 429
        refused = ask(client)
        assert refused.status_code == 429
        assert refused.json() == {"error": {"message": "on command"}}
    kept = log(tmp_path)
    assert [row["request"].get("stream") for row in kept] == [None, True]
    streamed = kept[1]["response"]["choices"][0]
    assert streamed["message"]["content"] == "a" + "b" * 1000
    assert streamed["message"]["tool_calls"][0]["function"] == {"name": "f", "arguments": "{}"}
    assert KEY not in (tmp_path / "proxy.jsonl").read_text()
    golden = record(None, tmp_path / "proxy.jsonl", out=tmp_path / "golden.jsonl")
    assert (golden.prompts, golden.draws) == (2, 2)


def test_sixty_four_streams_at_once_piece_by_piece(old: Upstream, tmp_path: Path) -> None:
    old.gate.clear()
    first = threading.Barrier(65, timeout=30)
    with running(tmp_path, old.url) as client:

        def one(number: int) -> str:
            body = {"model": "m", "stream": True, "pieces": 20, "messages": [
                {"role": "user", "content": str(number)}]}  # fmt: skip
            with client.stream("POST", "/v1/chat/completions", json=body) as answer:
                pieces = answer.iter_text()
                text = next(pieces)  # came through although the upstream has not finished
                first.wait()
                return text + "".join(pieces)

        with ThreadPoolExecutor(64) as pool:
            texts = [pool.submit(one, number) for number in range(64)]
            first.wait()
            old.gate.set()
            assert all(text.result().endswith("data: [DONE]\n\n") for text in texts)
    kept = log(tmp_path)
    assert {row["request"]["messages"][0]["content"] for row in kept} == set(map(str, range(64)))
    assert all(len(row["response"]["choices"][0]["message"]["content"]) == 20_001 for row in kept)


def test_a_full_disk_loses_answers_but_no_request(old: Upstream, tmp_path: Path) -> None:
    (tmp_path / "proxy.jsonl").symlink_to("/dev/full")  # every write: no space left on device
    with running(tmp_path, old.url) as client:
        assert all(ask(client).status_code == 200 for _ in range(5))
        until(lambda: client.get("/healthz").json()["recording"]["lost"] == 5)
        health = client.get("/healthz").json()
        assert health["recording"]["why"] == "No space left on device"
        assert not health["recording"]["on"]
        assert ask(client).headers["x-unift-recording"] == "off; No space left on device"
        (tmp_path / "proxy.jsonl").unlink()  # somebody makes room
        assert ask(client, "later").status_code == 200
        until(lambda: client.get("/healthz").json()["recording"]["on"])
    assert log(tmp_path)[-1]["request"]["messages"][0]["content"] == "later"


def test_an_unwritable_folder_loses_no_request(old: Upstream, tmp_path: Path) -> None:
    (tmp_path / "file").write_text("")
    with running(tmp_path / "file" / "in", old.url) as client:
        answer = ask(client)
        assert answer.status_code == 200
        assert answer.headers["x-unift-recording"] == "off; Not a directory"


def test_an_upstream_that_is_gone_is_told_in_the_same_shape(tmp_path: Path) -> None:
    with running(tmp_path, "http://127.0.0.1:9/v1") as client:
        answer = ask(client)
    assert answer.status_code == 502
    assert answer.json()["error"]["code"] == "upstream_unreachable"


def test_a_client_that_leaves_takes_its_request_with_it(old: Upstream, tmp_path: Path) -> None:
    old.gate.clear()
    with running(tmp_path, old.url) as client:
        body = {"model": "m", "stream": True, "messages": [], "pieces": 50_000}
        with client.stream("POST", "/v1/chat/completions", json=body) as answer:
            next(answer.iter_text())
        until(lambda: client.get("/healthz").json()["requests"] >= 1)
        old.gate.set()
        assert old.broken_pipes.acquire(timeout=30)
        assert ask(client).status_code == 200
    assert len(log(tmp_path)) == 1


def test_a_body_over_the_cap_is_passed_on_and_not_kept(old: Upstream, tmp_path: Path) -> None:
    with running(tmp_path, old.url, body_mib=0.01) as client:
        assert ask(client, "x" * 200_000).status_code == 200
        assert ask(client).status_code == 200
        health = client.get("/healthz").json()
    assert old.sizes[0] > 200_000
    assert health["recording"]["too_large"] == 1
    assert len(log(tmp_path)) == 1


def test_shares_stick_to_the_user_and_grow(old: Upstream, new: Upstream, tmp_path: Path) -> None:
    def by_new(client: httpx2.Client) -> set[str]:
        users = [f"user-{number}" for number in range(60)]
        found = {user: ask(client, user=user).json()["choices"][0]["message"] for user in users}
        return {user for user, message in found.items() if message["content"] == "new"}

    target = f"{new.url}#better"
    with running(tmp_path, old.url, new=target, new_key="sk-new") as client:
        assert by_new(client) == set()
        steer(tmp_path, share=0.3)
        some = by_new(client)
        assert 5 <= len(some) <= 31
        assert by_new(client) == some
        steer(tmp_path, share=0.7)
        assert by_new(client) > some
        # The client's key is for the old vendor alone.
        assert {headers["authorization"] for headers in new.headers} == {"Bearer sk-new"}
        assert {request["model"] for request in new.requests} == {"better"}
        roll_back(tmp_path, "enough")
        assert by_new(client) == set()
        steer(tmp_path, share=1)
        answer = client.post("/unift/rollback")
        assert answer.status_code == 400
        answer = client.post("/unift/rollback", headers={"x-unift-rollback": "now"})
        assert answer.json()["share"] == 0
        assert by_new(client) == set()
    assert "now" in read_traffic(tmp_path).rolled_back


def test_a_failing_new_model_costs_no_answer_and_loses_its_share(
    old: Upstream, new: Upstream, tmp_path: Path
) -> None:
    new.status = 500
    steer(tmp_path, share=1)
    with running(tmp_path, old.url, new=f"{new.url}#better") as client:
        answers = [ask(client, str(number)).json() for number in range(15)]
        health = client.get("/healthz").json()
    assert all(one["choices"][0]["message"]["content"] == "old" for one in answers)
    assert len(new.requests) == 10
    assert "10 of the last 10" in health["rolled_back"]
    assert read_traffic(tmp_path).share == 0


def test_shadow_answers_are_compared_and_never_given(
    old: Upstream, new: Upstream, tmp_path: Path
) -> None:
    steer(tmp_path, shadow=1)
    with running(tmp_path, old.url, new=f"{new.url}#better") as client:
        for number in range(3):
            assert ask(client, str(number)).json()["choices"][0]["message"]["content"] == "old"
        until(lambda: client.get("/healthz").json()["shadow"]["asked"] == 3)
        until(lambda: len(new.requests) == 3)
        new.status = 500
        assert ask(client).status_code == 200
        until(lambda: client.get("/healthz").json()["shadow"]["failed"] == 1)
    found = shadow_summary(tmp_path / "shadow.jsonl")
    assert (found["answers"], found["failed"], found["same"]) == (4, 1, 0.0)
    assert [row["new"] and row["new"]["content"] for row in log(tmp_path, "shadow.jsonl")] == [
        "new", "new", "new", None]  # fmt: skip


def test_a_steering_file_that_is_broken_means_the_old_model(
    old: Upstream, new: Upstream, tmp_path: Path
) -> None:
    steer(tmp_path, share=1)
    with running(tmp_path, old.url, new=new.url) as client:
        assert ask(client).json()["choices"][0]["message"]["content"] == "new"
        (tmp_path / "traffic.json").write_text('{"share": 7}')
        assert ask(client).json()["choices"][0]["message"]["content"] == "old"


def test_only_the_named_model_and_no_secrets(old: Upstream, tmp_path: Path) -> None:
    with running(tmp_path, old.url, model="old-model", scrub=True) as client:
        ask(client, "I am ann@corp.io", user="ann")
        ask(client, model="another")
        assert client.post("/v1/chat/completions", content=b"no json").status_code == 400
    (row,) = log(tmp_path)
    assert row["request"] == {
        "model": "old-model",
        "messages": [{"role": "user", "content": "I am [mail address]"}],
    }


def test_the_command_serves_and_ends_well(old: Upstream) -> None:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port = probe.getsockname()[1]
    command = [sys.executable, "-m", "unift", "migrate", "record", "--proxy", "--upstream",
               old.url, "--port", str(port), "--name", "live"]  # fmt: skip
    process = subprocess.Popen(command, env={**os.environ}, stderr=subprocess.DEVNULL)
    with httpx2.Client(base_url=f"http://127.0.0.1:{port}") as client:

        def up() -> bool:
            try:
                return client.get("/healthz").status_code == 200
            except httpx2.HTTPError:
                assert process.poll() is None
                return False

        until(up)
        assert ask(client).status_code == 200
        process.send_signal(signal.SIGTERM)
        assert process.wait(30) == 0
    assert len(log(migration_folder("live"))) == 1

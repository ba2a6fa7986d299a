"""Hosts that refuse log probabilities, each in its own words, still answer."""

from __future__ import annotations

import json
import threading
from collections.abc import Iterator
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any

import pytest

from unift.reference import load

REFUSALS: dict[str, tuple[int, Any]] = {
    "openai": (400, {"error": {"message": "'logprobs' is not supported", "param": "logprobs"}}),
    "fastapi": (422, {"detail": [{"loc": ["body", "logprobs"], "msg": "Extra inputs"}]}),
}
ANSWER = {"choices": [{"message": {"content": "hi"}, "finish_reason": "stop"}]}


class Host(BaseHTTPRequestHandler):
    refusal: tuple[int, Any]
    refused = 0

    def do_POST(self) -> None:
        body = json.loads(self.rfile.read(int(self.headers["content-length"])))
        status, said = self.refusal if "logprobs" in body else (200, ANSWER)
        type(self).refused += status != 200
        data = json.dumps(said).encode()
        self.send_response(status)
        self.send_header("content-type", "application/json")
        self.send_header("content-length", str(len(data)))
        self.end_headers()
        self.wfile.write(data)

    def log_message(self, format: str, *args: Any) -> None:
        pass


@pytest.fixture
def host(request: pytest.FixtureRequest) -> Iterator[tuple[str, type[Host]]]:
    kind = type("Kind", (Host,), {"refusal": REFUSALS[request.param], "refused": 0})
    with ThreadingHTTPServer(("127.0.0.1", 0), kind) as server:
        threading.Thread(target=server.serve_forever, args=(0.01,), daemon=True).start()
        yield f"http://127.0.0.1:{server.server_port}/v1#m", kind
        server.shutdown()


@pytest.mark.parametrize("host", list(REFUSALS), indirect=True)
def test_a_refusal_of_log_probabilities_is_believed_once(host: tuple[str, type[Host]]) -> None:
    address, kind = host
    model = load(address)
    for _ in range(2):
        reply = model.chat([{"role": "user", "content": "hello"}])
        assert (reply.text, reply.logprob) == ("hi", None)
    assert kind.refused == 1
    model.close()

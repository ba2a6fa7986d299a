"""A small server behind the proxy: answers, streams with a gate, fails on command."""

from __future__ import annotations

import json
import threading
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any, Self


class Upstream:
    """`name` is in each answer. A stream sends one piece, waits for `gate`, sends the rest."""

    def __init__(self, name: str) -> None:
        self.name = name
        self.status = 200
        self.gate = threading.Event()
        self.gate.set()
        self.requests: list[dict[str, Any]] = []
        self.headers: list[dict[str, str]] = []
        self.sizes: list[int] = []
        self.broken_pipes = threading.Semaphore(0)
        upstream = self

        class Handler(BaseHTTPRequestHandler):
            protocol_version = "HTTP/1.1"
            disable_nagle_algorithm = True

            def log_message(self, *_: Any) -> None:
                """Silence."""

            def do_GET(self) -> None:
                self._send(200, {"path": self.path})

            def do_POST(self) -> None:
                body = self.rfile.read(int(self.headers["Content-Length"]))
                upstream.sizes.append(len(body))
                upstream.headers.append({k.lower(): v for k, v in self.headers.items()})
                try:
                    request = json.loads(body)
                except ValueError:
                    return self._send(400, {"error": {"message": "no JSON"}})
                upstream.requests.append(request)
                if upstream.status != 200:
                    self._send(upstream.status, {"error": {"message": "on command"}})
                elif request.get("stream"):
                    self._stream(request)
                else:
                    message = {"role": "assistant", "content": upstream.name}
                    choice = {"index": 0, "finish_reason": "stop", "message": message}
                    self._send(200, {"model": request["model"], "choices": [choice]})

            def _send(self, status: int, document: Any) -> None:
                body = json.dumps(document).encode()
                self.send_response(status)
                self.send_header("Content-Type", "application/json")
                self.send_header("Content-Length", str(len(body)))
                self.send_header("X-Request-Id", "req-1")
                self.end_headers()
                self.wfile.write(body)

            def _stream(self, request: dict[str, Any]) -> None:
                self.send_response(200)
                self.send_header("Content-Type", "text/event-stream")
                self.send_header("Transfer-Encoding", "chunked")
                self.end_headers()
                try:
                    self._piece({"delta": {"role": "assistant", "content": "a"}})
                    upstream.gate.wait(30)
                    for _ in range(request.get("pieces", 1)):
                        self._piece({"delta": {"content": "b" * 1000}})
                    call = {"index": 0, "id": "c1", "function": {"name": "f", "arguments": "{"}}
                    self._piece({"delta": {"tool_calls": [call]}})
                    rest = {"index": 0, "function": {"arguments": "}"}}
                    self._piece({"delta": {"tool_calls": [rest]}, "finish_reason": "stop"})
                    self._raw(b"data: [DONE]\n\n")
                    self.wfile.write(b"0\r\n\r\n")
                except OSError:
                    self.close_connection = True
                    upstream.broken_pipes.release()

            def _piece(self, choice: dict[str, Any]) -> None:
                chunk = {"model": "old", "choices": [{"index": 0, **choice}]}
                self._raw(b"data: " + json.dumps(chunk).encode() + b"\n\n")

            def _raw(self, data: bytes) -> None:
                self.wfile.write(f"{len(data):x}\r\n".encode() + data + b"\r\n")
                self.wfile.flush()

        class Server(ThreadingHTTPServer):
            request_queue_size = 128
            daemon_threads = True

        self._server = Server(("127.0.0.1", 0), Handler)
        self.url = f"http://127.0.0.1:{self._server.server_address[1]}/v1"

    def __enter__(self) -> Self:
        threading.Thread(target=self._server.serve_forever, args=(0.01,), daemon=True).start()
        return self

    def __exit__(self, *_: object) -> None:
        self.gate.set()
        self._server.shutdown()
        self._server.server_close()

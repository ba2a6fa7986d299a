"""Stands where vLLM's server stands: the flags that we pass, health, adapters, chat.

vLLM itself needs a GPU build. This takes the flags and endpoints that its documentation names, and
refuses what it does not know, so the launcher and the proxy are exercised for real; the answers are
not.
"""

from __future__ import annotations

import argparse
import json
import os
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any

parser = argparse.ArgumentParser()
for flag in ("--model", "--served-model-name", "--host"):
    parser.add_argument(flag, required=True)
for flag in ("--port", "--max-loras", "--max-cpu-loras", "--max-lora-rank"):
    parser.add_argument(flag, type=int, required=True)
parser.add_argument("--enable-lora", action="store_true")
flags = parser.parse_args()
assert os.environ["VLLM_ALLOW_RUNTIME_LORA_UPDATING"] == "True"
loaded: dict[str, str] = {}


class Handler(BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"

    def log_message(self, *_: Any) -> None:
        """Silence."""

    def do_GET(self) -> None:
        self._send(200 if self.path == "/health" else 404, b"")

    def do_POST(self) -> None:
        body = json.loads(self.rfile.read(int(self.headers["Content-Length"])))
        if self.path == "/v1/load_lora_adapter":
            there = os.path.isfile(os.path.join(body["lora_path"], "adapter_model.safetensors"))
            if there and len(loaded) < flags.max_cpu_loras:
                loaded[body["lora_name"]] = body["lora_path"]
            self._send(200 if there else 404, b"done")
        elif self.path == "/v1/unload_lora_adapter":
            del loaded[body["lora_name"]]
            self._send(200, b"done")
        elif body["model"] not in (flags.served_model_name, *loaded):
            self._send(404, b'{"error": {"message": "no such model"}}')
        elif body.get("stream"):
            self._send(200, b'data: {"choices": []}\n\ndata: [DONE]\n\n', "text/event-stream")
        else:
            said = json.dumps({"model": body["model"], "loaded": sorted(loaded)})
            self._send(200, said.encode())

    def _send(self, status: int, body: bytes, kind: str = "application/json") -> None:
        self.send_response(status)
        self.send_header("Content-Type", kind)
        self.send_header("Content-Length", str(len(body)))
        self.end_headers()
        self.wfile.write(body)


ThreadingHTTPServer((flags.host, flags.port), Handler).serve_forever()

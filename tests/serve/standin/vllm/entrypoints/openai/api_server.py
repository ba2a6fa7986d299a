"""Stands where vLLM's server stands: the flags that we pass, health, adapters, chat.

vLLM itself is large and slow to start. This takes the flags and endpoints that its documentation
names, and refuses what it does not know, so the launcher and whoever asks are exercised for real;
the answers are not. ``STANDIN`` in the environment is JSON:

    journal   a file that hears of every start and every question, a JSON line each
    latency   seconds before an answer
    fail      what it says before it ends instead of starting
    die_after how many questions it answers before it ends
"""

from __future__ import annotations

import argparse
import json
import os
import sys
import threading
import time
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any

wanted: dict[str, Any] = json.loads(os.environ.get("STANDIN", "{}"))
if "fail" in wanted:
    sys.exit(wanted["fail"])
parser = argparse.ArgumentParser()
for flag in ("--model", "--served-model-name", "--host"):
    parser.add_argument(flag, required=True)
parser.add_argument("--port", type=int, required=True)
for flag in ("--max-loras", "--max-cpu-loras", "--max-lora-rank", "--max-model-len"):
    parser.add_argument(flag, type=int)
parser.add_argument("--lora-modules", nargs="+", type=json.loads, default=[])
parser.add_argument("--enable-lora", action="store_true")
parser.add_argument("--enable-auto-tool-choice", action="store_true")
parser.add_argument("--tool-call-parser", choices=["hermes"])
parser.add_argument("--quantization", choices=["bitsandbytes"])
parser.add_argument("--dtype", choices=["auto", "float32", "bfloat16", "float16"])
parser.add_argument("--chat-template", type=argparse.FileType())
flags = parser.parse_args()
later = os.environ.get("VLLM_ALLOW_RUNTIME_LORA_UPDATING") == "True"
loaded: dict[str, str] = {one["name"]: one["path"] for one in flags.lora_modules}
assert not (loaded or later) or flags.enable_lora
assert len(loaded) <= (flags.max_cpu_loras or 0)
for folder in loaded.values():
    with open(os.path.join(folder, "adapter_config.json")) as file:
        assert json.load(file)["r"] <= flags.max_lora_rank
answers = 0
lock = threading.Lock()


def note(what: dict[str, Any]) -> None:
    if "journal" in wanted:
        with lock, open(wanted["journal"], "a") as journal:
            journal.write(json.dumps(what) + "\n")


class Handler(BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"

    def log_message(self, *_: Any) -> None:
        """Silence."""

    def do_GET(self) -> None:
        self._send(200 if self.path == "/health" else 404, b"")

    def do_POST(self) -> None:
        body = json.loads(self.rfile.read(int(self.headers["Content-Length"])))
        if self.path.endswith("load_lora_adapter") and not later:
            self._send(404, b"")
        elif self.path == "/v1/load_lora_adapter":
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
            self._chat(body)

    def _chat(self, body: Any) -> None:
        global answers
        asked = body["messages"][-1]["content"]
        who: str = loaded.get(body["model"]) or flags.model
        note({"asked": asked, "who": who})
        time.sleep(wanted.get("latency", 0))
        with lock:
            answers += 1
            if answers > wanted.get("die_after", answers):
                print("RuntimeError: CUDA error: an illegal memory access", flush=True)
                os._exit(1)
        message = {"role": "assistant", "content": f"{os.path.basename(who)} on {asked}"}
        said = {
            "model": body["model"],
            "loaded": sorted(loaded),
            "choices": [{"index": 0, "finish_reason": "stop", "message": message}],
            "usage": {"prompt_tokens": 9, "completion_tokens": 3},
        }
        self._send(200, json.dumps(said).encode())

    def _send(self, status: int, body: bytes, kind: str = "application/json") -> None:
        self.send_response(status)
        self.send_header("Content-Type", kind)
        self.send_header("Content-Length", str(len(body)))
        self.end_headers()
        self.wfile.write(body)


server = ThreadingHTTPServer((flags.host, flags.port), Handler)
note({"start": sys.argv[1:], "pid": os.getpid()})
server.serve_forever()

"""What the recording proxy adds to a request: direct and through it, in turns, in one process.

    python benchmarks/proxy/latency.py [--requests 2000] [--write]

The upstream and the proxy are processes of their own on this machine; the client keeps one
connection to each. Requests alternate between the two ways, so that whatever else the machine does
hits both alike; the figure is the difference of the medians, and for streams of the time to the
first piece and to the last.
"""

from __future__ import annotations

import argparse
import os
import platform
import socket
import subprocess
import sys
import tempfile
import time
from datetime import UTC, datetime
from pathlib import Path
from statistics import median, quantiles

import httpx2

RESULTS = Path(__file__).parents[1] / "results" / "proxy.md"
WORDS = "The quick brown fox jumps over the lazy dog. " * 20


async def upstream(scope, receive, send):  # an ASGI application
    """Answers at once: a completion of about 1 kB, or 20 events."""
    if scope["type"] == "lifespan":
        while True:
            message = await receive()
            await send({"type": message["type"] + ".complete"})
            if message["type"] == "lifespan.shutdown":
                return
    body = b""
    while True:
        message = await receive()
        body += message.get("body", b"")
        if not message.get("more_body"):
            break
    if b'"stream":true' in body.replace(b" ", b""):
        head = [(b"content-type", b"text/event-stream")]
        await send({"type": "http.response.start", "status": 200, "headers": head})
        for number in range(20):
            end = b'"stop"' if number == 19 else b"null"
            event = b'data: {"choices":[{"index":0,"delta":{"content":"word "},"finish_reason":'
            part = {"type": "http.response.body", "body": event + end + b"}]}\n\n"}
            await send({**part, "more_body": True})
        await send({"type": "http.response.body", "body": b"data: [DONE]\n\n"})
        return
    answer = (
        b'{"object":"chat.completion","model":"m","choices":[{"index":0,"finish_reason":"stop",'
        b'"message":{"role":"assistant","content":"' + WORDS.encode() + b'"}}]}'
    )
    head = [(b"content-type", b"application/json"), (b"content-length", b"%d" % len(answer))]
    await send({"type": "http.response.start", "status": 200, "headers": head})
    await send({"type": "http.response.body", "body": answer})


def free_port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return probe.getsockname()[1]


def wait_for(url: str) -> None:
    end = time.monotonic() + 60
    while time.monotonic() < end:
        try:
            httpx2.get(url)
            return
        except httpx2.HTTPError:
            time.sleep(0.1)
    raise SystemExit(f"{url} does not come up")


def once(client: httpx2.Client, stream: bool) -> tuple[float, float]:
    """Seconds to the first piece of the body, and to the last."""
    body = {"model": "m", "stream": stream, "messages": [{"role": "user", "content": WORDS}]}
    began = time.perf_counter()
    first = 0.0
    with client.stream("POST", "/v1/chat/completions", json=body) as answer:
        for _ in answer.iter_raw():
            first = first or time.perf_counter() - began
    return first, time.perf_counter() - began


def measure(direct: httpx2.Client, proxied: httpx2.Client, count: int, stream: bool) -> list[str]:
    for client in (direct, proxied):
        for _ in range(50):
            once(client, stream)
    times: dict[str, list[tuple[float, float]]] = {"direct": [], "proxied": []}
    for _ in range(count):
        times["direct"].append(once(direct, stream))
        times["proxied"].append(once(proxied, stream))
    rows = []
    parts = ((0, "first piece"), (1, "last piece")) if stream else ((1, "whole answer"),)
    for part, name in parts:
        a = [one[part] * 1000 for one in times["direct"]]
        b = [one[part] * 1000 for one in times["proxied"]]
        tail = quantiles(b, n=100)[98] - quantiles(a, n=100)[98]
        kind = f"{'20 events' if stream else '1 kB of JSON'}, {name}"
        rows.append(
            f"| {kind} | {median(a):.2f} | {median(b):.2f} | **{median(b) - median(a):.2f}** | "
            f"{median(b) / median(a):.1f} | {tail:.2f} |"
        )
    return rows


def main() -> None:
    parser = argparse.ArgumentParser()
    parser.add_argument("--requests", type=int, default=2000)
    parser.add_argument("--write", action="store_true", help="also into benchmarks/results")
    options = parser.parse_args()
    ports = free_port(), free_port()
    here = Path(__file__)
    with tempfile.TemporaryDirectory() as home:
        commands = [
            [sys.executable, "-m", "uvicorn", "latency:upstream", "--port", str(ports[0]),
             "--log-level", "error", "--app-dir", str(here.parent)],
            [sys.executable, "-m", "unift", "migrate", "record", "--proxy", "--upstream",
             f"http://127.0.0.1:{ports[0]}/v1", "--port", str(ports[1])],
        ]  # fmt: skip
        variables = {**os.environ, "UNIFT_HOME": home}
        processes = [subprocess.Popen(one, env=variables) for one in commands]
        try:
            roots = [f"http://127.0.0.1:{port}" for port in ports]
            for root in roots:
                wait_for(f"{root}/healthz")
            with (
                httpx2.Client(base_url=roots[0], timeout=60) as direct,
                httpx2.Client(base_url=roots[1], timeout=60) as proxied,
            ):
                rows = measure(direct, proxied, options.requests, False)
                rows += measure(direct, proxied, options.requests, True)
                health = proxied.get("/healthz").json()["recording"]
        finally:
            for process in processes:
                process.terminate()
                process.wait()
    load = os.getloadavg()[0]
    text = "\n".join(
        [
            "# What the recording proxy adds",
            "",
            f"{datetime.now(UTC):%Y-%m-%d}, {platform.machine()}, {os.cpu_count()} CPUs, load "
            f"{load:.1f}, Python {platform.python_version()}; {options.requests} requests each way "
            "in turns, one connection. Milliseconds.",
            "",
            "| request | direct | through the proxy | added at the median | ratio | added at p99 |",
            "| --- | --- | --- | --- | --- | --- |",
            *rows,
            "",
            f"Recorded meanwhile: {health['written']} answers, {health['lost']} lost.",
            "",
            "`python benchmarks/proxy/latency.py --write`",
        ]
    )
    print(text)
    if options.write:
        RESULTS.write_text(text + "\n")


if __name__ == "__main__":
    main()
